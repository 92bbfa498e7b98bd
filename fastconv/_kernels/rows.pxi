# Each row of a matrix by itself: layer normalization, softmax and cross entropy, rows of C numbers. Vectors run along the row; the sum
# of a row is that of LANES partial sums, whatever the number of threads.
from libc.math cimport log, pow, sqrt

cdef enum:
    PORTION_ROWS = 4096   # numbers of a task, about
    FEW_ROWS = 16         # whose parameter gradients are summed in the dtype of x before they go to sums in double


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


cdef inline void row_statistics(const real *x, Py_ssize_t items, double eps, real *mean, real *inverse) noexcept nogil:
    """The mean of a row and 1 / sqrt(variance + eps)."""
    cdef vec total = broadcast(0), part
    cdef Py_ssize_t i = 0, rest = items % LANES, whole = items - rest
    mean[0] = row_mean(x, items)
    while i < whole:
        part = (<const vec *> (x + i))[0] - broadcast(mean[0])
        total = total + part * part
        i += LANES
    if rest:
        part = end_of_row(x, items, rest, mean[0]) - broadcast(mean[0])
        total = total + part * part
    inverse[0] = <real> (1 / sqrt(<double> (sum_of(total) / items) + eps))


cdef void layer_norm_row(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t items, double eps
) noexcept nogil:
    cdef real mean, inverse
    cdef Py_ssize_t i
    row_statistics(x, items, eps, &mean, &inverse)
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


cdef inline Py_ssize_t rows_of_task(Py_ssize_t items) noexcept nogil:
    return max(PORTION_ROWS // items, <Py_ssize_t> 1)


cdef void layer_norm_rows(
    const real *x, const real *scale, const real *bias, real *y, Py_ssize_t rows, Py_ssize_t items, double eps
) noexcept nogil:
    cdef Py_ssize_t row
    for row in range(rows):
        layer_norm_row(x + row * items, scale, bias, y + row * items, items, eps)


def layer_norm_forward(x, scale, bias, y, double eps, int threads):
    """y[m, c] = (x[m, c] - mean[m]) / sqrt(var[m] + eps) * scale[c] + bias[c]."""
    cdef Py_ssize_t task, rows, items, some
    cdef const real *source = read_from(x, &rows)
    cdef const real *factors = read_from(scale, &items)
    cdef const real *shifts = read_from(bias)
    cdef real *to = write_to(y)
    rows, some = rows // items, rows_of_task(items)
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        layer_norm_rows(
            source + task * some * items, factors, shifts, to + task * some * items, min(some, rows - task * some), items, eps
        )


def layer_norm_backward(dy, x, scale, dx, double[:, :, ::1] partial, double eps, int threads):
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


def softmax_forward(x, y, Py_ssize_t items, bint logarithm, int threads):
    """y[m, i] = exp(x[m, i]) / sum_j exp(x[m, j]), or its logarithm; rows of so many items."""
    cdef Py_ssize_t task, rows, some = rows_of_task(items)
    cdef const real *source = read_from(x, &rows)
    cdef real *to = write_to(y)
    rows = rows // items
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        softmax_rows(
            logarithm, source + task * some * items, to + task * some * items, min(some, rows - task * some), items
        )


def softmax_backward(dy, y, dx, Py_ssize_t items, bint logarithm, int threads):
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


def cross_entropy_forward(x, labels, losses, Py_ssize_t items, double smoothing, int threads):
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


def cross_entropy_backward(x, labels, dx, Py_ssize_t items, double smoothing, double share, int threads):
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


cdef void response_rows(
    const real *x, real *y, Py_ssize_t rows, Py_ssize_t items, Py_ssize_t size, real alpha, real beta, real bias
) noexcept nogil:
    cdef Py_ssize_t row, i, d
    cdef real base
    for row in range(rows):
        for i in range(items):
            y[i] = bias
        for d in range(max(-((size - 1) // 2), 1 - items), min(size - (size - 1) // 2, items)):
            for i in range(max(-d, <Py_ssize_t> 0), items - max(d, <Py_ssize_t> 0)):
                y[i] += alpha * x[i + d] * x[i + d]
        for i in range(items):
            base = y[i]
            if beta == <real> 0.75:  # as the paper has it
                base = <real> sqrt(<double> base)
                y[i] = x[i] / (base * <real> sqrt(<double> base))
            else:
                y[i] = x[i] * <real> pow(<double> base, -<double> beta)
        x += items
        y += items


def local_response_norm(x, y, Py_ssize_t items, Py_ssize_t size, double alpha, double beta, double bias, int threads):
    """y[m, i] = x[m, i] / (bias + alpha / size * sum of x[m, d] ** 2 for the `size` channels d around i) ** beta; y is not x."""
    cdef Py_ssize_t task, rows, some = rows_of_task(items)
    cdef const real *source = read_from(x, &rows)
    cdef real *to = write_to(y)
    rows = rows // items
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        response_rows(
            source + task * some * items, to + task * some * items, min(some, rows - task * some), items, size,
            <real> (alpha / size), <real> beta, <real> bias,
        )
