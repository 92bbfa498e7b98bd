# Local response normalization over the channels of each pixel: Krizhevsky, Sutskever and Hinton (2012), section 3.3.
from libc.math cimport pow, sqrt


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


def local_response_norm(x, y, Py_ssize_t items, Py_ssize_t size, double alpha, double beta, double bias, int threads, /):
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
