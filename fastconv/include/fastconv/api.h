/* What fastconv's kernels offer to C and Cython of other packages: a table of functions for each dtype.
 *
 * The tables belong to the instruction set that was chosen when fastconv was imported; `fastconv.cython_api` hands them out.
 * Arrays of a table's dtype are `void` here, so that one declaration serves both. Every function may be called without the
 * GIL, allocates its own scratch, and gives the same bits for any number of threads. Those that return int return 0, or -1
 * where there is no memory. Within a version of the API entries are only added, at the end.
 */
#ifndef FASTCONV_API_H
#define FASTCONV_API_H

#include <Python.h>

#define FASTCONV_API_VERSION 1

/* A convolution of x (batch, size[0], size[1], size[2], channels) with weight (kernel[0], kernel[1], kernel[2],
 * channels / groups, outputs) to y (batch, out[0], out[1], out[2], outputs). Output p along an axis reads inputs
 * p * stride - before + r * dilation for r < kernel; what lies outside is zero. Of fewer axes the first have
 * size, kernel, stride, dilation and out 1 and before 0. */
typedef struct {
    Py_ssize_t batch, channels, outputs, groups;
    Py_ssize_t size[3], kernel[3], stride[3], before[3], dilation[3], out[3];
} fastconv_conv;

/* One independent piece of work; `thread` is below the number of threads that was asked for. */
typedef void (*fastconv_task)(Py_ssize_t task, int thread, void *context);

typedef struct {
    int version;
    int lanes;        /* elements of a vector register */
    int tile_rows;    /* the register tile: so many rows ... */
    int tile_columns; /* ... of so many columns */
    int depth;        /* most columns of a packed strip, and rows of a packed panel */
    int strip_stride; /* elements from one row of a packed strip to the next */

    /* y (m, n) = a (m, k) @ b (k, n) + bias (n,) or 0. Element b[i, j] is at i * b_row + j * b_column; of the rows of a and y
     * the strides are given. One of b_row and b_column is 1. */
    int (*matmul)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t a_row, const void *b, Py_ssize_t b_row,
                  Py_ssize_t b_column, const void *bias, void *y, Py_ssize_t y_row, int threads);

    /* y (k, n) = a.T @ b for a (m, k) and b (m, n): the gradient of a product's right operand. */
    int (*matmul_transposed)(Py_ssize_t m, Py_ssize_t n, Py_ssize_t k, const void *a, Py_ssize_t a_row, const void *b,
                             Py_ssize_t b_row, void *y, Py_ssize_t y_row, int threads);

    /* y = the convolution of x with weight, plus bias (outputs,) or 0. */
    int (*conv)(const fastconv_conv *shape, const void *x, const void *weight, const void *bias, void *y, int threads);

    /* The parts of a convolution, for one with work of its own in between; see `tile`. The output pixels are counted through
     * (batch, out[0], out[1], out[2]), the elements of a window through (kernel[0], kernel[1], kernel[2], channels / groups).
     * strip[i * strip_stride + j] = element first_element + j of the window of pixel first_pixel + i; `count` pixels,
     * `elements` (at most `depth`) elements. For another group x points at its first channel. */
    void (*pack_windows)(const fastconv_conv *shape, const void *x, Py_ssize_t first_pixel, Py_ssize_t count,
                         Py_ssize_t first_element, Py_ssize_t elements, void *strip);

    /* panel = `rows` (at most `depth`) rows of b, of `columns` (at most tile_columns) columns, packed: rows * tile_columns
     * elements. */
    void (*pack_panel)(const void *b, Py_ssize_t b_row, Py_ssize_t rows, Py_ssize_t columns, void *panel);

    /* y[out[i] + j] = start[j] (or y[out[i] + j] where start is NULL) + sum over k < elements of strip[i, k] * panel[k, j],
     * for i < count and j < columns: the register tile where every multiplication happens. `start` has tile_columns
     * elements. */
    void (*tile)(Py_ssize_t count, Py_ssize_t columns, Py_ssize_t elements, const void *strip, const void *panel,
                 const void *start, void *y, const Py_ssize_t *out);

    /* Run task 0 .. tasks - 1, each once, on up to `threads` threads of fastconv's. A task starts no threads of its own. */
    void (*parallel)(Py_ssize_t tasks, int threads, fastconv_task task, void *context);
} fastconv_kernels;

#endif
