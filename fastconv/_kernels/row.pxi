# One row times a matrix, and what goes back: a linear layer that meets one image. Nothing is used twice, so nothing is packed:
# the matrix is read once, along its rows, which lie in memory one behind the other. And few columns of one tap, the same with
# the roles exchanged.


cdef enum:
    ROW_STEP = 8        # rows of the matrix at a time: so many streams a core reads at once, and fewer stores of the sums
    ROW_AHEAD = 16384   # bytes ahead that are asked for: a stream ends with its page, before a processor has learnt to follow it
    ROW_WIDTH = 4096    # columns of a task: their sums stay in the first-level cache
    ROW_ITEMS = 16384   # elements of the matrix in a task of its own
    DOT_ROWS = 256      # pixels of a task, where columns are few


cdef bint is_one_row(const Product *p) noexcept nogil:
    """Whether the left operand is one row, all of whose elements are in the input: one pixel, one tap."""
    return (
        product_rows(p) == 1 and p.d.taps * p.h.taps * p.w.taps == 1 and p.d.origin == p.h.origin == p.w.origin == 0
        and p.d.size == p.h.size == p.w.size == p.out_d == p.out_h == p.out_w == 1
    )


cdef void run_row(const Product *p, int threads) noexcept nogil:
    """y[j] = f(bias[j] + sum_k a[k] * b[k, j] + residual[j]), in the order of k where the matrix lies by rows of b."""
    cdef Py_ssize_t some = LANES * max(ROW_ITEMS // (LANES * p.depth), <Py_ssize_t> 1), tasks, task
    if p.b_col == 1:  # as wide as possible: a row of the matrix is read without gaps
        some = min(max(some, round_up(ceil_div(p.cols, threads), LANES)), <Py_ssize_t> ROW_WIDTH)
    tasks = ceil_div(p.cols, some)
    if tasks == 1:
        row_part(p, 0, p.cols)
        return
    for task in prange(tasks, num_threads=min(threads, tasks)):
        row_part(p, task * some, min((task + 1) * some, p.cols))


cdef void row_part(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Columns first .. end - 1."""
    cdef Py_ssize_t j = first, k = 0
    if p.b_col != 1:
        while j < end:
            column_dots(p, j)
            j += LANES
    else:
        for j in range(first, end):
            p.y[j] = p.bias[j] if p.bias else 0
        while k + ROW_STEP <= p.depth:
            add_rows(ROW_STEP, p, k, first, end)
            k += ROW_STEP
        while k < p.depth:
            add_rows(1, p, k, first, end)
            k += 1
    if p.finish.pending:
        finish_values(&p.finish, p.y + first, first, end - first, first)


cdef inline void add_rows(const int rows, const Product *p, Py_ssize_t k, Py_ssize_t j, Py_ssize_t end) noexcept nogil:
    """y[j] += a[k] * b[k, j] for `rows` rows of the matrix from k on, one after the other for each column."""
    cdef const real *b = p.b + k * p.b_k
    cdef const real *b_end = p.b + (p.depth - 1) * p.b_k + p.cols
    cdef vec total
    cdef Py_ssize_t r, ahead = round_up(ceil_div(ROW_AHEAD // <Py_ssize_t> sizeof(real), p.b_k), ROW_STEP) * p.b_k
    while j + LANES <= end:
        total = (<vec *> (p.y + j))[0]
        for r in range(rows):
            fetch(b + ahead + r * p.b_k + j)
            total = total + (<const vec *> (b + r * p.b_k + j))[0] * p.a[k + r]
        (<vec *> (p.y + j))[0] = total
        j += LANES
    if j < end:
        total = load(p.y + j, p.y + end)
        for r in range(rows):
            total = total + load(b + r * p.b_k + j, b_end) * p.a[k + r]
        store(p.y + j, total, end - j)


cdef void column_dots(const Product *p, Py_ssize_t j) noexcept nogil:
    """LANES elements of y from j, where the matrix lies by columns."""
    cdef const real *columns[LANES]
    cdef real short[(LANES + 1) * LANES]  # of columns shorter than a vector
    cdef const real *a = p.a
    cdef Py_ssize_t i
    cdef vec start = load(p.bias + j, p.bias + p.cols) if p.bias else broadcast(0)
    for i in range(LANES):
        columns[i] = p.b + min(j + i, p.cols - 1) * p.b_col
    if p.depth < LANES:
        for i in range(LANES + 1):
            (<vec *> (short + i * LANES))[0] = broadcast(0)
            memcpy(short + i * LANES, columns[i] if i < LANES else a, p.depth * sizeof(real))
        for i in range(LANES):
            columns[i] = short + i * LANES
        a = short + LANES * LANES
    store(p.y + j, start + row_dots(a, columns, max(p.depth, <Py_ssize_t> LANES)), min(p.cols - j, <Py_ssize_t> LANES))


cdef vec row_dots(const real *a, const real **b, Py_ssize_t depth) noexcept nogil:
    """sum_k a[k] * b[i][k] in lane i, each in the order of vectors of k; `depth` is at least LANES."""
    cdef vec acc[LANES]
    cdef real numbers[LANES]
    cdef vec left, next_left
    cdef mask fresh
    cdef Py_ssize_t k = 0, i
    for i in range(LANES):
        acc[i] = broadcast(0)
    while k + 2 * LANES <= depth:  # two at a time: there are more addresses than registers
        left, next_left = (<const vec *> (a + k))[0], (<const vec *> (a + k + LANES))[0]
        for i in range(LANES):
            acc[i] = acc[i] + (<const vec *> (b[i] + k))[0] * left
            acc[i] = acc[i] + (<const vec *> (b[i] + k + LANES))[0] * next_left
        k += 2 * LANES
    while k < depth:  # the last vector overlaps the one before
        for i in range(LANES):
            numbers[i] = i
        i = max(k - (depth - LANES), <Py_ssize_t> 0)
        fresh = above((<vec *> numbers)[0], broadcast(i - 1))
        k -= i
        left = where(fresh, (<const vec *> (a + k))[0])
        for i in range(LANES):
            acc[i] = acc[i] + where(fresh, (<const vec *> (b[i] + k))[0]) * left
        k += LANES
    return lane_sums(acc)


cdef bint dots_pay(const Product *p) noexcept nogil:
    """Whether there are so few columns, of one tap, that a vector of them would be nearly empty: then vectors go along the depth.

    Neither rows nor padding have a say, so that the bits of a pixel do not depend on how many others there are.
    """
    return 4 * p.cols <= LANES and p.d.taps * p.h.taps * p.w.taps == 1 and p.depth >= 2 * LANES


cdef int run_dots(const Product *p, int threads) noexcept nogil:
    """The whole product: each column of the right operand is the row that meets all pixels. -1: no memory."""
    cdef Product q = p[0]
    cdef Py_ssize_t rows = product_rows(p), some = LANES * max(ROW_ITEMS // (LANES * p.depth), <Py_ssize_t> 1), tasks, task, j, k
    cdef real *columns = new_scratch(own_lines((p.cols + 1) * p.depth), 1)
    if columns == NULL:
        return -1
    for j in range(p.cols):
        for k in range(p.depth):
            columns[j * p.depth + k] = p.b[k * p.b_k + j * p.b_col]
    zero(columns + p.cols * p.depth, p.depth)
    join_lines(&q)
    q.in_place = True
    some = min(some, <Py_ssize_t> DOT_ROWS)
    tasks = ceil_div(rows, some)
    if tasks == 1:
        pixel_dots(&q, columns, 0, rows)
    else:
        for task in prange(tasks, num_threads=min(threads, tasks)):
            pixel_dots(&q, columns, task * some, min((task + 1) * some, rows))
    free(columns)
    return 0


cdef void pixel_dots(const Product *p, real *columns, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Rows first .. end - 1 of y; zeros follow the columns."""
    cdef const real *at[DOT_ROWS]
    cdef const real *zeros = columns + p.cols * p.depth
    cdef real sums[LANES * LANES]
    cdef Py_ssize_t out[DOT_ROWS]
    cdef Py_ssize_t length[1]
    cdef Py_ssize_t i, j, r, rows = end - first
    cdef bint far = reads_far(p)
    find_windows(p, first, rows, 0, p.depth, zeros, columns, at, DOT_ROWS, length)
    row_outputs(p, first, rows, out)
    for i in range(rows, round_up(rows, LANES)):
        at[i] = at[rows - 1]
    i = 0
    while i < rows:
        if far:
            fetch_range(at[i] + 2 * LANES * p.a_ld, LANES * p.a_ld)
        for j in range(p.cols):
            (<vec *> (sums + j * LANES))[0] = (
                row_dots(columns + j * p.depth, at + i, p.depth) + broadcast(p.bias[j] if p.bias else 0)
            )
        for r in range(min(rows - i, <Py_ssize_t> LANES)):
            for j in range(LANES // 4):  # unrolled: with the columns' number gcc makes slow scattered stores of it
                if j < p.cols:
                    p.y[out[i + r] + j] = sums[j * LANES + r]
        i += LANES
    if p.finish.pending:
        finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, p.cols)


cdef void row_gradient(const Product *p, const real *dy, real *db, int threads) noexcept nogil:
    """db[k, j] = a[k] * dy[j]."""
    cdef Py_ssize_t some = max(ROW_ITEMS // p.cols, <Py_ssize_t> 1), tasks = ceil_div(p.depth, some), task
    if tasks == 1:
        multiply_outer(p.a, p.depth, dy, p.cols, db)
        return
    for task in prange(tasks, num_threads=min(threads, tasks)):
        multiply_outer(p.a + task * some, min(some, p.depth - task * some), dy, p.cols, db + task * some * p.cols)


cdef void multiply_outer(const real *a, Py_ssize_t rows, const real *b, Py_ssize_t cols, real *to) noexcept nogil:
    cdef Py_ssize_t k, j
    for k in range(rows):
        for j in range(cols):
            to[j] = a[k] * b[j]
        to += cols
