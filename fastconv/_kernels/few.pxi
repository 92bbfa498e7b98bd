# Products of one tap from few channels: each pixel is read once, and so is each row of the right operand, which stays in registers.
# Memory is the limit.
#
#   y[m, j] = bias[j] + sum_k a[m, k] * b[k, j]


cdef enum:
    FEW_CHANNELS = 4    # of the side that has few
    FEW_PIXELS = 256    # of a task
    OUTER_PIXELS = 4    # that are multiplied by each row of the right operand
    FEW_AHEAD = 32      # pixels ahead that are fetched from afar
    WIDE_PIXEL = 512    # bytes: pixels of fewer follow each other so soon that a processor sees it


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
    return taps_of(p) == 1


cdef bint few_pay(const Product *p) noexcept nogil:
    """Neither rows nor padding have a say, so that the bits of a pixel do not depend on how many others there are."""
    return one_tap(p) and 0 < p.depth <= FEW_CHANNELS and p.cols >= LANES


cdef void few_pixels(const Product *p, real *b, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Rows first .. end - 1 of y; after the right operand follow the bias and zeros."""
    cdef const real *at[FEW_PIXELS + OUTER_PIXELS]
    cdef Py_ssize_t out[FEW_PIXELS + OUTER_PIXELS]
    cdef Py_ssize_t length[1]
    cdef Py_ssize_t i, rows = end - first
    find_windows(p, first, rows, 0, p.depth, b + (p.depth + 1) * p.cols, b, at, FEW_PIXELS, length)
    row_outputs(p, first, rows, out)
    for i in range(rows, rows + OUTER_PIXELS):  # the last one is computed again
        at[i], out[i] = at[rows - 1], out[rows - 1]
    all_multiples(p, at, b, rows, out)
    if p.finish.pending:
        finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)


cdef int run_few(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Product q = p[0]
    cdef Py_ssize_t rows = product_rows(p), tasks, task, j, k
    cdef Py_ssize_t some = LANES * min(max(ROW_ITEMS // (LANES * p.cols), <Py_ssize_t> 1), <Py_ssize_t> FEW_PIXELS // LANES)
    cdef real *b = new_scratch(own_lines((p.depth + 1) * (p.cols + 1)), 1)
    if b == NULL:
        return -1
    for j in range(p.cols):
        b[p.depth * p.cols + j] = p.bias[j] if p.bias else 0
        for k in range(p.depth):
            b[k * p.cols + j] = p.b[k * p.b_k + j * p.b_col]
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
