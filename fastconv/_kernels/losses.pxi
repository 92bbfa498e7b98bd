# Huber's loss of pairs, predictions x and targets t, and its derivative; half the squared error where the bound is infinite. Partial
# sums are of a fixed number of pairs, in the dtype of x, and are added up in double precision in their order.


cdef enum:
    SUMMED = 512   # pairs of a partial sum


cdef double huber_portion(
    const real *x, const real *t, real *dx, Py_ssize_t items, real bound, real factor
) noexcept nogil:
    """The sum of the losses; where dx is not NULL, dx = factor * the derivatives instead."""
    cdef real rest[2 * LANES]
    cdef double total = 0
    cdef vec sum = broadcast(0), error, near
    cdef Py_ssize_t i = 0
    while i < items:
        if items - i < LANES:   # the last pairs, and others of no error
            memset(rest, 0, sizeof(rest))
            memcpy(rest, x + i, (items - i) * sizeof(real))
            memcpy(rest + LANES, t + i, (items - i) * sizeof(real))
            x, t = rest - i, rest + LANES - i
        error = (<const vec *> (x + i))[0] - (<const vec *> (t + i))[0]
        near = at_most(at_least(error, -bound), bound)
        if dx == NULL:
            sum = sum + near * (error - near * <real> 0.5)
        else:
            store(dx + i, near * factor, items - i)
        i += LANES
        if i % SUMMED == 0 or i >= items:
            total += sum_of(sum)
            sum = broadcast(0)
    return total


def huber(x, t, sums, dx, double bound, double factor, int threads, /):
    """sums[i] = the sum of the losses of the i-th PORTION pairs, in float64; or, with dx, dx[i] = factor * f'(x[i] - t[i]).

    f(e) = e**2 / 2 where abs(e) <= bound, else bound * (abs(e) - bound / 2). One of sums and dx is None.
    """
    cdef Py_ssize_t block, items
    cdef const real *source = read_from(x, &items)
    cdef const real *target = read_from(t)
    cdef real *to = NULL if dx is None else write_to(dx)
    cdef double *totals = NULL if sums is None else sums_of(sums)
    cdef double total
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        total = huber_portion(
            source + block * PORTION, target + block * PORTION, to + block * PORTION if to != NULL else NULL,
            min(items - block * PORTION, <Py_ssize_t> PORTION), bound, factor,
        )
        if totals != NULL:
            totals[block] = total
