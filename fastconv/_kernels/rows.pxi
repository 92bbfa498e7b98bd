# Each row of a matrix by itself: what the rows share, and layer normalization. Vectors run along the row of C numbers; the sum of a row
# is that of LANES partial sums, whatever the number of threads.
from libc.math cimport sqrt

cdef enum:
    PORTION_ROWS = 4096   # numbers of a task, about
    FEW_ROWS = 16         # whose parameter gradients are summed in the dtype of x before they go to sums in double


cdef inline Py_ssize_t rows_of_task(Py_ssize_t items) noexcept nogil:
    return max(PORTION_ROWS // items // LANES * LANES, <Py_ssize_t> 1)   # whole vectors of short rows


cdef inline vec lane_numbers() noexcept nogil:
    cdef real numbers[LANES]
    cdef Py_ssize_t i
    for i in range(LANES):
        numbers[i] = i
    return (<vec *> numbers)[0]


cdef inline vec end_of_row(const real *x, Py_ssize_t items, Py_ssize_t rest, real other) noexcept nogil:
    """The last `rest` numbers of a row, fewer than LANES, in the last lanes or, of a short row, in the first; `other` elsewhere."""
    if items < LANES:
        return choose(above(broadcast(<real> rest), lane_numbers()), load(x, x + items), broadcast(other))
    return choose(
        above(lane_numbers(), broadcast(<real> (LANES - rest) - <real> 0.5)), (<const vec *> (x + items - LANES))[0], broadcast(other)
    )


cdef inline real sum_of(vec x) noexcept nogil:
    cdef real part[LANES]
    cdef Py_ssize_t i, half = LANES // 2
    (<vec *> part)[0] = x
    while half:
        for i in range(half):
            part[i] += part[i + half]
        half = half // 2
    return part[0]


cdef inline real maximum_of(vec x) noexcept nogil:
    cdef real part[LANES]
    cdef Py_ssize_t i, half = LANES // 2
    (<vec *> part)[0] = x
    while half:
        for i in range(half):
            part[i] = max(part[i], part[i + half])
        half = half // 2
    return part[0]


cdef inline real row_mean(const real *x, Py_ssize_t items) noexcept nogil:
    cdef vec total = broadcast(0)
    cdef Py_ssize_t i = 0, rest = items % LANES, whole = items - rest
    while i < whole:
        total = total + (<const vec *> (x + i))[0]
        i += LANES
    if rest:
        total = total + end_of_row(x, items, rest, 0)
    return sum_of(total) / items


cdef inline void row_statistics(
    const real *x, Py_ssize_t items, double eps, bint centred, double floor, real *mean, real *inverse
) noexcept nogil:
    """The mean of a row and 1 / sqrt(max(variance + eps, floor)); not `centred`, of mean 0."""
    cdef vec total = broadcast(0), part
    cdef Py_ssize_t i = 0, rest = items % LANES, whole = items - rest
    mean[0] = row_mean(x, items) if centred else 0
    while i < whole:
        part = (<const vec *> (x + i))[0] - broadcast(mean[0])
        total = total + part * part
        i += LANES
    if rest:
        part = end_of_row(x, items, rest, mean[0]) - broadcast(mean[0])
        total = total + part * part
    inverse[0] = <real> (1 / sqrt(max(<double> (sum_of(total) / items) + eps, floor)))


cdef void layer_norm_row(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t items, double eps, bint centred, double floor
) noexcept nogil:
    cdef real mean, inverse
    cdef Py_ssize_t i
    row_statistics(x, items, eps, centred, floor, &mean, &inverse)
    for i in range(items):
        y[i] = (x[i] - mean) * inverse * scale[i] + bias[i]


cdef inline void layer_norm_backward_row(
    const real *dy, const real *x, const real *scale, real *dx, Py_ssize_t items, double eps, real *mean, real *inverse
) noexcept nogil:
    cdef vec part, d, squares = broadcast(0), shifts = broadcast(0), stretches = broadcast(0)
    cdef real shift, stretch, middle = row_mean(x, items), factor
    cdef Py_ssize_t i = 0, rest = items % LANES, whole = items - rest
    while i < whole:
        d = (<const vec *> (x + i))[0] - broadcast(middle)
        part = (<const vec *> (dy + i))[0] * (<const vec *> (scale + i))[0]
        squares = squares + d * d
        shifts = shifts + part
        stretches = stretches + part * d
        i += LANES
    if rest:
        d = end_of_row(x, items, rest, middle) - broadcast(middle)
        part = end_of_row(dy, items, rest, 0) * end_of_row(scale, items, rest, 0)
        squares = squares + d * d
        shifts = shifts + part
        stretches = stretches + part * d
    factor = <real> (1 / sqrt(<double> (sum_of(squares) / items) + eps))
    shift, stretch = sum_of(shifts) / items, sum_of(stretches) / items * factor * factor
    mean[0], inverse[0] = middle, factor
    i = 0
    while i < whole:
        part = (<const vec *> (dy + i))[0] * (<const vec *> (scale + i))[0] - broadcast(shift)
        (<vec *> (dx + i))[0] = (part - ((<const vec *> (x + i))[0] - broadcast(middle)) * stretch) * factor
        i += LANES
    while i < items:
        dx[i] = (dy[i] * scale[i] - shift - (x[i] - middle) * stretch) * factor
        i += 1


cdef void layer_norm_backward_rows(
    const real *dy, const real *x, const real *scale, real *dx, double *sums, Py_ssize_t rows, Py_ssize_t items, double eps
) noexcept nogil:
    cdef real mean[FEW_ROWS]
    cdef real inverse[FEW_ROWS]
    cdef real parts[2 * LANES]
    cdef vec dscale, dbias, part
    cdef Py_ssize_t row = 0, r, some, i, at
    for i in range(2 * items):
        sums[i] = 0
    while row < rows:
        some = min(rows - row, <Py_ssize_t> FEW_ROWS)
        for r in range(some):
            at = (row + r) * items
            layer_norm_backward_row(dy + at, x + at, scale, dx + at, items, eps, &mean[r], &inverse[r])
        i = 0
        while i < items:
            dscale = dbias = broadcast(0)
            for r in range(some):
                at = (row + r) * items
                part = load(dy + at + i, dy + at + items)
                dbias = dbias + part
                dscale = dscale + part * ((load(x + at + i, x + at + items) - broadcast(mean[r])) * inverse[r])
            (<vec *> parts)[0], (<vec *> (parts + LANES))[0] = dscale, dbias
            for r in range(min(items - i, <Py_ssize_t> LANES)):
                sums[i + r] += parts[r]
                sums[items + i + r] += parts[LANES + r]
            i += LANES
        row += some


cdef void layer_norm_rows(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t rows, Py_ssize_t items, double eps, bint centred,
    double floor,
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        layer_norm_row(x + row * items, scale, bias, y + row * items, items, eps, centred, floor)


def layer_norm_forward(x, scale, bias, y, double eps, bint centred, double floor, int threads, /):
    """y[m, c] = (x[m, c] - mean[m]) / sqrt(max(var[m] + eps, floor)) * scale[c] + bias[c]; not `centred`, as if mean were 0."""
    cdef Py_ssize_t task, rows, items, some
    cdef const real *source = read_from(x, &rows)
    cdef const real *factors = read_from(scale, &items)
    cdef const real *shifts = read_from(bias)
    cdef real *to = write_to(y)
    rows, some = rows // items, rows_of_task(items)
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        layer_norm_rows(
            source + task * some * items, factors, shifts, to + task * some * items, min(some, rows - task * some), items, eps,
            centred, floor,
        )


def layer_norm_backward(dy, x, scale, dx, double[:, :, ::1] partial, double eps, int threads, /):
    """dx, and partial[i] = the gradients of scale and bias from part i of as many even parts of the rows as it has."""
    cdef Py_ssize_t task, rows, items, some
    cdef const real *source = read_from(x, &rows)
    cdef const real *factors = read_from(scale, &items)
    cdef const real *gradient = read_from(dy)
    cdef real *to = write_to(dx)
    cdef double *sums = &partial[0, 0, 0]
    rows = rows // items
    some = ceil_div(rows, partial.shape[0])
    for task in prange(partial.shape[0], nogil=True, num_threads=threads):
        layer_norm_backward_rows(
            gradient + task * some * items, source + task * some * items, factors, to + task * some * items,
            sums + 2 * task * items, max(min(some, rows - task * some), <Py_ssize_t> 0), items, eps,
        )
