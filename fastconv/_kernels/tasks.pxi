# Which thread does which task. Neighboring tasks read and write neighboring memory, and so do the tasks of the next loop at the
# same place: each thread begins with a range of its own, which it finds in its core's caches, and helps others when it is done.


cdef extern from *:
    """
    enum { MOST_RANGES = 16, RANGE_ITEMS = 8 /* a cache line for the counter of each range */ };
    /* The next task of a thread, or -1 when all are taken; `taken` counts, for each range, those that are. */
    static Py_ssize_t take_task(Py_ssize_t *taken, Py_ssize_t tasks, int threads, int thread) {
        Py_ssize_t ranges = threads < MOST_RANGES ? threads : MOST_RANGES;
        for (Py_ssize_t i = 0; i < ranges; i++) {
            Py_ssize_t range = (thread + i) % ranges, first = tasks * range / ranges, end = tasks * (range + 1) / ranges;
            if (first + __atomic_load_n(&taken[range * RANGE_ITEMS], __ATOMIC_RELAXED) >= end) continue;
            Py_ssize_t task = first + __atomic_fetch_add(&taken[range * RANGE_ITEMS], 1, __ATOMIC_RELAXED);
            if (task < end) return task;
        }
        return -1;
    }
    """
    const int MOST_RANGES
    const int RANGE_ITEMS
    Py_ssize_t take_task(Py_ssize_t *taken, Py_ssize_t tasks, int threads, int thread) nogil
