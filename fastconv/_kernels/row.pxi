# One row times a matrix, and what goes back: a linear layer that meets one image. Nothing is used twice, so nothing is packed:
# the matrix is read once, along its rows, which lie in memory one behind the other. Some rows times a matrix that no near cache
# holds likewise: some of its rows at a time are in the first-level cache for all of them.


cdef enum:
    ROW_STEP = 8        # rows of the matrix at a time: so many streams a core reads at once, and fewer stores of the sums,
    SHORT_ROW = 2048    # unless they are of fewer bytes, on processors of low tiles: then streams end before they pay
    ROW_AHEAD = 16384   # bytes ahead that are asked for: a stream ends with its page, before a processor has learnt to follow it
    ROW_WIDTH = 4096    # columns of a task: their sums stay in a near cache
    ROW_VECS = 8        # vectors of columns whose sums stay in registers
    ROW_KEPT = 3 << 16  # bytes of a matrix that the second-level cache still holds when it is read again
    ROW_ITEMS = 16384   # elements of the matrix in a task of its own
    ROW_IMAGES = 4      # rows of the left operand that use a vector of the matrix while it is in a register; 2 where that is seldom
    FEW_IMAGES = 8      # of them in all: for more a tile pays, although it reads more streams at once,
    MANY_IMAGES = 28 - 12 * LOW_TILE  # or, where the matrix comes from memory, for still more
    SHARED_BYTES = 1 << 14  # rows of y that are a multiple of it apart share sets of the second-level cache,
    SHARED_ROWS = 12    # which has room for so many of them beside the matrix


cdef bint is_one_row(const Product *p) noexcept nogil:
    """Whether the left operand is one row, all of whose elements are in the input: one pixel, one tap."""
    return (
        product_rows(p) == 1 and taps_of(p) == 1 and p.d.origin == p.h.origin == p.w.origin == 0
        and p.d.size == p.h.size == p.w.size == p.out_d == p.out_h == p.out_w == 1
    )


cdef bint are_rows_of_far(const Product *p) noexcept nogil:
    """Whether the left operand is some rows, and the right one lies by rows, which come from afar."""
    cdef Py_ssize_t rows = product_rows(p), size = p.depth * p.cols * <Py_ssize_t> sizeof(real)
    cdef bint many = size > 2 * FAR and (SELDOM_USED or not LOW_TILE)  # a low tile pays before images that go two by two
    return (
        1 < rows <= (MANY_IMAGES if many else FEW_IMAGES) and is_line(p) and p.depth == p.a_ld and p.b_col == 1
        and p.packed == NULL and p.cols >= ROW_VECS * LANES and size > NEAREST
    )


cdef void run_row(const Product *p, int threads) noexcept nogil:
    """y[i, j] = f(bias[j] + sum_k a[i, k] * b[k, j] + residual[i, j]), in the order of k where the matrix lies by rows of b."""
    cdef Py_ssize_t some = LANES * max(ROW_ITEMS // (LANES * p.depth), <Py_ssize_t> 1), tasks, task
    if p.b_col == 1:  # as wide as possible: a row of the matrix is read without gaps
        some = max(some, round_up(ceil_div(p.cols, threads), LANES))
        some = min(some, ROW_WIDTH * ROW_IMAGES // max(product_rows(p), <Py_ssize_t> ROW_IMAGES) // LANES * LANES)
    tasks = ceil_div(p.cols, some)
    if tasks == 1:
        rows_part(p, 0, p.cols)
        return
    for task in prange(tasks, num_threads=min(threads, tasks)):
        rows_part(p, task * some, min((task + 1) * some, p.cols))


cdef void rows_part(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """The same of columns first .. end - 1; the sums of many rows that share sets of the second-level cache are apart from y."""
    cdef Product q = p[0]
    cdef Py_ssize_t images = product_rows(p), i
    cdef real *sums = NULL
    if images > SHARED_ROWS and p.y_ld * <Py_ssize_t> sizeof(real) % SHARED_BYTES == 0:
        q.y_ld = own_lines(end - first + LANES)
        sums = new_scratch(images * q.y_ld, 1)
    if sums == NULL:
        row_part(p, first, end)
    else:
        q.y = sums - first
        row_part(&q, first, end)
        for i in range(images):
            copy(p.y + i * p.y_ld + first, sums + i * q.y_ld, end - first)
        free_lines(sums)
    for i in range(images if p.finish.pending else 0):
        finish_values(&p.finish, p.y + i * p.y_ld + first, i * p.y_ld + first, end - first, first)


cdef void row_part(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """Columns first .. end - 1."""
    cdef Py_ssize_t images = product_rows(p), i, j = first, k = 0, step, some, turns
    if p.b_col != 1:
        while j < end:
            column_dots(p, j)
            j += LANES
    else:
        for i in range(images):
            for j in range(first, end):
                p.y[i * p.y_ld + j] = p.bias[j] if p.bias else 0
        turns = register_turns(p, end - first) if images == 1 else 0
        if turns:
            some = round_up(ceil_div(end - first, turns), LANES)
            for i in range(turns):
                add_rows_in_registers(p, first + i * some, min(first + (i + 1) * some, end))
            k = p.depth
        elif p.cols < LANES:
            add_narrow_rows(p)
            k = p.depth
        while k < p.depth:
            step = 1 if k + ROW_STEP > p.depth or images == 1 and are_short(p) else ROW_STEP
            i = 0
            while i < images:
                some = ceil_div(images - i, ceil_div(images - i, ROW_IMAGES if SELDOM_USED else 2)) if step > 1 else 1
                if step == 1:
                    add_rows(1, 1, True, p, i, k, first, end)
                elif some == 1 and are_apart(p):
                    add_rows(ROW_STEP, 1, True, p, i, k, first, end)
                elif SELDOM_USED and some == 1:
                    add_rows(ROW_STEP, 1, False, p, i, k, first, end)
                elif some == 2:
                    add_rows(ROW_STEP, 2, not LOW_TILE, p, i, k, first, end)
                elif SELDOM_USED and some == 3:
                    add_rows(ROW_STEP, 3, not LOW_TILE, p, i, k, first, end)
                elif SELDOM_USED:
                    add_rows(ROW_STEP, ROW_IMAGES, not LOW_TILE, p, i, k, first, end)
                i += some
            k += step


cdef inline bint are_short(const Product *p) noexcept nogil:
    """Whether rows of the matrix are read one after the other."""
    return SELDOM_USED and LOW_TILE and p.b_k * <Py_ssize_t> sizeof(real) < SHORT_ROW


cdef inline bint are_apart(const Product *p) noexcept nogil:
    """Whether the first-level cache has room for rows that are asked for beside those that are read; others than low tiles ask anyway."""
    return not SELDOM_USED or not LOW_TILE or p.b_k * sizeof(real) % SETS != 0


cdef inline Py_ssize_t register_turns(const Product *p, Py_ssize_t cols) noexcept nogil:
    """In how many turns the sums of so many columns fit registers: whole rows of the matrix, which then come one after the other, or
    near ones, which low tiles may read in two turns; 0 where that does not pay."""
    cdef Py_ssize_t turns = ceil_div(cols, ROW_VECS * LANES), size = p.depth * p.b_k * <Py_ssize_t> sizeof(real)
    if turns == 1:
        return 1 if cols > ROW_VECS // 2 * LANES and (cols == p.b_k or size <= NEAREST) else 0
    return 2 if SELDOM_USED and LOW_TILE and turns == 2 and size <= ROW_KEPT else 0


cdef void add_rows_in_registers(const Product *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    """y[j] += sum_k a[k] * b[k, j]; the last vectors overlap those before."""
    cdef vec total[ROW_VECS]
    cdef const real *b[ROW_VECS]
    cdef Py_ssize_t at[ROW_VECS]
    cdef Py_ssize_t k = 0, i
    for i in range(ROW_VECS):
        at[i] = min(first + i * LANES, end - LANES)
        b[i] = p.b + at[i]
        total[i] = (<const vec *> (p.y + at[i]))[0]
    for k in range(p.depth):
        for i in range(ROW_VECS):
            total[i] = total[i] + (<const vec *> b[i])[0] * p.a[k]
            b[i] += p.b_k
    for i in range(ROW_VECS):
        (<vec *> (p.y + at[i]))[0] = total[i]


cdef void add_narrow_rows(const Product *p) noexcept nogil:
    """y[j] += sum_k a[k] * b[k, j] for rows of less than a vector, which reaches into the next ones."""
    cdef const real *b = p.b
    cdef const real *end = p.b + (p.depth - 1) * p.b_k + p.cols
    cdef Py_ssize_t whole = max(p.depth - ceil_div(LANES - p.cols, p.b_k), <Py_ssize_t> 0), k
    cdef vec total = load(p.y, p.y + p.cols)
    for k in range(whole):
        total = total + (<const vec *> b)[0] * p.a[k]
        b += p.b_k
    for k in range(whole, p.depth):
        total = total + load(b, end) * p.a[k]
        b += p.b_k
    store(p.y, total, p.cols)


cdef inline void add_rows(
    const int rows, const int images, const bint asks, const Product *p, Py_ssize_t image, Py_ssize_t k, Py_ssize_t j, Py_ssize_t end
) noexcept nogil:
    """y[i, j] += a[i, k] * b[k, j] for `rows` rows of the matrix from k on, one after the other for each column, and `images` of a."""
    cdef const real *a = p.a + image * p.a_ld + k
    cdef real *y = p.y + image * p.y_ld
    cdef const real *b = p.b + k * p.b_k
    cdef const real *b_end = p.b + (p.depth - 1) * p.b_k + p.cols
    cdef vec total[ROW_IMAGES]
    cdef vec row
    cdef Py_ssize_t i, r, ahead = round_up(ceil_div(ROW_AHEAD // <Py_ssize_t> sizeof(real), p.b_k), rows) * p.b_k
    while j + LANES <= end:
        for i in range(images):
            total[i] = (<vec *> (y + i * p.y_ld + j))[0]
        for r in range(rows):
            if asks:
                fetch(b + ahead + r * p.b_k + j)
            row = (<const vec *> (b + r * p.b_k + j))[0]
            for i in range(images):
                total[i] = total[i] + row * a[i * p.a_ld + r]
        for i in range(images):
            (<vec *> (y + i * p.y_ld + j))[0] = total[i]
        j += LANES
    if j < end:
        for i in range(images):
            total[0] = load(y + i * p.y_ld + j, y + i * p.y_ld + end)
            for r in range(rows):
                total[0] = total[0] + load(b + r * p.b_k + j, b_end) * a[i * p.a_ld + r]
            store(y + i * p.y_ld + j, total[0], end - j)


cdef void column_dots(const Product *p, Py_ssize_t j) noexcept nogil:
    """LANES elements of y from j, where the matrix lies by columns."""
    cdef const real *columns[LANES]
    cdef real short[(LANES + 1) * LANES]  # of columns shorter than a vector
    cdef const real *a = p.a
    cdef vec last
    cdef Py_ssize_t i
    cdef vec sums = load(p.bias + j, p.bias + p.cols) if p.bias else broadcast(0)
    cdef Dots d
    for i in range(LANES):
        columns[i] = p.b + min(j + i, p.cols - 1) * p.b_col
    if p.depth < LANES:
        for i in range(LANES + 1):
            (<vec *> (short + i * LANES))[0] = broadcast(0)
            memcpy(short + i * LANES, columns[i] if i < LANES else a, p.depth * sizeof(real))
        for i in range(LANES):
            columns[i] = short + i * LANES
        a = short + LANES * LANES
    d.columns, d.taps, d.depth = a, 1, max(p.depth, <Py_ssize_t> LANES)
    d.at_ld = d.offset = d.ahead = d.column = 0
    d.fresh = fresh_lanes(d.depth)
    last = where(d.fresh, (<const vec *> (a + d.depth - LANES))[0])
    d.last = <const real *> &last
    all_dots(1, &d, columns, LANES, sums, <real *> &sums)
    store(p.y + j, sums, min(p.cols - j, <Py_ssize_t> LANES))


cdef bint are_rows_by_columns(const Product *p) noexcept nogil:
    """Whether the left operand is so few rows that each column of the right one, which lies by columns, is multiplied by all at once."""
    cdef Py_ssize_t rows = product_rows(p)
    return (
        rows > 1 and (2 if SELDOM_USED else 4) * rows <= LANES <= p.depth and is_line(p) and p.depth == p.a_ld and p.b_k == 1
        and p.b_col == p.depth and p.cols >= LANES and p.packed == NULL and not p.finish.pending
    )


cdef int run_columns(const Product *p, int threads) noexcept nogil:
    """y[i, j] = bias[j] + sum_k a[i, k] * b[j, k]: dot products (dots.pxi) of rows of b, which are read once. -1: no memory."""
    cdef Py_ssize_t rows = product_rows(p), i, j
    cdef Product q = p[0]
    cdef real *transposed = new_scratch(own_lines(p.cols * rows), 1)
    cdef int status = -1
    if transposed != NULL:
        join_lines(&q)
        q.a, q.b, q.bias, q.y = p.b, p.a, NULL, transposed
        q.w.size = q.w.rows = q.out_w = p.cols
        q.cols = q.y_ld = rows
        q.b_col = p.a_ld
        status = run_dots(&q, 1, 0, threads)
        for i in range(rows):
            for j in range(p.cols):
                p.y[i * p.y_ld + j] = transposed[j * rows + i] + (p.bias[j] if p.bias else 0)
    free_lines(transposed)
    return status


cdef void row_gradient(const Product *p, const real *dy, real *db, int threads) noexcept nogil:
    """db[k, j] = a[k] * dy[j]."""
    cdef Py_ssize_t some = max(ROW_ITEMS // p.cols, <Py_ssize_t> 1), tasks = ceil_div(p.depth, some), task
    if tasks == 1:
        multiply_outer(p.a, p.depth, dy, p.cols, db)
        return
    for task in prange(tasks, num_threads=min(threads, tasks)):
        multiply_outer(p.a + task * some, min(some, p.depth - task * some), dy, p.cols, db + task * some * p.cols)


cdef void multiply_outer(const real *a, Py_ssize_t rows, const real *b, Py_ssize_t cols, real *to) noexcept nogil:
    """to[k * cols + j] = a[k] * b[j], in vectors that begin at a cache line but for the first and the last of a row.

    A row shorter than a vector is written with what the next rows overwrite.
    """
    cdef real short[LANES]
    cdef real *end = to + rows * cols
    cdef Py_ssize_t k, j
    if cols < LANES:
        (<vec *> short)[0] = load(b, b + cols)
        for k in range(rows):
            store(to, (<const vec *> short)[0] * a[k], end - to)
            to += cols
        return
    for k in range(rows):
        (<vec *> to)[0] = (<const vec *> b)[0] * a[k]
        j = LANES - <Py_ssize_t> (<size_t> to // sizeof(real) % LANES)
        while j + LANES <= cols:
            (<vec *> (to + j))[0] = (<const vec *> (b + j))[0] * a[k]
            j += LANES
        if j < cols:
            (<vec *> (to + cols - LANES))[0] = (<const vec *> (b + cols - LANES))[0] * a[k]
        to += cols
