# Maxima and averages over windows, and their ways back. One kernel each for every pooling: geometry gives the windows of each
# axis as records, so padding, dilation, ceil mode, adaptive and global windows are all the same to it.
#
# x (N, D, H, W, C), y (N, P, Q, R, C); d, h, w the windows of the axes: (outputs, 4) records. A window's taps are all inside x.
# Vectors run along the channels. Where C is no multiple of LANES, the last vector of a pixel reads on into the next pixel, and
# those lanes are dropped.


cdef extern from "<math.h>" nogil:
    const float INFINITY


cdef enum:
    POOL_CHANNELS = 128   # channels of a task: enough to stream, few enough that one image makes several tasks
    POOL_TAPS = 128       # of a line, that are summed apart
    POOL_VECS = 4         # vectors of a pixel reduced together: their lines are neighbours in memory


cdef struct Window:
    # reads `first + t * step` for t < taps; an average divides by the product of the axes' counts
    int64_t first, taps, step, count


cdef struct Pool:
    const Window *d
    const Window *h
    const Window *w
    Py_ssize_t size_d, size_h, size_w, out_d, out_h, out_w, channels


cdef Pool new_pool(
    const int64_t[:, ::1] d, const int64_t[:, ::1] h, const int64_t[:, ::1] w,
    Py_ssize_t size_d, Py_ssize_t size_h, Py_ssize_t size_w, Py_ssize_t channels,
) noexcept nogil:
    cdef Pool p
    p.d, p.h, p.w = <const Window *> &d[0, 0], <const Window *> &h[0, 0], <const Window *> &w[0, 0]
    p.out_d, p.out_h, p.out_w = d.shape[0], h.shape[0], w.shape[0]
    p.size_d, p.size_h, p.size_w, p.channels = size_d, size_h, size_w, channels
    return p


cdef inline Py_ssize_t tap(const Pool *p, const Window *d, const Window *h, const Window *w, Py_ssize_t i, Py_ssize_t j) noexcept nogil:
    """Where in an image the taps along w begin, for tap i along d and j along h."""
    return (((d.first + i * d.step) * p.size_h + h.first + j * h.step) * p.size_w + w.first) * p.channels


cdef inline void window_max(
    const int vecs, const Pool *p, const real *x, const real *end, const Window *d, const Window *h, const Window *w, vec *best
) noexcept nogil:
    cdef Py_ssize_t i, j, k, v, step = w.step * p.channels
    cdef const real *at
    cdef vec value
    for v in range(vecs):
        best[v] = broadcast(-INFINITY)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, w, i, j)
            for k in range(w.taps):
                for v in range(vecs):
                    value = load(at + v * LANES, end)
                    best[v] = choose(beats(value, best[v]), value, best[v])
                at += step


cdef inline void window_mean(
    const int vecs, const Pool *p, const real *x, const real *end, const Window *d, const Window *h, const Window *w, vec *mean
) noexcept nogil:
    """Parts of lines are summed apart: the rounding error grows with a window's sides, not with its area."""
    cdef Py_ssize_t i, j, k, v, part, step = w.step * p.channels
    cdef const real *at
    cdef vec line[POOL_VECS]
    cdef vec count = broadcast(<real> (d.count * h.count * w.count))
    for v in range(vecs):
        mean[v] = broadcast(0)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, w, i, j)
            part = 0
            while part < w.taps:
                for v in range(vecs):
                    line[v] = broadcast(0)
                for k in range(min(w.taps - part, <Py_ssize_t> POOL_TAPS)):
                    for v in range(vecs):
                        line[v] = line[v] + load(at + v * LANES, end)
                    at += step
                for v in range(vecs):
                    mean[v] = mean[v] + line[v]
                part += POOL_TAPS
    for v in range(vecs):
        mean[v] = mean[v] / count


cdef inline void pool_vectors(
    const int vecs, const bint maxima, const Pool *p, const real *x, const real *end, const Window *d, const Window *h,
    const Window *w, real *y, Py_ssize_t items,
) noexcept nogil:
    cdef vec value[POOL_VECS]
    cdef Py_ssize_t v
    if maxima:
        window_max(vecs, p, x, end, d, h, w, value)
    else:
        window_mean(vecs, p, x, end, d, h, w, value)
    for v in range(vecs):
        store(y + v * LANES, value[v], items - v * LANES)


cdef void pool_line(const bint maxima, const Pool *p, const real *x, const real *end, real *y, Py_ssize_t task) noexcept nogil:
    """One line of outputs (n, d, h), and one block of its channels."""
    cdef Py_ssize_t blocks = ceil_div(p.channels, POOL_CHANNELS), line = task // blocks, i, c
    cdef Py_ssize_t first = task % blocks * POOL_CHANNELS, last = min(first + POOL_CHANNELS, p.channels)
    cdef Py_ssize_t image = line // (p.out_d * p.out_h)
    cdef const Window *d = p.d + line // p.out_h % p.out_d
    cdef const Window *h = p.h + line % p.out_h
    x += image * p.size_d * p.size_h * p.size_w * p.channels
    y += line * p.out_w * p.channels
    for i in range(p.out_w):
        c = first
        while c + POOL_VECS * LANES <= last:
            pool_vectors(POOL_VECS, maxima, p, x + c, end, d, h, p.w + i, y + c, last - c)
            c += POOL_VECS * LANES
        while c < last:
            pool_vectors(1, maxima, p, x + c, end, d, h, p.w + i, y + c, last - c)
            c += LANES
        y += p.channels


def max_pool_forward(
    const real[:, :, :, :, ::1] x, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] d, const int64_t[:, ::1] h, const int64_t[:, ::1] w, int threads,
):
    """y[n, p, c] = the largest x[n, window p, c]; NaN where there is one; -inf where the window is empty."""
    cdef Pool p = new_pool(d, h, w, x.shape[1], x.shape[2], x.shape[3], x.shape[4])
    cdef Py_ssize_t task, tasks = x.shape[0] * p.out_d * p.out_h * ceil_div(p.channels, POOL_CHANNELS)
    cdef const real *source = &x[0, 0, 0, 0, 0]
    cdef const real *end = source + x.shape[0] * p.size_d * p.size_h * p.size_w * p.channels
    cdef real *to = &y[0, 0, 0, 0, 0]
    for task in prange(tasks, nogil=True, num_threads=threads):
        pool_line(True, &p, source, end, to, task)


def avg_pool_forward(
    const real[:, :, :, :, ::1] x, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] d, const int64_t[:, ::1] h, const int64_t[:, ::1] w, int threads,
):
    """y[n, p, c] = sum of x[n, window p, c] / count of p."""
    cdef Pool p = new_pool(d, h, w, x.shape[1], x.shape[2], x.shape[3], x.shape[4])
    cdef Py_ssize_t task, tasks = x.shape[0] * p.out_d * p.out_h * ceil_div(p.channels, POOL_CHANNELS)
    cdef const real *source = &x[0, 0, 0, 0, 0]
    cdef const real *end = source + x.shape[0] * p.size_d * p.size_h * p.size_w * p.channels
    cdef real *to = &y[0, 0, 0, 0, 0]
    for task in prange(tasks, nogil=True, num_threads=threads):
        pool_line(False, &p, source, end, to, task)


cdef inline void window_argmax(
    const int vecs, const Pool *p, const real *x, const real *end, const Window *d, const Window *h, const Window *w, mask *first
) noexcept nogil:
    """For each lane where the first maximum is, in pixels from the first of the window."""
    cdef vec best[POOL_VECS]
    cdef vec value
    cdef mask here
    cdef Py_ssize_t i, j, k, v, step = w.step * p.channels, pixels
    cdef const real *at
    for v in range(vecs):
        best[v] = broadcast(-INFINITY)
        first[v] = broadcast_lane(0)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, w, i, j)
            pixels = (i * d.step * p.size_h + j * h.step) * p.size_w
            for k in range(w.taps):
                for v in range(vecs):
                    value = load(at + v * LANES, end)
                    here = beats(value, best[v])
                    best[v] = choose(here, value, best[v])
                    first[v] = choose_lanes(here, broadcast_lane(<lane> pixels), first[v])
                at += step
                pixels += w.step


cdef inline void scatter_to_maxima(
    const int vecs, const Pool *p, const real *x, const real *end, const real *dy, real *dx, Py_ssize_t items,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """Find where the maxima are, and go there with each lane by itself."""
    cdef mask first[POOL_VECS]
    cdef lane pixel[POOL_VECS * LANES]
    cdef Py_ssize_t c, v
    window_argmax(vecs, p, x, end, d, h, w, first)
    for v in range(vecs):
        (<mask *> (pixel + v * LANES))[0] = first[v]
    dx += tap(p, d, h, w, 0, 0)
    for c in range(min(items, <Py_ssize_t> (vecs * LANES))):
        dx[pixel[c] * p.channels + c] += dy[c]


cdef inline void sweep_to_maxima(
    const int vecs, const Pool *p, const real *x, const real *end, const real *dy, real *dx,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """Go over the window again with all lanes: the first that has the bits of the maximum is the first maximum."""
    cdef vec best[POOL_VECS]
    cdef mask searching[POOL_VECS]
    cdef mask here
    cdef Py_ssize_t i, j, k, v, at, step = w.step * p.channels
    window_max(vecs, p, x, end, d, h, w, best)
    for v in range(vecs):
        searching[v] = broadcast_lane(-1)
    for i in range(d.taps):
        for j in range(h.taps):
            at = tap(p, d, h, w, i, j)
            for k in range(w.taps):
                for v in range(vecs):
                    here = searching[v] & same_bits(best[v], (<const vec *> (x + at + v * LANES))[0])
                    searching[v] = searching[v] & ~here
                    (<vec *> (dx + at + v * LANES))[0] = (
                        (<vec *> (dx + at + v * LANES))[0] + where(here, (<const vec *> (dy + v * LANES))[0])
                    )
                at += step


cdef inline void add_to_maxima(
    const int vecs, const Pool *p, const real *x, const real *end, const real *dy, real *dx, Py_ssize_t items,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """Whichever is faster: a lane of the one costs about as much as a tap of the other. The result is the same."""
    cdef int64_t taps = d.taps * h.taps * w.taps
    if items >= vecs * LANES and taps <= LANES:
        sweep_to_maxima(vecs, p, x, end, dy, dx, d, h, w)
    elif taps:
        scatter_to_maxima(vecs, p, x, end, dy, dx, items, d, h, w)


cdef inline void add_to_all(
    const int vecs, const Pool *p, const real *dy, real *dx, Py_ssize_t items,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    cdef vec share[POOL_VECS]
    cdef real part[LANES]
    cdef Py_ssize_t i, j, k, c, v, step = w.step * p.channels
    cdef real *at
    for v in range(vecs):
        share[v] = load(dy + v * LANES, dy + items) / broadcast(<real> (d.count * h.count * w.count))
    (<vec *> part)[0] = share[0]
    for i in range(d.taps):
        for j in range(h.taps):
            at = dx + tap(p, d, h, w, i, j)
            for k in range(w.taps):
                if items >= vecs * LANES:
                    for v in range(vecs):
                        (<vec *> (at + v * LANES))[0] = (<vec *> (at + v * LANES))[0] + share[v]
                else:  # one by one: a vector that overlaps the one before waits for it to reach memory
                    for c in range(items):
                        at[c] += part[c]
                at += step


cdef inline void add_back(
    const int vecs, const bint maxima, const Pool *p, const real *x, const real *end, const real *dy, real *dx,
    Py_ssize_t items, const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    if maxima:
        add_to_maxima(vecs, p, x, end, dy, dx, items, d, h, w)
    else:
        add_to_all(vecs, p, dy, dx, items, d, h, w)


cdef void pool_image_backward(
    const bint maxima, const Pool *p, const real *dy, const real *x, const real *end, real *dx, Py_ssize_t block, Py_ssize_t task
) noexcept nogil:
    """One image and one block of its channels, window after window: this order fixes every sum."""
    cdef Py_ssize_t blocks = ceil_div(p.channels, block), image = task // blocks, i, j, k, c
    cdef Py_ssize_t first = task % blocks * block, last = min(first + block, p.channels)
    cdef Py_ssize_t offset = image * p.size_d * p.size_h * p.size_w * p.channels
    dx += offset
    dy += image * p.out_d * p.out_h * p.out_w * p.channels
    for i in range(p.out_d):
        for j in range(p.out_h):
            for k in range(p.out_w):
                c = first
                while c + POOL_VECS * LANES <= last:
                    add_back(
                        POOL_VECS, maxima, p, x + offset + c, end, dy + c, dx + c, last - c, p.d + i, p.h + j, p.w + k
                    )
                    c += POOL_VECS * LANES
                while c < last:
                    add_back(1, maxima, p, x + offset + c, end, dy + c, dx + c, last - c, p.d + i, p.h + j, p.w + k)
                    c += LANES
                dy += p.channels


cdef inline Py_ssize_t backward_channels(Py_ssize_t batch, Py_ssize_t channels, int threads) noexcept nogil:
    """Channels of a task such that every thread has some: all of them where the batch is large enough."""
    cdef Py_ssize_t blocks = 1 if batch >= 4 * threads else ceil_div(2 * threads, batch)
    return min(channels, max(round_up(ceil_div(channels, blocks), LANES), <Py_ssize_t> LANES))


def max_pool_backward(
    const real[:, :, :, :, ::1] dy, const real[:, :, :, :, ::1] x, real[:, :, :, :, ::1] dx,
    const int64_t[:, ::1] d, const int64_t[:, ::1] h, const int64_t[:, ::1] w, int threads,
):
    """dx (zeros on entry) at the first maximum (or NaN) of window p += dy[n, p, c]. A window spans less than 2**31 pixels."""
    cdef Pool p = new_pool(d, h, w, x.shape[1], x.shape[2], x.shape[3], x.shape[4])
    cdef Py_ssize_t task, batch = x.shape[0], block = backward_channels(batch, p.channels, threads)
    cdef const real *dy_first = &dy[0, 0, 0, 0, 0]
    cdef const real *x_first = &x[0, 0, 0, 0, 0]
    cdef const real *x_end = x_first + batch * p.size_d * p.size_h * p.size_w * p.channels
    cdef real *to = &dx[0, 0, 0, 0, 0]
    for task in prange(batch * ceil_div(p.channels, block), nogil=True, num_threads=threads):
        pool_image_backward(True, &p, dy_first, x_first, x_end, to, block, task)


def avg_pool_backward(
    const real[:, :, :, :, ::1] dy, real[:, :, :, :, ::1] dx,
    const int64_t[:, ::1] d, const int64_t[:, ::1] h, const int64_t[:, ::1] w, int threads,
):
    """dx (zeros on entry) at every pixel of window p += dy[n, p, c] / count of p."""
    cdef Pool p = new_pool(d, h, w, dx.shape[1], dx.shape[2], dx.shape[3], dx.shape[4])
    cdef Py_ssize_t task, batch = dx.shape[0], block = backward_channels(batch, p.channels, threads)
    cdef const real *dy_first = &dy[0, 0, 0, 0, 0]
    cdef real *to = &dx[0, 0, 0, 0, 0]
    for task in prange(batch * ceil_div(p.channels, block), nogil=True, num_threads=threads):
        pool_image_backward(False, &p, dy_first, to, to, to, block, task)  # x is not read
