# Sums over rows, in parts whose number the sizes fix: the gradient of a bias, and what becomes of partial sums.


cdef enum:
    SUM_ROWS = 1024     # rows of a part: the rounding error grows with their number
    SUM_NARROW = 128    # narrower rows are taken several at a time
    SUM_ITEMS = 4096    # elements of a task


cdef void add_parts(const real *partial, Py_ssize_t parts, Py_ssize_t items, real *total, int threads) noexcept nogil:
    """total[i] = the sum of partial[part, i], in order."""
    cdef Py_ssize_t task, tasks = ceil_div(items, SUM_ITEMS)
    for task in prange(tasks, num_threads=min(threads, tasks)):
        add_some_parts(
            partial + task * SUM_ITEMS, parts, items, total + task * SUM_ITEMS,
            min(items - task * SUM_ITEMS, <Py_ssize_t> SUM_ITEMS),
        )


cdef void add_some_parts(
    const real *partial, Py_ssize_t parts, Py_ssize_t part_ld, real *total, Py_ssize_t items
) noexcept nogil:
    cdef Py_ssize_t part
    copy(total, partial, items)
    for part in range(1, parts):
        add_to(total, partial + part * part_ld, items)


cdef void add_to(real *total, const real *part, Py_ssize_t items) noexcept nogil:
    """total[i] += part[i]."""
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (total + i))[0] = (<vec *> (total + i))[0] + (<const vec *> (part + i))[0]
        i += LANES
    while i < items:
        total[i] += part[i]
        i += 1


cdef inline Py_ssize_t rows_at_a_time(Py_ssize_t cols) noexcept nogil:
    """So many rows that their neighboring elements fill whole vectors; one where rows are not narrow."""
    cdef Py_ssize_t rows = LANES
    if cols > SUM_NARROW:
        return 1
    while rows > 1 and rows // 2 * cols % LANES == 0 and rows // 2 * cols >= 4 * LANES:
        rows //= 2
    return rows


cdef void sum_rows(const real *x, Py_ssize_t row, Py_ssize_t end, Py_ssize_t cols, real *sums) noexcept nogil:
    cdef real wide[SUM_NARROW * LANES]
    cdef Py_ssize_t some = rows_at_a_time(cols), width = some * cols, c, i
    zero(sums, cols)
    if some > 1 and row + some <= end:
        zero(wide, width)
        while row + some <= end:
            for c in range(width):
                wide[c] += x[row * cols + c]
            row += some
        for i in range(some):
            for c in range(cols):
                sums[c] += wide[i * cols + c]
    while row < end:
        for c in range(cols):
            sums[c] += x[row * cols + c]
        row += 1


def column_sums(x, sums, int threads, /):
    """sums[c] = the sum of x[m, c] over all rows m; there is one at least. Scratch: the sums of parts of `SUM_ROWS` rows."""
    cdef Py_ssize_t items, cols, rows, parts, part
    cdef const real *source = read_from(x, &items)
    cdef real *to = write_to(sums, &cols)
    cdef real *partial = to
    with nogil:
        rows = items // cols
        parts = ceil_div(rows, SUM_ROWS)
        if parts > 1:
            partial = new_scratch(own_lines(parts * cols), 1)
        if parts == 1:
            sum_rows(source, 0, rows, cols, to)
        elif partial != NULL:
            for part in prange(parts, num_threads=min(threads, parts)):
                sum_rows(source, part * SUM_ROWS, min((part + 1) * SUM_ROWS, rows), cols, partial + part * cols)
            add_parts(partial, parts, cols, to, 1)
            free_lines(partial)
    if partial == NULL:
        raise MemoryError("no memory for the partial sums of a bias gradient")
