# Huber's loss of pairs, predictions x and targets t, and its derivative; half the squared error where the bound is infinite. Partial
# sums are of a fixed number of pairs, in the dtype of x, and are added up in double precision in their order.


cdef enum:
    SUMMED = 512   # pairs of a partial sum


cdef inline vec huber_pairs(const bint slope, const real *x, const real *t, real bound, real factor) noexcept nogil:
    """The losses of a vector of pairs, or factor * their derivatives."""
    cdef vec error = (<const vec *> x)[0] - (<const vec *> t)[0], near = at_most(at_least(error, -bound), bound)
    if slope:
        return near * factor
    return near * (error - near * <real> 0.5)


cdef double huber_portion(
    const real *x, const real *t, real *dx, Py_ssize_t items, real bound, real factor
) noexcept nogil:
    """The sum of the losses; where dx is not NULL, dx = factor * the derivatives instead."""
    cdef real last[2 * LANES]
    cdef double total = 0
    cdef vec sum
    cdef Py_ssize_t i = 0, rest = items % LANES, end
    while i < items - rest:
        sum = broadcast(0)
        end = min(i + SUMMED, items - rest)
        while dx == NULL and i < end:
            sum = sum + huber_pairs(False, x + i, t + i, bound, factor)
            i += LANES
        while i < end:
            (<vec *> (dx + i))[0] = huber_pairs(True, x + i, t + i, bound, factor)
            i += LANES
        total += sum_of(sum)
    if rest:   # with others of no error
        memset(last, 0, sizeof(last))
        memcpy(last, x + i, rest * sizeof(real))
        memcpy(last + LANES, t + i, rest * sizeof(real))
        if dx == NULL:
            total += sum_of(huber_pairs(False, last, last + LANES, bound, factor))
        else:
            store(dx + i, huber_pairs(True, last, last + LANES, bound, factor), rest)
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
