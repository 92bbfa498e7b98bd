# Numbers that go elsewhere: channels from first to last and back, in another order, and beside others. By all threads, small as the
# work is: each finds in its own cache what it has computed, and one alone would fetch it from the others'.


cdef enum:
    MOVED = 16384   # elements of a task
    MOST_JOINED = 64


cdef void transpose_part(
    const real *x, real *y, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    """y[j * rows + i] = x[i * cols + j] for columns first .. end - 1, in squares where there are whole ones."""
    cdef Py_ssize_t i, j = first, height, width
    if rows == 3:
        j += (end - first) // LANES * LANES
        join_planes(x + first, cols, j - first, y + first * 3)
    while j < end:
        width = min(end - j, <Py_ssize_t> LANES)
        i = 0
        while i < rows:
            height = min(rows - i, <Py_ssize_t> LANES)
            if height == LANES and width == LANES:
                transpose_square(x + i * cols + j, cols, y + j * rows + i, rows)
            else:
                transpose_rest(x + i * cols + j, cols, y + j * rows + i, rows, height, width)
            i += LANES
        j += LANES


cdef inline void transpose_rest(
    const real *x, Py_ssize_t x_ld, real *y, Py_ssize_t y_ld, Py_ssize_t height, Py_ssize_t width
) noexcept nogil:
    """In small squares, the last of which overlap those before."""
    cdef Py_ssize_t i, j, row, col
    if height >= PART_LANES and width >= PART_LANES:
        for j in range(ceil_div(width, PART_LANES)):
            col = min(j * PART_LANES, width - PART_LANES)
            for i in range(ceil_div(height, PART_LANES)):
                row = min(i * PART_LANES, height - PART_LANES)
                transpose_small_square(x + row * x_ld + col, x_ld, y + col * y_ld + row, y_ld)
        return
    for j in range(width):
        for i in range(height):
            y[j * y_ld + i] = x[i * x_ld + j]


cdef void transpose_some(
    const real *x, real *y, Py_ssize_t many, Py_ssize_t rows, Py_ssize_t cols, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(many):
        transpose_part(x + i * rows * cols, y + i * rows * cols, rows, cols, first, end)


def transpose(x, y, Py_ssize_t batch, Py_ssize_t rows, Py_ssize_t cols, int threads, /):
    """y[n, j, i] = x[n, i, j] for matrices of `rows` x `cols`."""
    cdef const real *source = read_from(x)
    cdef real *to = write_to(y)
    cdef Py_ssize_t some = round_up(max(MOVED // rows, <Py_ssize_t> 1), LANES), parts = ceil_div(cols, some), task, first
    cdef Py_ssize_t many = max(MOVED // (rows * cols), <Py_ssize_t> 1)  # matrices of a task
    for task in prange(ceil_div(batch, many) * parts, nogil=True, num_threads=threads):
        first = task // parts * many
        transpose_some(
            source + first * rows * cols, to + first * rows * cols, min(many, batch - first), rows, cols, task % parts * some,
            min((task % parts + 1) * some, cols),
        )


cdef void pick_rows(const real *x, const int64_t *index, real *y, Py_ssize_t rows, Py_ssize_t channels, Py_ssize_t picked) noexcept nogil:
    cdef Py_ssize_t row, c
    for row in range(rows):
        for c in range(picked):
            y[c] = x[index[c]]
        x += channels
        y += picked


def pick_channels(x, index, y, Py_ssize_t channels, int threads, /):
    """y[m, c] = x[m, index[c]] for rows of so many channels; every index is one of them."""
    cdef Py_ssize_t task, items, picked
    cdef const real *source = read_from(x, &items)
    cdef const int64_t *places = records_of(index, &picked)
    cdef real *to = write_to(y)
    cdef Py_ssize_t rows = items // channels, some = max(MOVED // channels, <Py_ssize_t> 1)
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        pick_rows(
            source + task * some * channels, places, to + task * some * picked, min(some, rows - task * some), channels, picked
        )


cdef void copy_part(real *y, Py_ssize_t y_ld, const real *x, Py_ssize_t x_ld, Py_ssize_t rows, Py_ssize_t columns) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        copy(y + row * y_ld, x + row * x_ld, columns)


cdef void join_part(
    const real **xs, const Py_ssize_t *columns, int many, real *y, Py_ssize_t width, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    """Rows `first` .. `end` - 1 of y, in the order of memory.

    What a vector writes beyond its piece the next pieces write over; not so at the end, where pieces are copied as they are.
    """
    cdef Py_ssize_t row, i, items, least = columns[0]
    cdef const real *x
    cdef int k
    for k in range(many):
        least = min(least, columns[k])
    y += first * width
    for row in range(first, end):
        for k in range(many):
            items = columns[k]
            x = xs[k] + row * items
            if (end - row - 1) * least < LANES:
                copy(y, x, items)
            elif items <= PART_LANES:
                (<part *> y)[0] = (<const part *> x)[0]
            else:
                i = 0
                while i < items:
                    (<vec *> (y + i))[0] = (<const vec *> (x + i))[0]
                    i += LANES
            y += items


def join_columns(list xs, y, Py_ssize_t rows, int threads, /):
    """y[m] = xs[0][m], xs[1][m], and so on: so many rows side by side, of at most MOST_JOINED arrays."""
    cdef const real *sources[MOST_JOINED]
    cdef Py_ssize_t columns[MOST_JOINED]
    cdef Py_ssize_t width, task, some = max(ceil_div(rows, threads), <Py_ssize_t> 1)
    cdef int k, many = len(xs)
    cdef real *to = write_to(y, &width)
    for k in range(many):
        sources[k] = read_from(xs[k], &columns[k])
        columns[k] = columns[k] // rows
    width = width // rows
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        join_part(sources, columns, many, to, width, task * some, min((task + 1) * some, rows))


def copy_columns(x, Py_ssize_t x_first, y, Py_ssize_t y_first, Py_ssize_t rows, Py_ssize_t columns, int threads, /):
    """y[m, y_first + c] = x[m, x_first + c] for so many rows and columns."""
    cdef Py_ssize_t x_ld, y_ld, task, some = max(ceil_div(rows, threads), <Py_ssize_t> 1)
    cdef const real *source = read_from(x, &x_ld)
    cdef real *to = write_to(y, &y_ld)
    x_ld, y_ld = x_ld // rows, y_ld // rows
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        copy_part(
            to + task * some * y_ld + y_first, y_ld, source + task * some * x_ld + x_first, x_ld,
            min(some, rows - task * some), columns,
        )


cdef void scale_part(
    const real *x, Py_ssize_t x_ld, const real *factor, const real *shift, real low, real *y, Py_ssize_t rows, Py_ssize_t channels
) noexcept nogil:
    cdef real factors[SUM_NARROW * LANES]
    cdef real shifts[SUM_NARROW * LANES]
    cdef Py_ssize_t row, c, end = channels - LANES, some = rows_at_a_time(channels)
    cdef vec none = broadcast(0), last, more
    if SELDOM_USED and some > 1 and x_ld == channels and rows >= 2 * some:  # so many rows as one
        for row in range(some):
            memcpy(factors + row * channels, factor, channels * sizeof(real))
            if shift:
                memcpy(shifts + row * channels, shift, channels * sizeof(real))
        row = rows // some * some
        scale_part(x, some * channels, factors, shifts if shift else NULL, low, y, rows // some, some * channels)
        x += row * channels
        y += row * channels
        rows -= row
    for row in range(rows):
        if end < 0:
            more = load(shift, shift + channels) if shift else none
            last = load(x, x + channels) * load(factor, factor + channels) + more
            store(y, at_least(last, low), channels)
        else:
            last = (<const vec *> (x + end))[0]  # which overlaps the one before: read before that is written, since y may be x
            c = 0
            while c < end:
                more = (<const vec *> (shift + c))[0] if shift else none
                (<vec *> (y + c))[0] = at_least((<const vec *> (x + c))[0] * (<const vec *> (factor + c))[0] + more, low)
                c += LANES
            more = (<const vec *> (shift + end))[0] if shift else none
            (<vec *> (y + end))[0] = at_least(last * (<const vec *> (factor + end))[0] + more, low)
        x += x_ld
        y += channels


def scale_columns(x, Py_ssize_t first, factor, shift, y, Py_ssize_t channels, bint relu, int threads, /):
    """y[n, m, c] = f(x[n, m, first + c] * factor[n, c] + shift[c]) for all `channels` of y; f: ReLU or nothing.

    `factor` has one row for all, or one for each image n; `shift` may be None.
    """
    cdef Py_ssize_t items, x_items, factor_items, task, n, row, some, parts
    cdef const real *source = read_from(x, &x_items)
    cdef const real *factors = read_from(factor, &factor_items)
    cdef const real *shifts = NULL
    cdef real *to = write_to(y, &items)
    cdef Py_ssize_t images = factor_items // channels, rows = items // factor_items, x_ld = x_items // (images * rows)
    cdef real low = 0 if relu else -INFINITY
    if shift is not None:
        shifts = read_from(shift)
    some = max(MOVED // channels, <Py_ssize_t> 1)
    parts = ceil_div(rows, some)
    for task in prange(images * parts, nogil=True, num_threads=threads):
        n = task // parts
        row = task % parts * some
        scale_part(
            source + (n * rows + row) * x_ld + first, x_ld, factors + n * channels, shifts, low,
            to + (n * rows + row) * channels, min(some, rows - row), channels,
        )
