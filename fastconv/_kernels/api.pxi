# What other packages may call: fastconv/include/fastconv/api.h, filled with the kernels of this module.
from cpython.pycapsule cimport PyCapsule_New

cdef extern from "../include/fastconv/api.h":
    const int FASTCONV_API_VERSION
    ctypedef struct fastconv_conv:
        Py_ssize_t batch, channels, outputs, groups
        Py_ssize_t size[3]
        Py_ssize_t kernel[3]
        Py_ssize_t stride[3]
        Py_ssize_t before[3]
        Py_ssize_t dilation[3]
        Py_ssize_t out[3]
    ctypedef void (*fastconv_task)(Py_ssize_t task, int thread, void *context) noexcept nogil
    ctypedef struct fastconv_kernels:
        int version, lanes, tile_rows, tile_columns, depth, strip_stride
        void *matmul
        void *matmul_transposed
        void *conv
        void *pack_windows
        void *pack_panel
        void *tile
        void *parallel


cdef int api_matmul(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real *a, Py_ssize_t a_row, const real *b, Py_ssize_t b_row,
    Py_ssize_t b_column, const real *bias, real *y, Py_ssize_t y_row, int threads,
) noexcept nogil:
    cdef Product p = rows_product(m, n, k, a, a_row)
    if m <= 0 or n <= 0:
        return 0
    p.b, p.b_k, p.b_col, p.bias, p.y, p.y_ld = b, b_row, b_column, bias, y, y_row
    return run_products(&p, 1, 1, 0, max(threads, 1))


cdef Product rows_product(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real *a, Py_ssize_t a_row) noexcept nogil:
    """The product whose windows are the rows of a matrix (m, k)."""
    cdef Product p = bare_product()
    cdef Axis one = Axis(1, 1, 1, 1, 0, 1, 0, 1, 0, 1)
    p.d, p.h, p.w = one, one, one
    p.w.size, p.w.rows = m, m
    p.a, p.batch, p.a_ld, p.depth = a, 1, a_row, k
    p.b_d, p.b_h, p.b_w = 0, 0, 0
    p.out_d, p.out_h, p.out_w, p.cols = 1, 1, m, n
    return p


cdef int api_matmul_transposed(
    Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const real *a, Py_ssize_t a_row, const real *b, Py_ssize_t b_row,
    real *y, Py_ssize_t y_row, int threads,
) noexcept nogil:
    """In 1 to 64 parts of the rows, as many as fill 64 blocks, summed in order: the sizes alone decide."""
    cdef Product p = rows_product(m, n, k, a, a_row)
    cdef Grid g
    cdef Py_ssize_t blocks, parts, rows, task, part, i, j
    cdef Py_ssize_t each, items = k * n
    cdef real *scratch
    cdef real *partial
    if n <= 0 or k <= 0:
        return 0
    threads = max(threads, 1)
    p.y_ld, p.b_k, p.b_col = b_row, n, 1
    p.in_place = gradient_in_place(&p)
    g = gradient_grid(&p)
    parts = max(<Py_ssize_t> 1, min(ceil_div(64, g.row_blocks * g.col_blocks), ceil_div(m, ROWS)))
    g = shared_gradient_grid(&p, parts, threads)
    each = gradient_scratch(&p, g)
    blocks = g.row_blocks * g.col_blocks
    rows = ceil_div(m, parts)
    scratch = new_scratch(each, threads)
    partial = new_scratch(own_lines(parts * items), 1)
    if scratch != NULL and partial != NULL:
        for task in prange(parts * blocks, schedule="dynamic", num_threads=threads):
            part = task // blocks
            gradient_block(
                &p, g, task % blocks, min(part * rows, m), min((part + 1) * rows, m), b, partial + part * items,
                scratch + threadid() * each,
            )
        for i in range(k):
            for j in range(n):
                y[i * y_row + j] = partial[i * n + j]
        for part in range(1, parts):
            for i in range(k):
                for j in range(n):
                    y[i * y_row + j] += partial[part * items + i * n + j]
    free_lines(scratch)
    free_lines(partial)
    return 0 if scratch != NULL and partial != NULL else -1


cdef inline Axis conv_axis(const fastconv_conv *s, int i) noexcept nogil:
    return Axis(s.size[i], s.out[i], s.kernel[i], s.stride[i], -s.before[i], s.dilation[i], 0, 1, 0, 1)


cdef Product conv_product(const fastconv_conv *s, const real *x) noexcept nogil:
    cdef Product p = bare_product()
    p.d, p.h, p.w = conv_axis(s, 0), conv_axis(s, 1), conv_axis(s, 2)
    p.a, p.batch, p.a_ld, p.depth = x, s.batch, s.channels, s.channels // s.groups
    p.b_k, p.b_col = s.outputs, 1
    p.b_w = p.depth * s.outputs
    p.b_h = p.b_w * s.kernel[2]
    p.b_d = p.b_h * s.kernel[1]
    p.out_d, p.out_h, p.out_w, p.y_ld, p.cols = s.out[0], s.out[1], s.out[2], s.outputs, s.outputs // s.groups
    return p


cdef int api_conv(
    const fastconv_conv *s, const real *x, const real *weight, const real *bias, real *y, int threads
) noexcept nogil:
    cdef Product p = conv_product(s, x)
    if product_rows(&p) <= 0 or p.cols <= 0:
        return 0
    p.b, p.bias, p.y = weight, bias, y
    return run_products(&p, 1, s.groups, p.cols, max(threads, 1))


cdef void api_pack_windows(
    const fastconv_conv *s, const real *x, Py_ssize_t first_pixel, Py_ssize_t count, Py_ssize_t first_element,
    Py_ssize_t elements, real *strip,
) noexcept nogil:
    cdef Product p = conv_product(s, x)
    p.in_place = False
    find_windows(&p, first_pixel, count, first_element, first_element + elements, NULL, strip, NULL, 0, NULL)


cdef void api_pack_panel(
    const real *b, Py_ssize_t b_row, Py_ssize_t rows, Py_ssize_t columns, real *panel
) noexcept nogil:
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t k
    for k in range(rows):
        offsets[k] = k * b_row
    pack_rows(b, offsets, rows, columns, panel, 0)


cdef void api_tile(
    Py_ssize_t count, Py_ssize_t columns, Py_ssize_t elements, const real *strip, const real *panel, const real *start,
    real *y, const Py_ssize_t *out,
) noexcept nogil:
    rows_by_panel(count, columns, strip, panel, elements, start, y, out)


cdef void api_parallel(Py_ssize_t tasks, int threads, fastconv_task task, void *context) noexcept nogil:
    cdef Py_ssize_t i
    for i in prange(tasks, schedule="dynamic", num_threads=max(threads, 1)):
        task(i, threadid(), context)


cdef fastconv_kernels table
table.version = FASTCONV_API_VERSION
table.lanes, table.tile_rows, table.tile_columns = LANES, TILE_M, TILE_N
table.depth, table.strip_stride = DEPTH, DEPTH_LD
table.matmul, table.matmul_transposed, table.conv = <void *> api_matmul, <void *> api_matmul_transposed, <void *> api_conv
table.pack_windows, table.pack_panel, table.tile = <void *> api_pack_windows, <void *> api_pack_panel, <void *> api_tile
table.parallel = <void *> api_parallel


def api():
    """The table of functions that other packages may call, in a capsule: `fastconv.cython_api` hands it out."""
    return PyCapsule_New(&table, "fastconv.kernels", NULL)
