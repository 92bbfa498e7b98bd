# Winograd's tiles: where they lie, and the transforms of winograd_points.pxi nested along two axes. What is left of the
# convolution is one matrix product for each of the 36 or 81 positions of a tile:
#
#     M[k] (tiles, columns) = V[k] (tiles, depth) @ U[k] (depth, columns)
#
# which the register tile computes. An axis with one tap has one point. The taps along d are further columns of V. Dilation
# interleaves images, each of which has tiles of its own.


cdef enum:
    MOST_POSITIONS = 81     # MOST_POINTS * MOST_POINTS
    MOST_TAPS = 49
    MOST_OUTPUTS = 49
    TAP_ITEMS = LANES * TILE_N + LANES  # of packed taps: no power of two, for all taps of a pair of channels are read together
    RUN_PIXELS = 32         # outputs of a line whose tiles are transformed together: their columns stay in the first-level cache
    RUN_VECTORS = 324       # (30 + 6) * 9 for tiles of 3 outputs, and fewer for others


cdef struct Winograd:
    Product p
    int out_h, out_w                    # outputs of a tile
    Py_ssize_t step_h, step_w           # pixels from one output of a tile to the next: the dilation
    Py_ssize_t positions, tiles_h, tiles_w, tiles
    Py_ssize_t cuts, step               # the channels are cut into parts of at most `step`
    Py_ssize_t parts                    # taps along d times cuts: what a product sums over
    Py_ssize_t abreast                  # so many positions lie side by side in a row of V
    Py_ssize_t rows, panel              # tiles of a block, columns of a panel
    Py_ssize_t groups, b_group          # of the convolution; how far apart their weights are


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
    return own_lines(parts * ceil_div(g.positions, g.abreast) * g.rows * DEPTH_LD)


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
    g.p, g.out_h, g.out_w, g.groups, g.b_group = p[0], out_h, out_w, 1, 0
    g.step_h, g.step_w = p.h.dilation if out_h > 1 else 1, p.w.dilation if out_w > 1 else 1
    g.positions = (p.h.taps + out_h - 1) * (p.w.taps + out_w - 1)
    g.tiles_h, g.tiles_w = tiles_along(&p.h, out_h), tiles_along(&p.w, out_w)
    g.tiles = p.batch * p.d.rows * g.tiles_h * g.tiles_w
    return g


cdef inline Py_ssize_t packed_weights(const Winograd *g, Py_ssize_t panel, Py_ssize_t part) noexcept nogil:
    """Where in U one part of the channels of a panel is: as many matrices as positions, panel_items(g.step) apart."""
    return (panel * g.parts + part) * g.positions * panel_items(g.step)


cdef inline Py_ssize_t packed_inputs(const Winograd *g, Py_ssize_t part, Py_ssize_t k) noexcept nogil:
    """Where in V the first row of one part and position is."""
    return (part * ceil_div(g.positions, g.abreast) + k // g.abreast) * g.rows * DEPTH_LD + k % g.abreast * g.step


cdef apart transform_weights(
    const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part, Py_ssize_t first, Py_ssize_t most, real *u
) noexcept nogil:
    """U of `most` (LANES or fewer) channels of a part, from its channel `first`, for the panel of `cols` columns from col_first on."""
    if g.out_h == g.out_w == 7:
        panel_of_weights(7, 7, g, col_first, cols, part, first, most, u)
    elif g.out_h == g.out_w == 4:
        panel_of_weights(4, 4, g, col_first, cols, part, first, most, u)
    else:
        panel_of_weights(g.out_h, g.out_w, g, col_first, cols, part, first, most, u)


cdef inline void panel_of_weights(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part,
    Py_ssize_t first, Py_ssize_t most, real *u,
) noexcept nogil:
    cdef int taps_h = taps_of(out_h), taps_w = taps_of(out_w)
    cdef Py_ssize_t c_first = channel_cut(g, part % g.cuts) + first
    cdef Py_ssize_t count = min(channel_cut(g, part % g.cuts + 1) - c_first, most)
    cdef Py_ssize_t width = panel_width(cols), position = panel_items(g.step), c, o, r, s
    cdef const real *source = g.p.b + part // g.cuts * g.p.b_d + c_first * g.p.b_k + col_first * g.p.b_col
    cdef real packed[MOST_TAPS * TAP_ITEMS]
    if cols < width:
        zero(packed, taps_h * taps_w * TAP_ITEMS)
    for r in range(taps_h):
        for s in range(taps_w):
            pack_taps(g, source + r * g.p.b_h + s * g.p.b_w, count, cols, packed + (r * taps_w + s) * TAP_ITEMS)
    for c in range(count):
        for o in range(width // LANES):
            transform_weight(out_h, out_w, packed + c * TILE_N + o * LANES, u + (first + c) * width + o * LANES, position)


cdef apart pack_taps(const Winograd *g, const real *b, Py_ssize_t depth, Py_ssize_t cols, real *packed) noexcept nogil:
    """packed[c * TILE_N + o] = b[channel c, column o]: many lines are asked for at once, which lie in different pages."""
    cdef Py_ssize_t c, o
    if g.p.b_col == 1:
        for c in range(depth):
            if cols == TILE_N:
                for o in range(TILE_V):
                    (<vec *> (packed + c * TILE_N + o * LANES))[0] = (<const vec *> (b + c * g.p.b_k + o * LANES))[0]
                    fetch(b + (c + LANES) * g.p.b_k + o * LANES)
            else:
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
    const int out_h, const int out_w, const real *taps, real *u, Py_ssize_t position
) noexcept nogil:
    """U = G g G^T for LANES pairs of channels: packed taps, positions `position` apart."""
    cdef int taps_h = taps_of(out_h), taps_w = taps_of(out_w), points_h = points_of(out_h), points_w = points_of(out_w)
    cdef vec g[MOST_TAPS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[MOST_POINTS]
    cdef Py_ssize_t i, r, s
    for r in range(taps_h):
        for s in range(taps_w):
            g[s] = (<const vec *> (taps + (r * taps_w + s) * TAP_ITEMS))[0]
        weight_points(out_w, half + r * points_w, g, 1)
    for s in range(points_w):
        weight_points(out_h, whole, half + s, points_w)
        for i in range(points_h):
            (<vec *> (u + (i * points_w + s) * position))[0] = whole[i]


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


cdef inline const real *pixel_under(const Winograd *g, const Tile *t, Py_ssize_t z) noexcept nogil:
    """Where the first pixel that a tile sees in plane z is; it may lie outside of the image."""
    cdef Py_ssize_t line = (t.n * g.p.d.size + z) * g.p.h.size + t.h + g.p.h.origin
    return g.p.a + (line * g.p.w.size + t.w + g.p.w.origin) * g.p.a_ld


cdef inline Py_ssize_t output_under(const Winograd *g, const Tile *t) noexcept nogil:
    """How far from the first output of all that of a tile is."""
    cdef Py_ssize_t plane = t.n * g.p.out_d + g.p.d.out_first + t.d * g.p.d.out_step
    return ((plane * g.p.out_h + t.h) * g.p.out_w + t.w) * g.p.y_ld


cdef apart ask_for_pixels(const real *x, Py_ssize_t rows, Py_ssize_t row, Py_ssize_t cols, Py_ssize_t col) noexcept nogil:
    """Ask for what the next tile reads or writes: groups jump from one pixel to the next, which no prefetcher foresees."""
    cdef Py_ssize_t r, s
    for r in range(rows):
        for s in range(cols):
            fetch(x + r * row + s * col)


cdef inline void transform_column(
    const int points_h, const real *x, Py_ssize_t row, Py_ssize_t above, Py_ssize_t below, vec *v
) noexcept nogil:
    """v = B^T d for LANES channels of one column of pixels, `row` apart, of which above .. below - 1 are inside the image."""
    cdef vec d[MOST_POINTS]
    cdef Py_ssize_t i
    for i in range(points_h):
        d[i] = broadcast(0)
        if above <= i < below:
            d[i] = (<const vec *> (x + i * row))[0]
    input_points(points_h, v, d, 1)


cdef inline void transform_run(
    const int points_h, const int points_w, const Winograd *g, const Tile *t, Py_ssize_t run, Py_ssize_t z, Py_ssize_t c_first,
    Py_ssize_t c_end, real *v, const Py_ssize_t *place, const real *ahead,
) noexcept nogil:
    """V = B^T d B of `run` tiles side by side, for some of their channels; position k to v + place[k].

    The tiles overlap: the columns of all of them are transformed first. `ahead`, if any, is the first pixel of what comes next.
    """
    cdef vec columns[RUN_VECTORS]
    cdef vec points[MOST_POINTS]
    cdef Py_ssize_t h = t.h + g.p.h.origin, w = t.w + g.p.w.origin, many = (run - 1) * g.out_w + points_w
    cdef Py_ssize_t col = g.step_w * g.p.a_ld, row = g.step_h * g.p.w.size * g.p.a_ld, c = c_first, k, i, j, r, s
    cdef Py_ssize_t above = ceil_div(max(-h, <Py_ssize_t> 0), g.step_h), left = ceil_div(max(-w, <Py_ssize_t> 0), g.step_w)
    cdef Py_ssize_t below = min(ceil_div(max(g.p.h.size - h, <Py_ssize_t> 0), g.step_h), <Py_ssize_t> points_h)
    cdef Py_ssize_t right = min(ceil_div(max(g.p.w.size - w, <Py_ssize_t> 0), g.step_w), many)
    cdef const real *x = pixel_under(g, t, z)
    cdef real *to
    if z < 0 or z >= g.p.d.size or below <= above:
        right = 0
    for j in range(many):
        if j < left or j >= right:
            for r in range(points_h):
                columns[j * points_h + r] = broadcast(0)
    while c < c_end:
        k = max(min(c, c_end - LANES), c_first)  # fewer channels than a vector are followed by others, whose products nobody sums
        if ahead != NULL:
            ask_for_pixels(ahead + k - c_first, points_h, row, many, col)
        if above == 0 and below == points_h:
            for j in range(left, right):
                transform_column(points_h, x + j * col + k, row, 0, points_h, columns + j * points_h)
        else:
            for j in range(left, right):
                transform_column(points_h, x + j * col + k, row, above, below, columns + j * points_h)
        for i in range(run):
            to = v + i * DEPTH_LD + k - c_first
            for r in range(points_h):
                input_points(points_w, points, columns + i * g.out_w * points_h + r, points_h)
                for s in range(points_w):
                    (<vec *> (to + place[r * points_w + s]))[0] = points[s]
        c += LANES


cdef inline void transform_tiles(
    const int points_h, const int points_w, const Winograd *g, Py_ssize_t part_first, Py_ssize_t parts, Py_ssize_t first,
    Py_ssize_t count, real *v,
) noexcept nogil:
    cdef Py_ssize_t place[MOST_POSITIONS]
    cdef Py_ssize_t part, i, k, z, run
    cdef Tile t, after
    cdef const real *ahead
    for part in range(part_first, part_first + parts):
        for k in range(g.positions):
            place[k] = packed_inputs(g, part - part_first, k)
        t = tile_at(g, first)
        i = 0
        while i < count:
            run = min(min(ceil_div(g.p.w.rows - t.w, g.out_w * g.step_w), count - i), <Py_ssize_t> (RUN_PIXELS // g.out_w))
            z = t.d * g.p.d.stride + g.p.d.origin + part // g.cuts * g.p.d.dilation
            after = t
            after.w += (run - 1) * g.out_w * g.step_w
            next_tile(g, &after)
            ahead = NULL
            if g.groups > 1 and i + run < count:
                ahead = pixel_under(g, &after, z) + channel_cut(g, part % g.cuts)
            transform_run(
                points_h, points_w, g, &t, run, z, channel_cut(g, part % g.cuts), channel_cut(g, part % g.cuts + 1),
                v + i * DEPTH_LD, place, ahead,
            )
            i += run
            t = after


cdef apart transform_inputs(
    const Winograd *g, Py_ssize_t part_first, Py_ssize_t parts, Py_ssize_t first, Py_ssize_t count, real *v
) noexcept nogil:
    """V of a block of tiles and some of its parts."""
    if g.positions == 81:
        transform_tiles(9, 9, g, part_first, parts, first, count, v)
    elif g.positions == 36:
        transform_tiles(6, 6, g, part_first, parts, first, count, v)
    elif g.out_h == 1 and g.positions == 6:
        transform_tiles(1, 6, g, part_first, parts, first, count, v)
    else:
        transform_tiles(points_of(g.out_h), points_of(g.out_w), g, part_first, parts, first, count, v)


cdef inline void transform_output(
    const int out_h, const int out_w, const real *m, Py_ssize_t position, vec bias, real least, real most, real *y,
    Py_ssize_t row, Py_ssize_t col,
) noexcept nogil:
    """y = A^T M A + bias, clamped, for LANES columns of a tile: positions `position` apart, outputs `row` and `col`."""
    cdef int points_h = points_of(out_h), points_w = points_of(out_w)
    cdef vec half[MOST_POSITIONS]
    cdef vec d[MOST_POINTS]
    cdef Py_ssize_t r, s
    for s in range(points_w):
        for r in range(points_h):
            d[r] = (<const vec *> (m + (r * points_w + s) * position))[0]
        outputs_of_points(out_h, half + s * out_h, d, 1)
    for r in range(out_h):
        outputs_of_points(out_w, d, half + r, out_h)
        for s in range(out_w):
            (<vec *> (y + r * row + s * col))[0] = clamped(d[s] + bias, least, most)


cdef inline void panel_of_outputs(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first,
    Py_ssize_t cols, const real *m, Py_ssize_t position,
) noexcept nogil:
    cdef vec bias = broadcast(0)
    cdef Py_ssize_t i, j, o, r, high, wide, col = g.step_w * g.p.y_ld, row = g.step_h * g.p.out_w * g.p.y_ld, to_row, to_col
    cdef Py_ssize_t width = min(cols, <Py_ssize_t> LANES)
    cdef real least, most
    cdef real *y
    cdef real *to
    cdef real buffer[(MOST_OUTPUTS + 1) * LANES]
    cdef real *made = aligned_in(buffer)
    cdef Tile after, t = tile_at(g, first)
    for i in range(count):
        after = t
        next_tile(g, &after)
        high, wide = ceil_div(g.p.h.rows - t.h, g.step_h), ceil_div(g.p.w.rows - t.w, g.step_w)
        y = g.p.y + output_under(g, &t) + col_first
        o = 0
        while o < cols:
            j = min(o, cols - width)
            if g.groups > 1 and i + 1 < count:
                ask_for_pixels(g.p.y + output_under(g, &after) + col_first + j, out_h, row, out_w, col)
            if g.p.bias:
                bias = load(g.p.bias + col_first + j, g.p.bias + g.p.cols)
            if high >= out_h and wide >= out_w and width == LANES and is_clamp(&g.p.finish):
                to, to_row, to_col, least, most = y + j, row, col, g.p.finish.a, g.p.finish.b
            else:
                to, to_row, to_col, least, most = made, out_w * LANES, LANES, -INFINITY, INFINITY
            transform_output(out_h, out_w, m + i * TILE_N + j, position, bias, least, most, to, to_row, to_col)
            if to == made:
                for r in range(min(high, <Py_ssize_t> out_h)):
                    finish_vectors(
                        &g.p.finish, made + r * to_row, g.p.y, y + j - g.p.y + r * row, col, min(wide, <Py_ssize_t> out_w), width,
                        col_first + j,
                    )
            o += LANES
        t = after


cdef apart transform_outputs(
    const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first, Py_ssize_t cols, const real *m,
    Py_ssize_t position,
) noexcept nogil:
    """y of a block of tiles and a panel of columns; what a tile has beyond the last row or column is dropped."""
    if g.out_h == g.out_w == 7:
        panel_of_outputs(7, 7, g, first, count, col_first, cols, m, position)
    elif g.out_h == g.out_w == 4:
        panel_of_outputs(4, 4, g, first, count, col_first, cols, m, position)
    elif g.out_h == g.out_w == 6:
        panel_of_outputs(6, 6, g, first, count, col_first, cols, m, position)
    elif g.out_h == 1 and g.out_w == 4:
        panel_of_outputs(1, 4, g, first, count, col_first, cols, m, position)
    else:
        panel_of_outputs(g.out_h, g.out_w, g, first, count, col_first, cols, m, position)
