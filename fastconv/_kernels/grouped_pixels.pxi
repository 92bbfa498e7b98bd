# Convolutions of one tap and stride 1 in groups: each group multiplies its channels of every pixel with a matrix of its own.
#
# Where channels were shuffled between groups before (Zhang et al. 2018, "ShuffleNet"), they need not move: the channels of a
# group are then a run of each of the parts that the shuffle takes in turn, and a product goes along runs anyway.
#
#   parts, shuffled:   a0 b0 a1 b1 | a2 b2 a3 b3        as they lie: a0 a1 a2 a3 b0 b1 b2 b3
#                      group 0     | group 1            group 0: runs a0 a1 and b0 b1


cdef enum:
    PIXELS_WEIGHTS = 1 << 20  # elements of packed weights at most
    PIXELS_TASKS = 8          # for each thread, at least, before a task takes two tiles of rows at a time
    PIXELS_WORK = 2048        # multiply-adds for each pixel of a task, about, where pixels are many


cdef struct Pixels:
    Product p           # of one line
    Py_ssize_t groups, parts
    Py_ssize_t rows, blocks   # of a task; how many blocks of so many rows there are
    Py_ssize_t some, parcels  # groups of a task; how many parcels of so many groups
    bint by_groups      # whether threads take groups each, or pixels
    const real *panels  # of all groups
    Py_ssize_t of_group, of_panel  # elements


cdef inline bint pixels_fit(const Product *p, Py_ssize_t groups) noexcept nogil:
    return is_line(p) and p.depth <= DEPTH and groups * packed_panels(p, 1) <= PIXELS_WEIGHTS


cdef inline bint pixels_pay(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Fewer columns share vectors (grouped.pxi)."""
    return groups > 1 and p.cols >= LANES and pixels_fit(p, groups)


cdef Py_ssize_t find_runs(const Pixels *g, Py_ssize_t group, Py_ssize_t *first, Py_ssize_t *length) noexcept nogil:
    """The channels of a group: runs of so many from `first` of a pixel on. How many runs there are."""
    cdef Py_ssize_t each = g.groups * g.p.depth // g.parts, runs = 0, low, end, part
    for part in range(g.parts):
        low = ceil_div(group * g.p.depth - part, g.parts)
        end = ceil_div((group + 1) * g.p.depth - part, g.parts)
        if end > low:
            first[runs], length[runs] = part * each + low, end - low
            runs += 1
    return runs


cdef void pack_group(const Pixels *g, Py_ssize_t group, Py_ssize_t b_group, real *packed) noexcept nogil:
    cdef Py_ssize_t offsets[DEPTH]
    cdef const real *b = g.p.b + group * b_group
    weight_offsets(&g.p, 0, g.p.depth, offsets)
    if g.p.b_col == 1:
        pack_rows(b, offsets, g.p.depth, g.p.cols, packed + group * g.of_group, g.of_panel)
    else:
        pack_columns(b, g.p.b_col, offsets, g.p.depth, g.p.cols, packed + group * g.of_group, g.of_panel)


cdef inline Py_ssize_t pixels_scratch(const Pixels *g) noexcept nogil:
    cdef Py_ssize_t runs = min(g.parts, g.p.depth)
    cdef Py_ssize_t copies = g.rows * DEPTH_LD if LOW_TILE else 0
    return own_lines((runs * (g.rows + 2) * sizeof(void *)) // sizeof(real) + TILE_N + copies)


cdef void pixels_task(const Pixels *g, Py_ssize_t task, real *scratch) noexcept nogil:
    """Some groups of the pixels of one block."""
    cdef Py_ssize_t block = task % g.blocks if g.by_groups else task // g.parcels
    cdef Py_ssize_t parcel = task // g.blocks if g.by_groups else task % g.parcels
    cdef Py_ssize_t group = parcel * g.some, group_end = min(group + g.some, g.groups)
    cdef Py_ssize_t begin = group * g.p.cols, end = group_end * g.p.cols
    cdef Py_ssize_t most = min(g.parts, g.p.depth), m = block * g.rows, rows = min(g.rows, product_rows(&g.p) - m)
    cdef Py_ssize_t i, j, s, width, whole, column, share = ceil_div(rows * g.p.a_ld, g.groups)
    cdef Py_ssize_t steps = ceil_div(rows, TILE_M) * g.p.depth
    cdef real *start = scratch
    cdef const real **at = <const real **> (start + TILE_N)
    cdef Py_ssize_t *first = <Py_ssize_t *> (at + most * g.rows)
    cdef Py_ssize_t *length = first + most
    cdef real *copies = <real *> (length + most)
    cdef Py_ssize_t out[2 * TILE_M]
    cdef const real *b
    cdef Ending ending
    cdef bint far = reads_far(&g.p)
    cdef Left windows = left_operand(copies, at, g.rows, 0, length)
    windows.far = asks_for_outputs(&g.p)
    zero(start, TILE_N)
    for i in range(rows):
        out[i] = (m + i) * g.p.y_ld
    while group < group_end:
        windows.runs = find_runs(g, group, first, length)
        for s in range(windows.runs):
            for i in range(rows):
                at[s * g.rows + i] = g.p.a + (m + i) * g.p.a_ld + first[s]
        if LOW_TILE:
            copy_windows(&windows, rows, copies)
        if far:  # the next pixels, a part in each group
            ask_for_panels(&windows, g.p.a + (m + rows) * g.p.a_ld + group * share, share, ceil_div(g.p.cols, TILE_N) * steps)
        b = g.panels + group * g.of_group
        for j in range(ceil_div(g.p.cols, TILE_N)):
            column, width = group * g.p.cols + j * TILE_N, min(g.p.cols - j * TILE_N, <Py_ssize_t> TILE_N)
            if g.p.bias:
                for i in range(width):
                    start[i] = g.p.bias[column + i]
            if block == 0 and not far:  # the panel that comes next, from memory
                ask_for_panels(&windows, b + g.of_panel, g.of_panel, steps)
            # a narrow row is written in whole vectors where the panels that follow put its excess right
            whole = round_up(width, TILE_STEP)
            if column + whole > end:
                whole = width
            ending = ending_of(&g.p.finish, column)
            if LOW_TILE:
                packed_by_panel(rows, whole, &windows, 0, b, g.p.depth, start, &ending, g.p.y + column, out)
            else:
                windows_by_panel(rows, whole, &windows, 0, b, panel_width(width), start, &ending, g.p.y + column, out)
            b += g.of_panel
        group += 1
    if not only_clamps(&g.p.finish):
        finish_rows(&g.p.finish, g.p.y, out, rows, g.p.y_ld, begin, end - begin)


cdef int run_pixels(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, Py_ssize_t parts, int threads) noexcept nogil:
    """Compute `p`, which `pixels_fit`, for each group of channels that a shuffle has taken from so many parts in turn (1: from
    channels as they lie). -1: no memory."""
    cdef Pixels g
    cdef Py_ssize_t total = product_rows(p), of_weights, each, task, group
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef real *scratch
    g.p, g.groups, g.parts = p[0], groups, parts
    join_lines(&g.p)
    g.of_panel, g.of_group, g.panels = panel_items(depth_step(p.depth)), packed_panels(p, 1), p.packed
    g.by_groups = few_rows(total, threads)
    g.some = 1 if g.by_groups else min(ceil_div(PIXELS_WORK, p.depth * p.cols), groups)
    g.parcels = ceil_div(groups, g.some)
    g.rows = 2 * TILE_M
    if g.parcels * ceil_div(total, g.rows) < PIXELS_TASKS * threads:
        g.rows = TILE_M
    g.blocks = ceil_div(total, g.rows)
    of_weights, each = 0 if p.packed else own_lines(groups * g.of_group), pixels_scratch(&g)
    scratch = new_scratch(of_weights + each * threads, 1)
    if scratch == NULL:
        return -1
    if not p.packed:
        g.panels = scratch
        for group in prange(groups, num_threads=threads):
            pack_group(&g, group, b_group, scratch)
    memset(taken, 0, sizeof(taken))
    with parallel(num_threads=threads):
        task = take_task(taken, g.parcels * g.blocks, threads, threadid())
        while task >= 0:
            pixels_task(&g, task, scratch + of_weights + threadid() * each)
            task = take_task(taken, g.parcels * g.blocks, threads, threadid())
    free_lines(scratch)
    return 0
