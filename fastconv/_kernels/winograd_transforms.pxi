# Winograd's transforms: those of winograd_points.pxi nested along two axes, on vectors of channels. What is done along one axis is a
# function of its own, or each pair of sizes would be compiled.


cdef enum:
    TAP_ITEMS = LANES * TILE_N + LANES  # of packed taps: no power of two, for all taps of a pair of channels are read together
    RUN_PIXELS = 32         # outputs of a line whose tiles are transformed together: their columns stay in the first-level cache
    RUN_VECTORS = 324       # (30 + 6) * 9 for tiles of 3 outputs, and fewer for others
    OUTPUTS_LD = 8          # the most outputs of a tile along an axis


cdef inline Py_ssize_t gathered_taps(const Winograd *g, Py_ssize_t panel, Py_ssize_t part, Py_ssize_t first) noexcept nogil:
    """Where in gathered weights the taps of LANES channels of a part of a panel are, from its channel `first` on."""
    return ((panel * g.parts + part) * ceil_div(g.step, LANES) + first // LANES) * g.taps_h * g.taps_w * TAP_ITEMS


cdef apart transform_weights(
    const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part, Py_ssize_t first, Py_ssize_t most, real *u
) noexcept nogil:
    """U of `most` (LANES or fewer) channels of a part, from its channel `first`, for the panel of `cols` columns from col_first on."""
    cdef Py_ssize_t count = min(part_depth(g, part) - first, most), width = panel_width(cols)
    cdef real packed[MOST_TAPS * TAP_ITEMS]
    cdef const real *taps = packed
    if SELDOM_USED and g.gathered:
        taps = g.gathered + gathered_taps(g, ceil_div(col_first, TILE_N), part, first)
    else:
        gather_taps(g, col_first, cols, part, first, count, packed)
    u += first * width
    if PART_LANES < LANES and g.positions == 81 and g.taps_h == g.taps_w == 3:
        panel_of_weights(9, 9, 3, 3, g, taps, count, width, u)
    elif g.positions == 36 and g.taps_h == g.taps_w == 3:
        panel_of_weights(6, 6, 3, 3, g, taps, count, width, u)
    else:
        panel_of_weights(g.points_h, g.points_w, g.taps_h, g.taps_w, g, taps, count, width, u)


cdef inline void panel_of_weights(
    const int points_h, const int points_w, const int taps_h, const int taps_w, const Winograd *g, const real *taps,
    Py_ssize_t count, Py_ssize_t width, real *u,
) noexcept nogil:
    cdef Py_ssize_t position = panel_items(g.step), c, o
    for c in range(count):
        for o in range(width // LANES):
            transform_weight(
                points_h, points_w, taps_h, taps_w, taps + c * TILE_N + o * LANES, u + c * width + o * LANES, position
            )


cdef apart gather_taps(
    const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t part, Py_ssize_t first, Py_ssize_t count, real *packed
) noexcept nogil:
    """packed[tap * TAP_ITEMS + c * TILE_N + o] for `count` channels of a part, 0 where the phase has no such tap."""
    cdef Tap tap = tap_of_part(g, part)
    cdef const real *source = g.p.b + tap.d * g.p.b_d + (channel_cut(g, part % g.cuts) + first) * g.p.b_k + col_first * g.p.b_col
    cdef Py_ssize_t r, s, i, j
    if cols < panel_width(cols):
        zero(packed, g.taps_h * g.taps_w * TAP_ITEMS)
    for r in range(g.taps_h):
        for s in range(g.taps_w):
            i, j = tap.h + r * g.p.h.stride, tap.w + s * g.p.w.stride
            if i < g.p.h.taps and j < g.p.w.taps:
                pack_taps(g, source + i * g.p.b_h + j * g.p.b_w, count, cols, packed + (r * g.taps_w + s) * TAP_ITEMS)
            else:
                zero(packed + (r * g.taps_w + s) * TAP_ITEMS, TAP_ITEMS)


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
    const int points_h, const int points_w, const int taps_h, const int taps_w, const real *taps, real *u, Py_ssize_t position
) noexcept nogil:
    """U = G g G^T for LANES pairs of channels: packed taps, positions `position` apart."""
    cdef vec g[MOST_TAPS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[MOST_POINTS]
    cdef Py_ssize_t i, r, s
    for r in range(taps_h):
        for s in range(taps_w):
            g[s] = (<const vec *> (taps + (r * taps_w + s) * TAP_ITEMS))[0]
        weight_points(points_w, taps_w, half + r * points_w, g, 1)
    for s in range(points_w):
        weight_points(points_h, taps_h, whole, half + s, points_w)
        for i in range(points_h):
            (<vec *> (u + (i * points_w + s) * position))[0] = whole[i]


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


cdef inline void transform_columns(
    const int points, const real *x, Py_ssize_t row, Py_ssize_t col, Py_ssize_t count, Py_ssize_t above, Py_ssize_t below,
    vec *columns,
) noexcept nogil:
    cdef Py_ssize_t j
    if above == 0 and below == points:
        for j in range(count):
            transform_column(points, x + j * col, row, 0, points, columns + j * points)
    else:
        for j in range(count):
            transform_column(points, x + j * col, row, above, below, columns + j * points)


cdef apart columns_of_tiles(
    int points, const real *x, Py_ssize_t row, Py_ssize_t col, Py_ssize_t count, Py_ssize_t above, Py_ssize_t below, vec *columns
) noexcept nogil:
    """B^T d of `count` columns of pixels, `col` apart."""
    if points == 9:
        transform_columns(9, x, row, col, count, above, below, columns)
    elif points == 6:
        transform_columns(6, x, row, col, count, above, below, columns)
    else:
        transform_columns(1, x, row, col, count, above, below, columns)


cdef inline void transform_rows(
    const int points, const int points_h, const vec *columns, Py_ssize_t run, int out, real *v, const Py_ssize_t *place
) noexcept nogil:
    cdef vec values[MOST_POINTS]
    cdef Py_ssize_t i, r, s
    for i in range(run):
        for r in range(points_h):
            input_points(points, values, columns + i * out * points_h + r, points_h)
            for s in range(points):
                (<vec *> (v + i * DEPTH_LD + place[r * points + s]))[0] = values[s]


cdef apart rows_of_tiles(
    int points, int points_h, const vec *columns, Py_ssize_t run, int out, real *v, const Py_ssize_t *place
) noexcept nogil:
    """V of `run` tiles `out` outputs apart, from their transformed columns."""
    if points == points_h == 9:
        transform_rows(9, 9, columns, run, out, v, place)
    elif points == points_h == 6:
        transform_rows(6, 6, columns, run, out, v, place)
    elif points == 9:  # beside an axis with one tap, as what follows
        transform_rows(9, 1, columns, run, out, v, place)
    elif points == 6:
        transform_rows(6, 1, columns, run, out, v, place)
    else:
        transform_rows(1, points_h, columns, run, out, v, place)


cdef void transform_run(
    const Winograd *g, const Tile *t, Py_ssize_t run, Py_ssize_t c_first, Py_ssize_t c_end, real *v, const Py_ssize_t *place,
    const real *ahead,
) noexcept nogil:
    """V = B^T d B of `run` tiles side by side, for some of their channels; position k to v + place[k].

    t: the pixels that the first one sees. The tiles overlap: the columns of all of them are transformed first. `ahead`, if any,
    is the first pixel of what comes next.
    """
    cdef real buffer[(RUN_VECTORS + 1) * LANES]
    cdef vec *columns = <vec *> aligned_in(buffer)
    cdef Py_ssize_t many = (run - 1) * g.out_w + g.points_w
    cdef Py_ssize_t col = g.in_w * g.p.a_ld, row = g.in_h * g.p.w.size * g.p.a_ld, c = c_first, k, j, r
    cdef Py_ssize_t above = ceil_div(max(-t.h, <Py_ssize_t> 0), g.in_h), left = ceil_div(max(-t.w, <Py_ssize_t> 0), g.in_w)
    cdef Py_ssize_t below = min(ceil_div(max(g.p.h.size - t.h, <Py_ssize_t> 0), g.in_h), <Py_ssize_t> g.points_h)
    cdef Py_ssize_t right = min(ceil_div(max(g.p.w.size - t.w, <Py_ssize_t> 0), g.in_w), many)
    cdef const real *x = pixel_at(g, t)
    if t.d < 0 or t.d >= g.p.d.size or below <= above:
        right = 0
    for j in range(many):
        if j < left or j >= right:
            for r in range(g.points_h):
                columns[j * g.points_h + r] = broadcast(0)
    while c < c_end:
        k = max(min(c, c_end - LANES), c_first)  # fewer channels than a vector are followed by others, whose products nobody sums
        if ahead != NULL:
            ask_for_pixels(ahead + k - c_first, g.points_h, row, many, col)
        if left < right:
            columns_of_tiles(
                g.points_h, x + left * col + k, row, col, right - left, above, below, columns + left * g.points_h
            )
        rows_of_tiles(g.points_w, g.points_h, columns, run, g.out_w, v + k - c_first, place)
        c += LANES


cdef apart transform_inputs(
    const Winograd *g, Py_ssize_t part_first, Py_ssize_t parts, Py_ssize_t first, Py_ssize_t count, real *v
) noexcept nogil:
    """V of a block of tiles and some of its parts."""
    cdef Py_ssize_t place[MOST_POSITIONS]
    cdef Py_ssize_t part, i, k, run
    cdef Tile t, after, pixel
    cdef Tap tap
    cdef const real *ahead
    for part in range(part_first, part_first + parts):
        tap = tap_of_part(g, part)
        for k in range(g.positions):
            place[k] = packed_inputs(g, part - part_first, k)
        t = tile_at(g, first)
        i = 0
        while i < count:
            run = min(min(ceil_div(g.p.w.rows - t.w, g.out_w * g.step_w), count - i), <Py_ssize_t> (RUN_PIXELS // g.out_w))
            after = t
            after.w += (run - 1) * g.out_w * g.step_w
            next_tile(g, &after)
            ahead = NULL
            if g.groups > 1 and i + run < count:
                pixel = pixel_under(g, &after, &tap)
                ahead = pixel_at(g, &pixel) + channel_cut(g, part % g.cuts)
            pixel = pixel_under(g, &t, &tap)
            transform_run(
                g, &pixel, run, channel_cut(g, part % g.cuts), channel_cut(g, part % g.cuts + 1), v + i * DEPTH_LD, place, ahead
            )
            i += run
            t = after


cdef inline void output_columns(
    const int points, const int outputs, const real *m, Py_ssize_t row, Py_ssize_t col, const int count, vec *half
) noexcept nogil:
    cdef vec d[MOST_POINTS]
    cdef Py_ssize_t r, s
    for s in range(count):
        for r in range(points):
            d[r] = (<const vec *> (m + r * row + s * col))[0]
        outputs_of_points(points, outputs, half + s * OUTPUTS_LD, d, 1)


cdef apart columns_of_products(
    int points, int outputs, const real *m, Py_ssize_t row, Py_ssize_t col, int count, vec *half
) noexcept nogil:
    """A^T M for LANES columns of a tile, of `count` points along the other axis."""
    if points == 9 and outputs == 7:
        output_columns(9, 7, m, row, col, count, half)
    elif points == 9:
        output_columns(9, outputs, m, row, col, count, half)
    elif points == 6:
        output_columns(6, outputs, m, row, col, count, half)
    else:
        output_columns(1, 1, m, row, col, count, half)


cdef inline void output_rows(
    const int points, const int outputs, const vec *half, const int count, vec bias, real least, real most, real *y,
    Py_ssize_t row, Py_ssize_t col,
) noexcept nogil:
    cdef vec d[OUTPUTS_LD]
    cdef Py_ssize_t r, s
    for r in range(count):
        outputs_of_points(points, outputs, d, half + r, OUTPUTS_LD)
        for s in range(outputs):
            (<vec *> (y + r * row + s * col))[0] = clamped(d[s] + bias, least, most)


cdef apart rows_of_products(
    int points, int outputs, const vec *half, int count, vec bias, real least, real most, real *y, Py_ssize_t row, Py_ssize_t col
) noexcept nogil:
    """y = (A^T M) A + bias, clamped, of `count` outputs along the other axis: `row` and `col` apart."""
    if points == 9 and outputs == 7:
        output_rows(9, 7, half, count, bias, least, most, y, row, col)
    elif points == 9:
        output_rows(9, outputs, half, count, bias, least, most, y, row, col)
    elif points == 6 and outputs == 4:
        output_rows(6, 4, half, count, bias, least, most, y, row, col)
    elif points == 6:
        output_rows(6, outputs, half, count, bias, least, most, y, row, col)
    else:
        output_rows(1, 1, half, count, bias, least, most, y, row, col)


cdef apart outputs_of_four(
    const real *m, Py_ssize_t position, vec bias, real least, real most, real *y, Py_ssize_t row, Py_ssize_t col
) noexcept nogil:
    """Both for 4 x 4 outputs, the tile of most small images: what lies between them stays in registers."""
    cdef vec half[6 * OUTPUTS_LD]
    output_columns(6, 4, m, 6 * position, position, 6, half)
    output_rows(6, 4, half, 4, bias, least, most, y, row, col)


cdef apart transform_outputs(
    const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t col_first, Py_ssize_t cols, const real *m,
    Py_ssize_t position,
) noexcept nogil:
    """y of a block of tiles and a panel of columns; what a tile has beyond the last row or column is dropped."""
    cdef vec bias = broadcast(0)
    cdef real of_half[(MOST_POINTS * OUTPUTS_LD + 1) * LANES]
    cdef vec *half = <vec *> aligned_in(of_half)
    cdef Py_ssize_t i, j, o, r, high, wide, col = output_col(g), row = output_row(g), to_row, to_col
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
                ask_for_pixels(g.p.y + output_under(g, &after) + col_first + j, g.out_h, row, g.out_w, col)
            if g.p.bias:
                bias = load(g.p.bias + col_first + j, g.p.bias + g.p.cols)
            if high >= g.out_h and wide >= g.out_w and width == LANES and is_clamp(&g.p.finish):
                to, to_row, to_col, least, most = y + j, row, col, g.p.finish.a, g.p.finish.b
            else:
                to, to_row, to_col, least, most = made, g.out_w * LANES, LANES, -INFINITY, INFINITY
            if g.positions == 36 and g.out_h == g.out_w == 4:
                outputs_of_four(m + i * TILE_N + j, position, bias, least, most, to, to_row, to_col)
            else:
                columns_of_products(
                    g.points_h, g.out_h, m + i * TILE_N + j, g.points_w * position, position, g.points_w, half
                )
                rows_of_products(g.points_w, g.out_w, half, g.out_h, bias, least, most, to, to_row, to_col)
            if to == made:
                for r in range(min(high, <Py_ssize_t> g.out_h)):
                    finish_vectors(
                        &g.p.finish, made + r * to_row, g.p.y, y + j - g.p.y + r * row, col, min(wide, <Py_ssize_t> g.out_w), width,
                        col_first + j,
                    )
            o += LANES
        t = after
