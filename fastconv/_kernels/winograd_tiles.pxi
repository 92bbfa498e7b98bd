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
# which the register tile computes. An axis with one tap has one point. The taps along d are further columns of V.

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
    cdef vec even_p = g[0] + P2 * g[2 * step], odd_p = P_ * g[step]
    cdef vec even_q = g[0] + Q2 * g[2 * step], odd_q = Q_ * g[step]
    if taps == 5:
        even_p = even_p + P2 * P2 * g[4 * step]
        odd_p = odd_p + P_ * P2 * g[3 * step]
        even_q = even_q + Q2 * Q2 * g[4 * step]
        odd_q = odd_q + Q_ * Q2 * g[3 * step]
    u[0] = g[0] * SCALE_0
    u[1] = (even_p + odd_p) * SCALE_P
    u[2] = (even_p - odd_p) * SCALE_P
    u[3] = (even_q + odd_q) * SCALE_Q
    u[4] = (even_q - odd_q) * SCALE_Q
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
    Py_ssize_t positions, tiles_h, tiles_w, tiles
    Py_ssize_t cuts, step               # the channels are cut into parts of at most `step`
    Py_ssize_t parts                    # taps along d times cuts: what a product sums over
    Py_ssize_t abreast                  # so many parts lie side by side in a row of V
    Py_ssize_t rows, blocks             # tiles of a block
    Py_ssize_t col_blocks               # blocks of columns beside them, where tiles are too few for the threads
    Py_ssize_t passes, pass_cols        # ranges of columns, and the most columns of one
    Py_ssize_t u_parts, v_parts         # parts of which U and V are held at a time
    Py_ssize_t u_items, v_items, m_items


cdef inline Py_ssize_t column_cut(Py_ssize_t cols, Py_ssize_t parts, Py_ssize_t i) noexcept nogil:
    """Where part i of `cols` columns begins: whole panels, and the last part, the widest, has what is over."""
    return cols if i == parts else cols // TILE_N * i // parts * TILE_N


cdef inline void cut_columns(Winograd *g, Py_ssize_t most) noexcept nogil:
    """Choose passes of at most `most` columns (a panel, at the least)."""
    g.passes = max(min(ceil_div(g.p.cols, most), g.p.cols // TILE_N), <Py_ssize_t> 1)
    g.pass_cols = round_up(g.p.cols - column_cut(g.p.cols, g.passes, g.passes - 1), TILE_N)


cdef inline Py_ssize_t channel_cut(const Winograd *g, Py_ssize_t i) noexcept nogil:
    """Where part i of the channels begins: whole vectors, at least one, and the last part has what is over."""
    return g.p.depth if i == g.cuts else ceil_div(g.p.depth // LANES * i, g.cuts) * LANES


cdef inline void cut_depth(Winograd *g, Py_ssize_t most) noexcept nogil:
    """Cut the channels into parts of at most `most`."""
    cdef Py_ssize_t i
    g.cuts = ceil_div(g.p.depth, most)
    g.step = 0
    for i in range(g.cuts):
        g.step = max(g.step, round_up(channel_cut(g, i + 1) - channel_cut(g, i), LANES))
    g.parts = g.p.d.taps * g.cuts
    g.v_parts = g.parts
    g.abreast = DEPTH_LD // g.step


cdef inline void size_scratch(Winograd *g) noexcept nogil:
    g.u_items = own_lines(g.positions * g.u_parts * g.pass_cols * (g.step + 1))
    g.v_items = own_lines(ceil_div(g.positions * g.v_parts, g.abreast) * g.rows * DEPTH_LD)
    g.m_items = own_lines(g.positions * (g.rows * g.pass_cols + LANES))


cdef Winograd winograd_grid(const Product *p, int out_h, int out_w) noexcept nogil:
    cdef Winograd g
    g.p, g.out_h, g.out_w = p[0], out_h, out_w
    g.positions = points_of(out_h) * points_of(out_w)
    g.tiles_h, g.tiles_w = ceil_div(p.h.rows, out_h), ceil_div(p.w.rows, out_w)
    g.tiles = p.batch * p.d.rows * g.tiles_h * g.tiles_w
    return g


cdef inline Py_ssize_t packed_weights(const Winograd *g, Py_ssize_t k, Py_ssize_t panel, Py_ssize_t part) noexcept nogil:
    """Where in U the panel of one position and part is."""
    return ((k * (g.pass_cols // TILE_N) + panel) * g.u_parts + part) * (g.step + 1) * TILE_N


cdef inline Py_ssize_t packed_inputs(const Winograd *g, Py_ssize_t k, Py_ssize_t part) noexcept nogil:
    """Where in V the first row of one position and part is."""
    cdef Py_ssize_t unit = k * g.v_parts + part
    return unit // g.abreast * g.rows * DEPTH_LD + unit % g.abreast * g.step


cdef inline void transform_weights(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part,
    Py_ssize_t first, real *u,
) noexcept nogil:
    """U of LANES channels of a part, from its channel `first`, for `cols` (at most TILE_N) columns."""
    cdef Py_ssize_t c_first = channel_cut(g, part % g.cuts) + first
    cdef Py_ssize_t count = min(channel_cut(g, part % g.cuts + 1) - c_first, <Py_ssize_t> LANES)
    cdef Py_ssize_t width = panel_width(cols), position = packed_weights(g, 1, 0, 0), row = g.p.b_h, col = g.p.b_w, c, o, r, s
    cdef Py_ssize_t next_c = g.p.b_k
    cdef const real *source = g.p.b + part // g.cuts * g.p.b_d + c_first * g.p.b_k + col_first * g.p.b_col
    cdef const real *taps = source
    cdef real packed[MOST_TAPS * LANES * TILE_N]
    if g.p.b_col != 1 or cols < width:
        taps, col, next_c = packed, LANES * TILE_N, TILE_N
        row = taps_of(out_w) * col
        if cols < width:
            zero(packed, taps_of(out_h) * row)
        for r in range(taps_of(out_h)):
            for s in range(taps_of(out_w)):
                pack_taps(g, source + r * g.p.b_h + s * g.p.b_w, count, cols, packed + r * row + s * col)
    for c in range(count):
        for o in range(width // LANES):
            transform_weight(
                out_h, out_w, taps + c * next_c + o * LANES, row, col, LANES * g.p.b_k,
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
    const int out_h, const int out_w, const real *taps, Py_ssize_t row, Py_ssize_t col, Py_ssize_t ahead, real *u,
    Py_ssize_t position,
) noexcept nogil:
    """U = G g G^T for LANES pairs of channels: taps `row` and `col` apart, positions `position`; those of later channels,
    `ahead`, are asked for: they are too far apart for the hardware to foresee.
    """
    cdef vec g[MOST_TAPS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[MOST_POSITIONS]
    cdef Py_ssize_t i, r, s
    for r in range(taps_of(out_h)):
        for s in range(taps_of(out_w)):
            g[s] = (<const vec *> (taps + r * row + s * col))[0]
            prefetch(taps + r * row + s * col + ahead)
        weight_points(half + r * POINTS, g, taps_of(out_w), 1)
    if out_h == 1:
        for s in range(POINTS):
            (<vec *> (u + s * position))[0] = half[s]
        return
    for s in range(POINTS):
        weight_points(whole, half + s, taps_of(out_h), POINTS)
        for i in range(POINTS):
            (<vec *> (u + (i * POINTS + s) * position))[0] = whole[i]


cdef struct Tile:
    # where a tile's outputs begin: `h` and `w` count outputs
    Py_ssize_t n, d, h, w


cdef inline Tile tile_at(const Winograd *g, Py_ssize_t index) noexcept nogil:
    cdef Tile t
    t.w = index % g.tiles_w * g.out_w
    t.h = index // g.tiles_w % g.tiles_h * g.out_h
    t.d = index // g.tiles_w // g.tiles_h % g.p.d.rows
    t.n = index // g.tiles_w // g.tiles_h // g.p.d.rows
    return t


cdef inline void next_tile(const Winograd *g, Tile *t) noexcept nogil:
    t.w += g.out_w
    if t.w >= g.p.w.rows:
        t.w = 0
        t.h += g.out_h
        if t.h >= g.p.h.rows:
            t.h = 0
            t.d += 1
            if t.d == g.p.d.rows:
                t.d = 0
                t.n += 1


cdef inline void copy_vectors(
    real *to, Py_ssize_t to_row, Py_ssize_t to_col, const real *source, Py_ssize_t row, Py_ssize_t col, Py_ssize_t high,
    Py_ssize_t wide,
) noexcept nogil:
    """One vector from each of high x wide places to another."""
    cdef Py_ssize_t r, s
    for r in range(high):
        for s in range(wide):
            (<vec *> (to + r * to_row + s * to_col))[0] = (<const vec *> (source + r * row + s * col))[0]


cdef inline void transform_input(
    const int points_h, const real *x, Py_ssize_t row, Py_ssize_t col, real *v, const Py_ssize_t *place
) noexcept nogil:
    """V = B^T d B for LANES channels of a tile: pixels `row` and `col` apart, position k to v + place[k]."""
    cdef vec d[POINTS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[POINTS]
    cdef Py_ssize_t i, s
    for s in range(POINTS):
        for i in range(points_h):
            d[i] = (<const vec *> (x + i * row + s * col))[0]
        if points_h == 1:
            half[s] = d[0]
        else:
            input_points(whole, d, 1)
            for i in range(POINTS):
                half[i * POINTS + s] = whole[i]
    for i in range(points_h):
        input_points(whole, half + i * POINTS, 1)
        for s in range(POINTS):
            (<vec *> (v + place[i * POINTS + s]))[0] = whole[s]


cdef inline void transform_inputs(
    const int out_h, const Winograd *g, Py_ssize_t part_first, Py_ssize_t parts, Py_ssize_t first, Py_ssize_t count, real *v
) noexcept nogil:
    """V of a block of tiles and some of its parts."""
    cdef real edge[MOST_POSITIONS * LANES]  # a tile of which a part lies outside the image
    cdef Py_ssize_t place[MOST_POSITIONS]
    cdef Py_ssize_t part, i, k, z, c, c_first, c_end, above, below, left, right
    cdef Py_ssize_t col = g.p.a_ld, row = g.p.w.size * g.p.a_ld
    cdef const real *x
    cdef real *to
    cdef Tile t
    for part in range(part_first, part_first + parts):
        c_first, c_end = channel_cut(g, part % g.cuts), channel_cut(g, part % g.cuts + 1)
        for k in range(g.positions):
            place[k] = packed_inputs(g, k, part - part_first)
        t = tile_at(g, first)
        for i in range(count):
            z = t.d * g.p.d.stride + g.p.d.origin + part // g.cuts * g.p.d.dilation
            above, left = max(-t.h - g.p.h.origin, <Py_ssize_t> 0), max(-t.w - g.p.w.origin, <Py_ssize_t> 0)
            below = min(g.p.h.size - t.h - g.p.h.origin, <Py_ssize_t> points_of(out_h))
            right = min(g.p.w.size - t.w - g.p.w.origin, <Py_ssize_t> POINTS)
            if z < 0 or z >= g.p.d.size:
                below = 0
            x = g.p.a + (((t.n * g.p.d.size + z) * g.p.h.size + t.h + g.p.h.origin) * g.p.w.size + t.w + g.p.w.origin) * col
            to = v + i * DEPTH_LD
            if above == 0 and left == 0 and below == points_of(out_h) and right == POINTS:
                c = c_first
                while c < c_end:
                    k = min(c, c_end - LANES)
                    transform_input(points_of(out_h), x + k, row, col, to + k - c_first, place)
                    c += LANES
            else:
                zero(edge, g.positions * LANES)
                c = c_first
                while c < c_end:
                    k = min(c, c_end - LANES)
                    if below > above and right > left:
                        copy_vectors(
                            edge + (above * POINTS + left) * LANES, POINTS * LANES, LANES, x + above * row + left * col + k, row,
                            col, below - above, right - left,
                        )
                    transform_input(points_of(out_h), edge, POINTS * LANES, LANES, to + k - c_first, place)
                    c += LANES
            next_tile(g, &t)


cdef inline void transform_output(
    const int out_h, const int out_w, const real *m, Py_ssize_t position, vec bias, real *y, Py_ssize_t row, Py_ssize_t col
) noexcept nogil:
    """y = A^T M A + bias for LANES columns of a tile: positions `position` apart, outputs `row` and `col`."""
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
        outputs_of_points(d, half + r, out_w, out_h)
        for s in range(out_w):
            (<vec *> (y + r * row + s * col))[0] = d[s] + bias


cdef inline void transform_outputs(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first,
    Py_ssize_t cols, const real *m, Py_ssize_t position, Py_ssize_t m_ld,
) noexcept nogil:
    """y of a block of tiles; what a tile has beyond the last row or column is dropped."""
    cdef real edge[MOST_POSITIONS * LANES]
    cdef vec bias = broadcast(0)
    cdef Py_ssize_t i, j, o, high, wide, col = g.p.y_ld, row = g.p.out_w * g.p.y_ld
    cdef real *y
    cdef Tile t = tile_at(g, first)
    for i in range(count):
        high, wide = min(g.p.h.rows - t.h, <Py_ssize_t> out_h), min(g.p.w.rows - t.w, <Py_ssize_t> out_w)
        y = g.p.y + col_first + (
            ((t.n * g.p.out_d + g.p.d.out_first + t.d * g.p.d.out_step) * g.p.out_h + t.h) * g.p.out_w + t.w
        ) * col
        o = 0
        while o < cols:
            j = min(o, cols - LANES)
            if g.p.bias:
                bias = (<const vec *> (g.p.bias + col_first + j))[0]
            if high == out_h and wide == out_w:
                transform_output(out_h, out_w, m + i * m_ld + j, position, bias, y + j, row, col)
            else:
                transform_output(out_h, out_w, m + i * m_ld + j, position, bias, edge, out_w * LANES, LANES)
                copy_vectors(y + j, row, col, edge, out_w * LANES, LANES, high, wide)
            o += LANES
        next_tile(g, &t)
