# Convolutions of few channels: the gradient of the product's right operand over padded lines (lines.pxi). A row of the tile is one
# position of the window over all pixels of a line.


cdef inline bint gradient_over_lines(const Product *p) noexcept nogil:
    """Whether the gradient of the right operand does, which adds to what it writes."""
    return fills_columns(p) and fits_lines(p)


cdef inline Py_ssize_t tile_rows(Py_ssize_t depth) noexcept nogil:
    """`depth`, or more where a tile a vector wide is sooner done with rows that nobody needs: its sums would wait for themselves."""
    cdef Py_ssize_t rest = depth % TILE_M
    if rest > TILE_M * 3 // 4:
        return round_up(depth, TILE_M)
    return depth - rest + TILE_M // 2 if TILE_M // 4 < rest < TILE_M // 2 else depth


cdef void add_copied_lines(
    const Product *p, const real **starts, const real *dy, Py_ssize_t pixels, real *db, const Py_ssize_t *out, real *copies
) noexcept nogil:
    """db += the sum over so many pixels of dy, of lines that see starts[0], starts[1], ...: a strip of their windows is copied at a time."""
    cdef Py_ssize_t run = window_run(p), together = taps_together(p), m = 0, rows, tap, taps, i
    while m < pixels:
        rows = min(pixels - m, <Py_ssize_t> (LINES_STRIP * TILE_M))
        tap = 0
        while tap < taps_line(p):
            taps = min(together, taps_line(p) - tap)
            copy_places(p, starts, m, rows, tap, taps, copies)
            for i in range(ceil_div(p.cols, TILE_N)):
                columns_by_panel(
                    taps * run, panel_width(p.cols - i * TILE_N), copies, DEPTH_LD, dy + m * p.y_ld + i * TILE_N, p.y_ld, rows,
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
    cdef Left places = left_operand(NULL, &at[0], rows, 0, &length[0])
    places.step = line_step(p)
    zero(db, depth * p.cols)
    zero(unneeded, TILE_N)
    for k in range(rows):
        i = min(k, depth - 1)
        offsets[k] = line_offset(p, i // run) + i % run
        out[k] = k * p.cols if k < depth else &unneeded[0] - (db + (panels - 1) * TILE_N)
    while line < end:
        lines = min(band, end - line)
        pad_band(p, line, lines, padded, starts)
        if lines_copies(p):
            add_copied_lines(p, starts, dy + line * p.w.rows * p.y_ld, lines * p.w.rows, db, out, copies)
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
                dy + line * p.w.rows * p.y_ld + j, p.y_ld, NULL, NULL, db + j, out,
            )
        line += lines


cdef int run_lines_gradient(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef Py_ssize_t lines = p.batch * p.d.rows * p.h.rows, some = ceil_div(lines, parts), part
    cdef Py_ssize_t most = LINES_PLACES // tile_rows(product_depth(p)), band, of_band, each
    cdef real *scratch
    if writes_far(p):
        most = min(most, max(LINES_AHEAD // (p.w.rows * p.y_ld), <Py_ssize_t> 1))
    band = band_lines(p, min(some, most))
    of_band = own_lines(band_items(p, band))
    each = of_band + lines_copies(p)
    threads = min(threads, parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    if parts == 1:
        lines_gradient_part(p, dy, 0, lines, band, db, scratch, scratch + of_band)
    else:
        for part in prange(parts, schedule="dynamic", num_threads=threads):
            lines_gradient_part(
                p, dy, min(part * some, lines), min((part + 1) * some, lines), band, db + part * items, scratch + threadid() * each,
                scratch + threadid() * each + of_band,
            )
    free_lines(scratch)
    return 0
