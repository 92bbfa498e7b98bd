# Normalization: sums over the pixels for each channel, and the map that they decide. Pixels are rows of C channels.
#
# A line holds the channels of one or more pixels, `width` numbers in all, so that few channels still make long loops; the tables
# (mean, factors) are as wide. x is cut into chunks of `chunk` elements, whole pixels whose number depends on sizes alone; the
# caller adds up what they give, in order. Sums are kept in double.


cdef void moments_of(
    const real *x, Py_ssize_t items, Py_ssize_t width, const real *origin, double *first, double *second
) noexcept nogil:
    cdef Py_ssize_t i = 0, c
    cdef double d
    for c in range(width):
        first[c] = second[c] = 0
    while i < items:
        for c in range(min(width, items - i)):
            d = <double> x[i + c] - <double> origin[c]
            first[c] += d
            second[c] += d * d
        i += width


cdef void products_of(
    const real *dy, const real *x, Py_ssize_t items, Py_ssize_t width, const real *mean, double *first, double *second
) noexcept nogil:
    cdef Py_ssize_t i = 0, c
    for c in range(width):
        first[c] = second[c] = 0
    while i < items:
        for c in range(min(width, items - i)):
            first[c] += <double> dy[i + c]
            second[c] += <double> dy[i + c] * (<double> x[i + c] - <double> mean[c])
        i += width


def channel_moments(const real[::1] x, const real[::1] origin, double[:, :, ::1] partial, Py_ssize_t chunk, int threads):
    """partial[i, :, c] = sum and sum of squares of x - origin over the elements c of the lines of chunk i.

    Differences from a value of about the size of the mean lose no digits (Chan, Golub and LeVeque 1983).
    """
    cdef Py_ssize_t i, items = x.shape[0], width = partial.shape[2]
    cdef const real *source = &x[0]
    cdef const real *shift = &origin[0]
    cdef double *to = &partial[0, 0, 0]
    for i in prange(partial.shape[0], nogil=True, num_threads=threads):
        moments_of(
            source + i * chunk, min(chunk, items - i * chunk), width, shift, to + 2 * i * width, to + (2 * i + 1) * width
        )


def channel_products(
    const real[::1] dy, const real[::1] x, const real[:, ::1] mean, double[:, :, ::1] partial, Py_ssize_t chunk, int threads,
):
    """partial[i, :, c] = sum of dy and sum of dy * (x - mean) over the elements c of the lines of chunk i.

    `mean` has one row, or one for each chunk.
    """
    cdef Py_ssize_t i, items = x.shape[0], width = partial.shape[2], step = width if mean.shape[0] > 1 else 0
    cdef const real *gradient = &dy[0]
    cdef const real *source = &x[0]
    cdef const real *middle = &mean[0, 0]
    cdef double *to = &partial[0, 0, 0]
    for i in prange(partial.shape[0], nogil=True, num_threads=threads):
        products_of(
            gradient + i * chunk, source + i * chunk, min(chunk, items - i * chunk), width, middle + i * step,
            to + 2 * i * width, to + (2 * i + 1) * width,
        )


cdef void affine_of(
    const real *x, Py_ssize_t items, Py_ssize_t width, const real *mean, const real *factor, const real *bias, real *y
) noexcept nogil:
    cdef Py_ssize_t i = 0, c
    while i < items:
        for c in range(min(width, items - i)):
            y[i + c] = (x[i + c] - mean[c]) * factor[c] + bias[c]
        i += width


cdef void affine_backward_of(
    const real *dy, const real *x, Py_ssize_t items, Py_ssize_t width,
    const real *mean, const real *factor, const real *bias, const real *share, real *dx,
) noexcept nogil:
    cdef Py_ssize_t i = 0, c
    while i < items:
        for c in range(min(width, items - i)):
            dx[i + c] = dy[i + c] * share[c] + ((x[i + c] - mean[c]) * factor[c] + bias[c])
        i += width


def channel_affine(const real[::1] x, const real[:, :, ::1] tables, real[::1] y, Py_ssize_t chunk, int threads):
    """y = (x - mean) * factor + bias; tables (1 or chunks, 3, width): mean, factor, bias."""
    cdef Py_ssize_t i, items = x.shape[0], width = tables.shape[2], step = 3 * width if tables.shape[0] > 1 else 0
    cdef const real *source = &x[0]
    cdef const real *table = &tables[0, 0, 0]
    cdef real *to = &y[0]
    for i in prange(ceil_div(items, chunk), nogil=True, num_threads=threads):
        affine_of(
            source + i * chunk, min(chunk, items - i * chunk), width,
            table + i * step, table + i * step + width, table + i * step + 2 * width, to + i * chunk,
        )


def channel_affine_backward(
    const real[::1] dy, const real[::1] x, const real[:, :, ::1] tables, real[::1] dx, Py_ssize_t chunk, int threads,
):
    """dx = dy * share + (x - mean) * factor + bias; tables (1 or chunks, 4, width): mean, factor, bias, share."""
    cdef Py_ssize_t i, items = x.shape[0], width = tables.shape[2], step = 4 * width if tables.shape[0] > 1 else 0
    cdef const real *gradient = &dy[0]
    cdef const real *source = &x[0]
    cdef const real *table = &tables[0, 0, 0]
    cdef real *to = &dx[0]
    for i in prange(ceil_div(items, chunk), nogil=True, num_threads=threads):
        affine_backward_of(
            gradient + i * chunk, source + i * chunk, min(chunk, items - i * chunk), width,
            table + i * step, table + i * step + width, table + i * step + 2 * width, table + i * step + 3 * width,
            to + i * chunk,
        )
