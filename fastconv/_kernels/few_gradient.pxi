# The gradient of a weight of one tap with few outputs, or few inputs: vectors go along the many of the other side.
#
#   db[k, j] = sum_m a[m, k] * dy[m, j]      few outputs: each dy[m, j] times a pixel of the input, which is read once
#                                            few inputs:  each a[m, k] times a pixel of dy
#
# The sums of a part of the pixels stay in the first-level cache, and a few pixels at a time are added to them.


cdef enum:
    GRADIENT_PIXELS = 8     # that are added at a time
    FEW_COLUMNS = LANES // 2  # at most


cdef inline bint few_beside(Py_ssize_t few, Py_ssize_t many) noexcept nogil:
    """Whether vectors go along the many, the few being at most half of one; more than FEW_CHANNELS take several turns."""
    return 0 < 2 * few <= LANES and many >= (LANES if few <= FEW_CHANNELS else 2 * LANES)


cdef bint few_inputs_pay(const Product *p) noexcept nogil:
    """The same for few inputs, which are brought together pixel by pixel: tiles of half the height go along the columns as well."""
    return few_beside(p.depth, p.cols) and p.cols >= 2 * LINE_ITEMS and (LOW_TILE or 2 * p.depth < TILE_M)


cdef bint few_gradient_pays(const Product *p) noexcept nogil:
    return one_tap(p) and (few_beside(p.cols, p.depth) and p.cols == p.y_ld or few_inputs_pay(p))


cdef inline Py_ssize_t few_gradient_sums(const Product *p) noexcept nogil:
    return round_up(max(p.depth, p.cols), LANES) * min(p.depth, p.cols)


cdef int run_few_gradient(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef Product q = p[0]
    cdef Py_ssize_t each = own_lines(few_gradient_sums(p) + max(p.depth, p.cols)), rows = product_rows(p), some = ceil_div(rows, parts), part
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
    cdef real inputs[FEW_PIXELS * FEW_COLUMNS]
    cdef real last[GRADIENT_PIXELS * LANES]
    cdef Py_ssize_t length[1]
    cdef bint turned = p.depth < p.cols  # few inputs
    cdef Py_ssize_t few = min(p.depth, p.cols), many = max(p.depth, p.cols), rows, v, i, j
    cdef Py_ssize_t ahead = FEW_AHEAD * (p.y_ld if turned else p.a_ld) if (writes_far(p) if turned else reads_far(p)) else 0
    cdef real *zeros = sums + few_gradient_sums(p)
    cdef const real *factors
    zero(sums, few_gradient_sums(p) + many)
    while m < end:
        rows = min(<Py_ssize_t> FEW_PIXELS, end - m)
        find_windows(p, m, rows, 0, p.depth, zeros, zeros, at, FEW_PIXELS, length)
        factors = dy + m * few
        if turned:
            factors = inputs
            for i in range(rows):
                for j in range(few):
                    inputs[i * few + j] = at[i][j]
                at[i] = dy + (m + i) * p.y_ld
        i = 0
        while i + GRADIENT_PIXELS <= rows:
            add_columns(at + i, factors + i * few, few, many, ahead, sums)
            i += GRADIENT_PIXELS
        if i < rows:
            zero(last, GRADIENT_PIXELS * LANES)
            copy(last, factors + i * few, (rows - i) * few)
            for j in range(rows, rows + GRADIENT_PIXELS):
                at[j] = zeros
            add_columns(at + i, last, few, many, 0, sums)
        m += rows
    v = 0
    while v < many:
        for j in range(few):
            for i in range(LANES):
                db[min(v, many - LANES) + i + j * many if turned else (min(v, many - LANES) + i) * few + j] = sums[v * few + j * LANES + i]
        v += LANES
