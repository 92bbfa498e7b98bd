# fastconv's kernels for the Cython code of other packages. docs/writing-a-layer.md shows a layer that uses them.
#
#     from fastconv cimport cython_api as fc
#     fc.import_fastconv()      # once, at the top of the module: ImportError where the versions do not fit
#
# Compile with include_dirs=[fastconv.get_include()]. What each function does is said in fastconv/api.h, found there. Pointers
# are to float or to double: the functions below choose the table by the type of their arguments.
from cython cimport floating


cdef extern from "fastconv/api.h" nogil:
    const int VERSION "FASTCONV_API_VERSION"

    ctypedef struct ConvShape "fastconv_conv":
        Py_ssize_t batch, channels, outputs, groups
        Py_ssize_t size[3]
        Py_ssize_t kernel[3]
        Py_ssize_t stride[3]
        Py_ssize_t before[3]
        Py_ssize_t dilation[3]
        Py_ssize_t out[3]

    ctypedef void (*Task "fastconv_task")(Py_ssize_t task, int thread, void *context) noexcept nogil

    ctypedef struct Kernels "fastconv_kernels":
        int version, lanes, tile_rows, tile_columns, depth, strip_stride
        int (*matmul)(
            Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t a_row, const void *b, Py_ssize_t b_row,
            Py_ssize_t b_column, const void *bias, void *y, Py_ssize_t y_row, int threads) noexcept nogil
        int (*matmul_transposed)(
            Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t a_row, const void *b, Py_ssize_t b_row,
            void *y, Py_ssize_t y_row, int threads) noexcept nogil
        int (*conv)(
            const ConvShape *shape, const void *x, const void *weight, const void *bias, void *y, int threads) noexcept nogil
        void (*pack_windows)(
            const ConvShape *shape, const void *x, Py_ssize_t first_pixel, Py_ssize_t count, Py_ssize_t first_element,
            Py_ssize_t elements, void *strip) noexcept nogil
        void (*pack_panel)(const void *b, Py_ssize_t b_row, Py_ssize_t rows, Py_ssize_t columns, void *panel) noexcept nogil
        void (*tile)(
            Py_ssize_t count, Py_ssize_t columns, Py_ssize_t elements, const void *strip, const void *panel,
            const void *start, void *y, const Py_ssize_t *out) noexcept nogil
        void (*parallel)(Py_ssize_t tasks, int threads, Task task, void *context) noexcept nogil


# the tables of the instruction set in use; `kernels` below chooses one
cdef const Kernels *float32_kernels
cdef const Kernels *float64_kernels

cdef int check_version(int compiled, size_t size) except -1

# how many threads a call of so many multiply-adds runs on: fastconv.set_num_threads, the machine, and 1 after a fork
cdef int threads_for(Py_ssize_t work) except -1


cdef inline int import_fastconv() except -1:
    """Check that this module was compiled for a version of the API that the installed fastconv has."""
    return check_version(VERSION, sizeof(Kernels))


cdef inline const Kernels *kernels(const floating *x) noexcept nogil:
    """Return the table for the dtype that `x`, which may be NULL, points at."""
    if floating is float:
        return float32_kernels
    else:
        return float64_kernels


cdef inline ConvShape conv_shape(Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs) noexcept nogil:
    """Return a convolution of one pixel in one group, whose axes are to be filled in, the last ones first."""
    cdef ConvShape shape
    cdef int i
    shape.batch, shape.channels, shape.outputs, shape.groups = batch, channels, outputs, 1
    for i in range(3):
        shape.size[i] = shape.kernel[i] = shape.stride[i] = shape.dilation[i] = shape.out[i] = 1
        shape.before[i] = 0
    return shape


cdef inline int matmul(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const floating *a, Py_ssize_t a_row, const floating *b, Py_ssize_t b_row,
    Py_ssize_t b_column, const floating *bias, floating *y, Py_ssize_t y_row, int threads,
) except -1 nogil:
    if kernels(a).matmul(m, n, k, a, a_row, b, b_row, b_column, bias, y, y_row, threads):
        no_memory()
    return 0


cdef inline int matmul_transposed(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const floating *a, Py_ssize_t a_row, const floating *b, Py_ssize_t b_row,
    floating *y, Py_ssize_t y_row, int threads,
) except -1 nogil:
    if kernels(a).matmul_transposed(m, n, k, a, a_row, b, b_row, y, y_row, threads):
        no_memory()
    return 0


cdef inline int conv(
    const ConvShape *shape, const floating *x, const floating *weight, const floating *bias, floating *y, int threads,
) except -1 nogil:
    if kernels(x).conv(shape, x, weight, bias, y, threads):
        no_memory()
    return 0


cdef inline void parallel(Py_ssize_t tasks, int threads, Task task, void *context) noexcept nogil:
    float32_kernels.parallel(tasks, threads, task, context)


cdef int no_memory() except -1 nogil
