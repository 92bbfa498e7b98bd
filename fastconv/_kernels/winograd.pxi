# Convolution by Winograd's algorithm, forward and backward to the input: transformed tiles (winograd_tiles.pxi) times transformed
# weights. Many tiles: weights first, then each thread takes blocks of tiles that stay in its caches. Few tiles: tiles first, then
# each thread takes ranges of columns, and transforms the weights that it alone needs. Both sum in the same order.


cdef enum:
    BLOCK_BYTES = 3 << 19   # transformed inputs and products of a block: mostly in the second-level cache
    WEIGHT_BYTES = 6 << 20  # transformed weights of one pass over the image, shared by all threads
    FEW_BYTES = 6 << 20     # so much V are few tiles


cdef inline void multiply_part(
    const Winograd *g, Py_ssize_t k, Py_ssize_t part, Py_ssize_t rows, Py_ssize_t cols, const real *v, const real *u,
    const real *zeros, real *m, Py_ssize_t m_ld, Py_ssize_t panel,
) noexcept nogil:
    """m (rows, cols) = or += V[k] @ U[k] over one part; `panel`: elements from one panel of U to the next."""
    cdef Py_ssize_t depth = channel_cut(g, part % g.cuts + 1) - channel_cut(g, part % g.cuts), j = 0, i
    cdef Py_ssize_t out[STRIP]
    for i in range(rows):
        out[i] = i * m_ld
    while j < cols:
        rows_by_panel(
            rows, TILE_N if cols - j > LANES else LANES, v, u + j // TILE_N * panel, depth, zeros if part == 0 else NULL, m + j,
            out,
        )
        j += TILE_N


cdef inline void blocks_of_tiles(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t col_first, Py_ssize_t cols, Py_ssize_t task, const real *u,
    const real *zeros, real *v,
) noexcept nogil:
    """One block of tiles and columns, of the columns col_first .. col_first + cols - 1 whose U is given."""
    cdef Py_ssize_t first = task // g.col_blocks * g.rows, count = min(g.rows, g.tiles - first)
    cdef Py_ssize_t col = column_cut(cols, g.col_blocks, task % g.col_blocks)
    cdef Py_ssize_t width = column_cut(cols, g.col_blocks, task % g.col_blocks + 1) - col
    cdef Py_ssize_t m_ld = round_up(width, LANES), position = count * m_ld + LANES
    cdef real *m = v + g.v_items
    cdef Py_ssize_t k, i, part
    transform_inputs(out_h, g, 0, g.parts, first, count, v)
    for k in range(g.positions):
        i = 0
        while i < count:
            for part in range(g.parts):
                multiply_part(
                    g, k, part, min(count - i, <Py_ssize_t> STRIP), width, v + packed_inputs(g, k, part) + i * DEPTH_LD,
                    u + packed_weights(g, k, col // TILE_N, part), zeros, m + k * position + i * m_ld, m_ld,
                    packed_weights(g, 0, 1, 0),
                )
            i += STRIP
    transform_outputs(out_h, out_w, g, first, count, col_first + col, width, m, position, m_ld)


cdef inline int by_tiles(const int out_h, const int out_w, Winograd *g, int threads) noexcept nogil:
    """Many tiles: the weights of a range of columns are transformed for all threads, then each takes blocks of tiles."""
    cdef Py_ssize_t each = 0, zeros = own_lines(TILE_N), index, col, cols, task, most, blocks
    cdef real *scratch
    cdef real *u
    g.u_parts = g.parts
    cut_columns(g, WEIGHT_BYTES // (g.positions * g.parts * (g.step + 1) * <Py_ssize_t> sizeof(real)) + 1)
    each = ceil_div(g.positions * g.parts, g.abreast) * DEPTH_LD + g.positions * g.pass_cols
    most = max(BLOCK_BYTES // <Py_ssize_t> sizeof(real) // each // TILE_M, <Py_ssize_t> 1) * TILE_M
    g.blocks = ceil_div(g.tiles, most)
    if g.tiles >= threads * TILE_M:
        g.blocks = round_up(g.blocks, threads)
    g.rows = min(round_up(ceil_div(g.tiles, g.blocks), TILE_M), g.tiles)
    g.blocks = ceil_div(g.tiles, g.rows)
    g.col_blocks = max(min(ceil_div(threads, g.blocks), g.p.cols // g.passes // TILE_N), <Py_ssize_t> 1)
    size_scratch(g)
    each = g.v_items + g.m_items
    blocks = g.step // LANES
    scratch = new_scratch(zeros + g.u_items + threads * each, 1)
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    u = scratch + zeros
    for index in range(g.passes):
        col = column_cut(g.p.cols, g.passes, index)
        cols = column_cut(g.p.cols, g.passes, index + 1) - col
        for task in prange(ceil_div(cols, TILE_N) * g.parts * blocks, schedule="dynamic", num_threads=threads):
            transform_weights(
                out_h, out_w, g, col + task // blocks // g.parts * TILE_N,
                min(cols - task // blocks // g.parts * TILE_N, <Py_ssize_t> TILE_N), task // blocks % g.parts,
                task % blocks * LANES, u + packed_weights(g, 0, task // blocks // g.parts, task // blocks % g.parts),
            )
        for task in prange(g.blocks * g.col_blocks, schedule="dynamic", num_threads=threads):
            blocks_of_tiles(out_h, out_w, g, col, cols, task, u, scratch, u + g.u_items + threadid() * each)
    free(scratch)
    return 0


cdef inline void columns_of_tiles(
    const int out_h, const int out_w, const Winograd *g, Py_ssize_t index, const real *v, const real *zeros, real *u,
) noexcept nogil:
    """One range of columns of all tiles, whose V is given: U of one part after the other stays in the second-level cache."""
    cdef Py_ssize_t col = column_cut(g.p.cols, g.passes, index), cols = column_cut(g.p.cols, g.passes, index + 1) - col
    cdef Py_ssize_t m_ld = round_up(cols, LANES), position = g.tiles * m_ld + LANES, part, c, i, j, k
    cdef real *m = u + g.u_items
    for part in range(g.parts):
        j = 0
        while j < cols:
            c = 0
            while c < g.step:
                transform_weights(
                    out_h, out_w, g, col + j, min(cols - j, <Py_ssize_t> TILE_N), part, c, u + packed_weights(g, 0, j // TILE_N, 0)
                )
                c += LANES
            j += TILE_N
        for k in range(g.positions):
            i = 0
            while i < g.tiles:
                multiply_part(
                    g, k, part, min(g.tiles - i, <Py_ssize_t> STRIP), cols, v + packed_inputs(g, k, part) + i * DEPTH_LD,
                    u + packed_weights(g, k, 0, 0), zeros, m + k * position + i * m_ld, m_ld, packed_weights(g, 0, 1, 0),
                )
                i += STRIP
    transform_outputs(out_h, out_w, g, 0, g.tiles, col, cols, m, position, m_ld)


cdef inline int by_columns(const int out_h, const int out_w, Winograd *g, int threads) noexcept nogil:
    """Few tiles: all of them are transformed once, then each thread takes ranges of columns and transforms their weights."""
    cdef Py_ssize_t zeros = own_lines(TILE_N), index, each, blocks = ceil_div(g.tiles, TILE_M)
    cdef real *scratch
    cdef real *v
    g.u_parts = 1
    size_scratch(g)
    each = g.u_items + g.m_items
    scratch = new_scratch(zeros + g.v_items + threads * each, 1)
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    v = scratch + zeros
    for index in prange(blocks, schedule="dynamic", num_threads=threads):
        transform_inputs(
            out_h, g, 0, g.parts, index * TILE_M, min(g.tiles - index * TILE_M, <Py_ssize_t> TILE_M), v + index * TILE_M * DEPTH_LD
        )
    for index in prange(g.passes, schedule="dynamic", num_threads=threads):
        columns_of_tiles(out_h, out_w, g, index, v, scratch, v + g.v_items + threadid() * each)
    free(scratch)
    return 0


cdef inline int winograd(const int out_h, const int out_w, const Product *p, int threads) noexcept nogil:
    cdef Winograd g = winograd_grid(p, out_h, out_w)
    g.rows = g.tiles
    cut_depth(&g, DEPTH // 2)
    cut_columns(&g, TILE_N)
    size_scratch(&g)
    if g.passes >= threads and g.v_items * <Py_ssize_t> sizeof(real) <= FEW_BYTES and (
        g.m_items * <Py_ssize_t> sizeof(real) <= FEW_BYTES // 4
    ) and g.positions * p.d.taps * p.depth * p.cols * <Py_ssize_t> sizeof(real) > FEW_BYTES // 4:
        return by_columns(out_h, out_w, &g, threads)
    cut_depth(&g, DEPTH)
    return by_tiles(out_h, out_w, &g, threads)


cdef int run_winograd(const Product *p, int out_h, int out_w, int threads) noexcept nogil:
    """Compute `p`, whose taps along h and w are those of so many outputs a tile, with stride and dilation 1. -1: no memory.

    `depth` and `cols` are at least LANES.
    """
    if out_h == 4:
        return winograd(4, 4, p, threads)
    if out_h == 2:
        return winograd(2, 2, p, threads)
    if out_w == 4:
        return winograd(1, 4, p, threads)
    return winograd(1, 2, p, threads)
