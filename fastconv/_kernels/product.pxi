# The implicit matrix product, a block at a time (Goto and van de Geijn 2008: both operands packed for the caches; Chetlur et
# al. 2014: the left one made from the image while it is packed).
#
#   y[m, j] = bias[j] + sum_k windows[m, k] * b[k, j]      convolution, its adjoint, linear layers
#
# A block is a range of outputs that one thread computes alone, summing in the order of k: results do not depend on how many
# threads there are, nor on the blocks.


cdef enum:
    ROWS = 224 // TILE_M * TILE_M   # rows packed at a time for a gradient: ROWS x DEPTH_LD stays in the second-level cache
    STRIP = 14 // TILE_M * TILE_M   # rows packed at a time for a product: STRIP x DEPTH stays in the first
    BLOCK = 4                       # so many times ROWS are a block: packed panels serve them all
    FEW = TILE_M // (1 + LOW_TILE)  # rows of a block for which panels are not packed: they would be read once or twice
    MUCH_WEIGHT = 1 << 15           # elements of a weight for which that goes for twice as many
    FEW_DEPTH = 32                  # rows of a weight read side by side where it lies, in steps: so many streams run in step
    COLUMNS = 512                   # columns of a block: COLUMNS x DEPTH too
    TOGETHER = (640 << 10) // sizeof(real)  # of the panels of all parts of the depth that the second-level cache keeps together


cdef struct Grid:
    # A product or gradient cut into independent blocks.
    Py_ssize_t rows, row_blocks, cols, col_blocks


cdef inline bint few_rows(Py_ssize_t rows, int threads) noexcept nogil:
    """Whether pixels are too few to be shared: then threads take some of the channels each."""
    return rows < threads * ROWS // 3


cdef inline Py_ssize_t even_blocks(Py_ssize_t panels, Py_ssize_t least, int threads) noexcept nogil:
    """Blocks of whole panels that are as much for each thread as can be: two for each, or one where that is more even."""
    cdef Py_ssize_t some = round_up(least, threads), more = round_up(max(least, <Py_ssize_t> 2 * threads), threads)
    return more if ceil_div(panels, more) * (more // threads) <= ceil_div(panels, some) * (some // threads) else some


cdef Grid product_grid(const Product *p, Py_ssize_t groups, int threads) noexcept nogil:
    """Row blocks that fill the threads evenly; where there are too few rows, column blocks do, or both."""
    cdef Grid g
    cdef Py_ssize_t total = product_rows(p), panels = ceil_div(p.cols, TILE_N)
    g.row_blocks = ceil_div(total, ROWS * BLOCK)
    if not few_rows(total, threads):
        g.row_blocks = round_up(g.row_blocks, threads)
    elif groups * panels < threads:
        g.row_blocks = max(g.row_blocks, min(ceil_div(threads, groups * panels), total // TILE_M))
    g.rows = round_up(ceil_div(total, g.row_blocks), TILE_M)
    g.row_blocks = ceil_div(total, g.rows)
    g.col_blocks = ceil_div(p.cols, COLUMNS)
    if groups * g.row_blocks == 1 and threads > 1:
        g.col_blocks = even_blocks(panels, g.col_blocks, threads)
    elif groups * g.row_blocks * g.col_blocks < threads:
        g.col_blocks = ceil_div(2 * threads, groups * g.row_blocks)
    g.cols = round_up(ceil_div(p.cols, g.col_blocks), TILE_N)
    g.col_blocks = ceil_div(p.cols, g.cols)
    return g


cdef inline Py_ssize_t depth_step(Py_ssize_t depth) noexcept nogil:
    """The least even cut of `depth` into parts of at most DEPTH."""
    return min(round_up(ceil_div(max(depth, 1), ceil_div(max(depth, 1), DEPTH)), 8), <Py_ssize_t> DEPTH)


cdef inline Py_ssize_t product_scratch(const Product *p, Grid g) noexcept nogil:
    """Enough for `p` and for every product of less depth, whose even cut may have larger parts."""
    cdef Py_ssize_t panels = g.cols // TILE_N * panel_items(min(round_up(max(product_depth(p), 1), 8), <Py_ssize_t> DEPTH))
    if product_depth(p) > DEPTH and reads_far(p):
        panels = max(panels, <Py_ssize_t> TOGETHER)
    return own_lines(DEPTH_LD + min(g.rows, <Py_ssize_t> ROWS) * DEPTH_LD + g.cols + (0 if p.packed else panels))


cdef inline bint parts_together(const Product *p, Py_ssize_t parts, Py_ssize_t panels_items) noexcept nogil:
    """Whether a strip meets the panels of all parts of the depth before the next strip: then pixels from afar are read as they lie."""
    return parts > 1 and is_plain(p) and p.depth == p.a_ld and reads_far(p) and parts * panels_items <= TOGETHER


cdef inline Py_ssize_t packed_panels(const Product *p, Py_ssize_t part) noexcept nogil:
    """Where in weights that were packed before the panels of part number `part` of the depth begin; the last one's end is the size."""
    return part * ceil_div(p.cols, TILE_N) * panel_items(depth_step(product_depth(p)))


cdef void pack_panels(const Product *p, Py_ssize_t first, Py_ssize_t total, real *packed) noexcept nogil:
    """Pack `total` rows of the right operand as blocks do for themselves: the panels of one part of the depth after the other's."""
    cdef Py_ssize_t step = depth_step(total), part, depth
    cdef Py_ssize_t offsets[DEPTH]
    for part in range(ceil_div(total, step)):
        depth = min(step, total - part * step)
        weight_offsets(p, first + part * step, depth, offsets)
        pack_rows(p.b, offsets, depth, p.cols, packed + part * ceil_div(p.cols, TILE_N) * panel_items(step), panel_items(step))


cdef void unpack_panels(const Product *p, Py_ssize_t first, Py_ssize_t total, const real *packed, real *b) noexcept nogil:
    """Write these rows of the right operand, whose first element is at b, as `pack_panels` found them."""
    cdef Py_ssize_t step = depth_step(total), k, j, width, offset
    cdef const real *panels
    for k in range(total):
        weight_offsets(p, first + k, 1, &offset)
        panels = packed + k // step * ceil_div(p.cols, TILE_N) * panel_items(step)
        j = 0
        while j < p.cols:
            width = panel_width(p.cols - j)
            copy(b + offset + j, panels + j // TILE_N * panel_items(step) + k % step * width, min(p.cols - j, width))
            j += TILE_N


cdef inline void ask_for_panels(Left *left, const real *panels, Py_ssize_t items, Py_ssize_t steps) noexcept nogil:
    """Have panels that come from memory fetched in so many steps of the products before them."""
    left.ahead, left.ahead_end, left.then_end = panels, panels + items, NULL
    left.pace = ceil_div(items, max(steps, <Py_ssize_t> 1))


cdef inline const real *rows_to_pack(const Product *p, Grid g, Py_ssize_t col_first, Py_ssize_t k, Py_ssize_t depth) noexcept nogil:
    """Where the rows are that are packed after rows k .. k + depth - 1, of a right operand from afar; else NULL."""
    if p.packed or p.b_col != 1 or product_depth(p) > p.depth or p.depth * p.cols * <Py_ssize_t> sizeof(real) <= NEAREST:
        return NULL
    if k + depth < p.depth:
        return p.b + (k + depth) * p.b_k + col_first
    return p.b + col_first + g.cols if g.row_blocks == 1 and col_first + g.cols < p.cols else NULL


cdef void weight_offsets(const Product *p, Py_ssize_t k_first, Py_ssize_t count, Py_ssize_t *offsets) noexcept nogil:
    """offsets[i] = where element (k_first + i, column 0) of the right operand is."""
    cdef Py_ssize_t c = k_first % p.depth, t = k_first // p.depth, i
    cdef Py_ssize_t tw = t % p.w.taps, th = t // p.w.taps % p.h.taps, td = t // p.w.taps // p.h.taps
    cdef Py_ssize_t of_tap = td * p.b_d + th * p.b_h + tw * p.b_w, step = p.b_k
    for i in range(count):
        offsets[i] = of_tap + c * step
        c += 1
        if c == p.depth:
            c = 0
            tw += 1
            if tw == p.w.taps:
                tw = 0
                th += 1
                if th == p.h.taps:
                    th = 0
                    td += 1
            of_tap = td * p.b_d + th * p.b_h + tw * p.b_w


cdef inline Py_ssize_t panel_items(Py_ssize_t depth) noexcept nogil:
    """Elements from one packed panel to the next: a row more than it has, for panels whose rows share no set of the cache."""
    return (depth + 1) * TILE_N


cdef void pack_rows(
    const real *b, const Py_ssize_t *offsets, Py_ssize_t depth, Py_ssize_t cols, real *packed, Py_ssize_t panel,
) noexcept nogil:
    """packed[j // TILE_N * panel + k * width + j % TILE_N] = b[offsets[k] + j]; anything up to the last panel's width.

    Row after row, as they lie in memory: a panel after the other would read two lines of each page and wait for every one.
    """
    cdef Py_ssize_t k, j, width, end = offsets[depth - 1] + cols if depth else 0
    cdef real *to
    for k in range(depth):
        j = 0
        while j < cols:
            width = panel_width(cols - j)
            to = packed + j // TILE_N * panel + k * width
            if offsets[k] + j + width <= end:
                copy(to, b + offsets[k] + j, width)
            else:
                copy(to, b + offsets[k] + j, min(cols - j, width))
                zero(to + cols - j, width - (cols - j))
            j += TILE_N


cdef void pack_columns(
    const real *b, Py_ssize_t b_col, const Py_ssize_t *offsets, Py_ssize_t depth, Py_ssize_t cols, real *packed,
    Py_ssize_t panel,
) noexcept nogil:
    """The same with columns b_col apart: a transposition, in squares where rows are neighbors in memory.

    A square with fewer rows is read with what comes after them, as long as that is before the last column's end.
    """
    cdef Py_ssize_t k, i, j, width, some, j_first = 0, j_end, after
    cdef real square[LANES * LANES]
    cdef const real *column
    cdef real *to
    while j_first < cols:
        width = panel_width(cols - j_first // TILE_N * TILE_N)
        j_end = min(j_first + LANES, cols)
        to = packed + j_first // TILE_N * panel + j_first % TILE_N
        column = b + j_first * b_col
        after = (cols - j_end) * b_col if j_end - j_first == LANES else -LANES
        k = 0
        while k < depth:
            some = min(depth - k, <Py_ssize_t> LANES)
            while offsets[k + some - 1] - offsets[k] != some - 1:
                some -= 1
            if some == LANES and after >= 0:
                transpose_square(column + offsets[k], b_col, to + k * width, width)
            elif some >= PART_LANES and after >= LANES - some:
                transpose_square(column + offsets[k], b_col, square, LANES)
                for j in range(some):
                    (<vec *> (to + (k + j) * width))[0] = (<vec *> (square + j * LANES))[0]
            else:
                for i in range(k, k + some):
                    for j in range(LANES):
                        to[i * width + j] = column[j * b_col + offsets[i]] if j_first + j < j_end else 0
            k += some
        j_first = j_end


cdef bint are_finite(const real *x, Py_ssize_t ld, Py_ssize_t rows, Py_ssize_t items) noexcept nogil:
    """Whether `rows` rows, ld apart, of `items` elements (whole vectors) are finite: padding times anything else is not zero."""
    cdef vec total = broadcast(0)
    cdef Py_ssize_t i, j
    for i in range(rows):
        for j in range(items // LANES):
            total = total + (<const vec *> (x + i * ld + j * LANES))[0] * <real> 0
    return sum_of(total) == 0


cdef bint panels_finite(const real *panels, Py_ssize_t panel, Py_ssize_t depth, Py_ssize_t cols) noexcept nogil:
    cdef Py_ssize_t j
    for j in range(ceil_div(cols, TILE_N)):
        if not are_finite(panels + j * panel, panel_width(cols - j * TILE_N), depth, panel_width(cols - j * TILE_N)):
            return False
    return True


cdef inline Py_ssize_t strip_rows(Py_ssize_t depth) noexcept nogil:
    """How many rows a product takes at a time: a strip and its panel stay in the first-level cache."""
    return min(DEPTH // max(depth, 1), ROWS // STRIP) * STRIP


cdef inline Py_ssize_t rows_of_strip(Py_ssize_t strip, Py_ssize_t left) noexcept nogil:
    """How many of the rows that are left the next strip has: not all that it may, if one or two would be left to a low tile."""
    return left - TILE_M if LOW_TILE and strip < left < strip + TILE_M // 2 else min(strip, left)


cdef inline void strip_by_panel(
    const Product *p, bint spaced, Py_ssize_t rows, Py_ssize_t cols, Left *windows, Py_ssize_t first,
    const real *b, Py_ssize_t b_k, Py_ssize_t depth, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    if p.in_place:
        windows_by_panel(rows, cols, windows, first, b, b_k, start, ending, y, out)
    elif SELDOM_USED and LOW_TILE and spaced:
        spaced_by_panel(rows, cols, windows, first, b, depth, start, ending, y, out)
    else:
        packed_by_panel(rows, cols, windows, first, b, depth, start, ending, y, out)


cdef void product_block(const Product *p, Grid g, Py_ssize_t block, real *scratch) noexcept nogil:
    """Compute block number `block` of the grid."""
    cdef Py_ssize_t row_first = block % g.row_blocks * g.rows, col_first = block // g.row_blocks * g.cols
    cdef Py_ssize_t row_end = min(row_first + g.rows, product_rows(p)), cols = min(g.cols, p.cols - col_first)
    cdef bint few = are_few(p, row_end - row_first) and p.in_place and p.b_col == 1 and product_depth(p) > 0 and not p.packed
    cdef Py_ssize_t total = product_depth(p), step = min(depth_step(total), <Py_ssize_t> FEW_DEPTH) if few else depth_step(total)
    cdef Py_ssize_t panel = panel_items(step), panels_items = ceil_div(cols, TILE_N) * panel
    cdef real *zeros = scratch
    cdef real *packed = zeros + DEPTH_LD
    cdef real *start = packed + min(g.rows, <Py_ssize_t> ROWS) * DEPTH_LD
    cdef real *own_panels = start + g.cols
    cdef real *own
    cdef const real *panels
    cdef const real *unpacked  # rows that are packed next
    cdef const real *following = NULL  # packed panels that come next: the same columns further down, or the next ones
    cdef const real *at[DEPTH * STRIP]  # strip_rows(depth) * depth and less
    cdef Py_ssize_t length[DEPTH]
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t out[ROWS]
    cdef Left windows = left_operand(packed, &at[0], 0, 0, &length[0])
    cdef Py_ssize_t k, depth, m, rows, i, j, width, vectors, whole, b_k, in_place = 0, next_rows, share, part, first = 0, end
    cdef const real *b
    cdef Ending ending
    cdef const Ending *last  # that of the last part of the depth
    cdef int finite = -1  # the panels; -1: not looked at
    cdef Py_ssize_t parts = max(ceil_div(total, step), <Py_ssize_t> 1)
    cdef Py_ssize_t strip  # rows at a time
    cdef bint spaced = spacing_pays(p) and not p.in_place
    cdef bint skipped, together = not few and parts_together(p, parts, panels_items)
    cdef bint dense = step >= total and g.col_blocks == 1 and is_dense(p)
    windows.far = asks_for_outputs(p)
    zero(zeros, DEPTH_LD)
    for j in range(g.cols):
        start[j] = p.bias[col_first + j] if p.bias and j < cols else 0
    while first < parts:
        end = parts if together else first + 1
        strip = strip_rows(step if together else min(step, total - first * step))
        windows.at_ld = p.a_ld if spaced else strip
        m = row_first
        while m < row_end:
            rows = rows_of_strip(strip, row_end - m)
            row_outputs(p, m, rows, out)
            for part in range(first, end):
                k = part * step
                depth = min(step, total - k)
                panels = own = own_panels + (part - first) * panels_items
                if m == row_first:
                    finite = -1
                    if depth:  # a window may have no tap at all: what is left is the bias
                        weight_offsets(p, k, depth, offsets)
                if p.packed:
                    panels = p.packed + packed_panels(p, part) + col_first // TILE_N * panel
                    following = NULL
                    if part + 1 < parts and not together:
                        following = panels + packed_panels(p, 1)
                    elif part + 1 == parts and p.follows:
                        following = p.follows + col_first // TILE_N * panel
                    elif part + 1 == parts and col_first + g.cols < p.cols:
                        following = p.packed + (col_first + g.cols) // TILE_N * panel
                elif m == row_first and p.b_col == 1:
                    in_place = cols // TILE_STEP * TILE_STEP if few and offsets[depth - 1] - offsets[0] == (depth - 1) * p.b_k else 0
                    in_place = in_place // TILE_N * TILE_N if cols - in_place else in_place
                    j = in_place // TILE_N * panel
                    pack_rows(p.b + col_first + in_place, offsets, depth, cols - in_place, own + j, panel)
                elif m == row_first:
                    pack_columns(p.b + col_first * p.b_col, p.b_col, offsets, depth, cols, own, panel)
                skipped = depth > 0 and in_place == 0 and not windows_reach(p, m, rows, k, k + depth)
                if skipped and finite < 0:
                    finite = panels_finite(panels, panel, depth, cols)
                skipped &= finite
                if skipped and k:
                    if p.finish.pending and k + depth >= total:
                        finish_rows(&p.finish, p.y, out, rows, p.y_ld, col_first, cols)
                    continue
                windows.runs = runs_between(p, k, k + depth) if depth and not skipped else 0
                if spaced:
                    windows.a = p.a + m * p.a_ld + k
                elif depth and not skipped:
                    find_windows(p, m, rows, k, k + depth, zeros, packed, at, windows.at_ld, length)
                unpacked = NULL
                if row_end - m <= 2 * strip and not together and not few:  # the last strips: one line of each row, then the other
                    unpacked = rows_to_pack(p, g, col_first, k, depth)
                    if row_end - m > strip and unpacked != NULL:
                        unpacked += LINE_ITEMS % TILE_N
                next_rows = min(strip, row_end - m - rows) if depth and reads_far(p) else 0
                windows.pace = 0
                if next_rows and is_plain(p) and (together or depth == p.a_ld):
                    windows.ahead = p.a + (m + rows) * p.a_ld + next_rows * k
                    windows.ahead_end = windows.ahead + next_rows * depth
                    windows.then_end = NULL
                    windows.pace = ceil_div(next_rows * depth, ceil_div(rows, TILE_M) * ceil_div(cols, TILE_N) * depth)
                    next_rows = 0
                if following != NULL and windows.pace == 0:
                    share = (m - row_first) * panels_items // (row_end - row_first)
                    ask_for_panels(
                        &windows, following + share, (m + rows - row_first) * panels_items // (row_end - row_first) - share,
                        ceil_div(rows, TILE_M) * ceil_div(cols, TILE_N) * depth,
                    )
                if windows.pace or next_rows:
                    unpacked = NULL
                for i in range(ceil_div(cols, TILE_N) - 1, -1, -1):
                    j = i * TILE_N
                    if next_rows:
                        share = next_rows * i // ceil_div(cols, TILE_N)
                        fetch_windows(p, m + rows + share, next_rows * (i + 1) // ceil_div(cols, TILE_N) - share, k, k + depth)
                    if unpacked != NULL:
                        windows.ahead, windows.pace = unpacked + j, p.b_k
                        windows.ahead_end, windows.then_end = windows.ahead + depth * p.b_k, NULL
                    width = min(cols - j, <Py_ssize_t> TILE_N)
                    vectors = round_up(width, TILE_STEP)
                    b, b_k = panels + i * panel, panel_width(width)
                    if j < in_place:
                        b, b_k = p.b + col_first + j + offsets[0], p.b_k
                    ending = ending_of(&p.finish, col_first + j)
                    last = &ending if k + depth >= total else NULL
                    whole = rows if width == vectors else 0
                    if width < vectors and dense:
                        whole = rows_in_vectors(rows, row_end - m, vectors - width, p.y_ld)
                    if whole > 0:
                        strip_by_panel(p, spaced, whole, vectors, &windows, 0, b, b_k, 0 if skipped else depth,
                                       start + j if k == 0 and not p.adds else NULL, last, p.y + col_first + j, out)
                    if whole < rows:
                        strip_by_panel(p, spaced, rows - whole, width, &windows, whole, b, b_k, 0 if skipped else depth,
                                       start + j if k == 0 and not p.adds else NULL, last, p.y + col_first + j, out + whole)
                    if k + depth >= total and not only_clamps(&p.finish):
                        finish_rows(&p.finish, p.y, out, rows, p.y_ld, col_first + j, width)
            m += rows
        first = end
