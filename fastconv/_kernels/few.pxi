# Products of one tap in which one side has few channels, of which a vector would be nearly empty: vectors go along the many of the
# other side, which is read or written once. Memory is the limit.
#
#   y[m, j] = bias[j] + sum_k a[m, k] * b[k, j]      few columns: dot products along k
#                                                    a short depth: a[m, k] times row k of b, which stays in registers


cdef enum:
    FEW_CHANNELS = 4    # of the side that has few
    FEW_PIXELS = 256    # of a task
    FEW_ADDRESSES = 8   # pixels whose addresses stay in registers
    OUTER_PIXELS = 4    # that are multiplied by each row of the right operand
    FEW_AHEAD = 32      # pixels ahead that are fetched from afar
    WIDE_PIXEL = 512    # bytes: pixels of fewer follow each other so soon that a processor sees it


cdef inline void some_dots(
    const int cols, const int rows, vec *acc, const real *columns, const real **at, Py_ssize_t depth, mask fresh, Py_ssize_t ahead
) noexcept nogil:
    """The lanes of acc[i * cols + j] sum up to the dot product of row i and column j.

    One loop that runs at least once, or gcc keeps the sums in memory.
    """
    cdef vec left[FEW_CHANNELS]
    cdef vec pixel
    cdef mask lanes = broadcast_lane(-1)
    cdef Py_ssize_t k = 0, i, j
    for i in range(rows * cols):
        acc[i] = broadcast(0)
    while True:
        for j in range(cols):
            left[j] = (<const vec *> (columns + j * depth + k))[0]
        for i in range(rows):
            pixel = where(lanes, (<const vec *> (at[i] + k))[0])
            if ahead:
                fetch(at[i] + k + ahead)
            for j in range(cols):
                acc[i * cols + j] = acc[i * cols + j] + pixel * left[j]
        k += LANES
        if k >= depth:
            return
        if k + LANES > depth:
            k, lanes = depth - LANES, fresh


cdef inline vec dots(
    const int cols, const real *columns, const real **at, Py_ssize_t depth, mask fresh, Py_ssize_t ahead
) noexcept nogil:
    """Lane i * cols + j is sum_k at[i][k] * columns[j * depth + k], in the order of vectors of k; `depth` is at least LANES.

    The last vector overlaps the one before: its lanes that are `fresh` count. What is `ahead` of the pixels is fetched meanwhile.
    """
    cdef vec acc[LANES]
    if LANES // cols > FEW_ADDRESSES:
        some_dots(cols, LANES // cols // 2, acc, columns, at, depth, fresh, ahead)
        some_dots(cols, LANES // cols // 2, acc + LANES // 2, columns, at + LANES // cols // 2, depth, fresh, ahead)
    else:
        acc[LANES - 1] = broadcast(0)
        some_dots(cols, LANES // cols, acc, columns, at, depth, fresh, ahead)
    return lane_sums(acc)


cdef inline mask fresh_lanes(Py_ssize_t depth) noexcept nogil:
    """The lanes of a last vector that the one before does not have."""
    cdef real numbers[LANES]
    cdef Py_ssize_t i
    for i in range(LANES):
        numbers[i] = i
    return above((<vec *> numbers)[0], broadcast(LANES - 1 - depth % LANES))


cdef inline void dots_of_rows(
    const int cols, const real *columns, const real **at, Py_ssize_t rows, Py_ssize_t depth, const real *start, Py_ssize_t ahead, real *y
) noexcept nogil:
    cdef Py_ssize_t i = 0
    cdef mask fresh = fresh_lanes(depth)
    while i < rows:
        (<vec *> (y + i * cols))[0] = (<const vec *> start)[0] + dots(cols, columns, at + i, depth, fresh, ahead)
        i += LANES // cols


cdef inline bint is_few(const int number, const int most, Py_ssize_t items) noexcept nogil:
    """Whether that many are meant; False where the compiler need not think of them, being more than fit."""
    return number <= most and number == items


cdef apart all_dots(
    Py_ssize_t cols, const real *columns, const real **at, Py_ssize_t rows, Py_ssize_t depth, const real *start, Py_ssize_t ahead, real *y
) noexcept nogil:
    """y[i * cols + j] = start[j] + sum_k at[i][k] * columns[j * depth + k], as whole vectors, from as many addresses.

    `start`: LANES elements of it, again and again.
    """
    if cols == 1:
        dots_of_rows(1, columns, at, rows, depth, start, ahead, y)
    elif is_few(2, LANES // 4, cols):
        dots_of_rows(2, columns, at, rows, depth, start, ahead, y)
    elif is_few(3, LANES // 4, cols):
        dots_of_rows(3, columns, at, rows, depth, start, ahead, y)
    elif is_few(4, LANES // 4, cols):
        dots_of_rows(4, columns, at, rows, depth, start, ahead, y)


cdef inline void multiply_rows(
    const int depth, const real **at, const real *b, Py_ssize_t cols, real *y, const Py_ssize_t *out, Py_ssize_t ahead
) noexcept nogil:
    """y[out[i] + j] = b[depth * cols + j] + sum_k at[i][k] * b[k * cols + j] of OUTER_PIXELS pixels.

    The last vector overlaps the one before.
    """
    cdef vec left[OUTER_PIXELS * FEW_CHANNELS]
    cdef vec row[FEW_CHANNELS + 1]
    cdef vec total
    cdef Py_ssize_t v = 0, i, j, k
    for i in range(OUTER_PIXELS):
        for k in range(depth):
            left[i * FEW_CHANNELS + k] = broadcast(at[i][k])
    while v < cols:
        j = min(v, cols - LANES)
        for k in range(depth + 1):
            row[k] = (<const vec *> (b + k * cols + j))[0]
        for i in range(OUTER_PIXELS):
            total = row[depth]
            for k in range(depth):
                total = total + row[k] * left[i * FEW_CHANNELS + k]
            (<vec *> (y + out[i] + j))[0] = total
            if ahead:
                fetch(y + out[i] + j + ahead)
        v += LANES


cdef apart all_multiples(
    const Product *p, const real **at, const real *b, Py_ssize_t rows, const Py_ssize_t *out
) noexcept nogil:
    """`multiply_rows` of any number of pixels, after which addresses of OUTER_PIXELS more follow."""
    cdef Py_ssize_t i = 0
    cdef Py_ssize_t ahead = FEW_AHEAD * p.y_ld if writes_far(p) and p.cols * sizeof(real) >= WIDE_PIXEL else 0
    while i < rows:
        if p.depth == 1:
            multiply_rows(1, at + i, b, p.cols, p.y, out + i, ahead)
        elif p.depth == 2:
            multiply_rows(2, at + i, b, p.cols, p.y, out + i, ahead)
        elif p.depth == 3:
            multiply_rows(3, at + i, b, p.cols, p.y, out + i, ahead)
        else:
            multiply_rows(4, at + i, b, p.cols, p.y, out + i, ahead)
        i += OUTER_PIXELS


cdef inline bint one_tap(const Product *p) noexcept nogil:
    return p.d.taps * p.h.taps * p.w.taps == 1


cdef inline bint few_columns(const Product *p) noexcept nogil:
    """Whether columns are so few that vectors go along the depth."""
    return 4 * p.cols <= LANES


cdef bint few_pay(const Product *p) noexcept nogil:
    """Neither rows nor padding have a say, so that the bits of a pixel do not depend on how many others there are."""
    return one_tap(p) and (p.depth >= LANES if few_columns(p) else 0 < p.depth <= FEW_CHANNELS and p.cols >= LANES)


cdef void few_pixels(const Product *p, real *b, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Rows first .. end - 1 of y; after the right operand follow the bias and zeros."""
    cdef const real *at[FEW_PIXELS + LANES + OUTER_PIXELS]
    cdef const real *bias = b + p.depth * p.cols
    cdef real sums[FEW_PIXELS * FEW_CHANNELS + LANES]
    cdef real start[LANES]
    cdef Py_ssize_t out[FEW_PIXELS + LANES + OUTER_PIXELS]
    cdef Py_ssize_t length[1]
    cdef Py_ssize_t i, rows = end - first
    find_windows(p, first, rows, 0, p.depth, bias + p.cols, b, at, FEW_PIXELS, length)
    row_outputs(p, first, rows, out)
    for i in range(rows, rows + LANES + OUTER_PIXELS):  # the last one is computed again
        at[i], out[i] = at[rows - 1], out[rows - 1]
    if not few_columns(p):
        all_multiples(p, at, b, rows, out)
    else:
        for i in range(LANES):
            start[i] = bias[i % p.cols]
        all_dots(p.cols, b, at, rows, p.depth, start, FEW_AHEAD * p.a_ld if reads_far(p) else 0, sums)
        if out[rows - 1] - out[0] == (rows - 1) * p.cols:
            copy(p.y + out[0], sums, rows * p.cols)
        else:
            for i in range(rows):
                copy_narrow(p.y + out[i], sums + i * p.cols, p.cols)
    if p.finish.pending:
        finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)


cdef int run_few(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Product q = p[0]
    cdef Py_ssize_t rows = product_rows(p), many = max(p.depth, p.cols), tasks, task, j, k
    cdef Py_ssize_t some = LANES * min(max(ROW_ITEMS // (LANES * many), <Py_ssize_t> 1), <Py_ssize_t> FEW_PIXELS // LANES)
    cdef Py_ssize_t step_k = 1 if few_columns(p) else p.cols, step_j = p.depth if few_columns(p) else 1
    cdef real *b = new_scratch(own_lines((p.depth + 1) * (p.cols + 1)), 1)
    if b == NULL:
        return -1
    for j in range(p.cols):
        b[p.depth * p.cols + j] = p.bias[j] if p.bias else 0
        for k in range(p.depth):
            b[k * step_k + j * step_j] = p.b[k * p.b_k + j * p.b_col]
    zero(b + (p.depth + 1) * p.cols, p.depth)
    join_lines(&q)
    q.in_place = True
    tasks = ceil_div(rows, some)
    if tasks == 1:
        few_pixels(&q, b, 0, rows)
    else:
        for task in prange(tasks, num_threads=min(threads, tasks)):
            few_pixels(&q, b, task * some, min((task + 1) * some, rows))
    free_lines(b)
    return 0
