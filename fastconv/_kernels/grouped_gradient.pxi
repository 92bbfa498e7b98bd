# The gradient of the weight of a convolution in groups of few channels, the panels and addresses of grouped.pxi. One group is
# enough where vectors go along the channels.
#
# A window of many taps goes piece by piece, as if each were a convolution of its own: the addresses of a strip of pixels, and the
# sums of a panel, stay near, and a strip need not be short.


cdef enum:
    GRADIENT_PANELS = 8     # of a task
    GRADIENT_STRIP = 56     # rows at a time: their pixels stay in the second-level cache
    SUMS_DEPTH = 2 * DEPTH  # rows of a panel of a piece of a window, about
    WINDOW_TAPS = 64        # of a window at most that goes as a whole
    NEAR_SUMS = 1 << 16     # elements of the sums of a task, about, and of one panel at most 8 times as many
    ACROSS_ROWS = 64        # rows that are worth turning these sums in the end
    GRADIENT_NEAR = 6144    # elements of a group's pixels that are brought together, where they alias in the cache as they lie


cdef inline Py_ssize_t piece_taps(const Product *p) noexcept nogil:
    """Taps of a piece, about."""
    if p.d.taps * p.h.taps * p.w.taps <= WINDOW_TAPS:
        return WINDOW_TAPS
    return max(min(SUMS_DEPTH // p.depth, <Py_ssize_t> WINDOW_TAPS), <Py_ssize_t> 1)


cdef inline Py_ssize_t axis_pieces(const Axis *axis, Py_ssize_t taps) noexcept nogil:
    return ceil_div(axis.taps, max(taps, <Py_ssize_t> 1))


cdef inline Py_ssize_t tap_pieces(const Product *p, Py_ssize_t *h, Py_ssize_t *w) noexcept nogil:
    """How many pieces a window has; h[0] along the second axis and w[0] along the third. Outer axes are cut first."""
    cdef Py_ssize_t taps = piece_taps(p)
    w[0] = axis_pieces(&p.w, taps)
    h[0] = axis_pieces(&p.h, taps // p.w.taps)
    return axis_pieces(&p.d, taps // (p.h.taps * p.w.taps)) * h[0] * w[0]


cdef inline Py_ssize_t keep_piece(Axis *axis, Py_ssize_t piece, Py_ssize_t pieces) noexcept nogil:
    """Leave an axis the taps of one piece, and return the first."""
    cdef Py_ssize_t first = axis.taps * piece // pieces
    axis.taps = axis.taps * (piece + 1) // pieces - first
    axis.origin += first * axis.dilation
    return first


cdef Product piece_of_window(const Product *p, Py_ssize_t piece) noexcept nogil:
    cdef Product q = p[0]
    cdef Py_ssize_t of_h, of_w, pieces = tap_pieces(p, &of_h, &of_w)
    q.b += keep_piece(&q.d, piece // of_w // of_h, pieces // of_w // of_h) * q.b_d
    q.b += keep_piece(&q.h, piece // of_w % of_h, of_h) * q.b_h + keep_piece(&q.w, piece % of_w, of_w) * q.b_w
    return q


cdef inline Py_ssize_t across_sums_of(const Product *p) noexcept nogil:
    """Elements of the sums of a group across channels."""
    return product_depth(p) // p.depth * round_up(p.depth, LANES) * p.cols


cdef inline bint columns_fill(const Product *p) noexcept nogil:
    """Whether tiles are low, and a group fills them, so that copies of its windows pay."""
    return LOW_TILE and p.cols > LANES and product_depth(p) <= DEPTH


cdef inline bint lines_alias(const Product *p) noexcept nogil:
    """Whether a group's pixels share so few sets of the cache that it does not keep a strip of them."""
    return p.a_ld * sizeof(real) % 1024 == 0


cdef bint goes_across(const Product *p) noexcept nogil:
    """Whether a gradient goes along the channels of a group, not along its columns.

    They have to fill vectors better, by as much as they are read less often in turn: along the columns each tap and channel is
    a broadcast, which low tiles have no time for, unless they read copies; along the channels each column is one for all taps.
    """
    cdef Py_ssize_t tenths = 9
    if LOW_TILE:
        tenths = 7 if columns_fill(p) and lines_alias(p) else 11
    return SELDOM_USED and (
        p.depth >= LANES
        and 10 * round_up(p.depth, LANES) * p.cols < tenths * p.depth * round_up(p.cols, LANES)
        and p.cols < GROUPED_COLS and product_depth(p) <= GROUPED_TAPS
        and product_rows(p) >= ACROSS_ROWS and across_sums_of(p) <= 8 * NEAR_SUMS
    )


cdef inline bint gradient_copies(const Grouped *g) noexcept nogil:
    return not g.across and g.share == 1 and columns_fill(&g.p)


cdef Grouped grouped_for_gradient(const Product *p, Py_ssize_t groups) noexcept nogil:
    cdef Grouped g = grouped(p, groups, 0, LANES)
    cdef bint across = g.share > 1 and p.cols <= p.depth or goes_across(p)
    cdef Py_ssize_t i
    if across or gradient_copies(&g):
        g = grouped(p, groups, 0, GROUPED_COLS)
        g.across = across
    for i in range(LANES if g.across else 0):  # each lane's own of the elements of dy
        g.lanes[i] = i // p.depth * p.cols if i < g.share * p.depth else 0
    return g


cdef inline Py_ssize_t panel_sums(const Grouped *g) noexcept nogil:
    """Elements of the sums of a panel that are side by side; in the gradient they are a row of it apart, and alias in the cache."""
    if g.across:
        return across_sums_of(&g.p)
    return 0 if gradient_copies(g) else product_depth(&g.p) * LANES


cdef Grid grouped_gradient_grid(const Grouped *g) noexcept nogil:
    """Blocks of panels; the rows are cut by the caller."""
    cdef Grid grid
    cdef Py_ssize_t most = GRADIENT_PANELS
    if not gradient_copies(g):
        most = max(min(NEAR_SUMS // panel_sums(g), most), <Py_ssize_t> 1)
    grid.rows = product_depth(&g.p)
    grid.row_blocks = 1
    grid.col_blocks = ceil_div(g.panels, most)
    grid.cols = ceil_div(g.panels, grid.col_blocks)
    return grid


cdef inline Py_ssize_t gradient_strip(const Grouped *g) noexcept nogil:
    if gradient_copies(g):
        return COPIED_STRIP * TILE_M
    return GRADIENT_STRIP


cdef inline bint brings_together(const Grouped *g) noexcept nogil:
    """Whether the pixels of a group alias so that few of them stay in the first-level cache, and are read so often that a copy pays."""
    return not LOW_TILE and lines_alias(&g.p) and g.p.depth > LANES and g.p.d.taps * g.p.d.size * g.p.d.rows == 1


cdef inline Py_ssize_t near_items(const Grouped *g) noexcept nogil:
    """Elements of the pixels that are brought together, of dy beside them, and of their addresses."""
    cdef Py_ssize_t strip = gradient_strip(g)
    return GRADIENT_NEAR + strip * (LANES + grouped_taps(g) * sizeof(void *) // sizeof(real)) if brings_together(g) else 0


cdef inline Py_ssize_t line_under(const Product *p, Py_ssize_t m, Py_ssize_t tap) noexcept nogil:
    """The line of the input, of those of all images in turn, under a tap of the window of row m, or the nearest in its image."""
    cdef Py_ssize_t line = m // p.w.rows, h = line % p.h.rows * p.h.stride + p.h.origin + tap * p.h.dilation
    return line // p.h.rows * p.h.size + min(max(h, <Py_ssize_t> 0), p.h.size - 1)


cdef apart bring_rows(
    real *to, Py_ssize_t to_ld, const real *source, Py_ssize_t source_ld, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    """`copy_rows`, which reads nothing behind the last row."""
    copy_rows(to, to_ld, source, source_ld, rows - 1, items)
    copy(to + (rows - 1) * to_ld, source + (rows - 1) * source_ld, items)


cdef inline Py_ssize_t tail_rows(const Product *p) noexcept nogil:
    """How many rows at the end of dy a whole vector may not be read from."""
    return min(LANES // p.y_ld + 1, product_rows(p))


cdef inline Py_ssize_t grouped_gradient_scratch(const Grouped *g) noexcept nogil:
    cdef Py_ssize_t addresses = (2 * gradient_strip(g) + 1) * grouped_taps(g) + 2 * product_depth(&g.p)
    cdef Py_ssize_t pixels = (tail_pixels(&g.p) + 1) * g.p.a_ld + tail_rows(&g.p) * g.p.y_ld + 3 * LANES
    pixels += LANES + near_items(g) + grouped_gradient_grid(g).cols * panel_sums(g) + (gradient_strip(g) * DEPTH_LD if gradient_copies(g) else 0)
    return own_lines(addresses * sizeof(void *) // sizeof(real) + pixels)


cdef void grouped_gradient_block(
    const Grouped *g, Grid grid, Py_ssize_t block, Py_ssize_t m, Py_ssize_t row_end, const real *dy, real *db, real *scratch
) noexcept nogil:
    """db (strides of p.b) of a block of panels, summed over the products' rows m .. row_end - 1."""
    cdef Py_ssize_t panel = block * grid.cols, panels = min(grid.cols, g.panels - panel), row_first = m
    cdef Py_ssize_t taps = grouped_taps(g), strip = gradient_strip(g), tails = tail_pixels(&g.p) * g.p.a_ld
    cdef Py_ssize_t last = product_rows(&g.p) - tail_rows(&g.p), ends = tail_rows(&g.p) * g.p.y_ld
    cdef const real **at = <const real **> scratch
    cdef const real **ahead = at + taps * strip
    cdef Py_ssize_t *length = <Py_ssize_t *> (ahead + taps * strip)
    cdef Py_ssize_t *offsets = length + taps
    cdef Py_ssize_t *places = offsets + product_depth(&g.p)
    cdef real *zeros = <real *> (places + product_depth(&g.p))
    cdef real *tail = zeros + g.p.a_ld + LANES
    cdef real *end = tail + tails + LANES
    cdef real *sums = aligned_in(end + ends + LANES)
    cdef real *copies = sums + grid.cols * panel_sums(g)
    cdef real *near = copies
    cdef real *to
    cdef const Py_ssize_t *rows_of_to
    cdef real *near_dy = near + GRADIENT_NEAR
    cdef const real **near_at = <const real **> (near_dy + strip * LANES)
    cdef Left near_x = left_operand(NULL, near_at, strip, taps, length)
    cdef Product q = g.p
    cdef Py_ssize_t low = 0, pixels = 0
    cdef bint together = False, strips = row_end - m > strip, gathers = panel_sums(g) > 0, direct = not (strips or g.across)
    cdef Py_ssize_t rows, next_rows, i, group, column, cols, first, safe
    cdef Left x = left_operand(copies, at, strip, taps, length, &g.lanes[0])
    cdef Py_ssize_t channel = first_group(g, panel, &column, &cols) * g.p.depth
    cdef Py_ssize_t channels = min(
        (first_group(g, panel + panels - 1, &column, &cols) + g.share) * g.p.depth, g.groups * g.p.depth
    ) - channel
    cdef Py_ssize_t outputs = first_group(g, panel + panels - 1, &column, &cols) * g.p.cols + column + cols, j
    cdef Py_ssize_t of_block = first_group(g, panel, &column, &cols) * g.p.cols + column
    outputs -= of_block
    cdef bint exact = g.across and g.share == 1 or gradient_copies(g)  # reads no vector of dy where fewer are left
    cdef PanelGradient kernel = gradient_of_one
    if g.across and g.share > 1:
        kernel = gradient_across_several
    elif SELDOM_USED and g.across:
        kernel = gradient_across_one
    elif g.share > 1:
        kernel = gradient_of_several
    elif gradient_copies(g):
        kernel = gradient_of_copies
    q.a_ld = round_up(g.p.depth, LANES)
    for i in range(taps):
        length[i] = g.p.depth
    zero(zeros, g.p.a_ld + LANES)
    copy(tail, g.p.a + g.p.batch * g.p.d.size * g.p.h.size * g.p.w.size * g.p.a_ld - tails, tails)
    zero(tail + tails, LANES)
    copy(end, dy + last * g.p.y_ld, ends)
    zero(end + ends, LANES)
    weight_offsets(&g.p, 0, product_depth(&g.p), offsets)
    for i in range(product_depth(&g.p)):
        places[i] = i * LANES
    next_rows = min(strip, row_end - m)
    find_pixels(&g.p, m, next_rows, zeros, tail, ahead, strip)
    while True:
        rows = next_rows
        ahead, x.at = x.at, ahead
        next_rows = min(strip, row_end - m - rows)
        find_pixels(&g.p, m + rows, next_rows, zeros, tail, ahead, strip)
        if strips and rows and brings_together(g):
            low = line_under(&q, m, 0) * q.w.size
            pixels = (line_under(&q, m + rows - 1, q.h.taps - 1) + 1) * q.w.size - low
            together = pixels * q.a_ld <= GRADIENT_NEAR
            q.a = near - low * q.a_ld
        if together:
            find_pixels(&q, m, rows, zeros, q.a + (q.batch * q.h.size * q.w.size - tail_pixels(&q)) * q.a_ld, near_at, strip)
        for i in range(panels):
            group = first_group(g, panel + i, &column, &cols)
            first = group * g.p.cols + column
            x.offset = group * g.p.depth
            fetch_pixels(&g.p, next_rows, ahead, strip, channel, channels, i, panels)
            for j in range(i * next_rows // panels, (i + 1) * next_rows // panels):
                fetch_run(dy + (m + rows + j) * g.p.y_ld + of_block, outputs)
            to, rows_of_to = sums + i * panel_sums(g), places
            if not gathers or direct and cols == LANES:
                to, rows_of_to = db + first, offsets
            if together:
                if column == 0 or i == 0:
                    bring_rows(near, q.a_ld, g.p.a + low * g.p.a_ld + x.offset, g.p.a_ld, pixels, g.p.depth)
                if g.across:
                    kernel(rows, &near_x, dy + m * g.p.y_ld + first, g.p.y_ld, to, rows_of_to, g.p.cols, m == row_first)
                    continue
                bring_rows(near_dy, LANES, dy + m * g.p.y_ld + first, g.p.y_ld, rows, cols)
                kernel(rows, &near_x, near_dy, LANES, to, rows_of_to, g.p.cols, m == row_first)
                continue
            safe = rows if exact or cols == LANES else max(min(rows, last - m), <Py_ssize_t> 0)
            kernel(safe, &x, dy + m * g.p.y_ld + first, g.p.y_ld, to, rows_of_to, g.p.cols, m == row_first)
            if safe < rows:
                x.at += safe
                kernel(rows - safe, &x, end + (m + safe - last) * g.p.y_ld + first, g.p.y_ld, to, rows_of_to, g.p.cols, False)
                x.at -= safe
        m += rows
        if m >= row_end:
            break
    for i in range(panels if gathers else 0):
        first = first_group(g, panel + i, &column, &cols) * g.p.cols + column
        if g.across:
            turn_sums(g, cols // g.p.cols, sums + i * panel_sums(g), offsets, db + first)
        elif not direct or cols < LANES:
            for j in range(product_depth(&g.p)):
                copy(db + first + offsets[j], sums + i * panel_sums(g) + places[j], cols)


cdef Py_ssize_t grouped_gradient_blocks(const Product *p, Py_ssize_t groups, Py_ssize_t *scratch) noexcept nogil:
    """How many blocks there are of each piece of the window, and at most, and elements of scratch of any."""
    cdef Py_ssize_t blocks = 0, h, w, piece
    cdef Product q
    cdef Grouped g
    scratch[0] = 0
    for piece in range(tap_pieces(p, &h, &w)):
        q = piece_of_window(p, piece)
        g = grouped_for_gradient(&q, groups)
        blocks = max(blocks, grouped_gradient_grid(&g).col_blocks)
        scratch[0] = max(scratch[0], grouped_gradient_scratch(&g))
    return blocks


cdef void piece_gradient(
    const Product *p, Py_ssize_t groups, Py_ssize_t piece, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t chunks, const real *dy,
    real *db, real *scratch,
) noexcept nogil:
    """One block of a piece of the window, of one of so many chunks of the rows."""
    cdef Product q = piece_of_window(p, piece)
    cdef Grouped g = grouped_for_gradient(&q, groups)
    cdef Grid grid = grouped_gradient_grid(&g)
    cdef Py_ssize_t total = product_rows(p), rows = ceil_div(total, chunks)
    if block < grid.col_blocks:
        grouped_gradient_block(
            &g, grid, block, min(chunk * rows, total), min((chunk + 1) * rows, total), dy, db + (q.b - p.b), scratch
        )


cdef int run_grouped_gradient(
    Product p, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items, Py_ssize_t chunks, int threads
) noexcept nogil:
    """Write `chunks` partial gradients, `items` elements apart. -1: no memory."""
    cdef Py_ssize_t h, w, pieces = tap_pieces(&p, &h, &w), each, blocks = grouped_gradient_blocks(&p, groups, &each), chunk, task
    cdef real *scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    p.b = db
    for task in prange(chunks * pieces * blocks, schedule="dynamic", num_threads=threads):
        chunk = task // blocks // pieces
        piece_gradient(
            &p, groups, task // blocks % pieces, task % blocks, chunk, chunks, dy, db + chunk * items, scratch + threadid() * each
        )
    free_lines(scratch)
    return 0
