# Convolutions of few channels: the gradient of the weight over padded lines (lines.pxi), with vectors along the runs of windows.
#
# A window is read where it lies, whatever the length of its runs, and each of its vectors is multiplied by the numbers of a pixel of
# dy, whose sums stay in registers for a whole band of lines:
#
#   sums[s, v, j] += padded[start of line + offset of tap line s + v * LANES + w * step ...] * dy[w, j]
#
# Where a run ends, the vector goes on into what follows it: sums that nobody needs. One tap of few channels is the same without padding:
# all pixels are one line.


cdef enum:
    RUN_REGISTERS = 14   # for sums and columns of dy
    RUN_SUMS = 12        # vectors at most,
    RUN_MOST = 8         # of so many vectors of a window,
    RUN_COLUMNS = 4      # and so many columns
    RUN_BAND = 1 << 14   # bytes of padded lines, about, that are read again and again,
    PIXEL_BAND = 3 << 13 # or of pixels of both sides, where there is one tap
    RUN_COPIED = 6       # multiply-adds of vectors in the time in which a vector of a window is copied
    FEW_ON_BOTH = 96     # channels of both sides of one tap,
    FEW_OF_FAR = 120     # and of arrays that no near cache holds,
    MANY_PIXELS = 256    # for so many that it does not matter how the sums are laid out


cdef struct NextBlock:  # what is asked for while the sums of a block are made
    const real *x
    const real *dy
    Py_ssize_t x_items, dy_items


cdef inline Py_ssize_t run_vectors(const Product *p) noexcept nogil:
    """Vectors of a window, each of a run and what follows it."""
    return taps_line(p) * ceil_div(window_run(p), LANES)


cdef inline bint sums_along_runs(const Product *p) noexcept nogil:
    """Whether vectors go along the runs of windows, which are read where they lie; else along the columns, and windows are copied."""
    cdef Py_ssize_t vectors = run_vectors(p)
    return LOW_TILE and p.cols * vectors < product_depth(p) * ceil_div(p.cols, LANES) + RUN_COPIED * vectors


cdef inline void add_run_vectors(
    const int cols, const int vectors, const Product *p, const real **starts, Py_ssize_t lines, const Py_ssize_t *offsets,
    const real *dy, real *sums,
) noexcept nogil:
    """sums[v, j] += the sum over the pixels of the lines of vector v of their windows times column j of dy.

    The sum over the lines is added at the end: so many roundings less. Loops that run at least once, or gcc keeps the sums in memory.
    """
    cdef vec total[RUN_SUMS]
    cdef vec left[RUN_COLUMNS]
    cdef vec run
    cdef const real *at[RUN_MOST]
    cdef vec *to
    cdef Py_ssize_t step = line_step(p), end = p.w.rows * step, y_ld = p.y_ld, h = 0, x, j, v
    for v in range(vectors * cols):
        total[v] = broadcast(0)
    while True:
        for v in range(vectors):
            at[v] = <const real *> kept(<Py_ssize_t> (starts[h] + offsets[v]))
        x = 0
        while True:
            for j in range(cols):
                left[j] = broadcast(dy[j])
            for v in range(vectors):
                run = in_register((<const vec *> (at[v] + x))[0])
                for j in range(cols):
                    total[v * cols + j] = total[v * cols + j] + run * left[j]
                needed(run)
            for j in range(cols):
                needed(left[j])
            dy += y_ld
            x += step
            if x == end:
                break
        h += 1
        if h == lines:
            break
    for v in range(vectors):
        for j in range(cols):
            to = <vec *> (sums + (v * p.cols + j) * LANES)
            to[0] = to[0] + total[v * cols + j]


cdef inline void add_some_vectors(
    const int cols, Py_ssize_t vectors, const Product *p, const real **starts, Py_ssize_t lines, const Py_ssize_t *offsets,
    const real *dy, real *sums,
) noexcept nogil:
    """`add_run_vectors` of any number that fits registers."""
    if vectors == 1:
        add_run_vectors(cols, 1, p, starts, lines, offsets, dy, sums)
    elif vectors == 2:
        add_run_vectors(cols, 2, p, starts, lines, offsets, dy, sums)
    elif cols < 4 and vectors == 3:
        add_run_vectors(cols, 3, p, starts, lines, offsets, dy, sums)
    elif cols < 3 and vectors == 4:
        add_run_vectors(cols, 4, p, starts, lines, offsets, dy, sums)
    elif cols < 3 and vectors == 5:
        add_run_vectors(cols, 5, p, starts, lines, offsets, dy, sums)
    elif cols < 3 and vectors == 6:
        add_run_vectors(cols, 6, p, starts, lines, offsets, dy, sums)
    elif cols < 2 and vectors == 7:
        add_run_vectors(cols, 7, p, starts, lines, offsets, dy, sums)
    elif cols < 2 and vectors == 8:
        add_run_vectors(cols, 8, p, starts, lines, offsets, dy, sums)


cdef inline Py_ssize_t columns_together(Py_ssize_t left, Py_ssize_t vectors) noexcept nogil:
    """Of so many columns that are left: the fewer vectors a window has, the more, for sums enough."""
    cdef Py_ssize_t most = 4 if vectors < 3 else 3 if vectors == 3 or left == 3 else 2
    return ceil_div(left, ceil_div(left, most))


cdef inline Py_ssize_t vectors_together(Py_ssize_t left, Py_ssize_t cols) noexcept nogil:
    """Of so many vectors that are left, about even numbers: there are registers for their sums and for a number of each column."""
    return ceil_div(left, ceil_div(left, min(RUN_REGISTERS // cols - 1, <Py_ssize_t> RUN_MOST)))


cdef apart add_runs(const Product *p, const real **starts, Py_ssize_t lines, const real *dy, const NextBlock *ahead, real *sums) noexcept nogil:
    """Add the sums of the lines that see starts[0], starts[1], ...: those of some columns of dy and some vectors of windows at a time.

    ahead: NULL if a near cache holds the arrays.
    """
    cdef Py_ssize_t offsets[LINES_RUNS]
    cdef Py_ssize_t vectors = run_vectors(p), of_run = vectors // taps_line(p), j = 0, v, cols, some
    cdef real *to
    for v in range(vectors):
        offsets[v] = line_offset(p, v // of_run) + v % of_run * LANES
    while j < p.cols:
        cols, v = columns_together(p.cols - j, vectors), 0
        if ahead != NULL:
            fetch_run(ahead.x + j * ahead.x_items // p.cols, cols * ahead.x_items // p.cols)
            fetch_run(ahead.dy + j * ahead.dy_items // p.cols, cols * ahead.dy_items // p.cols)
        while v < vectors:
            some, to = vectors_together(vectors - v, cols), sums + (v * p.cols + j) * LANES
            if cols == 1:
                add_some_vectors(1, some, p, starts, lines, offsets + v, dy + j, to)
            elif cols == 2:
                add_some_vectors(2, some, p, starts, lines, offsets + v, dy + j, to)
            elif cols == 3:
                add_some_vectors(3, some, p, starts, lines, offsets + v, dy + j, to)
            else:
                add_some_vectors(4, some, p, starts, lines, offsets + v, dy + j, to)
            v += some
        j += cols


cdef void lay_sums(const Product *p, const real *sums, real *db) noexcept nogil:
    """Write sums[v, j, lane] as rows of the gradient, without the lanes behind a run."""
    cdef Py_ssize_t run = window_run(p), vectors = run_vectors(p), of_run = vectors // taps_line(p), v, j, k, lane
    for v in range(vectors):
        k = v % of_run * LANES
        for lane in range(min(run - k, <Py_ssize_t> LANES)):
            for j in range(p.cols):
                db[(v // of_run * run + k + lane) * p.cols + j] = sums[(v * p.cols + j) * LANES + lane]


cdef void runs_gradient_part(
    const Product *p, const real *dy, Py_ssize_t line, Py_ssize_t end, Py_ssize_t band, real *db, real *padded, real *sums
) noexcept nogil:
    """db = the sum over lines line .. end - 1 of dy, those of all images in turn."""
    cdef const real *starts[LINES_PLACES]
    cdef Py_ssize_t lines
    zero(sums, p.cols * run_vectors(p) * LANES)
    while line < end:
        lines = min(band, end - line)
        pad_band(p, line, lines, padded, starts)
        add_runs(p, starts, lines, dy + line * p.w.rows * p.y_ld, NULL, sums)
        line += lines
    lay_sums(p, sums, db)


cdef inline bint pixel_runs_pay(const Product *p) noexcept nogil:
    """Whether the gradient of a weight of one tap has vectors along the channels of a pixel: few on both sides, so that pixels are read
    again from the first-level cache."""
    cdef Py_ssize_t most = FEW_OF_FAR if reads_far(p) or writes_far(p) else FEW_ON_BOTH
    return (
        LOW_TILE and is_plain(p) and p.depth == p.a_ld and p.cols == p.y_ld and p.depth >= LANES and p.depth + p.cols <= most
        and product_rows(p) >= MANY_PIXELS and not few_gradient_pays(p)
    )


cdef inline Py_ssize_t pixels_together(const Product *p) noexcept nogil:
    return PIXEL_BAND // ((p.depth + p.cols) * <Py_ssize_t> sizeof(real))


cdef void pixel_runs_part(
    const Product *p, const real *dy, Py_ssize_t m, Py_ssize_t end, real *db, real *sums, real *last
) noexcept nogil:
    """db = the sum over pixels m .. end - 1; last: for the last of all, behind which nothing may be read."""
    cdef Product q = p[0]
    cdef const real *start
    cdef NextBlock ahead
    cdef bint far = reads_far(p) or writes_far(p), overlaps = p.depth % LANES > 0
    cdef Py_ssize_t total = product_rows(p), pixels, then
    zero(sums, p.cols * run_vectors(p) * LANES)
    while m < end:
        pixels = q.w.rows = min(pixels_together(p), end - m)
        start = p.a + m * p.a_ld
        if overlaps and m + pixels == total:
            copy(last, start, pixels * p.a_ld)
            start = last
        then = min(pixels, end - m - pixels)
        ahead = NextBlock(p.a + (m + pixels) * p.a_ld, dy + (m + pixels) * p.y_ld, then * p.a_ld, then * p.y_ld)
        add_runs(&q, &start, 1, dy + m * p.y_ld, &ahead if far else NULL, sums)
        m += pixels
    lay_sums(p, sums, db)


cdef int run_pixel_runs(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef Py_ssize_t of_sums = own_lines(p.cols * run_vectors(p) * LANES), rows = product_rows(p), some = ceil_div(rows, parts), part
    cdef Py_ssize_t each = of_sums + own_lines(pixels_together(p) * p.a_ld + LANES)
    cdef real *scratch
    threads = min(threads, parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    if parts == 1:
        pixel_runs_part(p, dy, 0, rows, db, scratch, scratch + of_sums)
    else:
        for part in prange(parts, schedule="dynamic", num_threads=threads):
            pixel_runs_part(
                p, dy, min(part * some, rows), min((part + 1) * some, rows), db + part * items, scratch + threadid() * each,
                scratch + threadid() * each + of_sums,
            )
    free_lines(scratch)
    return 0
