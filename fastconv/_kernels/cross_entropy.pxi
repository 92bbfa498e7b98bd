# The cross entropy of the rows of a matrix and its gradient: the softmax of each row (softmax.pxi), and what its label makes of it.
from libc.math cimport log


cdef double sum_around_greatest(const real *x, Py_ssize_t items, real greatest) noexcept nogil:
    """The sum of x - greatest, in double precision after so many vectors."""
    cdef vec part
    cdef double total = 0
    cdef Py_ssize_t i = 0, end, rest = items % LANES, whole = items - rest
    while i < whole:
        part = broadcast(0)
        end = min(i + ROW_VECTORS * LANES, whole)
        while i < end:
            part = part + ((<const vec *> (x + i))[0] - broadcast(greatest))
            i += LANES
        total += sum_of(part)
    if rest:
        total += sum_of(end_of_row(x, items, rest, greatest) - broadcast(greatest))
    return total


cdef double cross_entropy_row(const real *x, Py_ssize_t items, Py_ssize_t label, double smoothing) noexcept nogil:
    """Minus the sum of target * log_softmax, the target being a mixture of the label and all classes alike."""
    cdef real greatest = greatest_of(x, items)
    cdef double norm = log(<double> sum_of_powers(x, items, greatest, NULL)), loss = 0
    if smoothing < 1:
        loss = (1 - smoothing) * ((<double> x[label] - greatest) - norm)
    if smoothing > 0:
        loss += smoothing * (sum_around_greatest(x, items, greatest) / items - norm)
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


cdef void cross_entropy_lanes(
    const Turn *turn, const real *x, const int64_t *labels, double *losses, real *dx, Py_ssize_t rows, Py_ssize_t items,
    double smoothing, double share,
) noexcept nogil:
    """The same for at most LANES short rows."""
    cdef vec room[SHORT]
    cdef real *lanes = <real *> room
    cdef Py_ssize_t r, i
    cdef double loss, total
    into_lanes(turn, x, rows, items, lanes)
    softmax_lanes(dx == NULL, lanes, lanes, LANES, items, <real> share, <real> (smoothing / items * share))
    if dx != NULL:
        from_lanes(turn, lanes, rows, items, dx)
    for r in range(rows):
        if dx != NULL:
            dx[r * items + labels[r]] -= <real> ((1 - smoothing) * share)
            continue
        loss = total = 0
        if smoothing < 1:
            loss = (1 - smoothing) * <double> lanes[labels[r] * LANES + r]
        if smoothing > 0:
            for i in range(items):
                total = total + <double> lanes[i * LANES + r]
            loss = loss + smoothing / items * total
        losses[r] = -loss


cdef void cross_entropy_rows(
    const Turn *turn, const real *x, const int64_t *labels, double *losses, real *dx, Py_ssize_t rows, Py_ssize_t items,
    double smoothing, double share,
) noexcept nogil:
    """The gradients, or where dx is NULL the losses."""
    cdef Py_ssize_t row = 0
    while items <= SHORT and row < rows:
        cross_entropy_lanes(
            turn, x + row * items, labels + row, losses + row if dx == NULL else NULL, dx + row * items if dx != NULL else NULL,
            min(rows - row, <Py_ssize_t> LANES), items, smoothing, share,
        )
        row += LANES
    for row in range(row, rows):
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
    cdef Turn places
    cdef const Turn *turn = set_turn(items, &places)
    cdef Py_ssize_t task, rows, wrong, some = rows_of_task(items)
    cdef const int64_t *right = records_of(labels, &rows)
    cdef const real *source = read_from(x)
    cdef double *to = sums_of(losses)
    wrong = first_outside(right, rows, items)
    if wrong >= 0:
        return wrong
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        cross_entropy_rows(
            turn, source + task * some * items, right + task * some, to + task * some, NULL, min(some, rows - task * some), items,
            smoothing, 0,
        )
    return -1


def cross_entropy_backward(x, labels, dx, Py_ssize_t items, double smoothing, double share, int threads, /):
    """dx = (softmax(x) - target) * share; returns what `cross_entropy_forward` returns."""
    cdef Turn places
    cdef const Turn *turn = set_turn(items, &places)
    cdef Py_ssize_t task, rows, wrong, some = rows_of_task(items)
    cdef const int64_t *right = records_of(labels, &rows)
    cdef const real *source = read_from(x)
    cdef real *to = write_to(dx)
    wrong = first_outside(right, rows, items)
    if wrong >= 0:
        return wrong
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        cross_entropy_rows(
            turn, source + task * some * items, right + task * some, NULL, to + task * some * items, min(some, rows - task * some),
            items, smoothing, share,
        )
    return -1
