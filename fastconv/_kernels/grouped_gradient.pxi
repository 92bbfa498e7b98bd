# The gradient of the weight of a convolution in groups of few channels, the panels and addresses of grouped.pxi.
#
# A tile is a vector of columns for some taps and some channels of a group: its sums stay in registers over a strip of pixels, of
# each of which it reads one vector of dy and the pixels under the taps. Where columns are few and channels are not, it is some
# vectors of the channels under the taps for some columns. One group is enough for that.


cdef extern from *:
    """
    enum { GRADIENT_TAPS = 3, GRADIENT_CHANNELS = TILE_M * TILE_V >= 24 ? 8 : 4 }; /* 24 sums of 32 registers, or 12 of 16 */
    """
    const int GRADIENT_TAPS      # of a tile
    const int GRADIENT_CHANNELS  # of a tile


cdef enum:
    GRADIENT_PANELS = 8  # of a task
    GRADIENT_STRIP = 4   # times TILE_M rows at a time: their pixels stay in the second-level cache
    COPIED_STRIP = 16    # the same of copies, each of which is read by many tiles
    SUMS_DEPTH = 2 * DEPTH  # rows of a panel at most whose sums are side by side until they are whole
    ACROSS_SUMS = 1 << 16   # elements of the sums of a task across channels, about, and of one panel at most 8 times as many
    ACROSS_ROWS = 64        # rows that are worth turning these sums in the end
    GRADIENT_NEAR = 6144 # elements of a group's pixels that are brought together, where they alias in the cache as they lie


cdef inline void accumulate_pixels(
    const int taps, const int channels, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t tap, Py_ssize_t channel,
    const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh,
) noexcept nogil:
    """db[offsets[t, c] + j] = (0 or db[...]) + sum_i x[i, tap + t, channel + c] * dy[i * dy_ld + j], j < cols <= LANES.

    offsets (taps, channels of a group). Where groups share the vector, each lane has its own element of the pixel.
    """
    cdef vec acc[GRADIENT_TAPS * GRADIENT_CHANNELS]
    cdef vec pixel[GRADIENT_TAPS]
    cdef const real *at[GRADIENT_TAPS]
    cdef vec grad
    cdef mask lanes
    cdef real *to
    cdef Py_ssize_t i, t, c
    for t in range(taps):
        for c in range(channels):
            to = db + offsets[(tap + t) * x.length[0] + channel + c]
            acc[t * channels + c] = broadcast(0) if fresh else load(to, to + cols)
    if spread:
        lanes = (<const mask *> x.lanes)[0] + broadcast_lane(channel)
    for i in range(rows):
        grad = held(dy + i * dy_ld)
        for t in range(taps):
            at[t] = x.at[(tap + t) * x.at_ld + i] + x.offset
            if spread:
                pixel[t] = held(at[t])
            else:
                at[t] += channel
        for c in range(channels):
            for t in range(taps):
                if spread:
                    acc[t * channels + c] = acc[t * channels + c] + grad * permuted(pixel[t], lanes + broadcast_lane(c))
                else:
                    acc[t * channels + c] = acc[t * channels + c] + grad * at[t][c]
    for t in range(taps):
        for c in range(channels):
            store(db + offsets[(tap + t) * x.length[0] + channel + c], acc[t * channels + c], cols)


cdef inline Py_ssize_t accumulate_channels(
    const int taps, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t tap, Py_ssize_t channel,
    const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh,
) noexcept nogil:
    """Run the tile of the most channels that are left in the group, and return how many these are."""
    cdef Py_ssize_t left = x.length[0] - channel
    if left >= GRADIENT_CHANNELS:
        accumulate_pixels(taps, GRADIENT_CHANNELS, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
        return GRADIENT_CHANNELS
    if left >= GRADIENT_CHANNELS // 2:
        accumulate_pixels(taps, GRADIENT_CHANNELS // 2, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
        return GRADIENT_CHANNELS // 2
    if left >= 2 and GRADIENT_CHANNELS > 4:
        accumulate_pixels(taps, 2, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
        return 2
    accumulate_pixels(taps, 1, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
    return 1


ctypedef void (*PanelGradient)(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil


cdef whole gradient_of_one(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    gradient_panel(False, rows, x, dy, dy_ld, db, offsets, cols, fresh)


cdef whole gradient_of_several(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    gradient_panel(True, rows, x, dy, dy_ld, db, offsets, cols, fresh)


cdef void gradient_of_copies(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    """The same of a whole group: its pixels are copied, and tiles go across taps. So is dy, whose rows may share a set of the cache."""
    cdef real nothing[TILE_N]
    cdef real panel[COPIED_STRIP * TILE_M * TILE_N]
    cdef real *copies = <real *> x.a
    cdef Py_ssize_t j = 0, i, width
    zero(nothing, TILE_N)
    copy_windows(x, rows, copies)
    while j < cols:
        width = min(cols - j, <Py_ssize_t> TILE_N)
        if width % LANES:
            zero(panel, rows * TILE_N)
        for i in range(rows):
            copy_narrow(panel + i * TILE_N, dy + i * dy_ld + j, width)
        columns_by_panel(
            x.runs * x.length[0], width, copies, panel, TILE_N, rows, nothing if fresh else NULL, db + j, offsets,
        )
        j += TILE_N


cdef inline void gradient_panel(
    const bint spread, Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets,
    Py_ssize_t cols, bint fresh,
) noexcept nogil:
    """Add what `rows` pixels give to all taps and channels of one panel."""
    cdef Py_ssize_t tap = 0, channel
    while tap < x.runs:
        channel = 0
        while channel < x.length[0]:
            if x.runs - tap >= GRADIENT_TAPS:
                channel += accumulate_channels(GRADIENT_TAPS, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
            else:
                channel += accumulate_channels(1, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, cols, fresh)
        tap += GRADIENT_TAPS if x.runs - tap >= GRADIENT_TAPS else 1


cdef inline void accumulate_across(
    const int units, const int cols, Py_ssize_t rows, const Left *x, Py_ssize_t unit, const real *dy, Py_ssize_t dy_ld, real *sums,
    Py_ssize_t step, bint fresh,
) noexcept nogil:
    """sums[u * step + j * LANES] (vectors) += the sum over i of vector `unit` + u of pixel i, times dy[i * dy_ld + j].

    Vectors are counted over the channels of all taps; the last one of a tap overlaps the one before.
    """
    cdef vec acc[GRADIENT_TAPS * GRADIENT_CHANNELS]
    cdef vec pixel[GRADIENT_TAPS]
    cdef const real **at[GRADIENT_TAPS]
    cdef Py_ssize_t into[GRADIENT_TAPS]
    cdef Py_ssize_t vectors = ceil_div(x.length[0], LANES), i, j, u
    cdef vec factor
    for u in range(units):
        at[u] = x.at + (unit + u) // vectors * x.at_ld
        into[u] = x.offset + min((unit + u) % vectors * LANES, x.length[0] - LANES)
        for j in range(cols):
            acc[u * cols + j] = broadcast(0) if fresh else (<const vec *> (sums + u * step + j * LANES))[0]
    for i in range(rows):
        for u in range(units):
            pixel[u] = held(at[u][i] + into[u])
        for j in range(cols):
            factor = in_register(broadcast(dy[j]))
            for u in range(units):
                acc[u * cols + j] = acc[u * cols + j] + pixel[u] * factor
        dy += dy_ld
    for u in range(units):
        for j in range(cols):
            (<vec *> (sums + u * step + j * LANES))[0] = acc[u * cols + j]


cdef inline void across_columns(
    const int units, Py_ssize_t rows, const Left *x, Py_ssize_t unit, const real *dy, Py_ssize_t dy_ld, real *sums, Py_ssize_t cols,
    bint fresh,
) noexcept nogil:
    """All columns, by tiles of the most that are left."""
    cdef Py_ssize_t j = 0, step = cols * LANES
    sums += unit * step
    while j < cols:
        if cols - j >= GRADIENT_CHANNELS:
            accumulate_across(units, GRADIENT_CHANNELS, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += GRADIENT_CHANNELS
        elif cols - j >= GRADIENT_CHANNELS // 2:
            accumulate_across(units, GRADIENT_CHANNELS // 2, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += GRADIENT_CHANNELS // 2
        elif cols - j >= 2 and GRADIENT_CHANNELS > 4:
            accumulate_across(units, 2, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += 2
        else:
            accumulate_across(units, 1, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += 1


cdef whole gradient_across(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *sums, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    """The same along the channels, of a whole group."""
    cdef Py_ssize_t units = x.runs * ceil_div(x.length[0], LANES), unit = 0
    while unit < units:
        if units - unit >= GRADIENT_TAPS:
            across_columns(GRADIENT_TAPS, rows, x, unit, dy, dy_ld, sums, cols, fresh)
            unit += GRADIENT_TAPS
        else:
            across_columns(1, rows, x, unit, dy, dy_ld, sums, cols, fresh)
            unit += 1


cdef void turn_sums(const Grouped *g, const real *sums, const Py_ssize_t *offsets, real *db) noexcept nogil:
    """Write what `gradient_across` has summed where it belongs."""
    cdef Py_ssize_t vectors = ceil_div(g.p.depth, LANES), tap, v, i, j, k
    for tap in range(grouped_taps(g)):
        for v in range(vectors):
            k = min(v * LANES, g.p.depth - LANES)
            for i in range(LANES):
                for j in range(g.p.cols):
                    db[offsets[tap * g.p.depth + k + i] + j] = sums[j * LANES + i]
            sums += g.p.cols * LANES


cdef inline Py_ssize_t across_sums_of(const Product *p) noexcept nogil:
    """Elements of the sums of a group across channels."""
    return product_depth(p) // p.depth * round_up(p.depth, LANES) * p.cols


cdef bint goes_across(const Product *p) noexcept nogil:
    """Whether vectors along the channels of a group are so much fuller than along its columns that a gradient goes along them."""
    return SELDOM_USED and (
        p.depth >= LANES
        and 10 * round_up(p.depth, LANES) * p.cols < (7 if LOW_TILE else 9) * p.depth * round_up(p.cols, LANES)
        and p.cols < GROUPED_COLS and product_depth(p) <= GROUPED_TAPS
        and product_rows(p) >= ACROSS_ROWS and across_sums_of(p) <= 8 * ACROSS_SUMS
    )


cdef inline bint gradient_copies(const Grouped *g) noexcept nogil:
    """Whether windows are copied: where tiles are low, and a group fills them."""
    return LOW_TILE and not g.across and g.share == 1 and g.p.cols > LANES and product_depth(&g.p) <= DEPTH


cdef Grouped grouped_for_gradient(const Product *p, Py_ssize_t groups) noexcept nogil:
    cdef Grouped g = grouped(p, groups, 0, LANES)
    cdef bint across = goes_across(p)
    if across or gradient_copies(&g):
        g = grouped(p, groups, 0, GROUPED_COLS)
        g.across = across
    return g


cdef inline Py_ssize_t panel_sums(const Grouped *g) noexcept nogil:
    """Elements of the sums of a panel that are side by side; in the gradient they are a row of it apart, and alias in the cache."""
    if g.across:
        return across_sums_of(&g.p)
    return 0 if gradient_copies(g) or product_depth(&g.p) > SUMS_DEPTH else product_depth(&g.p) * LANES


cdef Grid grouped_gradient_grid(const Grouped *g) noexcept nogil:
    """Blocks of panels; the rows are cut by the caller."""
    cdef Grid grid
    cdef Py_ssize_t most = GRADIENT_PANELS
    if g.across:
        most = max(min(ACROSS_SUMS // panel_sums(g), most), <Py_ssize_t> 1)
    grid.rows = product_depth(&g.p)
    grid.row_blocks = 1
    grid.col_blocks = ceil_div(g.panels, most)
    grid.cols = ceil_div(g.panels, grid.col_blocks)
    return grid


cdef inline Py_ssize_t gradient_strip(const Grouped *g) noexcept nogil:
    if gradient_copies(g):
        return COPIED_STRIP * TILE_M
    return GRADIENT_STRIP * TILE_M if grouped_taps(g) <= 64 else TILE_M


cdef inline bint brings_together(const Grouped *g) noexcept nogil:
    """Whether the pixels of a group alias so that few of them stay in the first-level cache, and are read so often that a copy pays."""
    cdef bint aliasing = g.p.a_ld * sizeof(real) % 1024 == 0
    return not LOW_TILE and aliasing and g.p.depth > LANES and g.p.d.taps * g.p.d.size * g.p.d.rows == 1


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
    cdef real *near_dy = near + GRADIENT_NEAR
    cdef const real **near_at = <const real **> (near_dy + strip * LANES)
    cdef Left near_x = left_operand(NULL, near_at, strip, taps, length)
    cdef Product q = g.p
    cdef Py_ssize_t low = 0, pixels = 0, wide
    cdef bint together = False, strips = row_end - m > strip, gathers = (strips or g.across) and panel_sums(g)
    cdef Py_ssize_t rows, next_rows, i, group, column, cols, first, safe
    cdef Left x = left_operand(copies, at, strip, taps, length, &g.lanes[0])
    cdef Py_ssize_t channel = first_group(g, panel, &column, &cols) * g.p.depth
    cdef Py_ssize_t channels = min(
        (first_group(g, panel + panels - 1, &column, &cols) + g.share) * g.p.depth, g.groups * g.p.depth
    ) - channel
    cdef Py_ssize_t outputs = first_group(g, panel + panels - 1, &column, &cols) * g.p.cols + column + cols, j
    cdef Py_ssize_t of_block = first_group(g, panel, &column, &cols) * g.p.cols + column
    outputs -= of_block
    cdef PanelGradient kernel = gradient_of_one
    if SELDOM_USED and g.across:
        kernel = gradient_across
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
        places[i] = i * LANES if gathers else offsets[i]
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
            to, wide = db + first, cols
            if gathers:
                to, wide = sums + i * panel_sums(g), cols if g.across else <Py_ssize_t> LANES
            if together:
                if column == 0 or i == 0:
                    bring_rows(near, q.a_ld, g.p.a + low * g.p.a_ld + x.offset, g.p.a_ld, pixels, g.p.depth)
                if g.across:
                    kernel(rows, &near_x, dy + m * g.p.y_ld + first, g.p.y_ld, to, places, wide, m == row_first)
                    continue
                bring_rows(near_dy, LANES, dy + m * g.p.y_ld + first, g.p.y_ld, rows, cols)
                kernel(rows, &near_x, near_dy, LANES, to, places, wide, m == row_first)
                continue
            safe = rows if g.across or cols == LANES else max(min(rows, last - m), <Py_ssize_t> 0)
            kernel(safe, &x, dy + m * g.p.y_ld + first, g.p.y_ld, to, places, wide, m == row_first)
            if safe < rows:
                x.at += safe
                kernel(rows - safe, &x, end + (m + safe - last) * g.p.y_ld + first, g.p.y_ld, to, places, wide, False)
                x.at -= safe
        m += rows
        if m >= row_end:
            break
    for i in range(panels if gathers else 0):
        first = first_group(g, panel + i, &column, &cols) * g.p.cols
        if g.across:
            turn_sums(g, sums + i * panel_sums(g), offsets, db + first)
            continue
        for j in range(product_depth(&g.p)):
            copy(db + first + column + offsets[j], sums + i * panel_sums(g) + places[j], cols)


cdef int run_grouped_gradient(
    const Product *p, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items, Py_ssize_t chunks, int threads
) noexcept nogil:
    """Write `chunks` partial gradients, `items` elements apart. -1: no memory."""
    cdef Grouped g = grouped_for_gradient(p, groups)
    cdef Grid grid = grouped_gradient_grid(&g)
    cdef Py_ssize_t total = product_rows(p), chunk_rows = ceil_div(total, chunks), each = grouped_gradient_scratch(&g), chunk, task
    cdef real *scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for task in prange(chunks * grid.col_blocks, schedule="dynamic", num_threads=threads):
        chunk = task // grid.col_blocks
        grouped_gradient_block(
            &g, grid, task % grid.col_blocks, min(chunk * chunk_rows, total), min((chunk + 1) * chunk_rows, total),
            dy, db + chunk * items, scratch + threadid() * each,
        )
    free_lines(scratch)
    return 0
