# The gradient of a weight with few outputs and one tap: vectors go along the many inputs.
#
#   db[k, j] = sum_m a[m, k] * dy[m, j]      each dy[m, j] times a pixel of the input, which is read once
#
# The sums of a part of the pixels stay in the first-level cache, and a few pixels at a time are added to them.


cdef enum:
    GRADIENT_PIXELS = 8     # that are added at a time


cdef bint few_gradient_pays(const Product *p) noexcept nogil:
    """Whether vectors go along the depth, columns being at most half of one; more than FEW_CHANNELS take several turns."""
    cdef Py_ssize_t enough = LANES if p.cols <= FEW_CHANNELS else 2 * LANES
    return 2 * p.cols <= LANES and one_tap(p) and p.depth >= enough and p.cols == p.y_ld


cdef inline Py_ssize_t few_gradient_sums(const Product *p) noexcept nogil:
    return round_up(p.depth, LANES) * p.cols


cdef int run_few_gradient(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef Product q = p[0]
    cdef Py_ssize_t each = own_lines(few_gradient_sums(p) + p.depth), rows = product_rows(p), some = ceil_div(rows, parts), part
    cdef real *scratch
    threads = min(threads, parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    join_lines(&q)
    q.in_place = True
    if parts == 1:
        few_gradient_part(&q, dy, 0, rows, db, scratch)
    else:
        for part in prange(parts, schedule="dynamic", num_threads=threads):
            few_gradient_part(
                &q, dy, min(part * some, rows), min((part + 1) * some, rows), db + part * items, scratch + threadid() * each
            )
    free_lines(scratch)
    return 0


cdef inline void add_pixels(
    const int cols, const real **at, const real *dy, Py_ssize_t dy_ld, Py_ssize_t depth, Py_ssize_t ahead, real *sums, Py_ssize_t step
) noexcept nogil:
    """sums[j] += at[i] * dy[i * dy_ld + j] of GRADIENT_PIXELS pixels, for each vector of the depth `step` elements further.

    The last vector overlaps the one before.
    """
    cdef real neighbors[GRADIENT_PIXELS * FEW_CHANNELS]  # at constant distances
    cdef vec total[FEW_CHANNELS]
    cdef vec pixel
    cdef Py_ssize_t v = 0, i, j, k
    if dy_ld != cols:
        for i in range(GRADIENT_PIXELS):
            for j in range(cols):
                neighbors[i * cols + j] = dy[i * dy_ld + j]
        dy = neighbors
    while v < depth:
        k = min(v, depth - LANES)
        for j in range(cols):
            total[j] = (<const vec *> (sums + j * LANES))[0]
        for i in range(GRADIENT_PIXELS):
            pixel = held(at[i] + k)
            if ahead:
                fetch(at[i] + k + ahead)
            for j in range(cols):
                total[j] = total[j] + pixel * dy[i * cols + j]
        for j in range(cols):
            (<vec *> (sums + j * LANES))[0] = total[j]
        sums += step
        v += LANES


cdef apart add_columns(
    const real **at, const real *dy, Py_ssize_t cols, Py_ssize_t depth, Py_ssize_t ahead, real *sums
) noexcept nogil:
    """`add_pixels` for any number of columns, FEW_CHANNELS at a time."""
    cdef Py_ssize_t rest = cols, step = cols * LANES
    while rest:
        if rest >= 4:
            add_pixels(4, at, dy, cols, depth, ahead, sums, step)
        elif rest == 3:
            add_pixels(3, at, dy, cols, depth, ahead, sums, step)
        elif rest == 2:
            add_pixels(2, at, dy, cols, depth, ahead, sums, step)
        else:
            add_pixels(1, at, dy, cols, depth, ahead, sums, step)
        dy += FEW_CHANNELS
        sums += FEW_CHANNELS * LANES
        ahead = 0
        rest -= min(rest, <Py_ssize_t> FEW_CHANNELS)


cdef void few_gradient_part(const Product *p, const real *dy, Py_ssize_t m, Py_ssize_t end, real *db, real *sums) noexcept nogil:
    """db = the sum over rows m .. end - 1."""
    cdef const real *at[FEW_PIXELS + GRADIENT_PIXELS]
    cdef real last[GRADIENT_PIXELS * LANES]
    cdef Py_ssize_t length[1]
    cdef Py_ssize_t depth = p.depth, cols = p.cols, ahead = FEW_AHEAD * p.a_ld if reads_far(p) else 0, rows, v, i, j
    cdef real *zeros = sums + few_gradient_sums(p)
    zero(sums, few_gradient_sums(p) + depth)
    while m < end:
        rows = min(<Py_ssize_t> FEW_PIXELS, end - m)
        find_windows(p, m, rows, 0, depth, zeros, zeros, at, FEW_PIXELS, length)
        i = 0
        while i + GRADIENT_PIXELS <= rows:
            add_columns(at + i, dy + (m + i) * cols, cols, depth, ahead, sums)
            i += GRADIENT_PIXELS
        if i < rows:
            zero(last, GRADIENT_PIXELS * LANES)
            copy(last, dy + (m + i) * cols, (rows - i) * cols)
            for j in range(rows, rows + GRADIENT_PIXELS):
                at[j] = zeros
            add_columns(at + i, last, cols, depth, 0, sums)
        m += rows
    v = 0
    while v < depth:
        for j in range(cols):
            for i in range(LANES):
                db[(min(v, depth - LANES) + i) * cols + j] = sums[v * cols + j * LANES + i]
        v += LANES
