# Convolution in groups of few channels, its adjoint and the gradient of its weight: the product of product.pxi would leave most
# of a vector empty, and look for the windows of each group anew.
#
# Groups share a vector where several fit: lane j multiplies the element of its own group, which a permutation of the pixel's
# vector brings there, so nothing is multiplied by the zeros between groups. Groups of more channels have panels of their own.
# Windows are found once for all groups: the address of a pixel is that of its first channel.


cdef enum:
    GROUPED_PANELS = 65536   # elements of packed weights, about, that a task holds: in the second-level cache
    GROUPED_ROWS = 2         # times TILE_M rows at a time, for which a panel comes from there
    GROUPED_TAPS = 8192      # elements of a window's group at most
    ROWS_AHEAD = 4           # of the weight, which lie in pages of their own, that are asked for
    FEW_TO_TURN = 64         # rows
    GROUPED_COLS = 64        # columns of a group below which groups are computed together


cdef struct Grouped:
    Product p
    Py_ssize_t groups, b_group
    Py_ssize_t share   # groups of a panel
    Py_ssize_t width   # elements of a row of a packed panel
    Py_ssize_t each    # panels of a group, where it has its own
    Py_ssize_t panels
    bint across        # of a gradient: vectors go along the channels of a group, not along its columns
    bint diagonal      # of a product: weights go by diagonals (grouped_tile.pxi)
    lane lanes[TURNS * LANES]  # each lane's own of the elements of a pixel, or what it takes in each of the turns


cdef inline bint grouped_pays(const Product *p, Py_ssize_t groups) noexcept nogil:
    return groups > 1 and p.cols < GROUPED_COLS and product_depth(p) <= GROUPED_TAPS


cdef Grouped grouped(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, Py_ssize_t width) noexcept nogil:
    """`width`: columns of a panel at most, where groups have their own."""
    cdef Grouped g
    cdef Py_ssize_t i
    g.p, g.groups, g.b_group, g.across, g.diagonal = p[0], groups, b_group, False, False
    g.share = max(LANES // max(p.cols, p.depth), <Py_ssize_t> 1)
    g.width = min(width, round_up(p.cols, LANES))
    g.each = ceil_div(p.cols, g.width)
    g.panels = ceil_div(groups, g.share) * g.each
    for i in range(LANES):
        g.lanes[i] = i // p.cols * p.depth if i < g.share * p.cols else 0
    return g


cdef inline bint aliases(const Product *p) noexcept nogil:
    """Whether pixels side by side share a set of the cache."""
    return p.w.stride * p.a_ld * sizeof(real) % SETS == 0


cdef Grouped grouped_for_product(const Product *p, Py_ssize_t groups, Py_ssize_t b_group) noexcept nogil:
    cdef Grouped g = grouped(p, groups, b_group, TILE_N)
    cdef Py_ssize_t i, turn, n = p.cols
    # one diagonal, or two, would load almost as much as they multiply; a vector of inputs is better read once a tap than once a channel
    # where pixels alias, and in low tiles, whose broadcasts take a load each; but what aliases takes long to turn for few pixels
    cdef bint whole = aliases(p) if not LOW_TILE else not aliases(p) or product_rows(p) >= FEW_TO_TURN
    g.diagonal = DIAGONALS and p.depth == n and n % 2 == 0 and n > 2 and (g.share > 1 or n == LANES and whole)
    for turn in range(TURNS if g.diagonal else 0):
        for i in range(g.share * n):
            g.lanes[turn * LANES + i] = i // n * n + (i % n + n * LANES - (1 << turn)) % n
    return g


cdef inline Py_ssize_t first_group(const Grouped *g, Py_ssize_t panel, Py_ssize_t *column, Py_ssize_t *cols) noexcept nogil:
    """The first group of a panel, its first column in that group, and how many columns the panel has."""
    cdef Py_ssize_t group = panel // g.each * g.share
    column[0] = panel % g.each * g.width
    cols[0] = columns_from(g, group, column[0])
    return group


cdef inline Py_ssize_t columns_from(const Grouped *g, Py_ssize_t group, Py_ssize_t column) noexcept nogil:
    """How many columns the panel has that begins with this one of a group."""
    return min(g.share, g.groups - group) * g.p.cols if g.share > 1 else min(g.width, g.p.cols - column)


cdef inline Py_ssize_t grouped_taps(const Grouped *g) noexcept nogil:
    return g.p.d.taps * g.p.h.taps * g.p.w.taps


cdef inline Py_ssize_t panel_elements(const Grouped *g) noexcept nogil:
    return (product_depth(&g.p) + 1) * g.width


cdef inline Py_ssize_t row_width(const Grouped *g, Py_ssize_t cols) noexcept nogil:
    """Elements of a row of a packed panel of so many columns."""
    return LANES if g.share > 1 else panel_width(cols)


cdef void pack_grouped(const Grouped *g, Py_ssize_t panel, Py_ssize_t panels, const Py_ssize_t *offsets, real *packed) noexcept nogil:
    """packed[i * panel_elements + k * width + j] = element k of column j of panel i from `panel` on; columns beyond are 0.

    offsets[k] is where element k of the first group's first column is. Row after row, as they lie in memory.
    """
    cdef Py_ssize_t column, cols, group, width, i, j, k, m, t, depth = product_depth(&g.p), each = panel_elements(g)
    cdef const real *b
    cdef real *to
    if DIAGONALS and g.diagonal:
        for i in range(panels):
            group = first_group(g, panel + i, &column, &cols)
            pack_diagonals(
                g.p.b + group * g.b_group, g.p.b_col, g.b_group, offsets, grouped_taps(g), g.p.cols, cols // g.p.cols, packed + i * each
            )
        return
    if g.p.b_col == 1:  # columns of groups that share a panel are neighbors
        for k in range(depth):
            group = first_group(g, panel, &column, &cols)
            fetch_run(g.p.b + offsets[min(k + ROWS_AHEAD, depth - 1)] + group * g.b_group + column, panels * g.width)
            for i in range(panels):  # by sums alone: divisions would take longer than the copies
                cols = columns_from(g, group, column)
                width = row_width(g, cols)
                to = packed + i * each + k * width
                copy(to, g.p.b + offsets[k] + group * g.b_group + column, cols)
                zero(to + cols, width - cols)
                column += g.width
                if column >= g.p.cols:
                    column = 0
                    group += g.share
        return
    for i in range(panels):
        group = first_group(g, panel + i, &column, &cols)
        b = g.p.b + group * g.b_group + column * g.p.b_col
        to = packed + i * panel_elements(g)
        if g.share == 1:
            pack_columns(b, g.p.b_col, offsets, depth, cols, to, 0)
            continue
        zero(to, depth * LANES)
        for m in range(cols // g.p.cols):
            for j in range(g.p.cols):
                for t in range(grouped_taps(g)):
                    for k in range(g.p.depth):
                        to[(t * g.p.depth + k) * LANES + m * g.p.cols + j] = b[offsets[t * g.p.depth] + m * g.b_group + k + j * g.p.b_col]


cdef inline Py_ssize_t tail_pixels(const Product *p) noexcept nogil:
    """How many pixels at the end of the input a whole vector may not be read from."""
    return min(LANES // p.a_ld + 1, p.batch * p.d.size * p.h.size * p.w.size)


cdef void find_pixels(
    const Product *p, Py_ssize_t first, Py_ssize_t count, const real *zeros, const real *tail, const real **at, Py_ssize_t at_ld
) noexcept nogil:
    """at[t * at_ld + i] = the pixel under tap t of the window of row first + i: zeros outside the image, a copy at its end."""
    cdef Py_ssize_t i = 0, j, td, th, tw, w = first % p.w.rows, h = first // p.w.rows, d, n, iz, ih, iw, segment, low, high, end, number
    cdef Py_ssize_t tail_first = p.batch * p.d.size * p.h.size * p.w.size - tail_pixels(p), step = p.w.stride * p.a_ld
    cdef const real *source
    cdef const real **to
    d, h = h // p.h.rows, h % p.h.rows
    n, d = d // p.d.rows, d % p.d.rows
    while i < count:
        segment = min(p.w.rows - w, count - i)  # windows side by side
        for tw in range(p.w.taps):
            iw = w * p.w.stride + p.w.origin + tw * p.w.dilation
            low = min(strides(max(-iw, <Py_ssize_t> 0) + p.w.stride - 1, p.w.stride), segment)
            high = low  # in windows low .. high - 1 the tap is inside the line
            if iw < p.w.size:
                high = max(min(strides(p.w.size - 1 - iw, p.w.stride) + 1, segment), low)
            for td in range(p.d.taps):
                iz = d * p.d.stride + p.d.origin + td * p.d.dilation
                for th in range(p.h.taps):
                    ih = h * p.h.stride + p.h.origin + th * p.h.dilation
                    number = ((n * p.d.size + iz) * p.h.size + ih) * p.w.size + iw
                    source = p.a + number * p.a_ld
                    to = at + ((td * p.h.taps + th) * p.w.taps + tw) * at_ld + i
                    end = high if 0 <= iz < p.d.size and 0 <= ih < p.h.size else low
                    for j in range(low):
                        to[j] = zeros
                    for j in range(low, end):
                        to[j] = source + j * step
                    for j in range(end, segment):
                        to[j] = zeros
                    if end > low and number + (end - 1) * p.w.stride >= tail_first:
                        for j in range(low, end):
                            if number + j * p.w.stride >= tail_first:
                                to[j] = tail + (number + j * p.w.stride - tail_first) * p.a_ld
        i += segment
        w = 0
        h += 1
        if h == p.h.rows:
            h = 0
            d += 1
            if d == p.d.rows:
                d = 0
                n += 1


cdef inline void fetch_pixels(
    const Product *p, Py_ssize_t count, const real **at, Py_ssize_t at_ld, Py_ssize_t offset, Py_ssize_t channels,
    Py_ssize_t part, Py_ssize_t parts,
) noexcept nogil:
    """Ask for one of `parts` parts of the pixels that no strip before has used, in the order of memory: groups jump from one
    pixel to the next, which no prefetcher of a processor foresees."""
    cdef Py_ssize_t fresh_h = min(p.h.stride, p.d.taps * p.h.taps), fresh_w = min(p.w.stride, p.w.taps), i, k, t
    cdef Py_ssize_t total = fresh_h * count * fresh_w
    for i in range(part * total // parts, (part + 1) * total // parts):
        k = i // fresh_w
        t = (p.d.taps * p.h.taps - fresh_h + k // count) * p.w.taps + i % fresh_w
        fetch_run(at[t * at_ld + k % count] + offset, channels)


cdef inline Py_ssize_t grouped_strip(const Grouped *g) noexcept nogil:
    if g.diagonal:
        return DIAGONAL_ROWS
    return GROUPED_ROWS * TILE_M if grouped_taps(g) <= 64 else TILE_M


cdef inline Py_ssize_t grouped_copies(const Grouped *g) noexcept nogil:
    """Elements of a packed strip, where pixels side by side alias in the cache and are read again for each of their channels. A low tile
    reads few of them at a time."""
    cdef bint copied = not LOW_TILE and not g.diagonal and aliases(&g.p) and g.share == 1 and product_depth(&g.p) <= DEPTH
    return grouped_strip(g) * DEPTH_LD if copied else 0


cdef inline Py_ssize_t grouped_scratch(const Grouped *g, Grid grid) noexcept nogil:
    cdef Py_ssize_t addresses = (2 * grouped_strip(g) + 1) * grouped_taps(g) + product_depth(&g.p)
    cdef Py_ssize_t pixels = (tail_pixels(&g.p) + 1) * g.p.a_ld + 3 * LANES
    return own_lines(addresses * sizeof(void *) // sizeof(real) + pixels + TILE_N + grouped_copies(g) + grid.cols * panel_elements(g))


cdef Grid grouped_grid(const Grouped *g, int threads) noexcept nogil:
    """Blocks of rows that fill the threads evenly, and of panels (`cols` of them) that fit the cache."""
    cdef Grid grid
    cdef Py_ssize_t total = product_rows(&g.p), most = max(GROUPED_PANELS // panel_elements(g), <Py_ssize_t> 1)
    grid.col_blocks = ceil_div(g.panels, most)
    grid.row_blocks = max(min(4 * threads, total // ROWS), <Py_ssize_t> 1)
    if grid.row_blocks * grid.col_blocks < 2 * threads:
        grid.col_blocks = min(g.panels, ceil_div(2 * threads, grid.row_blocks))
    grid.rows = round_up(ceil_div(total, grid.row_blocks), TILE_M)
    grid.row_blocks = ceil_div(total, grid.rows)
    grid.cols = ceil_div(g.panels, grid.col_blocks)
    grid.col_blocks = ceil_div(g.panels, grid.cols)
    return grid


cdef void grouped_block(const Grouped *g, Grid grid, Py_ssize_t block, real *scratch) noexcept nogil:
    cdef Py_ssize_t m = block % grid.row_blocks * grid.rows, row_end = min(m + grid.rows, product_rows(&g.p))
    cdef Py_ssize_t panel = block // grid.row_blocks * grid.cols, panels = min(grid.cols, g.panels - panel)
    cdef Py_ssize_t taps = grouped_taps(g), strip = grouped_strip(g), tails = tail_pixels(&g.p) * g.p.a_ld
    cdef const real **at = <const real **> scratch
    cdef const real **ahead = at + taps * strip
    cdef Py_ssize_t *length = <Py_ssize_t *> (ahead + taps * strip)
    cdef Py_ssize_t *offsets = length + taps
    cdef real *zeros = <real *> (offsets + product_depth(&g.p))
    cdef real *tail = zeros + g.p.a_ld + LANES
    cdef real *start = tail + tails + LANES
    cdef real *copies = start + TILE_N
    cdef real *packed = aligned_in(copies + grouped_copies(g))
    cdef bint copied = grouped_copies(g) > 0
    cdef Py_ssize_t out[GROUPED_ROWS * TILE_M + DIAGONAL_ROWS]  # enough for either strip
    cdef Left windows = left_operand(copies, at, strip, taps, length, &g.lanes[0])
    cdef Py_ssize_t rows, next_rows, i, j, group, column, cols, first, width
    cdef Py_ssize_t channel = first_group(g, panel, &column, &cols) * g.p.depth, begin = channel // g.p.depth * g.p.cols + column
    cdef Py_ssize_t last_group = first_group(g, panel + panels - 1, &column, &cols), end = last_group * g.p.cols + column + cols
    cdef Py_ssize_t channels = min(last_group + g.share, g.groups) * g.p.depth - channel
    cdef bint far = reads_far(&g.p)
    cdef const real *b
    cdef Ending ending
    windows.far = is_far(output_bytes(&g.p) // sizeof(real))
    zero(zeros, g.p.a_ld + LANES)
    zero(start, TILE_N)
    copy(tail, g.p.a + g.p.batch * g.p.d.size * g.p.h.size * g.p.w.size * g.p.a_ld - tails, tails)
    zero(tail + tails, LANES)
    for i in range(taps):
        length[i] = g.p.depth
    weight_offsets(&g.p, 0, product_depth(&g.p), offsets)
    pack_grouped(g, panel, panels, offsets, packed)
    next_rows = min(strip, row_end - m)
    find_pixels(&g.p, m, next_rows, zeros, tail, ahead, strip)
    while m < row_end:
        rows = next_rows
        ahead, windows.at = windows.at, ahead
        next_rows = min(strip, row_end - m - rows)
        find_pixels(&g.p, m + rows, next_rows, zeros, tail, ahead, strip)
        row_outputs(&g.p, m, rows, out)
        for i in range(panels):
            group = first_group(g, panel + i, &column, &cols)
            first = group * g.p.cols + column
            windows.offset = group * g.p.depth
            if far:
                fetch_pixels(&g.p, next_rows, ahead, strip, channel, channels, i, panels)
            b = packed + i * panel_elements(g)
            if g.p.bias:
                for j in range(cols):
                    start[j] = g.p.bias[first + j]
            # a narrow row is written in whole vectors where the panels that follow put its excess right
            width = round_up(cols, LANES if g.share > 1 else TILE_STEP)
            if first + width > end:
                width = cols
            ending = ending_of(&g.p.finish, first)
            if DIAGONALS and g.diagonal:
                diagonals_by_panel(rows, width, &windows, g.p.cols, b, start, &ending, g.p.y + first, out)
            elif g.share > 1:
                spread_by_panel(rows, width, &windows, b, start, &ending, g.p.y + first, out)
            elif copied:
                if column == 0 or i == 0:
                    copy_windows(&windows, rows, copies)
                packed_by_panel(rows, width, &windows, 0, b, product_depth(&g.p), start, &ending, g.p.y + first, out)
            else:
                windows_by_panel(rows, width, &windows, 0, b, row_width(g, cols), start, &ending, g.p.y + first, out)
        if not only_clamps(&g.p.finish):
            finish_rows(&g.p.finish, g.p.y, out, rows, g.p.y_ld, begin, end - begin)
        m += rows


cdef int run_grouped(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """Compute `p` for each group, as `run_groups` does. -1: no memory."""
    cdef Grouped g = grouped_for_product(p, groups, b_group)
    cdef Grid grid = grouped_grid(&g, threads)
    cdef Py_ssize_t each = grouped_scratch(&g, grid), task
    cdef real *scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for task in prange(grid.row_blocks * grid.col_blocks, schedule="dynamic", num_threads=threads):
        grouped_block(&g, grid, task, scratch + threadid() * each)
    free_lines(scratch)
    return 0
