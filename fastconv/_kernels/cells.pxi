# Padding that is not multiplied: where windows see other taps of the kernel, a product is cut into cells.
#
# Along an axis, the rows whose windows see the same taps are neighbors: with 3 taps, a dilation of 6 and 14 pixels
#
#     rows    0 .. 5    6, 7       8 .. 13
#     taps      1, 2    0, 1, 2    0, 1
#
# A cell is such a run of rows along each axis that is cut, and a product with fewer taps, none of which is outside. It packs
# their weights for itself: of few rows, a product of many channels is done tap by tap instead, each with the rows that see it.
# Sums are in the same order, but for the zeros left out. Zeros times a weight that is not finite are NaN: then nothing is cut.


cdef enum:
    MOST_CUTS = 32       # cells along an axis
    CELL_ROWS = 6        # rows whose multiply-adds take as long as packing the weight of a cell, and as what its last tile lacks
    CELL_WORK = 1 << 15  # multiply-adds that take as long as all else there is to a cell
    CELL_COLUMNS = 7     # columns of a gradient, the same of packing dy
    WORTH_A_CUT = 92     # percent of the time without, at most,
    WORTH_ALL_CUT = 70   # and where groups are computed at once, whose windows are found pixel by pixel, cell after cell
    MOST_TAPS_APART = 64 # taps that are computed one after the other, at most,
    TAPS_DEPTH = 32      # of so many channels at least,
    TAPS_ROWS = 1 << 11  # for so many rows at most, which share one packed weight
    TAPS_SUMS = 20       # channels whose multiply-adds take as long as reading and writing the sums
    TAPS_ITEMS = 3 << 16 # of y, about, that a task holds: in the second-level cache


cdef struct Cuts:
    # An axis in `count` cells, whose `tap_first` is that of the taps of the axis.
    Axis cells[MOST_CUTS]
    Py_ssize_t count
    double seen, taps  # the sums of rows times taps, and of taps


cdef inline Py_ssize_t first_tap(const Axis *axis, Py_ssize_t at) noexcept nogil:
    """The first tap inside the input of a window that begins at pixel `at`."""
    return min(ceil_div(max(-at, <Py_ssize_t> 0), axis.dilation), axis.taps)


cdef inline Py_ssize_t end_tap(const Axis *axis, Py_ssize_t at) noexcept nogil:
    """One more than the last, or the first where there is none."""
    return max(min(ceil_div(max(axis.size - at, <Py_ssize_t> 0), axis.dilation), axis.taps), first_tap(axis, at))


cdef void leave_whole(const Axis *axis, Cuts *cuts) noexcept nogil:
    cuts.cells[0], cuts.count = axis[0], 1
    cuts.cells[0].tap_first = 0
    cuts.seen, cuts.taps = axis.rows * axis.taps, axis.taps


cdef inline bint is_padded(const Axis *axis) noexcept nogil:
    return axis.origin < 0 or axis.origin + (axis.rows - 1) * axis.stride + (axis.taps - 1) * axis.dilation >= axis.size


cdef void cut_axis(const Axis *axis, Cuts *cuts) noexcept nogil:
    """Cut an axis at each row that sees other taps; not at all where that would be too often."""
    cdef Py_ssize_t row = 0, at = axis.origin, low, end
    cdef Axis *cell = cuts.cells
    cuts.count, cuts.seen, cuts.taps = 0, 0, 0
    while row < axis.rows:
        if cuts.count == MOST_CUTS or not is_padded(axis):
            leave_whole(axis, cuts)
            return
        low, end = first_tap(axis, at), end_tap(axis, at)
        cell[0] = axis[0]
        cell.tap_first = max(min(low, axis.taps - 1), <Py_ssize_t> 0)
        cell.taps = min(max(end - low, <Py_ssize_t> 1), axis.taps)  # one that nobody sees where there is no other
        cell.origin = at + cell.tap_first * axis.dilation
        cell.out_first += row * axis.out_step
        cell.rows = axis.rows - row
        if low:
            cell.rows = min(cell.rows, ceil_div(-(low - 1) * axis.dilation - at, axis.stride))
        if end:
            cell.rows = min(cell.rows, ceil_div(axis.size - (end - 1) * axis.dilation - at, axis.stride))
        row += cell.rows
        at += cell.rows * axis.stride
        cuts.seen += cell.rows * cell.taps
        cuts.taps += cell.taps
        cuts.count += 1
        cell += 1


cdef double work_of_cells(const Product *p, const Cuts *cuts, Py_ssize_t at_once, int choice) noexcept nogil:
    """Multiply-adds in the time that the cells take where the axes that bits of `choice` name are cut."""
    cdef const Axis *axes = &p.d
    cdef double seen = p.batch, taps = CELL_ROWS, count = CELL_WORK
    cdef Py_ssize_t i
    for i in range(3):
        seen *= cuts[i].seen if choice >> i & 1 else axes[i].rows * axes[i].taps
        taps *= cuts[i].taps if choice >> i & 1 else axes[i].taps
        count *= cuts[i].count if choice >> i & 1 else 1
    return (seen + taps) * p.depth * p.cols * max(at_once, <Py_ssize_t> 1) + count


ctypedef double (*Work)(const Product *p, const Cuts *cuts, Py_ssize_t at_once, int choice) noexcept nogil


cdef bint choose_cuts(const Product *p, Cuts *cuts, Py_ssize_t at_once, Work work) noexcept nogil:
    """Leave whole what is not worth a cut of d, h and w; whether any is."""
    cdef const Axis *axes = &p.d
    cdef double least = work(p, cuts, at_once, 0) * (WORTH_ALL_CUT if at_once else WORTH_A_CUT) / 100
    cdef int best = 0, choice, i
    for choice in range(1, 8 if is_padded(axes) or is_padded(axes + 1) or is_padded(axes + 2) else 1):
        if work(p, cuts, at_once, choice) < least:
            best, least = choice, work(p, cuts, at_once, choice)
    for i in range(3):
        if not best >> i & 1:
            leave_whole(axes + i, cuts + i)
    return best > 0


cdef bint mostly_padding(const Product *p) noexcept nogil:
    """Whether windows see more of the padding than of the input."""
    cdef Cuts cuts[3]
    cut_axis(&p.d, cuts)
    cut_axis(&p.h, cuts + 1)
    cut_axis(&p.w, cuts + 2)
    return 2 * cuts[0].seen * cuts[1].seen * cuts[2].seen * p.batch < product_rows(p) * (<double> product_depth(p) / p.depth)


cdef bint cells_pay(const Product *p, Cuts *cuts, Py_ssize_t at_once) noexcept nogil:
    """Whether a product is done sooner in cells; `cuts`: of d, h and w. `at_once`: so many groups are, or 0 where each is by itself."""
    cut_axis(&p.d, cuts)
    cut_axis(&p.h, cuts + 1)
    cut_axis(&p.w, cuts + 2)
    return choose_cuts(p, cuts, at_once, work_of_cells)


cdef Product cell_at(const Product *p, const Cuts *cuts, Py_ssize_t index) noexcept nogil:
    cdef Product q = p[0]
    q.w = cuts[2].cells[index % cuts[2].count]
    q.h = cuts[1].cells[index // cuts[2].count % cuts[1].count]
    q.d = cuts[0].cells[index // cuts[2].count // cuts[1].count]
    q.b += q.d.tap_first * q.b_d + q.h.tap_first * q.b_h + q.w.tap_first * q.b_w
    return q


cdef Product *cells_of(
    const Product *parts, Py_ssize_t groups, Py_ssize_t b_group, bint together, int threads, Py_ssize_t *count
) noexcept nogil:
    """The cells of so many products, and how many they are; NULL where they do not pay, or without memory.

    `together`: a cell is one of all groups.
    """
    cdef Cuts cuts[3]
    cdef Py_ssize_t total = 0, i, j
    cdef bint pays = False
    cdef Product *cells
    for i in range(count[0]):
        pays |= cells_pay(parts + i, cuts, groups if together else 0)
        total += cuts[0].count * cuts[1].count * cuts[2].count
    for i in range(count[0] if pays else 0):
        pays &= parts[i].packed == NULL and finite_taps(parts + i, groups, b_group, threads)
    cells = <Product *> malloc(total * sizeof(Product)) if pays else NULL
    if cells == NULL:
        return NULL
    total = 0
    for i in range(count[0]):
        cells_pay(parts + i, cuts, groups if together else 0)
        for j in range(cuts[0].count * cuts[1].count * cuts[2].count):
            cells[total] = cell_at(parts + i, cuts, j)
            total += 1
    count[0] = total
    return cells


cdef bint finite_taps(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """Whether the right operand is finite."""
    cdef Py_ssize_t taps = taps_of(p), task, bad = 0
    for task in prange(taps * groups, schedule="static", num_threads=min(threads, taps)):
        bad += not finite_tap(p, task % taps, task // taps * b_group)
    return bad == 0


cdef bint finite_tap(const Product *p, Py_ssize_t tap, Py_ssize_t offset) noexcept nogil:
    cdef Py_ssize_t rows = p.depth if p.b_col == 1 else p.cols, items = p.cols if p.b_col == 1 else p.depth
    cdef Py_ssize_t ld = p.b_k if p.b_col == 1 else p.b_col, whole = items // LANES * LANES, i
    cdef const real *b = p.b + offset + tap // p.w.taps // p.h.taps * p.b_d + tap // p.w.taps % p.h.taps * p.b_h + tap % p.w.taps * p.b_w
    cdef vec rest
    for i in range(rows if whole < items else 0):
        rest = load(b + i * ld + whole, b + i * ld + items)
        if not are_finite(<const real *> &rest, 0, 1, LANES):
            return False
    return are_finite(b, ld, rows, whole)


cdef inline bint finite_items(const real *x, Py_ssize_t items) noexcept nogil:
    cdef vec rest = load(x + items // LANES * LANES, x + items)
    return are_finite(x, 0, 1, items) and are_finite(<const real *> &rest, 0, 1, LANES)


cdef inline Axis axis_of_tap(const Axis *axis, Py_ssize_t tap, Py_ssize_t least) noexcept nogil:
    """One tap of an axis and the rows that see it, but `least` rows at least."""
    cdef Axis cell = axis[0]
    cdef Py_ssize_t at = axis.origin + tap * axis.dilation
    cdef Py_ssize_t first = min(ceil_div(max(-at, <Py_ssize_t> 0), axis.stride), axis.rows - least)
    cell.rows = max(min(ceil_div(max(axis.size - at, <Py_ssize_t> 0), axis.stride), axis.rows) - first, least)
    cell.tap_first, cell.taps, cell.origin = tap, 1, at + first * axis.stride
    cell.out_first += first * axis.out_step
    return cell


cdef void cut_taps(const Axis *axis, Cuts *cuts) noexcept nogil:
    """Cut an axis at each tap, whose cell are the rows that see it, or one row that does not. Not at all where that would be too often."""
    cdef Py_ssize_t tap
    if axis.taps > MOST_CUTS or not is_padded(axis):
        leave_whole(axis, cuts)
        return
    cuts.count, cuts.seen, cuts.taps = axis.taps, 0, axis.taps
    for tap in range(axis.taps):
        cuts.cells[tap] = axis_of_tap(axis, tap, 1)
        cuts.seen += cuts.cells[tap].rows


cdef double work_of_taps(const Product *p, const Cuts *cuts, Py_ssize_t at_once, int choice) noexcept nogil:
    """Multiply-adds in the time that the gradient of the right operand takes where the axes that bits of `choice` name are cut."""
    cdef const Axis *axes = &p.d
    cdef double rows = p.batch, depth = p.depth, count = CELL_WORK
    cdef Py_ssize_t i
    for i in range(3):
        rows *= cuts[i].seen if choice >> i & 1 else axes[i].rows
        depth *= 1 if choice >> i & 1 else axes[i].taps
        count *= cuts[i].count if choice >> i & 1 else 1
    return rows * (depth + CELL_COLUMNS * ceil_div(<Py_ssize_t> depth, DEPTH)) * p.cols + count


cdef bint taps_pay(const Product *p, Cuts *cuts) noexcept nogil:
    """Whether the gradient of the right operand is done sooner tap by tap; `cuts`: of d, h and w."""
    cut_taps(&p.d, cuts)
    cut_taps(&p.h, cuts + 1)
    cut_taps(&p.w, cuts + 2)
    return choose_cuts(p, cuts, 0, work_of_taps)


cdef bint tap_by_tap(const Product *p, bint whole_kept, bint taps_kept, Py_ssize_t groups, int threads) noexcept nogil:
    """Whether a product is done soonest tap by tap. As a whole, tap by tap: whether its weight is packed already.

    Threads share the columns alone, which may be too few.
    """
    cdef const Axis *axes = &p.d
    cdef Py_ssize_t i, tap, seen
    cdef double rows = p.batch, taps = 1, count = CELL_WORK, packing, whole
    if p.depth < TAPS_DEPTH or product_rows(p) > TAPS_ROWS or taps_of(p) > MOST_TAPS_APART:
        return False
    if not taps_kept and groups * ceil_div(p.cols, TILE_N) < threads:
        return False
    for i in range(3):
        seen = 0
        for tap in range(axes[i].taps):
            seen += axis_of_tap(axes + i, tap, 0).rows
        rows *= seen
        taps *= axes[i].taps
    packing = CELL_ROWS * taps * p.depth * p.cols
    count = count * taps + rows * (p.depth + TAPS_SUMS) * p.cols + (0 if taps_kept else packing)
    whole = work_of_cells(p, NULL, 0, 0) - (packing if whole_kept else 0)
    return count < whole * WORTH_A_CUT / 100


cdef inline Py_ssize_t tap_panels(const Product *p) noexcept nogil:
    """The elements of one tap's packed panels."""
    return ceil_div(p.depth, depth_step(p.depth)) * ceil_div(p.cols, TILE_N) * panel_items(depth_step(p.depth))


cdef inline Py_ssize_t taps_items(const Product *p) noexcept nogil:
    """The size of a weight that is packed tap by tap: panels, and for each tap whether it is finite. No other layout has it."""
    return taps_of(p) * tap_panels(p) + round_up(taps_of(p), TILE_N) + 3


cdef inline Product only_bias(const Product *p) noexcept nogil:
    """The product without a tap."""
    cdef Product q = p[0]
    q.w.taps, q.in_place, q.packed = 0, False, NULL
    return q


cdef Product product_of_tap(const Product *p, Py_ssize_t tap, bint finite) noexcept nogil:
    """One tap, for the rows that see it; where its weight is not finite, for all."""
    cdef Product q = p[0]
    cdef Py_ssize_t w = tap % p.w.taps, h = tap // p.w.taps % p.h.taps, d = tap // p.w.taps // p.h.taps
    q.d = axis_of_tap(&p.d, d, 0 if finite else p.d.rows)
    q.h = axis_of_tap(&p.h, h, 0 if finite else p.h.rows)
    q.w = axis_of_tap(&p.w, w, 0 if finite else p.w.rows)
    q.b += d * p.b_d + h * p.b_h + w * p.b_w
    q.adds, q.finish, q.in_place = True, nothing_more(), product_in_place(&q)
    if SELDOM_USED and p.packed != NULL:
        q.packed += tap * tap_panels(p)
        q.follows = q.packed + tap_panels(p) if tap + 1 < taps_of(p) else NULL
    return q


cdef void pack_taps_apart(const Product *p, bint back, real *packed, real *b) noexcept nogil:
    """Pack the whole right operand tap by tap; or (`back`) write it, whose first element is at b, as it was found."""
    cdef Py_ssize_t tap
    for tap in range(taps_of(p)):
        if back:
            unpack_panels(p, tap * p.depth, p.depth, packed + tap * tap_panels(p), b)
        else:
            pack_panels(p, tap * p.depth, p.depth, packed + tap * tap_panels(p))
            packed[taps_of(p) * tap_panels(p) + tap] = finite_tap(p, tap, 0)


cdef void taps_block(const Product *p, Grid g, Py_ssize_t block, real *scratch) noexcept nogil:
    """Some columns of a product: the bias, tap after tap, and what is done at the end."""
    cdef Product part = only_bias(p), columns = p[0]
    cdef Py_ssize_t tap
    cdef bint finite
    columns.b += block * g.cols * p.b_col
    columns.cols = min(g.cols, p.cols - block * g.cols)
    part.finish = nothing_more()
    product_block(&part, g, block, scratch)
    for tap in range(taps_of(p)):
        finite = finite_tap(&columns, tap, 0) if p.packed == NULL else p.packed[taps_of(p) * tap_panels(p) + tap] > 0
        part = product_of_tap(p, tap, finite)
        product_block(&part, g, block, scratch)
    if p.finish.pending:
        part = only_bias(p)
        part.adds = True
        product_block(&part, g, block, scratch)


cdef int run_taps(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """The product of each group, tap by tap. -1: no memory."""
    cdef Py_ssize_t least = ceil_div(product_rows(p) * p.cols, TAPS_ITEMS), panels = ceil_div(p.cols, TILE_N), task, each
    cdef Py_ssize_t blocks = min(even_blocks(panels, least, threads) if groups == 1 else least, panels)
    cdef Grid g = Grid(round_up(product_rows(p), TILE_M), 1, ceil_div(panels, blocks) * TILE_N, 0)
    cdef real *scratch
    g.col_blocks = ceil_div(p.cols, g.cols)
    threads = min(threads, groups * g.col_blocks)
    each = product_scratch(p, g)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for task in prange(groups * g.col_blocks, schedule="dynamic", num_threads=threads):
        taps_of_group(p, task // g.col_blocks, b_group, g, task % g.col_blocks, scratch + threadid() * each)
    free_lines(scratch)
    return 0


cdef void taps_of_group(
    const Product *p, Py_ssize_t group, Py_ssize_t b_group, Grid g, Py_ssize_t block, real *scratch
) noexcept nogil:
    cdef Product q = of_group(p, group, b_group)
    taps_block(&q, g, block, scratch)
