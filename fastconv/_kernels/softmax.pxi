# Softmax, its logarithm and the cross entropy of the rows of a matrix. The greatest number is subtracted first: no power overflows.
from libc.math cimport log


cdef inline real greatest_of(const real *x, Py_ssize_t items) noexcept nogil:
    cdef vec part, most = broadcast(-INFINITY)
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = (<const vec *> (x + i))[0]
        most = choose(above(part, most), part, most)
        i += LANES
    if rest:
        part = end_of_row(x, items, rest, -INFINITY)
        most = choose(above(part, most), part, most)
    return maximum_of(most)


cdef inline real sum_of_powers(const real *x, Py_ssize_t items, real greatest, real *powers) noexcept nogil:
    """The sum of exp(x - greatest), each of which is written to `powers`, unless that is NULL."""
    cdef vec part, total = broadcast(0)
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = exp_negative((<const vec *> (x + i))[0] - broadcast(greatest))
        if powers != NULL:
            (<vec *> (powers + i))[0] = part
        total = total + part
        i += LANES
    if rest:
        total = total + exp_negative(end_of_row(x, items, rest, -INFINITY) - broadcast(greatest))
        if powers != NULL:
            store(powers + whole, exp_negative(load(x + whole, x + items) - broadcast(greatest)), rest)
    return sum_of(total)


cdef inline void softmax_row(const bint logarithm, const real *x, real *y, Py_ssize_t items) noexcept nogil:
    cdef real greatest = greatest_of(x, items), norm
    cdef Py_ssize_t i
    if logarithm:
        norm = <real> log(<double> sum_of_powers(x, items, greatest, NULL))
        for i in range(items):
            y[i] = (x[i] - greatest) - norm
    else:
        norm = 1 / sum_of_powers(x, items, greatest, y)
        for i in range(items):
            y[i] *= norm


cdef inline void softmax_backward_row(
    const bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t items
) noexcept nogil:
    cdef vec part, total = broadcast(0)
    cdef real all
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = (<const vec *> (dy + i))[0]
        total = total + (part if logarithm else part * (<const vec *> (y + i))[0])
        i += LANES
    if rest:
        part = end_of_row(dy, items, rest, 0)
        total = total + (part if logarithm else part * end_of_row(y, items, rest, 0))
    all = sum_of(total)
    i = 0
    while i < whole:
        part = (<const vec *> (y + i))[0]
        if logarithm:
            part = (<const vec *> (dy + i))[0] - exp_negative(part) * all
        else:
            part = part * ((<const vec *> (dy + i))[0] - broadcast(all))
        (<vec *> (dx + i))[0] = part
        i += LANES
    if rest:
        part = load(y + whole, y + items)
        if logarithm:
            part = load(dy + whole, dy + items) - exp_negative(part) * all
        else:
            part = part * (load(dy + whole, dy + items) - broadcast(all))
        store(dx + whole, part, rest)


cdef void softmax_rows(bint logarithm, const real *x, real *y, Py_ssize_t rows, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        if logarithm:
            softmax_row(True, x + row * items, y + row * items, items)
        else:
            softmax_row(False, x + row * items, y + row * items, items)


cdef void softmax_backward_rows(
    bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        if logarithm:
            softmax_backward_row(True, dy + row * items, y + row * items, dx + row * items, items)
        else:
            softmax_backward_row(False, dy + row * items, y + row * items, dx + row * items, items)


def softmax_forward(x, y, Py_ssize_t items, bint logarithm, int threads, /):
    """y[m, i] = exp(x[m, i]) / sum_j exp(x[m, j]), or its logarithm; rows of so many items."""
    cdef Py_ssize_t task, rows, some = rows_of_task(items)
    cdef const real *source = read_from(x, &rows)
    cdef real *to = write_to(y)
    rows = rows // items
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        softmax_rows(
            logarithm, source + task * some * items, to + task * some * items, min(some, rows - task * some), items
        )


def softmax_backward(dy, y, dx, Py_ssize_t items, bint logarithm, int threads, /):
    """dx = y * (dy - sum_j dy * y), or dy - exp(y) * sum_j dy where y is the logarithm."""
    cdef Py_ssize_t task, rows, some = rows_of_task(items)
    cdef const real *source = read_from(y, &rows)
    cdef const real *gradient = read_from(dy)
    cdef real *to = write_to(dx)
    rows = rows // items
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        softmax_backward_rows(
            logarithm, gradient + task * some * items, source + task * some * items, to + task * some * items,
            min(some, rows - task * some), items,
        )


cdef double cross_entropy_row(const real *x, Py_ssize_t items, Py_ssize_t label, double smoothing) noexcept nogil:
    """Minus the sum of target * log_softmax, the target being a mixture of the label and all classes alike."""
    cdef real greatest = greatest_of(x, items)
    cdef double norm = log(<double> sum_of_powers(x, items, greatest, NULL)), loss = 0, total = 0
    cdef Py_ssize_t i
    if smoothing < 1:
        loss = (1 - smoothing) * ((<double> x[label] - greatest) - norm)
    if smoothing > 0:
        for i in range(items):
            total += (<double> x[i] - greatest) - norm
        loss += smoothing / items * total
    return -loss


cdef void cross_entropy_backward_row(
    const real *x, real *dx, Py_ssize_t items, Py_ssize_t label, double smoothing, double share
) noexcept nogil:
    cdef real greatest = greatest_of(x, items), norm, even = <real> (smoothing / items * share)
    cdef Py_ssize_t i
    norm = <real> (share / sum_of_powers(x, items, greatest, dx))
    for i in range(items):
        dx[i] = dx[i] * norm - even
    dx[label] -= <real> ((1 - smoothing) * share)


cdef void cross_entropy_rows(
    const real *x, const int64_t *labels, double *losses, real *dx, Py_ssize_t rows, Py_ssize_t items, double smoothing, double share
) noexcept nogil:
    """The gradients, or where dx is NULL the losses."""
    cdef Py_ssize_t row
    for row in range(rows):
        if dx == NULL:
            losses[row] = cross_entropy_row(x + row * items, items, labels[row], smoothing)
        else:
            cross_entropy_backward_row(x + row * items, dx + row * items, items, labels[row], smoothing, share)


cdef Py_ssize_t first_outside(const int64_t *labels, Py_ssize_t rows, Py_ssize_t classes) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        if not 0 <= labels[row] < classes:
            return row
    return -1


def cross_entropy_forward(x, labels, losses, Py_ssize_t items, double smoothing, int threads, /):
    """losses[m] = -sum_i target[m, i] * log_softmax(x)[m, i], in float64; labels are int64, rows have so many items.

    Returns -1, or the first row whose label is none of the classes; then nothing is written.
    """
    cdef Py_ssize_t task, rows, wrong, some = rows_of_task(items)
    cdef const int64_t *right = records_of(labels, &rows)
    cdef const real *source = read_from(x)
    cdef double *to = sums_of(losses)
    wrong = first_outside(right, rows, items)
    if wrong >= 0:
        return wrong
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        cross_entropy_rows(
            source + task * some * items, right + task * some, to + task * some, NULL, min(some, rows - task * some), items,
            smoothing, 0,
        )
    return -1


def cross_entropy_backward(x, labels, dx, Py_ssize_t items, double smoothing, double share, int threads, /):
    """dx = (softmax(x) - target) * share; returns what `cross_entropy_forward` returns."""
    cdef Py_ssize_t task, rows, wrong, some = rows_of_task(items)
    cdef const int64_t *right = records_of(labels, &rows)
    cdef const real *source = read_from(x)
    cdef real *to = write_to(dx)
    wrong = first_outside(right, rows, items)
    if wrong >= 0:
        return wrong
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        cross_entropy_rows(
            source + task * some * items, right + task * some, NULL, to + task * some * items, min(some, rows - task * some),
            items, smoothing, share,
        )
    return -1
