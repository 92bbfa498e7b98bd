# Depthwise convolution: each channel is convolved with a kernel of its own, so vectors run along the channels.
#
# x (N, D, H, W, C), y (N, D', H', W', C), weight (T, R, S, 1, C). The adjoint is the same loop over the axes of its phases.
# Channels that fill no vector are computed in one that overlaps the last full one, so stores repeat the same values.


cdef struct Depthwise:
    Axis d, h, w
    const real *x
    const real *weight
    const real *bias
    real *y
    Py_ssize_t channels, kernel_h, kernel_w, out_d, out_h, out_w


cdef inline void depthwise_channels(
    const int vecs, const Depthwise *p, const real *x, const real *weight, const real *bias, real *y,
    Py_ssize_t id, Py_ssize_t ih, Py_ssize_t iw,
) noexcept nogil:
    """One output pixel, `vecs` vectors of channels: all taps of its window that are inside the input."""
    cdef vec acc[4]
    cdef Py_ssize_t td, th, tw, z, r, c, v
    cdef const real *source
    cdef const real *factor
    for v in range(vecs):
        acc[v] = (<const vec *> (bias + v * LANES))[0] if bias else broadcast(0)
    for td in range(p.d.taps):
        z = id + td * p.d.dilation
        if z < 0 or z >= p.d.size:
            continue
        for th in range(p.h.taps):
            r = ih + th * p.h.dilation
            if r < 0 or r >= p.h.size:
                continue
            for tw in range(p.w.taps):
                c = iw + tw * p.w.dilation
                if c < 0 or c >= p.w.size:
                    continue
                source = x + ((z * p.h.size + r) * p.w.size + c) * p.channels
                factor = weight + (
                    ((p.d.tap_first + td * p.d.tap_step) * p.kernel_h + p.h.tap_first + th * p.h.tap_step) * p.kernel_w
                    + p.w.tap_first + tw * p.w.tap_step
                ) * p.channels
                for v in range(vecs):
                    acc[v] = acc[v] + (<const vec *> (source + v * LANES))[0] * (<const vec *> (factor + v * LANES))[0]
    for v in range(vecs):
        (<vec *> (y + v * LANES))[0] = acc[v]


cdef void depthwise_few(
    const Depthwise *p, const real *x, real *y, Py_ssize_t id, Py_ssize_t ih, Py_ssize_t iw,
) noexcept nogil:
    """One output pixel with fewer channels than a vector has lanes."""
    cdef Py_ssize_t td, th, tw, z, r, c, k
    cdef const real *source
    cdef const real *factor
    for k in range(p.channels):
        y[k] = p.bias[k] if p.bias else 0
    for td in range(p.d.taps):
        z = id + td * p.d.dilation
        if z < 0 or z >= p.d.size:
            continue
        for th in range(p.h.taps):
            r = ih + th * p.h.dilation
            if r < 0 or r >= p.h.size:
                continue
            for tw in range(p.w.taps):
                c = iw + tw * p.w.dilation
                if c < 0 or c >= p.w.size:
                    continue
                source = x + ((z * p.h.size + r) * p.w.size + c) * p.channels
                factor = p.weight + (
                    ((p.d.tap_first + td * p.d.tap_step) * p.kernel_h + p.h.tap_first + th * p.h.tap_step) * p.kernel_w
                    + p.w.tap_first + tw * p.w.tap_step
                ) * p.channels
                for k in range(p.channels):
                    y[k] = y[k] + source[k] * factor[k]


cdef void depthwise_line(const Depthwise *p, Py_ssize_t line) noexcept nogil:
    """All pixels of product line (n, d, h)."""
    cdef Py_ssize_t h = line % p.h.rows, d = line // p.h.rows % p.d.rows, n = line // p.h.rows // p.d.rows, w, c
    cdef Py_ssize_t id = d * p.d.stride + p.d.origin, ih = h * p.h.stride + p.h.origin, iw
    cdef const real *x = p.x + n * p.d.size * p.h.size * p.w.size * p.channels
    cdef real *y
    for w in range(p.w.rows):
        iw = w * p.w.stride + p.w.origin
        y = p.y + (((n * p.out_d + p.d.out_first + d * p.d.out_step) * p.out_h + p.h.out_first + h * p.h.out_step) * p.out_w
                   + p.w.out_first + w * p.w.out_step) * p.channels
        if p.channels < LANES:
            depthwise_few(p, x, y, id, ih, iw)
            continue
        c = 0
        while c + 4 * LANES <= p.channels:
            depthwise_channels(4, p, x + c, p.weight + c, p.bias + c if p.bias else NULL, y + c, id, ih, iw)
            c += 4 * LANES
        while c < p.channels:
            c = min(c, p.channels - LANES)
            depthwise_channels(1, p, x + c, p.weight + c, p.bias + c if p.bias else NULL, y + c, id, ih, iw)
            c += LANES


def depthwise(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] weight, const real[::1] bias, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] axes, int threads,
):
    """y[n, p, q, c] = bias[c] + sum_{r, s} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, 0, c]."""
    cdef Depthwise p
    cdef Py_ssize_t line
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.x, p.y, p.weight = &x[0, 0, 0, 0, 0], &y[0, 0, 0, 0, 0], &weight[0, 0, 0, 0, 0]
    p.bias = NULL
    if bias is not None:
        p.bias = &bias[0]
    p.channels, p.kernel_h, p.kernel_w = x.shape[4], weight.shape[1], weight.shape[2]
    p.out_d, p.out_h, p.out_w = y.shape[1], y.shape[2], y.shape[3]
    for line in prange(x.shape[0] * p.d.rows * p.h.rows, nogil=True, schedule="static", num_threads=threads):
        depthwise_line(&p, line)


cdef void depthwise_gradient_line(const Depthwise *p, const real *dy, real *dweight, Py_ssize_t line) noexcept nogil:
    """dweight[td, th, tw, c] += the products of output line (n, d, h)."""
    cdef Py_ssize_t h = line % p.h.rows, d = line // p.h.rows % p.d.rows, n = line // p.h.rows // p.d.rows
    cdef Py_ssize_t td, th, tw, z, r, c, w, first, end, offset, step = p.w.stride * p.channels
    cdef const real *x
    cdef const real *row = dy + line * p.w.rows * p.channels
    cdef real *sums
    cdef vec acc
    cdef real one
    for td in range(p.d.taps):
        z = d * p.d.stride + p.d.origin + td * p.d.dilation
        if z < 0 or z >= p.d.size:
            continue
        for th in range(p.h.taps):
            r = h * p.h.stride + p.h.origin + th * p.h.dilation
            if r < 0 or r >= p.h.size:
                continue
            for tw in range(p.w.taps):
                # outputs first .. end - 1 of this line have this tap inside the input
                offset = p.w.origin + tw * p.w.dilation
                first = ceil_div(-offset, p.w.stride) if offset < 0 else 0
                end = min((p.w.size - 1 - offset) // p.w.stride + 1, p.w.rows) if offset < p.w.size else 0
                x = p.x + (((n * p.d.size + z) * p.h.size + r) * p.w.size + offset) * p.channels
                sums = dweight + ((td * p.h.taps + th) * p.w.taps + tw) * p.channels
                c = 0
                while c + LANES <= p.channels:
                    acc = (<const vec *> (sums + c))[0]
                    for w in range(first, end):
                        acc = acc + (<const vec *> (x + w * step + c))[0] * (<const vec *> (row + w * p.channels + c))[0]
                    (<vec *> (sums + c))[0] = acc
                    c += LANES
                while c < p.channels:
                    one = sums[c]
                    for w in range(first, end):
                        one = one + x[w * step + c] * row[w * p.channels + c]
                    sums[c] = one
                    c += 1


cdef void depthwise_gradient_lines(
    const Depthwise *p, const real *dy, real *dweight, Py_ssize_t line, Py_ssize_t end
) noexcept nogil:
    zero(dweight, p.d.taps * p.h.taps * p.w.taps * p.channels)
    while line < end:
        depthwise_gradient_line(p, dy, dweight, line)
        line += 1


def depthwise_backward_weight(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] dy, real[:, :, :, :, :, ::1] partial,
    const int64_t[:, ::1] axes, int threads,
):
    """partial[i, r, s, 0, c] = sum x[n, p * stride + r * dilation - before, ..., c] * dy[n, p, q, c] over part i of the lines."""
    cdef Depthwise p
    cdef Py_ssize_t chunk, chunks = partial.shape[0], lines, each, items
    cdef const real *dy_first = &dy[0, 0, 0, 0, 0]
    cdef real *sums = &partial[0, 0, 0, 0, 0, 0]
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.x, p.channels = &x[0, 0, 0, 0, 0], x.shape[4]
    lines = x.shape[0] * p.d.rows * p.h.rows
    each = ceil_div(lines, chunks)
    items = p.d.taps * p.h.taps * p.w.taps * p.channels
    for chunk in prange(chunks, nogil=True, schedule="dynamic", num_threads=threads):
        depthwise_gradient_lines(&p, dy_first, sums + chunk * items, min(chunk * each, lines), min((chunk + 1) * each, lines))
