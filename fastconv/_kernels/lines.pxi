# Weighted sums of lines: resampling along one axis, and its way back, which is the same with the transposed weights.


cdef void sum_lines(
    const real *x, real *y, Py_ssize_t length, const int64_t *lines, const real *weights, Py_ssize_t terms
) noexcept nogil:
    cdef Py_ssize_t i = 0, k
    cdef const real *line
    cdef vec total
    while i < length:
        total = broadcast(0)
        for k in range(terms):
            line = x + lines[k] * length
            total = total + load(line + i, line + length) * weights[k]
        store(y + i, total, length - i)
        i += LANES


def weighted_lines(
    const real[:, :, ::1] x, real[:, :, ::1] y, const int64_t[::1] begin, const int64_t[::1] lines, const real[::1] weights,
    int threads,
):
    """y[b, p, :] = the sum of weights[k] * x[b, lines[k], :] for begin[p] <= k < begin[p + 1]."""
    cdef Py_ssize_t task, p, out = y.shape[1], size = x.shape[1], length = x.shape[2]
    cdef const real *source = &x[0, 0, 0]
    cdef real *to = &y[0, 0, 0]
    cdef const int64_t *first = &begin[0]
    cdef const int64_t *from_lines = &lines[0]
    cdef const real *factors = &weights[0]
    for task in prange(x.shape[0] * out, nogil=True, num_threads=threads):
        p = task % out
        sum_lines(
            source + task // out * size * length, to + task * length, length,
            from_lines + first[p], factors + first[p], first[p + 1] - first[p],
        )
