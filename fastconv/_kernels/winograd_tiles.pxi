# Winograd's minimal filtering (Winograd 1980; Lavin and Gray 2016): a run of `outputs` neighbouring outputs of a convolution
# with 7 - outputs taps comes from 6 products instead of outputs * taps, along each axis:
#
#     y = A^T [(G g) * (B^T d)]       d: 6 inputs, g: the taps; 4 outputs of 3 taps, or 2 outputs of 5
#
# Both sides are polynomials multiplied through their values at 6 points: 0, +-P, +-Q and infinity. P = 3/4 and Q = 3/2 are
# exact in binary and lose a quarter of what the usual 1 and 2 lose (docs/kernels.md). In two dimensions the transforms
# nest, and what is left of the convolution is one matrix product for each of the 36 positions of a tile:
#
#     M[k] (tiles, columns) = V[k] (tiles, depth) @ U[k] (depth, columns)
#
# which the register tile computes. An axis with one tap has one point. The taps along d are further columns of V. Dilation
# interleaves images, each of which has tiles of its own.

cdef extern from *:
    """
    enum { POINTS = 6 };
    #define P_ ((real)0.75)
    #define Q_ ((real)1.5)
    #define P2 (P_ * P_)
    #define Q2 (Q_ * Q_)
    /* one over the product of the distances of a point to the others */
    #define SCALE_0 (1 / (P2 * Q2))
    #define SCALE_P (1 / (2 * P2 * (P2 - Q2)))
    #define SCALE_Q (1 / (2 * Q2 * (Q2 - P2)))
    """
    const int POINTS
    const real P_
    const real Q_
    const real P2
    const real Q2
    const real SCALE_0
    const real SCALE_P
    const real SCALE_Q


cdef enum:
    MOST_POSITIONS = 36     # POINTS * POINTS
    MOST_TAPS = 25
    RUN = 8                 # tiles of a line that are transformed together: their columns stay in the first-level cache
    RUN_COLUMNS = 34        # (RUN - 1) * 4 + POINTS


cdef inline void input_points(vec *v, const vec *d, const int step) noexcept nogil:
    """v = B^T d, for six inputs `step` vectors apart: the polynomial's remainders at the points."""
    cdef vec even_p = d[4 * step] - Q2 * d[2 * step], odd_p = d[3 * step] - Q2 * d[step]
    cdef vec even_q = d[4 * step] - P2 * d[2 * step], odd_q = d[3 * step] - P2 * d[step]
    v[0] = d[4 * step] - (P2 + Q2) * d[2 * step] + P2 * Q2 * d[0]
    v[1] = even_p + P_ * odd_p
    v[2] = even_p - P_ * odd_p
    v[3] = even_q + Q_ * odd_q
    v[4] = even_q - Q_ * odd_q
    v[5] = d[5 * step] - (P2 + Q2) * d[3 * step] + P2 * Q2 * d[step]


cdef inline void weight_points(vec *u, const vec *g, const int taps, const int step) noexcept nogil:
    """u = G g: the values of the taps' polynomial at the points, over the products of the points' distances."""
    cdef vec even_p = SCALE_P * g[0] + SCALE_P * P2 * g[2 * step], odd_p = SCALE_P * P_ * g[step]
    cdef vec even_q = SCALE_Q * g[0] + SCALE_Q * Q2 * g[2 * step], odd_q = SCALE_Q * Q_ * g[step]
    if taps == 5:
        even_p = even_p + SCALE_P * P2 * P2 * g[4 * step]
        odd_p = odd_p + SCALE_P * P_ * P2 * g[3 * step]
        even_q = even_q + SCALE_Q * Q2 * Q2 * g[4 * step]
        odd_q = odd_q + SCALE_Q * Q_ * Q2 * g[3 * step]
    u[0] = SCALE_0 * g[0]
    u[1] = even_p + odd_p
    u[2] = even_p - odd_p
    u[3] = even_q + odd_q
    u[4] = even_q - odd_q
    u[5] = g[(taps - 1) * step]


cdef inline void outputs_of_points(vec *y, const vec *m, const int outputs, const int step) noexcept nogil:
    """y = A^T m, for six products `step` vectors apart."""
    cdef vec even_p = m[step] + m[2 * step], odd_p = m[step] - m[2 * step]
    cdef vec even_q = m[3 * step] + m[4 * step], odd_q = m[3 * step] - m[4 * step]
    y[0] = m[0] + even_p + even_q
    y[1] = P_ * odd_p + Q_ * odd_q
    if outputs == 4:
        y[2] = P2 * even_p + Q2 * even_q
        y[3] = P_ * P2 * odd_p + Q_ * Q2 * odd_q
    y[outputs - 1] = y[outputs - 1] + m[5 * step]


cdef inline int points_of(const int outputs) noexcept nogil:
    """The points along an axis with so many outputs a tile; 1: an axis with one tap."""
    return POINTS if outputs > 1 else 1


cdef inline int taps_of(const int outputs) noexcept nogil:
    return POINTS + 1 - outputs if outputs > 1 else 1


cdef struct Winograd:
    Product p
    int out_h, out_w                    # outputs of a tile
    Py_ssize_t step_h, step_w           # pixels from one output of a tile to the next: the dilation
    Py_ssize_t positions, tiles_h, tiles_w, tiles
    Py_ssize_t cuts, step               # the channels are cut into parts of at most `step`
    Py_ssize_t parts                    # taps along d times cuts: what a product sums over
    Py_ssize_t abreast                  # so many positions lie side by side in a row of V
    Py_ssize_t rows                     # tiles of a block


cdef inline Py_ssize_t channel_cut(const Winograd *g, Py_ssize_t i) noexcept nogil:
    """Where part i of the channels begins: whole vectors, at least one, and the last part has what is over."""
    return g.p.depth if i == g.cuts else ceil_div(g.p.depth // LANES * i, g.cuts) * LANES


cdef inline Py_ssize_t part_depth(const Winograd *g, Py_ssize_t part) noexcept nogil:
    return channel_cut(g, part % g.cuts + 1) - channel_cut(g, part % g.cuts)


cdef inline void cut_depth(Winograd *g, Py_ssize_t most) noexcept nogil:
    """Cut the channels into parts of at most `most`."""
    cdef Py_ssize_t i
    g.cuts = ceil_div(g.p.depth, most)
    g.step = 0
    for i in range(g.cuts):
        g.step = max(g.step, round_up(part_depth(g, i), LANES))
    g.parts = g.p.d.taps * g.cuts
    g.abreast = DEPTH_LD // g.step


cdef inline Py_ssize_t input_items(const Winograd *g, Py_ssize_t parts) noexcept nogil:
    """The size of V for a block of tiles and some parts of the channels."""
    return own_lines(ceil_div(g.positions * parts, g.abreast) * g.rows * DEPTH_LD)


cdef inline Py_ssize_t tiles_along(const Axis *axis, int outputs) noexcept nogil:
    """The tiles of all the images that a dilation interleaves along an axis; the first rows % dilation have a row more."""
    cdef Py_ssize_t d = axis.dilation if outputs > 1 else 1, longer = axis.rows % d
    return longer * ceil_div(axis.rows // d + 1, outputs) + (d - longer) * ceil_div(axis.rows // d, outputs)


cdef inline Py_ssize_t tile_start(const Axis *axis, int outputs, Py_ssize_t index) noexcept nogil:
    """The first output of a tile along an axis."""
    cdef Py_ssize_t d = axis.dilation if outputs > 1 else 1, longer = axis.rows % d, each = ceil_div(axis.rows // d + 1, outputs)
    if index < longer * each:
        return index // each + index % each * outputs * d
    index -= longer * each
    each = ceil_div(axis.rows // d, outputs)
    return longer + index // each + index % each * outputs * d


cdef Winograd winograd_grid(const Product *p, int out_h, int out_w) noexcept nogil:
    cdef Winograd g
    g.p, g.out_h, g.out_w = p[0], out_h, out_w
    g.step_h, g.step_w = p.h.dilation if out_h > 1 else 1, p.w.dilation
    g.positions = points_of(out_h) * points_of(out_w)
    g.tiles_h, g.tiles_w = tiles_along(&p.h, out_h), tiles_along(&p.w, out_w)
    g.tiles = p.batch * p.d.rows * g.tiles_h * g.tiles_w
    return g


cdef inline Py_ssize_t packed_weights(const Winograd *g, Py_ssize_t panel, Py_ssize_t part) noexcept nogil:
    """Where in U one part of the channels of a panel is: as many matrices as positions, panel_items(g.step) apart."""
    return (panel * g.parts + part) * g.positions * panel_items(g.step)


cdef inline Py_ssize_t packed_inputs(const Winograd *g, Py_ssize_t part, Py_ssize_t k) noexcept nogil:
    """Where in V the first row of one part and position is."""
    cdef Py_ssize_t unit = part * g.positions + k
    return unit // g.abreast * g.rows * DEPTH_LD + unit % g.abreast * g.step


cdef void transform_weights(
    const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part, Py_ssize_t first, real *u
) noexcept nogil:
    """U of LANES channels of a part, from its channel `first`, for the panel of `cols` columns that begins at col_first."""
    if g.out_h == 4:
        panel_of_weights(3, 3, g, col_first, cols, part, first, u)
    elif g.out_h == 2:
        panel_of_weights(5, 5, g, col_first, cols, part, first, u)
    elif g.out_w == 4:
        panel_of_weights(1, 3, g, col_first, cols, part, first, u)
    else:
        panel_of_weights(1, 5, g, col_first, cols, part, first, u)


cdef inline void panel_of_weights(
    const int taps_h, const int taps_w, const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part,
    Py_ssize_t first, real *u,
) noexcept nogil:
    cdef Py_ssize_t c_first = channel_cut(g, part % g.cuts) + first
    cdef Py_ssize_t count = min(channel_cut(g, part % g.cuts + 1) - c_first, <Py_ssize_t> LANES)
    cdef Py_ssize_t width = panel_width(cols), position = panel_items(g.step), row = g.p.b_h, col = g.p.b_w, c, o, r, s
    cdef Py_ssize_t next_c = g.p.b_k
    cdef const real *source = g.p.b + part // g.cuts * g.p.b_d + c_first * g.p.b_k + col_first * g.p.b_col
    cdef const real *taps = source
    cdef real packed[MOST_TAPS * LANES * TILE_N]
    if g.p.b_col != 1 or cols < width:
        taps, col, next_c = packed, LANES * TILE_N, TILE_N
        row = taps_w * col
        if cols < width:
            zero(packed, taps_h * row)
        for r in range(taps_h):
            for s in range(taps_w):
                pack_taps(g, source + r * g.p.b_h + s * g.p.b_w, count, cols, packed + r * row + s * col)
    for c in range(count):
        for o in range(width // LANES):
            transform_weight(
                taps_h, taps_w, taps + c * next_c + o * LANES, row, col, LANES * g.p.b_k,
                u + (first + c) * width + o * LANES, position,
            )


cdef inline void pack_taps(const Winograd *g, const real *b, Py_ssize_t depth, Py_ssize_t cols, real *packed) noexcept nogil:
    """packed[c * TILE_N + o] = b[channel c, column o]"""
    cdef Py_ssize_t c, o
    if g.p.b_col == 1:
        for c in range(depth):
            copy(packed + c * TILE_N, b + c * g.p.b_k, cols)
    else:
        for o in range(cols):
            if depth < LANES or cols % LANES:
                for c in range(depth):
                    packed[c * TILE_N + o] = b[c * g.p.b_k + o * g.p.b_col]
            elif o % LANES == 0:
                transpose_square(b + o * g.p.b_col, g.p.b_col, packed + o, TILE_N)
            prefetch(b + LANES * g.p.b_k + o * g.p.b_col)


cdef inline void transform_weight(
    const int taps_h, const int taps_w, const real *taps, Py_ssize_t row, Py_ssize_t col, Py_ssize_t ahead, real *u,
    Py_ssize_t position,
) noexcept nogil:
    """U = G g G^T for LANES pairs of channels: taps `row` and `col` apart, positions `position`; those of later channels,
    `ahead`, are asked for: they are too far apart for the hardware to foresee.
    """
    cdef vec g[MOST_TAPS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[MOST_POSITIONS]
    cdef Py_ssize_t i, r, s
    for r in range(taps_h):
        for s in range(taps_w):
            g[s] = (<const vec *> (taps + r * row + s * col))[0]
            prefetch(taps + r * row + s * col + ahead)
        weight_points(half + r * POINTS, g, taps_w, 1)
    if taps_h == 1:
        for s in range(POINTS):
            (<vec *> (u + s * position))[0] = half[s]
        return
    for s in range(POINTS):
        weight_points(whole, half + s, taps_h, POINTS)
        for i in range(POINTS):
            (<vec *> (u + (i * POINTS + s) * position))[0] = whole[i]


cdef struct Tile:
    # where a tile's outputs begin: `h` and `w` count outputs
    Py_ssize_t n, d, h, w


cdef inline Tile tile_at(const Winograd *g, Py_ssize_t index) noexcept nogil:
    cdef Tile t
    t.w = tile_start(&g.p.w, g.out_w, index % g.tiles_w)
    t.h = tile_start(&g.p.h, g.out_h, index // g.tiles_w % g.tiles_h)
    t.d = index // g.tiles_w // g.tiles_h % g.p.d.rows
    t.n = index // g.tiles_w // g.tiles_h // g.p.d.rows
    return t


cdef inline void next_tile(const Winograd *g, Tile *t) noexcept nogil:
    t.w += g.out_w * g.step_w
    if t.w < g.p.w.rows:
        return
    t.w = t.w % g.step_w + 1  # the next of the images that the dilation interleaves
    if t.w < min(g.step_w, g.p.w.rows):
        return
    t.w = 0
    t.h += g.out_h * g.step_h
    if t.h < g.p.h.rows:
        return
    t.h = t.h % g.step_h + 1
    if t.h < min(g.step_h, g.p.h.rows):
        return
    t.h = 0
    t.d += 1
    if t.d == g.p.d.rows:
        t.d = 0
        t.n += 1


cdef inline void transform_column(
    const int points_h, const real *x, Py_ssize_t row, Py_ssize_t above, Py_ssize_t below, vec *v
) noexcept nogil:
    """v = B^T d for LANES channels of one column of pixels, `row` apart, of which above .. below - 1 are inside the image."""
    cdef vec d[POINTS]
    cdef Py_ssize_t i
    for i in range(points_h):
        d[i] = broadcast(0)
        if above <= i < below:
            d[i] = (<const vec *> (x + i * row))[0]
    if points_h == 1:
        v[0] = d[0]
    else:
        input_points(v, d, 1)


cdef inline void transform_run(
    const int points_h, const Winograd *g, const Tile *t, Py_ssize_t run, Py_ssize_t z, Py_ssize_t c_first, Py_ssize_t c_end,
    real *v, const Py_ssize_t *place,
) noexcept nogil:
    """V = B^T d B of `run` tiles side by side, for some of their channels; position k to v + place[k].

    The tiles overlap: the columns of all of them are transformed first.
    """
    cdef vec columns[RUN_COLUMNS * POINTS]
    cdef vec points[POINTS]
    cdef Py_ssize_t h = t.h + g.p.h.origin, w = t.w + g.p.w.origin, many = (run - 1) * g.out_w + POINTS
    cdef Py_ssize_t col = g.step_w * g.p.a_ld, row = g.step_h * g.p.w.size * g.p.a_ld, c = c_first, k, i, j, r, s
    cdef Py_ssize_t above = ceil_div(max(-h, <Py_ssize_t> 0), g.step_h), left = ceil_div(max(-w, <Py_ssize_t> 0), g.step_w)
    cdef Py_ssize_t below = min(ceil_div(max(g.p.h.size - h, <Py_ssize_t> 0), g.step_h), <Py_ssize_t> points_h)
    cdef Py_ssize_t right = min(ceil_div(max(g.p.w.size - w, <Py_ssize_t> 0), g.step_w), many)
    cdef const real *x = g.p.a + (((t.n * g.p.d.size + z) * g.p.h.size + h) * g.p.w.size + w) * g.p.a_ld
    cdef real *to
    if z < 0 or z >= g.p.d.size or below <= above:
        right = 0
    for j in range(many):
        if j < left or j >= right:
            for r in range(points_h):
                columns[j * points_h + r] = broadcast(0)
    while c < c_end:
        k = min(c, c_end - LANES)
        if above == 0 and below == points_h:
            for j in range(left, right):
                transform_column(points_h, x + j * col + k, row, 0, points_h, columns + j * points_h)
        else:
            for j in range(left, right):
                transform_column(points_h, x + j * col + k, row, above, below, columns + j * points_h)
        for i in range(run):
            to = v + i * DEPTH_LD + k - c_first
            for r in range(points_h):
                input_points(points, columns + i * g.out_w * points_h + r, points_h)
                for s in range(POINTS):
                    (<vec *> (to + place[r * POINTS + s]))[0] = points[s]
        c += LANES


cdef void transform_inputs(
    const Winograd *g, Py_ssize_t part_first, Py_ssize_t parts, Py_ssize_t first, Py_ssize_t count, real *v
) noexcept nogil:
    """V of a block of tiles and some of its parts."""
    cdef Py_ssize_t place[MOST_POSITIONS]
    cdef Py_ssize_t part, i, k, z, run
    cdef Tile t
    for part in range(part_first, part_first + parts):
        for k in range(g.positions):
            place[k] = packed_inputs(g, part - part_first, k)
        t = tile_at(g, first)
        i = 0
        while i < count:
            run = min(min(ceil_div(g.p.w.rows - t.w, g.out_w * g.step_w), count - i), <Py_ssize_t> RUN)
            z = t.d * g.p.d.stride + g.p.d.origin + part // g.cuts * g.p.d.dilation
            if g.out_h == 1:
                transform_run(
                    1, g, &t, run, z, channel_cut(g, part % g.cuts), channel_cut(g, part % g.cuts + 1), v + i * DEPTH_LD, place
                )
            else:
                transform_run(
                    POINTS, g, &t, run, z, channel_cut(g, part % g.cuts), channel_cut(g, part % g.cuts + 1), v + i * DEPTH_LD,
                    place,
                )
            i += run
            t.w += (run - 1) * g.out_w * g.step_w
            next_tile(g, &t)


cdef inline void transform_output(
    const int out_h, const int out_w, const real *m, Py_ssize_t position, vec bias, real *y, Py_ssize_t row, Py_ssize_t col,
    Py_ssize_t high, Py_ssize_t wide,
) noexcept nogil:
    """y = A^T M A + bias for LANES columns of a tile: positions `position` apart, outputs `row` and `col`; high x wide of them."""
    cdef vec half[MOST_POSITIONS]
    cdef vec d[POINTS]
    cdef Py_ssize_t r, s
    for s in range(POINTS):
        if out_h == 1:
            half[s] = (<const vec *> (m + s * position))[0]
        else:
            for r in range(POINTS):
                d[r] = (<const vec *> (m + (r * POINTS + s) * position))[0]
            outputs_of_points(half + s * out_h, d, out_h, 1)
    for r in range(out_h):
        if r < high:
            outputs_of_points(d, half + r, out_w, out_h)
            for s in range(out_w):
                if s < wide:
                    (<vec *> (y + r * row + s * col))[0] = d[s] + bias


cdef inline void panel_of_outputs(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first,
    Py_ssize_t cols, const real *m, Py_ssize_t position,
) noexcept nogil:
    cdef vec bias = broadcast(0)
    cdef Py_ssize_t i, j, o, high, wide, col = g.step_w * g.p.y_ld, row = g.step_h * g.p.out_w * g.p.y_ld
    cdef real *y
    cdef Tile t = tile_at(g, first)
    for i in range(count):
        high, wide = ceil_div(g.p.h.rows - t.h, g.step_h), ceil_div(g.p.w.rows - t.w, g.step_w)
        y = g.p.y + col_first + (
            ((t.n * g.p.out_d + g.p.d.out_first + t.d * g.p.d.out_step) * g.p.out_h + t.h) * g.p.out_w + t.w
        ) * g.p.y_ld
        o = 0
        while o < cols:
            j = min(o, cols - LANES)
            if g.p.bias:
                bias = (<const vec *> (g.p.bias + col_first + j))[0]
            if high >= out_h and wide >= out_w:
                transform_output(out_h, out_w, m + i * TILE_N + j, position, bias, y + j, row, col, out_h, out_w)
            else:
                transform_output(out_h, out_w, m + i * TILE_N + j, position, bias, y + j, row, col, high, wide)
            o += LANES
        next_tile(g, &t)


cdef void transform_outputs(
    const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first, Py_ssize_t cols, const real *m,
    Py_ssize_t position,
) noexcept nogil:
    """y of a block of tiles and a panel of columns; what a tile has beyond the last row or column is dropped."""
    if g.out_h == 4:
        panel_of_outputs(4, 4, g, first, count, col_first, cols, m, position)
    elif g.out_h == 2:
        panel_of_outputs(2, 2, g, first, count, col_first, cols, m, position)
    elif g.out_w == 4:
        panel_of_outputs(1, 4, g, first, count, col_first, cols, m, position)
    else:
        panel_of_outputs(1, 2, g, first, count, col_first, cols, m, position)
