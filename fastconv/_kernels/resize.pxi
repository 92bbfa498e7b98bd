# An image in another size, and the backward pass: along each axis an output is a sum of neighboring inputs, each times its weight, so
# the axis is a matrix whose rows have few numbers that are not zero; the backward pass is its transpose.
#
# x (N, D, H, W, C) -> y (N, P, Q, R, C). spans (P + Q + R, 3) says of every output of the three axes, one after the other, which
# input is its first, how many there are (none: the output is 0) and where their weights begin.


cdef enum:
    RESIZE_PIXELS = 256   # of a line, in one task


cdef struct Span:
    int64_t first, count, weights


cdef inline void weighed(
    const int vecs, const bint whole, const real *x, Py_ssize_t ld, const real *end, const real *weights, Py_ssize_t taps,
    vec factor, bint more, real *y,
) noexcept nogil:
    """y (+)= factor * sum over t of weights[t] * x[t * ld], of vectors; where they are not `whole` nothing is read from `end` on."""
    cdef Py_ssize_t t, v
    cdef vec total[POOL_VECS]
    for v in range(vecs):
        total[v] = broadcast(0)
    for t in range(taps):
        for v in range(vecs):
            total[v] = total[v] + pool_load(whole, x + t * ld + v * LANES, end) * weights[t]
    for v in range(vecs):
        total[v] = total[v] * factor
        (<vec *> y)[v] = (<vec *> y)[v] + total[v] if more else total[v]


cdef apart resize_line(
    const real *x, const real *end, Py_ssize_t plane, Py_ssize_t line, const Span *d, const Span *h, const real *weights,
    Py_ssize_t items, real *y,
) noexcept nogil:
    """The sum of lines of x, `items` of each; y has room for whole vectors."""
    cdef Py_ssize_t i, c
    cdef vec factor
    if d.count == 0 or h.count == 0:
        memset(y, 0, items * sizeof(real))
    for i in range(d.count if h.count else 0):
        factor = broadcast(weights[d.weights + i])
        c = 0
        while c + 4 * LANES <= items:
            weighed(4, True, x + c, line, end, weights + h.weights, h.count, factor, i > 0, y + c)
            c += 4 * LANES
        while c < items:
            weighed(1, False, x + c, line, end, weights + h.weights, h.count, factor, i > 0, y + c)
            c += LANES
        x += plane


cdef apart resize_pixels(
    const real *x, const real *weights, const Span *spans, Py_ssize_t first, Py_ssize_t last, Py_ssize_t start,
    Py_ssize_t channels, real *y,
) noexcept nogil:
    """Pixels ``first .. last - 1`` of a line of y, of which x is the sum of lines from pixel `start` on, with room for a vector."""
    cdef Py_ssize_t p, c, items = (last - first) * channels
    cdef const real *at
    cdef const real *w
    cdef real room[LANES]
    cdef vec one = broadcast(1)
    for p in range(first, last):
        at = x + (spans[p].first - start) * channels
        w = weights + spans[p].weights
        if channels <= PART_LANES <= items and spans[p].count == 1 and w[0] == 1:   # the nearest pixel
            (<part *> y)[0] = (<const part *> at)[0]
            y += channels
            items -= channels
            continue
        c = 0
        while c + 4 * LANES <= channels:
            weighed(4, True, at + c, channels, x, w, spans[p].count, one, False, y + c)
            c += 4 * LANES
        while c < channels:
            if c + LANES > channels and c > 0:
                c = channels - LANES
            if items >= LANES:   # what is written too much is of the pixels that come next
                weighed(1, True, at + c, channels, x, w, spans[p].count, one, False, y + c)
            else:
                weighed(1, True, at + c, channels, x, w, spans[p].count, one, False, room)
                memcpy(y, room, items * sizeof(real))
            c += LANES
        y += channels
        items -= channels


cdef Py_ssize_t inputs_of(const Span *spans, Py_ssize_t first, Py_ssize_t last, Py_ssize_t *start) noexcept nogil:
    """How many inputs there are from the first to the last one of some outputs, and which is the first."""
    cdef Py_ssize_t p, stop = 0
    start[0] = -1
    for p in range(first, last):
        if spans[p].count:
            start[0] = spans[p].first if start[0] < 0 else min(start[0], spans[p].first)
            stop = max(stop, spans[p].first + spans[p].count)
    return stop - start[0] if stop else 0


cdef void resize_task(
    const real *x, const real *end, const real *weights, const Span *d, const Span *h, const Span *w, Py_ssize_t plane,
    Py_ssize_t line, Py_ssize_t first, Py_ssize_t last, Py_ssize_t channels, real *y, real *scratch,
) noexcept nogil:
    """Pixels ``first .. last - 1`` of a line of y."""
    cdef Py_ssize_t start, pixels = inputs_of(w, first, last, &start)
    if pixels == 0:
        memset(y, 0, (last - first) * channels * sizeof(real))
        return
    x += d.first * plane + h.first * line + start * channels
    if d.count == h.count == 1 and weights[d.weights] == weights[h.weights] == 1 and end - x >= pixels * channels + LANES:
        scratch = <real *> x   # this line as it is; vectors read beyond it
    else:
        resize_line(x, end, plane, line, d, h, weights, pixels * channels, scratch)
    resize_pixels(scratch, weights, w, first, last, start, channels, y)


def resize(
    const real[:, :, :, :, ::1] x, real[:, :, :, :, ::1] y, const int64_t[:, ::1] spans, const real[::1] weights, int threads,
    /,
):
    """y[n, p, q, r, c] = sum over i, j, k of weight[p, i] * weight[q, j] * weight[r, k] * x[n, i, j, k, c]."""
    cdef const Span *d = <const Span *> &spans[0, 0]
    cdef const Span *h = d + y.shape[1]
    cdef const Span *w = h + y.shape[2]
    cdef Py_ssize_t channels = x.shape[4], line = x.shape[3] * channels, plane = x.shape[2] * line
    cdef Py_ssize_t parts = ceil_div(y.shape[3], RESIZE_PIXELS), lines = y.shape[1] * y.shape[2], task, at, first
    cdef Py_ssize_t each = 0, start
    cdef const real *end = &x[0, 0, 0, 0, 0] + x.shape[0] * x.shape[1] * plane
    cdef real *scratch
    for task in range(parts):
        first = task * RESIZE_PIXELS
        each = max(each, inputs_of(w, first, min(first + RESIZE_PIXELS, y.shape[3]), &start))
    each = own_lines(round_up(each * channels, LANES) + 2 * LANES)
    threads = min(threads, y.shape[0] * lines * parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        raise MemoryError()
    for task in prange(y.shape[0] * lines * parts, nogil=True, num_threads=threads):
        at = task // parts
        first = task % parts * RESIZE_PIXELS
        resize_task(
            &x[0, 0, 0, 0, 0] + at // lines * x.shape[1] * plane, end, &weights[0], d + at % lines // y.shape[2],
            h + at % y.shape[2], w, plane, line, first, min(first + RESIZE_PIXELS, y.shape[3]), channels,
            &y[0, 0, 0, 0, 0] + (at * y.shape[3] + first) * channels, scratch + threadid() * each,
        )
    free_lines(scratch)
