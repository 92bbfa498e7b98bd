# The gradient of the weight by Winograd's algorithm, F(3x3, 4x4), F(4x4, 3x3) or F(5x5, 2x2) of Lavin and Gray (2016), section 4, all of
# six points: the adjoint of y = A^T [(G g) * (B^T d)] with respect to g.
#
#     dU[k] (channels, columns) = sum over tiles V[k]^T Z[k]        V = B^T d B as forward, Z = A dy A^T
#     dg = G^T dU G


cdef enum:
    GRADIENT_STEP = 128     # channels and columns of a task, in float32: GRADIENT_STEP^2 times 36 positions are 2.4 MB
    GRADIENT_TILES = 56     # tiles that are transformed at a time
    GRADIENT_TASKS = 16     # so many tasks are enough
    CHUNK_TILES = 112       # of a chunk, about: its sums are transformed back for themselves


cdef inline int sum_points(const int outputs) noexcept nogil:
    """The points of a gradient along an axis with so many outputs a tile; 1: an axis with one tap."""
    return 1 if outputs == 1 else 6


cdef inline int sum_taps(const int outputs) noexcept nogil:
    return sum_points(outputs) + 1 - outputs


cdef inline void gradient_points(vec *z, const vec *y, const int outputs, const int step) noexcept nogil:
    """z = A y, for the gradients of `outputs` outputs `step` vectors apart."""
    cdef vec even_p = y[0], even_q = y[0], odd_p = y[step], odd_q = y[step]
    if outputs > 2:
        even_p = even_p + P2 * y[2 * step]
        even_q = even_q + Q2 * y[2 * step]
    if outputs > 3:
        odd_p = odd_p + P2 * y[3 * step]
        odd_q = odd_q + Q2 * y[3 * step]
    z[0] = y[0]
    z[1] = even_p + P_ * odd_p
    z[2] = even_p - P_ * odd_p
    z[3] = even_q + Q_ * odd_q
    z[4] = even_q - Q_ * odd_q
    z[5] = y[(outputs - 1) * step]


cdef inline void taps_of_points(vec *g, const vec *u, const int taps, const int step) noexcept nogil:
    """g = G^T u, for six sums of products `step` vectors apart."""
    cdef vec even_p = SCALE_P * (u[step] + u[2 * step]), odd_p = (P_ * SCALE_P) * (u[step] - u[2 * step])
    cdef vec even_q = SCALE_Q * (u[3 * step] + u[4 * step]), odd_q = (Q_ * SCALE_Q) * (u[3 * step] - u[4 * step])
    g[0] = SCALE_0 * u[0] + even_p + even_q
    g[1] = odd_p + odd_q
    g[2] = P2 * even_p + Q2 * even_q
    if taps > 3:
        g[3] = P2 * odd_p + Q2 * odd_q
    if taps > 4:
        g[4] = P2 * P2 * even_p + Q2 * Q2 * even_q
    g[taps - 1] = g[taps - 1] + u[5 * step]


cdef struct Gradient:
    Winograd w
    Py_ssize_t chunks, col_blocks, block_cols, v_items, z_items, u_items


cdef inline Py_ssize_t column_cut(const Gradient *g, Py_ssize_t i) noexcept nogil:
    """Where block i of the columns begins: whole panels, and the last block, the widest, has what is over."""
    return g.w.p.cols if i == g.col_blocks else g.w.p.cols // TILE_N * i // g.col_blocks * TILE_N


cdef Gradient winograd_gradient_grid(const Product *p, int out_h, int out_w, Py_ssize_t groups) noexcept nogil:
    """Parts of the channels, blocks of the columns and chunks of the tiles, even numbers if possible: the shapes alone decide."""
    cdef Gradient g
    cdef Py_ssize_t most = GRADIENT_STEP * 4 // sizeof(real), chunks
    g.w = winograd_grid(p, out_h, out_w)
    g.w.groups = groups
    if g.w.tiles < 2 * CHUNK_TILES:  # too few for many chunks: smaller blocks are tasks enough
        most //= 2
    cut_depth(&g.w, most)
    g.col_blocks = max(min(ceil_div(p.cols, most), p.cols // TILE_N), <Py_ssize_t> 1)
    chunks = (g.w.tiles + CHUNK_TILES // 2) // CHUNK_TILES
    if chunks > 1:
        chunks = round_up(chunks, 2)
    chunks = min(min(chunks, ceil_div(GRADIENT_TASKS, groups * g.w.parts * g.col_blocks)), most_partial(p, groups))
    g.chunks = max(chunks, <Py_ssize_t> 1)
    if groups * g.w.parts * g.col_blocks * g.chunks % 2 and groups * g.w.parts * g.col_blocks * g.chunks < GRADIENT_TASKS // 2:
        if p.cols // TILE_N > g.col_blocks:
            g.col_blocks += 1
        elif p.depth >= 2 * LANES * (g.w.cuts + 1):
            cut_depth(&g.w, ceil_div(p.depth, g.w.cuts + 1))
    g.block_cols = round_up(p.cols - column_cut(&g, g.col_blocks - 1), TILE_N)
    g.w.rows = min(g.w.tiles, <Py_ssize_t> GRADIENT_TILES)
    g.v_items = input_items(&g.w, 1)
    g.z_items = own_lines(g.w.positions * (g.w.rows + 1) * g.block_cols)
    g.u_items = own_lines(g.w.positions * (g.w.step * g.block_cols + LANES))
    return g


cdef inline void transform_gradient(
    const int out_h, const int out_w, const real *dy, Py_ssize_t row, Py_ssize_t col, real *z, Py_ssize_t position
) noexcept nogil:
    """Z = A dy A^T for LANES columns of a tile: outputs `row` and `col` apart, positions `position`."""
    cdef vec d[MOST_POINTS]
    cdef vec half[MOST_POSITIONS]
    cdef vec whole[MOST_POINTS]
    cdef Py_ssize_t r, s
    for s in range(out_w):
        for r in range(out_h):
            d[r] = (<const vec *> (dy + r * row + s * col))[0]
        if out_h == 1:
            half[s] = d[0]
        else:
            gradient_points(whole, d, out_h, 1)
            for r in range(sum_points(out_h)):
                half[r * out_w + s] = whole[r]
    for r in range(sum_points(out_h)):
        gradient_points(whole, half + r * out_w, out_w, 1)
        for s in range(sum_points(out_w)):
            (<vec *> (z + (r * sum_points(out_w) + s) * position))[0] = whole[s]


cdef inline void transform_gradients(
    const int out_h, const int out_w, const Gradient *g, const real *dy, Py_ssize_t first, Py_ssize_t count, Py_ssize_t cols,
    real *z, Py_ssize_t position,
) noexcept nogil:
    """Z of a block of tiles, in panels of TILE_N columns; zero beyond the last row, column and channel."""
    cdef real edge[MOST_POSITIONS * LANES]
    cdef Py_ssize_t i, o, r, s, high, wide, width, col = output_col(&g.w), row = output_row(&g.w)
    cdef const real *source
    cdef real *to
    cdef Tile after, t = tile_at(&g.w, first)
    for i in range(count):
        after = t
        next_tile(&g.w, &after)
        high = min(ceil_div(g.w.p.h.rows - t.h, g.w.step_h), <Py_ssize_t> out_h)
        wide = min(ceil_div(g.w.p.w.rows - t.w, g.w.step_w), <Py_ssize_t> out_w)
        source = dy + output_under(&g.w, &t)
        if high < out_h or wide < out_w:
            zero(edge, out_h * out_w * LANES)
        o = 0
        while o < cols:
            if g.w.groups > 1 and i + 1 < count:
                ask_for_pixels(dy + output_under(&g.w, &after) + o, out_h, row, out_w, col)
            width = panel_width(cols - o // TILE_N * TILE_N)
            to = z + o // TILE_N * TILE_N * count + i * width + o % TILE_N
            if high == out_h and wide == out_w and cols - o >= LANES:
                transform_gradient(out_h, out_w, source + o, row, col, to, position)
            else:
                if cols - o < LANES:
                    zero(edge, out_h * out_w * LANES)
                for r in range(high):
                    for s in range(wide):
                        copy(edge + (r * out_w + s) * LANES, source + r * row + s * col + o, min(cols - o, <Py_ssize_t> LANES))
                transform_gradient(out_h, out_w, edge, out_w * LANES, LANES, to, position)
            o += LANES
        t = after


cdef inline void transform_taps(
    const int out_h, const int out_w, const Gradient *g, const Tap *tap, Py_ssize_t depth, Py_ssize_t cols, const real *u,
    Py_ssize_t u_ld, Py_ssize_t position, real *db,
) noexcept nogil:
    """dg = G^T dU G of depth x cols pairs of channels."""
    cdef vec d[MOST_POINTS]
    cdef vec half[MOST_POSITIONS]
    cdef vec taps[MOST_TAPS]
    cdef Py_ssize_t c, o, r, s, i, j
    for c in range(depth):
        o = 0
        while o < cols:
            for s in range(sum_points(out_w)):
                if out_h == 1:
                    half[s] = (<const vec *> (u + c * u_ld + o + s * position))[0]
                else:
                    for r in range(sum_points(out_h)):
                        d[r] = (<const vec *> (u + c * u_ld + o + (r * sum_points(out_w) + s) * position))[0]
                    taps_of_points(taps, d, sum_taps(out_h), 1)
                    for r in range(sum_taps(out_h)):
                        half[r * sum_points(out_w) + s] = taps[r]
            for r in range(sum_taps(out_h)):
                taps_of_points(taps, half + r * sum_points(out_w), sum_taps(out_w), 1)
                for s in range(sum_taps(out_w)):
                    i, j = tap.h + r * g.w.p.h.stride, tap.w + s * g.w.p.w.stride
                    if i < g.w.p.h.taps and j < g.w.p.w.taps:
                        store(db + i * g.w.p.b_h + j * g.w.p.b_w + c * g.w.p.b_k + o, taps[s], cols - o)
            o += LANES


cdef inline void fetch_tiles(const Gradient *g, const real *dy, Py_ssize_t first, Py_ssize_t end, Py_ssize_t k) noexcept nogil:
    """Have share k, of as many as there are positions, of the lines of x and dy under some tiles brought into the second-level cache."""
    cdef const Product *p = &g.w.p
    cdef Tile t = tile_at(&g.w, first), last = tile_at(&g.w, end - 1)
    cdef Py_ssize_t line = p.w.size * p.a_ld, start = (t.n * p.h.size + t.h) * line
    cdef Py_ssize_t items = (last.n * p.h.size + min(last.h + g.w.out_h, <Py_ssize_t> p.h.size)) * line - start, share
    share = items // g.w.positions
    fetch_range(p.a + start + k * share, share)
    line = p.out_w * p.y_ld
    start = (t.n * p.out_h + t.h) * line
    share = ((last.n * p.out_h + min(last.h + g.w.out_h, p.out_h)) * line - start) // g.w.positions
    fetch_range(dy + start + k * share, share)


cdef inline bint fetches_tiles(const Gradient *g) noexcept nogil:
    """Whether tiles come from beyond the near caches, and a task uses all of their channels."""
    cdef const Product *p = &g.w.p
    return (
        p.batch * p.h.size * p.w.size * (p.a_ld + p.y_ld) * <Py_ssize_t> sizeof(real) > CACHE_BYTES and g.w.parts * g.col_blocks == 1 and p.depth == p.a_ld and p.cols == p.y_ld
        and g.w.in_h == g.w.in_w == 1 and whole_axis(&p.d)
    )


cdef inline void winograd_gradient_block(
    const int out_h, const int out_w, const Gradient *g, Py_ssize_t task, const real *dy, real *db, real *scratch
) noexcept nogil:
    """The sums of one chunk of tiles for one part of the channels and one block of the columns, into one partial gradient."""
    cdef Py_ssize_t part = task % g.w.parts, block = task // g.w.parts % g.col_blocks, chunk = task // g.w.parts // g.col_blocks
    cdef Tap tap = tap_of_part(&g.w, part)
    cdef Py_ssize_t c_first = channel_cut(&g.w, part % g.w.cuts)
    cdef Py_ssize_t depth = part_depth(&g.w, part)
    cdef Py_ssize_t col = column_cut(g, block)
    cdef Py_ssize_t cols = column_cut(g, block + 1) - col
    cdef Py_ssize_t start = g.w.tiles * chunk // g.chunks, first = start, end = g.w.tiles * (chunk + 1) // g.chunks
    cdef Py_ssize_t u_ld = round_up(cols, LANES), position = depth * u_ld + LANES, z_position, count, k, j
    cdef real *v = scratch
    cdef real *z = v + g.v_items
    cdef real *u = z + g.z_items
    cdef real nothing[TILE_N]
    cdef Py_ssize_t out[GRADIENT_STEP + LANES]
    cdef bint far = fetches_tiles(g)
    zero(nothing, TILE_N)
    for k in range(depth):
        out[k] = k * u_ld
    while first < end:
        count = min(g.w.rows, end - first)
        z_position = count * round_up(cols, TILE_N) + LANES
        transform_inputs(&g.w, part, 1, first, count, v)
        transform_gradients(out_h, out_w, g, dy + col, first, count, cols, z, z_position)
        for k in range(g.w.positions):
            if far and first + count < end:
                fetch_tiles(g, dy, first + count, min(first + 2 * count, end), k)
            j = cols if is_zero_at(&g.w, &tap, k) else 0
            while j < cols:
                columns_by_panel(
                    depth, panel_width(cols - j), v + packed_inputs(&g.w, 0, k), DEPTH_LD, z + k * z_position + j * count,
                    panel_width(cols - j), count, nothing if first == start else NULL, u + k * position + j, out,
                )
                j += TILE_N
        first += count
    transform_taps(
        out_h, out_w, g, &tap, depth, cols, u, u_ld, position, db + tap.d * g.w.p.b_d + c_first * g.w.p.b_k + col
    )


cdef inline int sum_winograd_gradient(
    const int out_h, const int out_w, const Product *p, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items,
    int threads,
) noexcept nogil:
    cdef Gradient g = winograd_gradient_grid(p, out_h, out_w, groups)
    cdef Py_ssize_t each = g.v_items + g.z_items + g.u_items, tasks = g.w.parts * g.col_blocks * g.chunks, task
    cdef real *scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for task in prange(groups * tasks, schedule="dynamic", num_threads=threads):
        winograd_gradient_of_group(
            out_h, out_w, &g, task // tasks, task % tasks, dy, db, items, scratch + threadid() * each
        )
    free_lines(scratch)
    return 0


cdef inline void winograd_gradient_of_group(
    const int out_h, const int out_w, const Gradient *all_groups, Py_ssize_t group, Py_ssize_t task, const real *dy, real *db,
    Py_ssize_t items, real *scratch,
) noexcept nogil:
    cdef Gradient g = all_groups[0]
    g.w.p.a += group * g.w.p.depth
    winograd_gradient_block(
        out_h, out_w, &g, task, dy + group * g.w.p.cols,
        db + task // g.w.parts // g.col_blocks * items + group * g.w.p.cols, scratch,
    )


cdef int run_winograd_gradient(
    const Product *p, int out_h, int out_w, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items, int threads
) noexcept nogil:
    """Write the partial gradients, `items` elements apart, as many as `winograd_gradient_grid` has chunks. -1: no memory."""
    if out_h == 4:
        return sum_winograd_gradient(4, 4, p, groups, dy, db, items, threads)
    if out_h == 3:
        return sum_winograd_gradient(3, 3, p, groups, dy, db, items, threads)
    if out_h == 2:
        return sum_winograd_gradient(2, 2, p, groups, dy, db, items, threads)
    if out_w == 4:
        return sum_winograd_gradient(1, 4, p, groups, dy, db, items, threads)
    return sum_winograd_gradient(1, 2, p, groups, dy, db, items, threads)
