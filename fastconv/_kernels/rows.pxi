# Each row of a matrix by itself: layer normalization and softmax, rows of C numbers. Vectors run along the row; the sum of a row is
# that of LANES partial sums, whatever the number of threads.
from libc.math cimport log, sqrt

cdef enum:
    PORTION_ROWS = 4096   # numbers of a task, about


cdef inline mask first_lanes(Py_ssize_t items) noexcept nogil:
    cdef real numbers[LANES]
    cdef Py_ssize_t i
    for i in range(LANES):
        numbers[i] = i
    return above(broadcast(<real> min(items, <Py_ssize_t> LANES)), (<vec *> numbers)[0])


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
    cdef real most
    cdef Py_ssize_t i
    (<vec *> part)[0] = x
    most = part[0]
    for i in range(1, LANES):
        most = max(most, part[i])
    return most


cdef inline void row_statistics(const real *x, Py_ssize_t items, double eps, real *mean, real *inverse) noexcept nogil:
    """The mean of a row and 1 / sqrt(variance + eps)."""
    cdef vec total = broadcast(0), part
    cdef Py_ssize_t i = 0
    while i < items:
        total = total + load(x + i, x + items)
        i += LANES
    mean[0] = sum_of(total) / items
    total = broadcast(0)
    i = 0
    while i < items:
        part = load(x + i, x + items) - broadcast(mean[0])
        if items - i < LANES:
            part = choose(first_lanes(items - i), part, broadcast(0))
        total = total + part * part
        i += LANES
    inverse[0] = <real> (1 / sqrt(<double> (sum_of(total) / items) + eps))


cdef void layer_norm_row(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t items, double eps
) noexcept nogil:
    cdef real mean, inverse
    cdef Py_ssize_t i
    row_statistics(x, items, eps, &mean, &inverse)
    for i in range(items):
        y[i] = (x[i] - mean) * inverse * scale[i] + bias[i]


cdef void layer_norm_backward_row(
    const real *dy, const real *x, const real *scale, real *dx, double *dscale, double *dbias, Py_ssize_t items, double eps
) noexcept nogil:
    cdef real mean, inverse, shift, stretch
    cdef vec part, shifts = broadcast(0), stretches = broadcast(0)
    cdef Py_ssize_t i = 0
    row_statistics(x, items, eps, &mean, &inverse)
    while i < items:
        part = load(dy + i, dy + items) * load(scale + i, scale + items)   # 0 after the end
        shifts = shifts + part
        stretches = stretches + part * ((load(x + i, x + items) - broadcast(mean)) * inverse)
        i += LANES
    shift, stretch = sum_of(shifts) / items, sum_of(stretches) / items
    for i in range(items):
        dx[i] = (dy[i] * scale[i] - shift - (x[i] - mean) * inverse * stretch) * inverse
    for i in range(items):
        dbias[i] += dy[i]
        dscale[i] += <double> dy[i] * ((x[i] - mean) * inverse)


cdef inline Py_ssize_t rows_of_task(Py_ssize_t items) noexcept nogil:
    return max(PORTION_ROWS // items, <Py_ssize_t> 1)


cdef void layer_norm_rows(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t rows, Py_ssize_t items, double eps
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        layer_norm_row(x + row * items, scale, bias, y + row * items, items, eps)


def layer_norm_forward(
    const real[:, ::1] x, const real[::1] scale, const real[::1] bias, real[:, ::1] y, double eps, int threads
):
    """y[m, c] = (x[m, c] - mean[m]) / sqrt(var[m] + eps) * scale[c] + bias[c]."""
    cdef Py_ssize_t task, rows = x.shape[0], items = x.shape[1], some = rows_of_task(items)
    cdef const real *source = &x[0, 0]
    cdef const real *factors = &scale[0]
    cdef const real *shifts = &bias[0]
    cdef real *to = &y[0, 0]
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        layer_norm_rows(
            source + task * some * items, factors, shifts, to + task * some * items, min(some, rows - task * some), items, eps
        )


cdef void layer_norm_backward_rows(
    const real *dy, const real *x, const real *scale, real *dx, double *sums, Py_ssize_t rows, Py_ssize_t items, double eps
) noexcept nogil:
    cdef Py_ssize_t row, i
    for i in range(2 * items):
        sums[i] = 0
    for row in range(rows):
        layer_norm_backward_row(
            dy + row * items, x + row * items, scale, dx + row * items, sums, sums + items, items, eps
        )


def layer_norm_backward(
    const real[:, ::1] dy, const real[:, ::1] x, const real[::1] scale, real[:, ::1] dx, double[:, :, ::1] partial,
    double eps, int threads,
):
    """dx, and partial[i] = the gradients of scale and bias from part i of as many even parts of the rows as it has."""
    cdef Py_ssize_t task, rows = x.shape[0], items = x.shape[1], some = ceil_div(rows, partial.shape[0])
    cdef const real *gradient = &dy[0, 0]
    cdef const real *source = &x[0, 0]
    cdef const real *factors = &scale[0]
    cdef real *to = &dx[0, 0]
    cdef double *sums = &partial[0, 0, 0]
    for task in prange(partial.shape[0], nogil=True, num_threads=threads):
        layer_norm_backward_rows(
            gradient + task * some * items, source + task * some * items, factors, to + task * some * items,
            sums + 2 * task * items, max(min(some, rows - task * some), <Py_ssize_t> 0), items, eps,
        )


cdef void softmax_row(const bint logarithm, const real *x, real *y, Py_ssize_t items) noexcept nogil:
    cdef vec part, most = broadcast(-INFINITY), total = broadcast(0)
    cdef real greatest, norm
    cdef Py_ssize_t i = 0
    while i < items:
        part = load(x + i, x + items)
        if items - i < LANES:
            part = choose(first_lanes(items - i), part, broadcast(-INFINITY))
        most = choose(above(part, most), part, most)
        i += LANES
    greatest = maximum_of(most)
    i = 0
    while i < items:
        part = load(x + i, x + items) - broadcast(greatest)
        if logarithm:
            store(y + i, part, items - i)
        part = exp_negative(part)
        if not logarithm:
            store(y + i, part, items - i)
        if items - i < LANES:
            part = choose(first_lanes(items - i), part, broadcast(0))
        total = total + part
        i += LANES
    norm = sum_of(total)
    if logarithm:
        norm = <real> log(<double> norm)
        for i in range(items):
            y[i] -= norm
    else:
        for i in range(items):
            y[i] /= norm


cdef void softmax_backward_row(const bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t items) noexcept nogil:
    cdef vec part, total = broadcast(0)
    cdef real all
    cdef Py_ssize_t i = 0
    while i < items:
        part = load(dy + i, dy + items)
        total = total + (part if logarithm else part * load(y + i, y + items))
        i += LANES
    all = sum_of(total)
    i = 0
    while i < items:
        part = load(y + i, y + items)
        if logarithm:
            part = load(dy + i, dy + items) - exp_negative(part) * all
        else:
            part = part * (load(dy + i, dy + items) - broadcast(all))
        store(dx + i, part, items - i)
        i += LANES


cdef void softmax_rows(bint logarithm, const real *x, real *y, Py_ssize_t rows, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        softmax_row(logarithm, x + row * items, y + row * items, items)


cdef void softmax_backward_rows(
    bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        softmax_backward_row(logarithm, dy + row * items, y + row * items, dx + row * items, items)


def softmax_forward(const real[:, ::1] x, real[:, ::1] y, bint logarithm, int threads):
    """y[m, i] = exp(x[m, i]) / sum_j exp(x[m, j]), or its logarithm."""
    cdef Py_ssize_t task, rows = x.shape[0], items = x.shape[1], some = rows_of_task(items)
    cdef const real *source = &x[0, 0]
    cdef real *to = &y[0, 0]
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        softmax_rows(
            logarithm, source + task * some * items, to + task * some * items, min(some, rows - task * some), items
        )


def softmax_backward(const real[:, ::1] dy, const real[:, ::1] y, real[:, ::1] dx, bint logarithm, int threads):
    """dx = y * (dy - sum_j dy * y), or dy - exp(y) * sum_j dy where y is the logarithm."""
    cdef Py_ssize_t task, rows = y.shape[0], items = y.shape[1], some = rows_of_task(items)
    cdef const real *gradient = &dy[0, 0]
    cdef const real *source = &y[0, 0]
    cdef real *to = &dx[0, 0]
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        softmax_backward_rows(
            logarithm, gradient + task * some * items, source + task * some * items, to + task * some * items,
            min(some, rows - task * some), items,
        )
