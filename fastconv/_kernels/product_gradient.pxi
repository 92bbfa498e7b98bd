# The gradient of the right operand of a product, a block at a time.
#
#   db[k, j] = sum_m windows[m, k] * dy[m, j]      every weight gradient
#
# The blocks are those of the right operand; each is summed in the order of m.


cdef enum:
    REUSE = 32                      # rows of a gradient that are worth a packed copy of dy where it lies badly
    PANEL_LINES = TILE_N // LINE_ITEMS + 1  # lines at most that a row of a panel is in
    PART_ROWS = 384                 # rows of a part of a gradient, where there are more than four
    FEW_PARTS = 4                   # of LONG_PART rows and more, which cost little; most threads have as much then
    LONG_PART = 768
    LONGEST_PART = 1 << 14          # rows that one sum may run over: its rounding error grows with their number
    WIDE = 704                      # columns of a gradient's block: ROWS x WIDE of dy stay in the second-level cache
    LEAST_DEPTH = 32                # rows and columns of blocks for many threads
    LEAST_COLUMNS = 64
    READ = 8                        # multiply-adds that take as long as to read an element


cdef Grid gradient_grid(const Product *p) noexcept nogil:
    """Blocks of the weight array: here `rows` counts k, and the products' rows are cut into chunks by the caller."""
    cdef Grid g
    g.rows = depth_step(product_depth(p))
    g.row_blocks = ceil_div(product_depth(p), g.rows)
    g.col_blocks = ceil_div(p.cols, WIDE)
    g.cols = round_up(ceil_div(p.cols, g.col_blocks), TILE_N)
    g.col_blocks = ceil_div(p.cols, g.cols)
    return g


cdef Grid shared_gradient_grid(const Product *p, Py_ssize_t parts, int threads) noexcept nogil:
    """The same, of `parts` parts, in smaller blocks where the busiest thread has less to do then, if it takes one more than its share.

    No sum depends on the blocks.
    """
    cdef Grid wide = gradient_grid(p), best = wide, g
    cdef Py_ssize_t depth = product_depth(p), most = 4 * threads // parts if threads > 1 else 0, least = -1, work, i, j
    for i in range(wide.row_blocks, max(wide.row_blocks, min(most, depth // TILE_M)) + 1):
        g.rows = wide.rows if i == wide.row_blocks else min(round_up(ceil_div(depth, i), TILE_M), <Py_ssize_t> DEPTH)
        g.row_blocks = ceil_div(depth, g.rows)
        for j in range(wide.col_blocks, max(wide.col_blocks, min(most // max(i, 1), p.cols // TILE_N)) + 1):
            g.cols = round_up(ceil_div(p.cols, j), TILE_N)
            g.col_blocks = ceil_div(p.cols, g.cols)
            work = g.rows * g.cols + READ * (g.rows + g.cols)
            work *= ceil_div(parts * g.row_blocks * g.col_blocks, threads) + 1
            if work < least or least < 0:
                best, least = g, work
    return best


cdef inline Py_ssize_t most_gradient_blocks(const Product *p) noexcept nogil:
    """Into how many blocks threads may cut a gradient."""
    return max(product_depth(p) // LEAST_DEPTH, <Py_ssize_t> 1) * max(p.cols // LEAST_COLUMNS, <Py_ssize_t> 1)


cdef inline Py_ssize_t most_parts(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Into how many parts the rows of a gradient may be cut: each writes sums of its own, which costs what PART_ROWS / 24 rows cost."""
    cdef Py_ssize_t rows = product_rows(p)
    return min(max(rows // PART_ROWS // 4 * 4, min(ceil_div(rows, ROWS), <Py_ssize_t> 4)), most_partial(p, groups))


cdef inline Py_ssize_t gradient_panels(Grid g) noexcept nogil:
    """Elements of the packed panels of dy."""
    return g.cols // TILE_N * panel_items(ROWS)


cdef inline Py_ssize_t gradient_scratch(const Product *p, Grid g) noexcept nogil:
    cdef Py_ssize_t addresses = most_runs(p) * ROWS * sizeof(void *) // sizeof(real)
    return own_lines(DEPTH_LD + ROWS * DEPTH_LD + gradient_panels(g) + turned_items(p, g) + addresses)


cdef inline bint lies_badly(const Product *p, const real *dy) noexcept nogil:
    """Whether rows of dy share sets of the caches, or its vectors cross lines and low tiles use each but little."""
    cdef bint low = LOW_TILE or window_run(p) < 2 * TILE_M
    return p.y_ld * sizeof(real) % ALIASING == 0 or low and (<size_t> dy % 64 or p.y_ld % LINE_ITEMS)


cdef void pace_gradient(
    const Product *p, Left *run, const real *dy, Py_ssize_t row, Py_ssize_t rows, Py_ssize_t cols, bint plain, Py_ssize_t steps
) noexcept nogil:
    """Have `rows` rows from `row` on fetched in so many steps, of x and dy where they lie without gaps: a line each at most."""
    cdef Py_ssize_t of_x = rows * p.a_ld if plain else 0, of_dy = rows * p.y_ld if cols == p.y_ld else 0
    run.ahead, run.then = p.a + row * p.a_ld, dy + row * p.y_ld
    run.ahead_end, run.then_end = run.ahead + of_x, run.then + of_dy if of_dy else NULL
    if not plain:
        run.ahead, run.ahead_end, run.then_end = run.then, run.then_end, NULL
    run.pace = min(ceil_div(of_x + of_dy, max(steps, <Py_ssize_t> 1)), <Py_ssize_t> LINE_ITEMS)


cdef void ask_for_a_line(
    const Product *p, Left *run, const real *x, Py_ssize_t next_rows, Py_ssize_t depth, const real *dy, Py_ssize_t rows,
    Py_ssize_t panel, Py_ssize_t panels, Py_ssize_t tile, Py_ssize_t tiles,
) noexcept nogil:
    """Have a tile of a panel fetch a line of each row: of the next panel of `rows` rows of dy, then of x, or nothing.

    Of dy no more than a panel ahead: the second-level cache does not hold these rows of all panels, and the next ones besides.
    """
    cdef Py_ssize_t of_dy = min(<Py_ssize_t> PANEL_LINES, tiles), lines = depth // LINE_ITEMS + 1
    cdef Py_ssize_t of = panels * (tiles - of_dy), number = panel * (tiles - of_dy) + tile - of_dy, line
    run.pace = 0
    if tile < of_dy:
        run.ahead, run.ahead_end, run.pace = dy + tile * LINE_ITEMS, dy + tile * LINE_ITEMS + rows * p.y_ld, p.y_ld if rows else 0
    elif next_rows:
        line = number if lines > of else lines * number // of
        if lines > of or lines * (number + 1) // of > line:
            run.ahead, run.pace = x + line * LINE_ITEMS, p.a_ld
            run.ahead_end = run.ahead + next_rows * run.pace
    run.then_end = NULL


cdef void gradient_block(
    const Product *p, Grid g, Py_ssize_t block, Py_ssize_t row_first, Py_ssize_t row_end, const real *dy, real *db, real *scratch,
) noexcept nogil:
    """db (strides of p.b) of one block, summed over the products' rows row_first .. row_end - 1."""
    cdef Py_ssize_t k_first = block % g.row_blocks * g.rows, col_first = block // g.row_blocks * g.cols
    cdef Py_ssize_t depth = min(g.rows, product_depth(p) - k_first), cols = min(g.cols, p.cols - col_first)
    cdef real *zeros = scratch
    cdef real *packed_windows = zeros + DEPTH_LD
    cdef real *packed = packed_windows + ROWS * DEPTH_LD
    cdef const real **at = <const real **> (packed + gradient_panels(g))
    cdef real nothing[TILE_N]
    cdef Py_ssize_t length[DEPTH]
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t out[ROWS]
    cdef Left run = left_operand(NULL, NULL, ROWS, runs_between(p, k_first, k_first + depth), &length[0])
    cdef Py_ssize_t panels = ceil_div(cols, TILE_N), m, rows, i, s, j, k, t, width, size, b_k, next_rows, share, more, low, high
    # panels from this one on are packed: all where dy lies badly or its rows are not evenly apart, or one that fills no vector
    cdef bint even = product_rows(p) == p.batch * p.out_d * p.out_h * p.out_w
    cdef Py_ssize_t copied = 0 if depth >= REUSE and lies_badly(p, dy) or not even else panels - (cols % LANES > 0)
    # packed windows are read tile by tile, each with all panels; those in place panel by panel
    cdef Py_ssize_t tiles = ceil_div(depth, TILE_M), units = panels * (run.runs if p.in_place else tiles), unit
    cdef bint plain = is_plain(p) and depth == p.a_ld, far = reads_far(p) or writes_far(p)
    # tile by tile is fetched what comes next: where rows have gaps, or tiles are enough for a panel of dy at a time
    cdef bint tiled = far and is_plain(p) and p.in_place and even and (not plain or tiles > PANEL_LINES), last
    cdef const real *b
    cdef int finite = -1  # rows of a panel of dy; -1: not looked at
    if LOW_TILE and turns_windows(p):
        turned_gradient_block(p, g, block, row_first, row_end, dy, db, scratch)
        return
    zero(zeros, DEPTH_LD)
    zero(nothing, TILE_N)
    weight_offsets(p, k_first, depth, offsets)
    m = row_first
    while True:
        rows = min(<Py_ssize_t> ROWS, row_end - m)
        next_rows = min(<Py_ssize_t> ROWS, row_end - m - rows) if far else 0
        if not tiled:
            pace_gradient(p, &run, dy, m + rows, next_rows, cols, plain, tiles * panels * rows)
        find_windows(p, m, rows, k_first, k_first + depth, zeros, packed_windows, at, ROWS, length)
        row_outputs(p, m, rows, out)
        if copied < panels and not p.in_place:
            j = copied * TILE_N
            pack_rows(dy + col_first + j, out, rows, cols - j, packed, panel_items(ROWS))
        k = 0
        for unit in range(units):
            if p.in_place:
                i, s = unit // run.runs, unit % run.runs
                size = length[s]
            else:
                i, s, k = unit % panels, 0, unit // panels * TILE_M
                size = min(depth - k, <Py_ssize_t> TILE_M)
            if s == 0 and p.in_place:
                k, finite = 0, -1
            j = i * TILE_N
            width = min(cols - j, <Py_ssize_t> TILE_N)
            b, b_k = dy + out[0] + col_first + j, out[1] - out[0] if rows > 1 else 0  # rows of dy are evenly apart
            if i >= copied:
                b, b_k = packed + (0 if p.in_place else (i - copied) * panel_items(ROWS)), panel_width(width)
                if p.in_place and s == 0:
                    pack_rows(dy + col_first + j, out, rows, width, packed, 0)
            if next_rows and not tiled:
                share = next_rows * unit // units
                more = next_rows * (unit + 1) // units - share
                if not plain:
                    fetch_windows(p, m + rows + share, more, k_first, k_first + depth)
                if cols < p.y_ld:
                    for t in range(more):
                        fetch_range(dy + (m + rows + share + t) * p.y_ld + col_first, cols)
            low, high = 0, rows
            if rows and (at[s * ROWS] == zeros or at[s * ROWS + rows - 1] == zeros):
                if finite < 0:
                    finite = width % LANES == 0 and are_finite(b, b_k, rows, width)
                while finite and high and at[s * ROWS + high - 1] == zeros:
                    high -= 1
                while finite and low < high and at[s * ROWS + low] == zeros:
                    low += 1
            run.at = at + s * ROWS + low
            t = 0
            while t < size:
                more = min(size - t, <Py_ssize_t> TILE_M) if tiled else size
                if tiled:
                    last = i + 1 == panels
                    ask_for_a_line(
                        p, &run, p.a + (m + rows) * p.a_ld + k_first, next_rows, depth,
                        dy + col_first + ((m + rows) * p.y_ld if last else m * p.y_ld + j + TILE_N), next_rows if last else rows,
                        i, panels, t // TILE_M, tiles,
                    )
                pixels_by_panel(
                    more, width, &run, t if p.in_place else k, high - low, b + low * b_k, b_k,
                    nothing if m == row_first else NULL, db + col_first + j, offsets + k + t,
                )
                t += more
            k += size
        m += rows
        if m >= row_end:
            return
