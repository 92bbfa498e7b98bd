# Convolutions of few channels: the gradient of the product's right operand over padded lines (lines.pxi). A row of the tile is one
# position of the window over all pixels of a line.


cdef inline bint gradient_over_lines(const Product *p) noexcept nogil:
    """Whether the gradient of the right operand does; low tiles may sum up more columns than there are."""
    return fits_lines(p) and (fills_columns(p) or LOW_TILE and p.cols == p.y_ld)


cdef inline Py_ssize_t summed_columns(const Product *p) noexcept nogil:
    """Columns of the sums: the last vector of a pixel of dy may have some of the next one, which nobody needs."""
    return p.cols if fills_columns(p) else round_up(p.cols, TILE_STEP)


cdef inline Py_ssize_t own_sums(const Product *p) noexcept nogil:
    """Elements of sums that are not written to the gradient itself, and of the last pixels of dy, behind which nothing may be read."""
    return 0 if fills_columns(p) else own_lines(product_depth(p) * summed_columns(p)) + own_lines(LINES_STRIP * TILE_M * p.cols + TILE_N)


cdef inline Py_ssize_t tile_rows(Py_ssize_t depth) noexcept nogil:
    """`depth`, or more where a tile a vector wide is sooner done with rows that nobody needs: its sums would wait for themselves."""
    cdef Py_ssize_t rest = depth % TILE_M
    if rest > TILE_M * 3 // 4:
        return round_up(depth, TILE_M)
    return depth - rest + TILE_M // 2 if TILE_M // 4 < rest < TILE_M // 2 else depth


cdef void add_copied_lines(
    const Product *p, const real **starts, const real *dy, Py_ssize_t pixels, real *db, const Py_ssize_t *out, real *copies,
    real *last,
) noexcept nogil:
    """db += the sum over so many pixels of dy, of lines that see starts[0], starts[1], ...: a strip of their windows is copied at a time.

    last: NULL, or where the last strip of dy is copied, behind which nothing may be read.
    """
    cdef Py_ssize_t run = window_run(p), together = taps_together(p), m = 0, rows, tap, taps, i
    cdef const real *strip
    while m < pixels:
        rows = min(pixels - m, <Py_ssize_t> (LINES_STRIP * TILE_M))
        strip = dy + m * p.y_ld
        if last and m + rows == pixels:
            copy(last, strip, rows * p.y_ld)
            strip = last
        tap = 0
        while tap < taps_line(p):
            taps = min(together, taps_line(p) - tap)
            copy_places(p, starts, m, rows, tap, taps, copies)
            for i in range(ceil_div(p.cols, TILE_N)):
                columns_by_panel(
                    taps * run, panel_width(p.cols - i * TILE_N), copies, DEPTH_LD, strip + i * TILE_N, p.y_ld, rows,
                    NULL, db + i * TILE_N, out + tap * run,
                )
            tap += taps
        m += rows


cdef void lines_gradient_part(
    const Product *p, const real *dy, Py_ssize_t line, Py_ssize_t end, Py_ssize_t band, real *db, real *padded, real *copies
) noexcept nogil:
    """db = the sum over lines line .. end - 1 of dy, those of all images in turn: each row of it has a place in every window."""
    cdef const real *starts[LINES_PLACES]
    cdef const real *at[LINES_PLACES]
    cdef Py_ssize_t length[LINES_PLACES]
    cdef Py_ssize_t out[LINES_DEPTH + TILE_M]
    cdef Py_ssize_t offsets[LINES_DEPTH + TILE_M]
    cdef real unneeded[TILE_N]
    cdef Py_ssize_t depth = product_depth(p), run = window_run(p), lines, i, j, k
    cdef Py_ssize_t rows = tile_rows(depth), panels = ceil_div(p.cols, TILE_N), steps = (rows // TILE_M + 2) * panels
    cdef Py_ssize_t columns = summed_columns(p)
    cdef bint ends
    cdef real *sums = copies + lines_copies(p) if columns > p.cols else db
    cdef real *last = sums + own_lines(depth * columns)
    cdef Left places = left_operand(NULL, &at[0], rows, 0, &length[0])
    places.step = line_step(p)
    zero(sums, depth * columns)
    zero(unneeded, TILE_N)
    for k in range(rows):
        i = min(k, depth - 1)
        offsets[k] = line_offset(p, i // run) + i % run
        out[k] = k * columns if k < depth else &unneeded[0] - (sums + (panels - 1) * TILE_N)
    while line < end:
        lines = min(band, end - line)
        pad_band(p, line, lines, padded, starts)
        if lines_copies(p):
            ends = columns > p.cols and line + lines == p.batch * p.d.rows * p.h.rows
            add_copied_lines(
                p, starts, dy + line * p.w.rows * p.y_ld, lines * p.w.rows, sums, out, copies, last if ends else NULL
            )
            line += lines
            continue
        places.runs = lines
        for i in range(lines):
            length[i] = p.w.rows
            for k in range(rows):
                at[i * rows + k] = starts[i] + offsets[k]
        if writes_far(p):
            i = min(band, end - line - lines) * p.w.rows * p.y_ld
            ask_for_panels(&places, dy + (line + lines) * p.w.rows * p.y_ld, i, steps * lines * p.w.rows)
        for i in range(panels):
            j = i * TILE_N
            windows_by_panel(
                rows if p.cols - j <= LANES else depth, min(p.cols - j, <Py_ssize_t> TILE_N), &places, 0,
                dy + line * p.w.rows * p.y_ld + j, p.y_ld, NULL, NULL, sums + j, out,
            )
        line += lines
    if columns > p.cols:
        for k in range(depth):
            copy(db + k * p.cols, sums + k * columns, p.cols)


cdef void gradient_of_lines(
    const Product *p, const real *dy, Py_ssize_t line, Py_ssize_t end, Py_ssize_t band, real *db, real *padded, real *more
) noexcept nogil:
    """db = the sum over lines line .. end - 1 of dy, with vectors along runs or along columns."""
    if sums_along_runs(p):
        runs_gradient_part(p, dy, line, end, band, db, padded, more)
    else:
        lines_gradient_part(p, dy, line, end, band, db, padded, more)


cdef int run_lines_gradient(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef Py_ssize_t lines = p.batch * p.d.rows * p.h.rows, some = ceil_div(lines, parts), part
    cdef Py_ssize_t most = LINES_PLACES // tile_rows(product_depth(p)), band, of_band, each
    cdef real *scratch
    if writes_far(p):
        most = min(most, max(LINES_AHEAD // (p.w.rows * p.y_ld), <Py_ssize_t> 1))
    if sums_along_runs(p):
        most = min(most, max(RUN_BAND // (padded_line(p) * p.h.stride * <Py_ssize_t> sizeof(real)), <Py_ssize_t> 1))
    band = band_lines(p, min(some, most))
    of_band = own_lines(band_items(p, band))
    each = of_band + (own_lines(p.cols * run_vectors(p) * LANES) if sums_along_runs(p) else lines_copies(p) + own_sums(p))
    threads = min(threads, parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    if parts == 1:
        gradient_of_lines(p, dy, 0, lines, band, db, scratch, scratch + of_band)
    else:
        for part in prange(parts, schedule="dynamic", num_threads=threads):
            gradient_of_lines(
                p, dy, min(part * some, lines), min((part + 1) * some, lines), band, db + part * items, scratch + threadid() * each,
                scratch + threadid() * each + of_band,
            )
    free_lines(scratch)
    return 0
