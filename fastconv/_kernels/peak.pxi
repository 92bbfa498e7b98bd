# What the processor can do at most: the yardstick of the benchmarks.

cdef enum:
    CHAINS = 12  # independent sums: more than the latency of a multiply-add times how many start at once, fewer than registers


def multiply_add_peak(real[:, ::1] y, Py_ssize_t rounds, int threads, /):
    """y[t] = y[t] * a + b, `rounds` times, for rows of CHAINS vectors (CHAINS * LANES): 2 * y.size * rounds operations.

    Registers alone; a row is one thread's work.
    """
    cdef Py_ssize_t t
    with nogil:
        for t in prange(y.shape[0], num_threads=threads, schedule="static"):
            multiply_adds(&y[t, 0], rounds)


cdef void multiply_adds(real *y, Py_ssize_t rounds) noexcept nogil:
    cdef vec chain[CHAINS]
    cdef vec a = broadcast(0.5), b = broadcast(1)  # towards 2, where nothing overflows or becomes denormal
    cdef Py_ssize_t i, k
    for i in range(CHAINS):
        chain[i] = (<vec *> (y + i * LANES))[0]
    for k in range(rounds):
        for i in range(CHAINS):
            chain[i] = chain[i] * a + b
    for i in range(CHAINS):
        (<vec *> (y + i * LANES))[0] = chain[i]
