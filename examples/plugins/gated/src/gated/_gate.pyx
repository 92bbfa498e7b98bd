# The two loops of a gated convolution, and the convolution, which is fastconv's.
#
# z (N, P, Q, 2 * O) holds the values and the gates of a pixel side by side; y, dy (N, P, Q, O).
from cython cimport floating
from libc.math cimport exp, expf

from fastconv cimport cython_api as fc

fc.import_fastconv()

# pixels of one task: enough to be worth a thread, and the same for any number of threads
cdef enum:
    PIXELS = 256


def convolve(
    const floating[:, :, :, ::1] x, const floating[:, :, :, ::1] weight, const floating[::1] bias, floating[:, :, :, ::1] z,
    int stride, int padding,
):
    """z = conv(x, weight) + bias; every shape has been checked, none is empty."""
    cdef fc.ConvShape shape = fc.conv_shape(x.shape[0], x.shape[3], z.shape[3])
    cdef int axis, threads = fc.threads_for(z.shape[0] * z.shape[1] * z.shape[2] * weight.shape[0] * weight.shape[1] * x.shape[3] * z.shape[3])
    for axis in range(2):
        shape.size[axis + 1], shape.kernel[axis + 1], shape.out[axis + 1] = x.shape[axis + 1], weight.shape[axis], z.shape[axis + 1]
        shape.stride[axis + 1], shape.before[axis + 1] = stride, padding
    with nogil:
        fc.conv(&shape, &x[0, 0, 0, 0], &weight[0, 0, 0, 0], &bias[0], &z[0, 0, 0, 0], threads)


cdef struct Gate:
    const void *z
    const void *dy
    void *out
    Py_ssize_t pixels, channels


cdef inline floating sigmoid(floating x) noexcept nogil:
    if floating is float:
        return 1 / (1 + expf(-x))
    else:
        return 1 / (1 + exp(-x))


cdef void gate_pixels(Gate *g, Py_ssize_t first, Py_ssize_t end, const floating *z, const floating *dy, floating *out) noexcept nogil:
    """y = a * sigmoid(b), or where dy is given dz = (dy * sigmoid(b), dy * a * sigmoid(b) * (1 - sigmoid(b)))."""
    cdef Py_ssize_t pixel, c, n = g.channels
    cdef floating s
    for pixel in range(first, end):
        for c in range(n):
            s = sigmoid(z[pixel * 2 * n + n + c])
            if dy == NULL:
                out[pixel * n + c] = z[pixel * 2 * n + c] * s
            else:
                out[pixel * 2 * n + c] = dy[pixel * n + c] * s
                out[pixel * 2 * n + n + c] = dy[pixel * n + c] * z[pixel * 2 * n + c] * s * (1 - s)


cdef void gate_float32(Py_ssize_t task, int thread, void *context) noexcept nogil:
    cdef Gate *g = <Gate *> context
    gate_pixels[float](
        g, task * PIXELS, min((task + 1) * PIXELS, g.pixels), <const float *> g.z, <const float *> g.dy, <float *> g.out
    )


cdef void gate_float64(Py_ssize_t task, int thread, void *context) noexcept nogil:
    cdef Gate *g = <Gate *> context
    gate_pixels[double](
        g, task * PIXELS, min((task + 1) * PIXELS, g.pixels), <const double *> g.z, <const double *> g.dy, <double *> g.out
    )


cdef int run_gate(Gate *g, bint single) except -1:
    cdef int threads = fc.threads_for(20 * g.pixels * g.channels)  # an exponential is worth some twenty multiplications
    with nogil:
        fc.parallel((g.pixels + PIXELS - 1) // PIXELS, threads, gate_float32 if single else gate_float64, g)
    return 0


def gate(const floating[:, :, :, ::1] z, floating[:, :, :, ::1] y):
    """y = a * sigmoid(b) for the halves a and b of the channels of z."""
    cdef Gate g = Gate(&z[0, 0, 0, 0], NULL, &y[0, 0, 0, 0], z.shape[0] * z.shape[1] * z.shape[2], y.shape[3])
    run_gate(&g, floating is float)


def gate_backward(const floating[:, :, :, ::1] dy, const floating[:, :, :, ::1] z, floating[:, :, :, ::1] dz):
    """The gradient of `gate` by z."""
    cdef Gate g = Gate(&z[0, 0, 0, 0], &dy[0, 0, 0, 0], &dz[0, 0, 0, 0], z.shape[0] * z.shape[1] * z.shape[2], dy.shape[3])
    run_gate(&g, floating is float)
