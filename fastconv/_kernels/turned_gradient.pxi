# The gradient of the right operand of a product (product_gradient.pxi) with windows turned for low tiles.
#
# A tile of the gradient takes TILE_M columns of some hundred windows. Where these lie, each is a cache line or two, of which a low
# tile uses a part and reads it again for every panel of dy. So windows are copied first, the columns of each tile for themselves: what
# a tile reads is then one piece of memory, and a panel of dy stays in the first-level cache while all tiles of the windows go by.


cdef enum:
    TURNED_COLUMNS = 96   # of dy, from which on a copy costs less than it saves,
    TURNED_DEPTH = 64     # for so many columns of windows,
    TURNED_SUMS = 1 << 14  # and so many elements of the gradient
    TURNED_ITEMS = 3 << 15  # elements of windows and of dy at a time: the second-level cache holds them, and some of what comes next
    TURNED_ROWS = 64      # but so many rows at least, or reading and writing the sums would cost too much
    TURNED_TILE = ROWS * TILE_M + LANES  # elements of a turned tile, and what its last row writes beyond it


cdef inline bint turns_windows(const Product *p) noexcept nogil:
    """Whether a gradient is worth turned windows."""
    cdef Py_ssize_t depth = product_depth(p)
    return LOW_TILE and p.cols >= TURNED_COLUMNS and depth >= TURNED_DEPTH and depth * p.cols >= TURNED_SUMS


cdef inline Py_ssize_t turned_items(const Product *p, Grid g) noexcept nogil:
    """Elements of the turned windows of a block, if it has such."""
    return (ceil_div(g.rows, TILE_M) + most_runs(p)) * TURNED_TILE if turns_windows(p) else 0


cdef void turn_windows(const Left *run, Py_ssize_t rows, real *tiles) noexcept nogil:
    """Element (m, k) of a run, in its tile t = k // TILE_M, goes to tiles[t * TURNED_TILE + m * TILE_M + k % TILE_M]; runs follow.

    Row after row, as they lie in memory. What a vector writes beyond its row of a tile, the next row writes again.
    """
    cdef Py_ssize_t s, m, k, i, size
    cdef const real *row
    cdef real *to
    for s in range(run.runs):
        size = run.length[s]
        for m in range(rows):
            row, to, k = run.at[s * run.at_ld + m], tiles + m * TILE_M, 0
            while k + round_up(TILE_M, LANES) <= size:
                for i in range(ceil_div(TILE_M, LANES)):
                    (<vec *> (to + i * LANES))[0] = (<const vec *> (row + k + i * LANES))[0]
                k += TILE_M
                to += TURNED_TILE
            while k < size:
                for i in range(min(size - k, <Py_ssize_t> TILE_M)):
                    to[i] = row[k + i]
                k += TILE_M
                to += TURNED_TILE
        tiles += ceil_div(size, TILE_M) * TURNED_TILE


cdef void turned_gradient_block(
    const Product *p, Grid g, Py_ssize_t block, Py_ssize_t row_first, Py_ssize_t row_end, const real *dy, real *db, real *scratch,
) noexcept nogil:
    """`gradient_block` with turned windows."""
    cdef Py_ssize_t k_first = block % g.row_blocks * g.rows, col_first = block // g.row_blocks * g.cols
    cdef Py_ssize_t depth = min(g.rows, product_depth(p) - k_first), cols = min(g.cols, p.cols - col_first)
    cdef real *zeros = scratch
    cdef real *packed_windows = zeros + DEPTH_LD
    cdef real *panels = packed_windows + ROWS * DEPTH_LD
    cdef real *turned = panels + gradient_panels(g)
    cdef const real **at = <const real **> (turned + turned_items(p, g))
    cdef real nothing[TILE_N]
    cdef Py_ssize_t length[DEPTH]
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t out[ROWS]
    cdef Left run = left_operand(NULL, at, ROWS, runs_between(p, k_first, k_first + depth), &length[0])
    cdef Py_ssize_t most = max(min(<Py_ssize_t> ROWS, TURNED_ITEMS // (depth + cols)), <Py_ssize_t> TURNED_ROWS)
    cdef Py_ssize_t rows = ceil_div(row_end - row_first, max(ceil_div(row_end - row_first, most), <Py_ssize_t> 1))
    cdef Py_ssize_t m = row_first, next_rows, fetched, due, i, j, k, s, t, width, high, low, tiles
    cdef bint far = reads_far(p) or writes_far(p)
    cdef const real *tile
    cdef const real *panel
    cdef int finite  # the rows of a panel; -1: not looked at
    zero(zeros, DEPTH_LD)
    zero(nothing, TILE_N)
    weight_offsets(p, k_first, depth, offsets)
    while True:
        rows = min(rows, row_end - m)
        next_rows = min(rows, row_end - m - rows) if far else 0
        find_windows(p, m, rows, k_first, k_first + depth, zeros, packed_windows, at, ROWS, length)
        row_outputs(p, m, rows, out)
        turn_windows(&run, rows, turned)
        pack_rows(dy + col_first, out, rows, cols, panels, panel_items(ROWS))
        tiles = 0
        for s in range(run.runs):
            tiles += ceil_div(length[s], TILE_M)
        tiles *= ceil_div(cols, TILE_N)
        fetched = due = 0
        for i in range(ceil_div(cols, TILE_N)):
            j = i * TILE_N
            width = min(cols - j, <Py_ssize_t> TILE_N)
            panel = panels + i * panel_items(ROWS)
            tile, k, finite = turned, 0, -1
            for s in range(run.runs):
                low, high = 0, rows
                if rows and (at[s * ROWS] == zeros or at[s * ROWS + rows - 1] == zeros):
                    if finite < 0:
                        finite = width % LANES == 0 and are_finite(panel, panel_width(width), rows, width)
                    while finite and high and at[s * ROWS + high - 1] == zeros:
                        high -= 1
                    while finite and low < high and at[s * ROWS + low] == zeros:
                        low += 1
                t, k = k, k + length[s]
                while t < k:
                    due += next_rows
                    while due >= tiles:
                        fetch_windows(p, m + rows + fetched, 1, k_first, k_first + depth)
                        fetch_range(dy + (m + rows + fetched) * p.y_ld + col_first, cols)
                        fetched += 1
                        due -= tiles
                    fetch_sums(db + col_first + j, offsets, t + TILE_M, min(t + 2 * TILE_M, depth))
                    columns_by_panel(
                        min(k - t, <Py_ssize_t> TILE_M), width, tile + low * TILE_M, TILE_M,
                        panel + low * panel_width(width), panel_width(width), high - low,
                        nothing if m == row_first else NULL, db + col_first + j, offsets + t,
                    )
                    tile += TURNED_TILE
                    t += TILE_M
        m += rows
        if m >= row_end:
            return


cdef inline void fetch_sums(const real *db, const Py_ssize_t *offsets, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Ask for the lines of a tile's sums, which nothing but the addresses of their rows foretells."""
    cdef Py_ssize_t k
    for k in range(first, end):
        prefetch(db + offsets[k])
