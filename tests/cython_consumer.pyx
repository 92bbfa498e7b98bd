# What a package of somebody else may do with fastconv.cython_api; compiled and called by test_cython_api.py.
from cython cimport floating
from libc.stdlib cimport free, malloc

from fastconv cimport cython_api as fc

fc.import_fastconv()


def describe(floating[::1] like):
    cdef const fc.Kernels *k = fc.kernels(&like[0])
    return {"version": k.version, "lanes": k.lanes, "tile": (k.tile_rows, k.tile_columns), "depth": k.depth}


def threads_for(Py_ssize_t work):
    return fc.threads_for(work)


def matmul(floating[:, ::1] a, floating[:, ::1] b, floating[::1] bias, floating[:, ::1] y, Py_ssize_t k, bint transposed, int threads):
    """Rows of a and y may be longer than the k elements that count, b is (k, n) or (n, k)."""
    cdef Py_ssize_t n = b.shape[0] if transposed else b.shape[1]
    cdef Py_ssize_t row = 1 if transposed else b.shape[1], column = b.shape[1] if transposed else 1
    cdef const floating *bias_first = &bias[0] if bias is not None else NULL
    with nogil:
        fc.matmul(y.shape[0], n, k, &a[0, 0], a.shape[1], &b[0, 0], row, column, bias_first, &y[0, 0], y.shape[1], threads)


def matmul_transposed(floating[:, ::1] a, floating[:, ::1] b, floating[:, ::1] y, int threads):
    fc.matmul_transposed(a.shape[0], b.shape[1], a.shape[1], &a[0, 0], a.shape[1], &b[0, 0], b.shape[1], &y[0, 0], y.shape[1], threads)


cdef fc.ConvShape shape_of(
    floating[:, :, :, ::1] x, floating[:, :, :, ::1] weight, floating[:, :, :, ::1] y, int stride, int before, int dilation, int groups
):
    cdef fc.ConvShape s = fc.conv_shape(x.shape[0], x.shape[3], y.shape[3])
    cdef int i
    s.groups = groups
    s.size[1], s.size[2] = x.shape[1], x.shape[2]
    s.kernel[1], s.kernel[2] = weight.shape[0], weight.shape[1]
    s.out[1], s.out[2] = y.shape[1], y.shape[2]
    for i in range(1, 3):
        s.stride[i], s.before[i], s.dilation[i] = stride, before, dilation
    return s


def conv(
    floating[:, :, :, ::1] x, floating[:, :, :, ::1] weight, floating[::1] bias, floating[:, :, :, ::1] y,
    int stride, int before, int dilation, int groups, int threads,
):
    cdef fc.ConvShape s = shape_of(x, weight, y, stride, before, dilation, groups)
    fc.conv(&s, &x[0, 0, 0, 0], &weight[0, 0, 0, 0], &bias[0] if bias is not None else NULL, &y[0, 0, 0, 0], threads)


def conv_by_tiles(
    floating[:, :, :, ::1] x, floating[:, :, :, ::1] weight, floating[:, :, :, ::1] y, int stride, int before, int dilation
):
    """The same out of its parts: strips of windows, panels of the weight, the tile."""
    cdef fc.ConvShape s = shape_of(x, weight, y, stride, before, dilation, 1)
    cdef const fc.Kernels *k = fc.kernels(&x[0, 0, 0, 0])
    cdef Py_ssize_t pixels = s.batch * s.out[1] * s.out[2], total = s.kernel[1] * s.kernel[2] * s.channels
    cdef Py_ssize_t pixel, column, element, count, columns, elements, i
    cdef floating *strip = <floating *> malloc(k.tile_rows * k.strip_stride * sizeof(floating))
    cdef floating *panel = <floating *> malloc(k.depth * k.tile_columns * sizeof(floating))
    cdef floating *start = <floating *> malloc(k.tile_columns * sizeof(floating))
    cdef Py_ssize_t *out = <Py_ssize_t *> malloc(k.tile_rows * sizeof(Py_ssize_t))
    for i in range(k.tile_columns):
        start[i] = 0
    for pixel in range(0, pixels, k.tile_rows):
        count = min(pixels - pixel, <Py_ssize_t> k.tile_rows)
        for i in range(count):
            out[i] = (pixel + i) * s.outputs
        for element in range(0, total, k.depth):
            elements = min(total - element, <Py_ssize_t> k.depth)
            k.pack_windows(&s, &x[0, 0, 0, 0], pixel, count, element, elements, strip)
            for column in range(0, s.outputs, k.tile_columns):
                columns = min(s.outputs - column, <Py_ssize_t> k.tile_columns)
                k.pack_panel(&weight[0, 0, 0, 0] + element * s.outputs + column, s.outputs, elements, columns, panel)
                k.tile(
                    count, columns, elements, strip, panel, NULL if element else start, &y[0, 0, 0, 0] + column, out
                )
    free(strip)
    free(panel)
    free(start)
    free(out)


cdef struct Squares:
    double *y
    int threads


cdef void square(Py_ssize_t task, int thread, void *context) noexcept nogil:
    cdef Squares *squares = <Squares *> context
    squares.y[task] += task * task if thread < squares.threads else -1


def squares(double[::1] y, int threads):
    """y[i] += i * i, each i a task of its own."""
    cdef Squares context
    context.y, context.threads = &y[0] if y.shape[0] else NULL, threads
    with nogil:
        fc.parallel(y.shape[0], threads, square, &context)
