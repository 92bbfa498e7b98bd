# Convolutions of few channels: the product over padded lines.
#
# A window is a few short runs, and to find where each of them lies, inside the image or across its edge, would take as long as
# half of the multiply-adds. Here a band of lines is copied between zeros first. Then every window is inside, run s of it lies
# offsets[s] behind its first element, and the next window of the line one step further.
#
#   padded line   0 0 0 a0 a1 a2 b0 b1 b2 c0 c1 c2 ...      3 channels, 3 taps, padding 1
#   window 0      |------- run 0 -------|
#   window 1               |------- run 0 -------|


cdef enum:
    PADDED = 1 << 13        # elements of padded lines, about, that are read again and again: in the first-level cache
    MOST_PADDED = 1 << 16   # and two lines of the output read at most so many
    LINES_CHANNELS = 16     # of more channels the windows are found soon enough
    LINES_RUNS = 1 << 9     # addresses of runs at a time: those of the windows of a strip,
    LINES_PLACES = 1 << 11  # or of the first pixels of lines
    LINES_ROWS = 64         # rows of a product that are worth it
    LINES_DEPTH = 384       # columns of a window: a little more than elsewhere, for 11 x 11 taps of 3 channels
    SPACED_LINE = 8         # windows of a line,
    SPACED_RUN = 5          # and elements of a run, of those that are read where they lie
    LINES_STRIP = 8         # times TILE_M windows are copied at a time for a gradient
    LINES_FEW = 8           # lines of the output for each thread: fewer are one band
    LINES_AHEAD = 1 << 14   # elements of dy, about, that are fetched while a band is computed: both in the second-level cache


cdef inline Py_ssize_t common(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    """The greatest common divisor."""
    while b:
        a, b = b, a % b
    return a


cdef inline Py_ssize_t line_step(const Product *p) noexcept nogil:
    """Elements of the input between windows that are neighbors."""
    return p.w.stride * p.a_ld


cdef inline Py_ssize_t seen(const Axis *axis, Py_ssize_t rows) noexcept nogil:
    """Pixels along an axis, padding included, that the windows of `rows` rows see."""
    return (rows - 1) * axis.stride + (axis.taps - 1) * axis.dilation + 1


cdef inline Py_ssize_t padded_line(const Product *p) noexcept nogil:
    """Elements from one padded line to the next: those of all planes that a window sees lie one after the other."""
    return p.d.taps * plane_line(p)


cdef inline Py_ssize_t plane_line(const Product *p) noexcept nogil:
    return round_up(seen(&p.w, p.w.rows) * p.a_ld + LANES, LINE_ITEMS)


cdef inline Py_ssize_t taps_line(const Product *p) noexcept nogil:
    """Lines of taps of a window."""
    return p.d.taps * p.h.taps


cdef inline Py_ssize_t line_offset(const Product *p, Py_ssize_t line) noexcept nogil:
    """Where in padded lines this line of taps of a window begins."""
    return line % p.h.taps * p.h.dilation * padded_line(p) + line // p.h.taps * plane_line(p)


cdef inline bint few_lines_fit(const Product *p) noexcept nogil:
    """Whether the lines that two lines of windows see can be padded; all their elements may be more than can be counted."""
    return seen(&p.h, 2) <= MOST_PADDED // plane_line(p) // p.d.taps


cdef void pad_lines(
    const Product *p, Py_ssize_t row, Py_ssize_t first, Py_ssize_t count, Py_ssize_t line, real *to
) noexcept nogil:
    """`count` lines from `first` on (negative: padding), `line` elements each for all planes that row number `row` of all images sees,
    between zeros."""
    cdef Py_ssize_t pixels = seen(&p.w, p.w.rows), before = min(max(-p.w.origin, <Py_ssize_t> 0), pixels)
    cdef Py_ssize_t skipped = min(max(p.w.origin, <Py_ssize_t> 0), p.w.size), i
    cdef Py_ssize_t left = before * p.a_ld, size = min(p.w.size - skipped, pixels - before) * p.a_ld
    cdef Py_ssize_t plane, tap, image = row // p.d.rows * p.d.size, top = row % p.d.rows * p.d.stride + p.d.origin
    line = line // p.d.taps
    for i in range(count):
        for tap in range(p.d.taps):
            plane = top + tap * p.d.dilation
            if 0 <= first + i < p.h.size and 0 <= plane < p.d.size:
                zero(to, left)
                copy(to + left, p.a + (((image + plane) * p.h.size + first + i) * p.w.size + skipped) * p.a_ld, size)
                zero(to + left + size, line - left - size)
            else:
                zero(to, line)
            to += line


cdef inline bint fits_lines(const Product *p) noexcept nogil:
    """Whether windows have several taps, of all channels."""
    return (
        p.depth == p.a_ld and p.a_ld <= LINES_CHANNELS and p.w.dilation == 1 and p.h.dilation > 0
        and p.depth < product_depth(p) <= (DEPTH if p.packed else LINES_DEPTH) and product_rows(p) >= LINES_ROWS
        and taps_line(p) <= LINES_RUNS // TILE_M and (not LOW_TILE or window_run(p) <= DEPTH) and few_lines_fit(p)
    )


cdef inline bint fills_columns(const Product *p) noexcept nogil:
    """Whether the tile's columns are full."""
    return p.cols % (TILE_STEP if p.cols > LANES else LANES) == 0


cdef inline bint over_lines(const Product *p) noexcept nogil:
    """Whether a product goes over padded lines; low tiles may write more columns than there are, which pays for short runs.

    Not where dot products pay: they would be taken for fewer rows, and the bits of an image must not depend on its batch.
    """
    return fits_lines(p) and (
        fills_columns(p)
        or LOW_TILE and p.a_ld <= LINES_CHANNELS // 2 and is_dense(p) and taps_together(p) == taps_line(p) and not dots_pay(p, 1)
    )


cdef inline Py_ssize_t lines_panel(const Product *p) noexcept nogil:
    """Elements from one packed panel to the next: all of the depth is one part."""
    return panel_items(round_up(product_depth(p), 8))


cdef inline Py_ssize_t band_lines(const Product *p, Py_ssize_t most) noexcept nogil:
    """How many lines of the output, `most` at most, are a band: as many as PADDED allows, that fill tiles if they can."""
    cdef Py_ssize_t lines = max(min(PADDED // (padded_line(p) * p.h.stride), most), <Py_ssize_t> 1)
    cdef Py_ssize_t full = TILE_M // common(TILE_M, p.w.rows)
    return lines // full * full if lines > full else lines


cdef inline Py_ssize_t band_items(const Product *p, Py_ssize_t lines) noexcept nogil:
    """Elements of the padded lines that any `lines` lines of the output see, of however many images."""
    return ((lines - 1) * p.h.stride + seen(&p.h, 1) * ((lines - 2) // p.h.rows + 2)) * padded_line(p)


cdef void pad_band(const Product *p, Py_ssize_t first, Py_ssize_t lines, real *padded, const real **starts) noexcept nogil:
    """Pad what `lines` lines of the output see, from the first on, those of all images in turn; starts[i]: what line i sees."""
    cdef Py_ssize_t line = padded_line(p), i = 0, j, h, some
    while i < lines:
        h = (first + i) % p.h.rows
        some = min(p.h.rows - h, lines - i)
        pad_lines(p, (first + i) // p.h.rows, h * p.h.stride + p.h.origin, seen(&p.h, some), line, padded)
        for j in range(some):
            starts[i + j] = padded + j * p.h.stride * line
        padded += seen(&p.h, some) * line
        i += some


cdef inline Py_ssize_t lines_copies(const Product *p) noexcept nogil:
    """Elements of the windows that are copied at a time, where tiles are low."""
    if not LOW_TILE:
        return 0
    return max(strip_rows(taps_together(p) * window_run(p)), <Py_ssize_t> (LINES_STRIP * TILE_M)) * DEPTH_LD


cdef inline Py_ssize_t taps_together(const Product *p) noexcept nogil:
    """How many lines of taps are copied at a time."""
    return min(taps_line(p), DEPTH // window_run(p))


cdef void copy_places(
    const Product *p, const real **starts, Py_ssize_t m, Py_ssize_t rows, Py_ssize_t tap, Py_ssize_t taps, real *packed
) noexcept nogil:
    """packed[i * DEPTH_LD + k] = element k from line `tap` of the taps on of window m + i, of those in lines that see starts[0], ..."""
    cdef Py_ssize_t h = m // p.w.rows, w = m % p.w.rows, run = window_run(p), step = line_step(p), i = 0, s, some
    while i < rows:
        some = min(p.w.rows - w, rows - i)
        for s in range(taps):
            copy_rows(
                packed + i * DEPTH_LD + s * run, DEPTH_LD, starts[h] + w * step + line_offset(p, tap + s), step, some, run
            )
        i += some
        w = 0
        h += 1


cdef inline void line_panel(
    const Product *p, bint spaced, Left *windows, Py_ssize_t number, Py_ssize_t rows, Py_ssize_t left, const real *b, Py_ssize_t depth,
    const real *start, bint ends, const Py_ssize_t *out,
) noexcept nogil:
    """Columns of panel `number` of some rows, of which `left` are left in a band."""
    cdef Py_ssize_t first = number * TILE_N, width = min(p.cols - first, <Py_ssize_t> TILE_N), vectors = round_up(width, TILE_STEP)
    cdef Py_ssize_t whole = rows if width == vectors else rows_in_vectors(rows, left, vectors - width, p.y_ld)
    cdef Ending ending = ending_of(&p.finish, first)
    cdef const Ending *last = &ending if ends else NULL
    if start:
        start += first
    if SELDOM_USED and spaced:
        spaced_runs_by_panel(whole, vectors, windows, 0, b, start, last, p.y + first, out)
        if whole < rows:
            spaced_runs_by_panel(rows - whole, width, windows, whole, b, start, last, p.y + first, out + whole)
    else:
        packed_by_panel(whole, vectors, windows, 0, b, depth, start, last, p.y + first, out)
        if whole < rows:
            packed_by_panel(rows - whole, width, windows, whole, b, depth, start, last, p.y + first, out + whole)


cdef inline bint spacing_of_lines_pays(const Product *p) noexcept nogil:
    """Whether a low tile reads windows where they lie in a padded line: lines of which few tiles are lower, and runs that are worth
    an address."""
    return SELDOM_USED and LOW_TILE and p.w.rows >= SPACED_LINE and window_run(p) >= SPACED_RUN


cdef void spaced_lines(
    const Product *p, Py_ssize_t first, Py_ssize_t lines, const real **starts, const real *panels, const real *start
) noexcept nogil:
    """Lines first .. first + lines - 1 of the output, which see `starts`, each from the windows of its line."""
    cdef const real *at[LINES_RUNS]
    cdef Py_ssize_t length[LINES_RUNS]
    cdef Py_ssize_t out[ROWS]
    cdef Py_ssize_t runs = taps_line(p), h, w, rows, s, i
    cdef Left windows = left_operand(NULL, &at[0], line_step(p), runs, &length[0])
    windows.far = asks_for_outputs(p)
    for s in range(runs):
        length[s] = window_run(p)
    for h in range(lines):
        w = 0
        while w < p.w.rows:
            rows = min(p.w.rows - w, <Py_ssize_t> ROWS)
            row_outputs(p, (first + h) * p.w.rows + w, rows, out)
            for s in range(runs):
                at[s] = starts[h] + w * line_step(p) + line_offset(p, s)
            for i in range(ceil_div(p.cols, TILE_N) - 1, -1, -1):
                line_panel(p, True, &windows, i, rows, (lines - h) * p.w.rows - w, panels + i * lines_panel(p), 0, start, True, out)
            if not only_clamps(&p.finish):
                finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)
            w += rows


cdef void copied_lines(
    const Product *p, Py_ssize_t first, Py_ssize_t lines, const real **starts, const real *panels, const real *start, real *copies
) noexcept nogil:
    """Lines first .. first + lines - 1 of the output, which see `starts`, from copied windows."""
    cdef Py_ssize_t out[ROWS]
    cdef Py_ssize_t run = window_run(p), together = taps_together(p), strip = strip_rows(together * run), panel = lines_panel(p)
    cdef Py_ssize_t m = 0, rows, tap, taps, i
    cdef Left windows = left_operand(copies, NULL, 0, 0, NULL)
    windows.far = asks_for_outputs(p)
    while m < lines * p.w.rows:
        rows = min(strip, lines * p.w.rows - m)
        row_outputs(p, first * p.w.rows + m, rows, out)
        tap = 0
        while tap < taps_line(p):
            taps = min(together, taps_line(p) - tap)
            copy_places(p, starts, m, rows, tap, taps, copies)
            for i in range(ceil_div(p.cols, TILE_N) - 1, -1, -1):
                line_panel(
                    p, False, &windows, i, rows, lines * p.w.rows - m, panels + i * panel + tap * run * panel_width(p.cols - i * TILE_N),
                    taps * run, start if tap == 0 else NULL, tap + taps == taps_line(p), out,
                )
            tap += taps
        if not only_clamps(&p.finish):
            finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)
        m += rows


cdef void lines_band(
    const Product *p, Py_ssize_t first, Py_ssize_t lines, const real *panels, const real *start, real *padded, real *copies
) noexcept nogil:
    """Lines first .. first + lines - 1 of the output; start: the bias."""
    cdef const real *starts[LINES_PLACES]
    cdef const real *at[LINES_RUNS]
    cdef Py_ssize_t length[LINES_RUNS]
    cdef Py_ssize_t out[LINES_RUNS]
    cdef Py_ssize_t runs = taps_line(p), strip = LINES_RUNS // runs // TILE_M * TILE_M, panel = lines_panel(p)
    cdef Py_ssize_t step = line_step(p), m = 0, rows, i, j, s, h = 0, w = 0, offset
    cdef Left windows = left_operand(NULL, &at[0], strip, runs, &length[0])
    cdef Ending ending
    windows.far = asks_for_outputs(p)
    pad_band(p, first, lines, padded, starts)
    if spacing_of_lines_pays(p):
        spaced_lines(p, first, lines, starts, panels, start)
        return
    if lines_copies(p):
        copied_lines(p, first, lines, starts, panels, start, copies)
        return
    for s in range(runs):
        length[s] = window_run(p)
    while m < lines * p.w.rows:
        rows = min(strip, lines * p.w.rows - m)
        for i in range(rows):
            at[i] = starts[h] + w * step
            w += 1
            if w == p.w.rows:
                w = 0
                h += 1
        for s in range(1, runs):
            offset = line_offset(p, s)
            for i in range(rows):
                at[s * strip + i] = at[i] + offset
        row_outputs(p, first * p.w.rows + m, rows, out)
        for i in range(ceil_div(p.cols, TILE_N)):
            j = i * TILE_N
            ending = ending_of(&p.finish, j)
            windows_by_panel(
                rows, min(p.cols - j, <Py_ssize_t> TILE_N), &windows, 0, panels + i * panel, panel_width(p.cols - j), start + j,
                &ending, p.y + j, out,
            )
        if not only_clamps(&p.finish):
            finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)
        m += rows


cdef inline void fill_start(const Product *p, real *start) noexcept nogil:
    """What sums begin with; columns that there are not are zeros."""
    cdef Py_ssize_t j
    for j in range(round_up(p.cols, TILE_STEP)):
        start[j] = p.bias[j] if p.bias and j < p.cols else 0


cdef inline Py_ssize_t some_lines_scratch(const Product *p, Py_ssize_t lines) noexcept nogil:
    return own_lines(p.cols) + own_lines(band_items(p, band_lines(p, min(lines, <Py_ssize_t> LINES_PLACES)))) + lines_copies(p)


cdef void some_lines(const Product *p, Py_ssize_t first, Py_ssize_t lines, real *scratch) noexcept nogil:
    """Lines first .. first + lines - 1 of the output, with packed panels."""
    cdef Py_ssize_t band = band_lines(p, min(lines, <Py_ssize_t> LINES_PLACES)), end = first + lines, i
    cdef real *padded = scratch + own_lines(p.cols)
    fill_start(p, scratch)
    while first < end:
        lines = min(band, end - first)
        lines_band(p, first, lines, p.packed, scratch, padded, padded + own_lines(band_items(p, band)))
        first += lines


cdef int run_lines(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Py_ssize_t total = p.batch * p.d.rows * p.h.rows, depth = product_depth(p), panel = lines_panel(p), i
    cdef Py_ssize_t offsets[LINES_DEPTH]
    cdef Py_ssize_t fair = ceil_div(total, threads if total < threads * LINES_FEW else 2 * threads) if threads > 1 else total
    cdef Py_ssize_t band = band_lines(p, min(fair, <Py_ssize_t> LINES_PLACES))
    cdef Py_ssize_t bands = ceil_div(total, band), of_band = own_lines(band_items(p, band)), each = of_band + lines_copies(p)
    cdef Py_ssize_t shared = own_lines(p.cols)
    cdef real *scratch
    cdef real *start
    threads = min(threads, bands)
    scratch = new_scratch(each, threads)
    start = new_scratch(shared + (0 if p.packed else own_lines(ceil_div(p.cols, TILE_N) * panel)), 1)
    if scratch != NULL and start != NULL:
        fill_start(p, start)
        if not p.packed:
            weight_offsets(p, 0, depth, offsets)
            if p.b_col == 1:
                pack_rows(p.b, offsets, depth, p.cols, start + shared, panel)
            else:
                pack_columns(p.b, p.b_col, offsets, depth, p.cols, start + shared, panel)
        if bands == 1:
            lines_band(p, 0, total, p.packed if p.packed else start + shared, start, scratch, scratch + of_band)
        else:
            for i in prange(bands, schedule="dynamic", num_threads=threads):
                lines_band(
                    p, i * band, min(band, total - i * band), p.packed if p.packed else start + shared, start,
                    scratch + threadid() * each, scratch + threadid() * each + of_band,
                )
    else:
        depth = -1
    free_lines(start)
    free_lines(scratch)
    return 0 if depth >= 0 else -1
