# What an inference step does to its output while it is in the cache: the sum with a shortcut, and the activation.


cdef void add_portion(const real *x, const real *residual, real *y, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (y + i))[0] = (<const vec *> (x + i))[0] + (<const vec *> (residual + i))[0]
        i += LANES
    while i < items:
        y[i] = x[i] + residual[i]
        i += 1


def activated_sum(x, residual, y, str name, double a, double b, int threads):
    """y[i] = f(x[i] + residual[i]) for the activation `name` (None: the sum itself) with parameters a and b.

    y may be x or residual. A portion is activated while the first-level cache has its sums.
    """
    cdef int kind = -1 if name is None else ACTIVATIONS[name]
    cdef Py_ssize_t block, items, some
    cdef const real *source = read_from(x, &items)
    cdef const real *other = read_from(residual)
    cdef real *to = write_to(y)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        some = min(items - block * PORTION, <Py_ssize_t> PORTION)
        add_portion(source + block * PORTION, other + block * PORTION, to + block * PORTION, some)
        if kind >= 0:
            forward_portion(kind, to + block * PORTION, to + block * PORTION, some, a, b)


cdef void prelu_rows(const real *x, const real *slope, real *y, Py_ssize_t rows, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t row, c, whole = channels - channels % LANES
    cdef vec part
    for row in range(rows):
        c = 0
        while c < whole:
            part = (<const vec *> (x + c))[0]
            (<vec *> (y + c))[0] = choose(above(part, broadcast(0)), part, part * (<const vec *> (slope + c))[0])
            c += LANES
        while c < channels:
            y[c] = x[c] if x[c] > 0 else x[c] * slope[c]
            c += 1
        x += channels
        y += channels


def prelu_forward(x, slope, y, int threads):
    """y[m, c] = x[m, c] where it is positive, else x[m, c] * slope[c]; y may be x."""
    cdef Py_ssize_t task, rows, channels, some
    cdef const real *source = read_from(x, &rows)
    cdef const real *slopes = read_from(slope, &channels)
    cdef real *to = write_to(y)
    rows, some = rows // channels, max(PORTION // channels, <Py_ssize_t> 1)
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        prelu_rows(
            source + task * some * channels, slopes, to + task * some * channels, min(some, rows - task * some), channels
        )
