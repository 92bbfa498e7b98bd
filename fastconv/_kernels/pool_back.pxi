# The ways back of pooling. A task is one image and some of its channels, whose windows are taken in order: this fixes every sum.
#
# Windows that `tile` the image (each pixel is in one) write their pixels. Others add to them, and what they add to is set to zero
# shortly before the first window gets there, while it is in the cache anyway.


from libc.string cimport memset

cdef extern from "simd.h":
    mask same_lanes(mask a, mask b) nogil


cdef enum:
    POOL_AHEAD = 1024   # numbers set to zero at a time


cdef struct Seen:
    # of an image: the pixels of dx that are set, the lines of x that were looked through for NaN, and the last one that may have some
    Py_ssize_t cleared, looked, last_nan


cdef inline bint tiles(const PoolAxis *axis) noexcept nogil:
    return (
        axis.parts == 1 and axis.step == 1 and axis.begin == 0 and axis.end == axis.stride
        and axis.out * axis.stride >= axis.size
    )


cdef inline void window_argmax(
    const int vecs, const bint whole, const Pool *p, const real *x, const real *end,
    const Window *d, const Window *h, const Window *w, mask *first,
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
            at = x + tap(p, d, h, i, j, w.first)
            pixels = (i * d.step * p.h.size + j * h.step) * p.w.size
            for k in range(w.taps):
                for v in range(vecs):
                    value = pool_load(whole, at + v * LANES, end)
                    here = beats(value, best[v])
                    best[v] = choose(here, value, best[v])
                    first[v] = choose_lanes(here, broadcast_lane(<lane> pixels), first[v])
                at += step
                pixels += w.step


cdef inline void give(const bint tiled, const bint whole, real *dx, vec value, Py_ssize_t items) noexcept nogil:
    if not tiled:
        (<vec *> dx)[0] = (<vec *> dx)[0] + value
    elif whole:
        (<vec *> dx)[0] = value
    else:
        store(dx, value, items)


cdef inline void give_maxima(
    const int vecs, const bint tiled, const bint whole, const Pool *p, const real *x, const real *end,
    const real *dy, const real *dy_end, real *dx, const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """Go over the window again with all lanes, each of which gives its dy where its maximum is and zero elsewhere."""
    cdef mask first[POOL_VECS]
    cdef vec value[POOL_VECS]
    cdef Py_ssize_t i, j, k, v, step = w.step * p.channels, pixels
    cdef real *at
    window_argmax(vecs, whole, p, x, end, d, h, w, first)
    for v in range(vecs):
        value[v] = pool_load(whole, dy + v * LANES, dy_end)
    for i in range(d.taps):
        for j in range(h.taps):
            at = dx + tap(p, d, h, i, j, w.first)
            pixels = (i * d.step * p.h.size + j * h.step) * p.w.size
            for k in range(w.taps):
                for v in range(vecs):
                    give(
                        tiled, whole, at + v * LANES, where(same_lanes(first[v], broadcast_lane(<lane> pixels)), value[v]),
                        (p.w.size - w.first - k) * p.channels,
                    )
                at += step
                pixels += w.step


cdef inline void scatter_to_maxima(
    const int vecs, const bint whole, const Pool *p, const real *x, const real *end, const real *dy, real *dx,
    Py_ssize_t items, const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """Find where the maxima are, and go there with each lane by itself."""
    cdef mask first[POOL_VECS]
    cdef lane pixel[POOL_VECS * LANES]
    cdef Py_ssize_t c, v
    if not (d.taps and h.taps and w.taps):
        return
    window_argmax(vecs, whole, p, x, end, d, h, w, first)
    for v in range(vecs):
        (<mask *> (pixel + v * LANES))[0] = first[v]
    dx += tap(p, d, h, 0, 0, w.first)
    for c in range(min(items, <Py_ssize_t> (vecs * LANES))):
        dx[pixel[c] * p.channels + c] += dy[c]


cdef inline void give_to_all(
    const int vecs, const bint tiled, const bint whole, const Pool *p, const real *dy, const real *dy_end, real *dx,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    cdef vec share[POOL_VECS]
    cdef Py_ssize_t i, j, k, v, step = w.step * p.channels
    cdef real *at
    for v in range(vecs):
        share[v] = pool_load(whole, dy + v * LANES, dy_end) / broadcast(<real> (d.count * h.count * w.count))
    for i in range(d.taps):
        for j in range(h.taps):
            at = dx + tap(p, d, h, i, j, w.first)
            for k in range(w.taps):
                for v in range(vecs):
                    give(tiled, whole, at + v * LANES, share[v], (p.w.size - w.first - k) * p.channels)
                at += step


cdef inline void scatter_to_all(
    const Pool *p, const real *dy, real *dx, Py_ssize_t items, const Window *d, const Window *h, const Window *w
) noexcept nogil:
    """One by one: a vector that overlaps the one before waits for it to reach memory."""
    cdef real share[LANES]
    cdef real count = <real> (d.count * h.count * w.count)
    cdef Py_ssize_t i, j, k, c, step = w.step * p.channels
    cdef real *at
    for c in range(items):
        share[c] = dy[c] / count
    for i in range(d.taps):
        for j in range(h.taps):
            at = dx + tap(p, d, h, i, j, w.first)
            for k in range(w.taps):
                for c in range(items):
                    at[c] += share[c]
                at += step


cdef inline void back_vectors(
    const int vecs, const bint maxima, const bint tiled, const Pool *p, const real *x, const real *end, const real *dy, real *dx,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """A lane that scatters costs about as much as a tap that is gone over again."""
    if not maxima:
        give_to_all(vecs, tiled, True, p, dy, NULL, dx, d, h, w)
    elif tiled or d.taps * h.taps * w.taps <= LANES:
        give_maxima(vecs, tiled, True, p, x, end, dy, NULL, dx, d, h, w)
    else:
        scatter_to_maxima(vecs, True, p, x, end, dy, dx, vecs * LANES, d, h, w)


cdef inline void back_pixel(
    const bint maxima, const bint tiled, const Pool *p, const real *x, const real *end, const real *dy, real *dx,
    const Window *d, const Window *h, const Window *w, Py_ssize_t channels,
) noexcept nogil:
    """One output's channels, at least LANES."""
    cdef Py_ssize_t c = 0, rest
    while c + 4 * LANES <= channels:
        back_vectors(4, maxima, tiled, p, x + c, end, dy + c, dx + c, d, h, w)
        c += 4 * LANES
    if c + 2 * LANES <= channels:
        back_vectors(2, maxima, tiled, p, x + c, end, dy + c, dx + c, d, h, w)
        c += 2 * LANES
    if c + LANES <= channels:
        back_vectors(1, maxima, tiled, p, x + c, end, dy + c, dx + c, d, h, w)
        c += LANES
    rest = channels - c
    if rest and tiled:
        c = channels - LANES
        back_vectors(1, maxima, tiled, p, x + c, end, dy + c, dx + c, d, h, w)
    elif rest and maxima:
        scatter_to_maxima(1, False, p, x + c, end, dy + c, dx + c, rest, d, h, w)
    elif rest:
        scatter_to_all(p, dy + c, dx + c, rest, d, h, w)


cdef inline void back_small_pixel(
    const bint maxima, const bint tiled, const Pool *p, const real *x, const real *end, const real *dy, const real *dy_end, real *dx,
    const Window *d, const Window *h, const Window *w,
) noexcept nogil:
    """One output that has fewer channels than a vector."""
    if maxima and tiled:
        give_maxima(1, True, False, p, x, end, dy, dy_end, dx, d, h, w)
    elif maxima:
        scatter_to_maxima(1, False, p, x, end, dy, dx, p.channels, d, h, w)
    elif tiled:
        give_to_all(1, True, False, p, dy, dy_end, dx, d, h, w)
    else:
        scatter_to_all(p, dy, dx, p.channels, d, h, w)


cdef inline void clear(real *dx, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    if channels == step:
        memset(dx, 0, pixels * step * sizeof(real))
        return
    for i in range(pixels):
        memset(dx + i * step, 0, channels * sizeof(real))


cdef inline void windows_from(const PoolAxis *axis, Py_ssize_t first, Window *to) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(min(axis.out - first, <Py_ssize_t> POOL_OUTPUTS)):
        to[i] = window(axis, first + i)


cdef inline void share_line(
    const Pool *p, const real *dy, const real *dy_end, real *dx, const Window *d, const Window *h, const Window *along
) noexcept nogil:
    """A line of averages that tile the image, of fewer channels than a vector: the first line of dx, and copies of it."""
    cdef Py_ssize_t i, j, k, at, first = tap(p, d, h, 0, 0, 0)
    cdef vec share
    if d.taps == 0 or h.taps == 0:
        return
    for i in range(p.w.out):
        share = load(dy + i * p.channels, dy_end) / broadcast(<real> (d.count * h.count * along[i].count))
        for k in range(along[i].first, along[i].first + along[i].taps):
            store(dx + first + k * p.channels, share, (p.w.size - k) * p.channels)
    for i in range(d.taps):
        for j in range(h.taps):
            at = tap(p, d, h, i, j, 0)
            if at != first:
                memcpy(dx + at, dx + first, p.w.size * p.channels * sizeof(real))


cdef inline bint slide_line(
    const Pool *p, const real *dy, const real *x, real *dx, const Window *h, Py_ssize_t channels, bint far, Seen *seen
) noexcept nogil:
    """Whether a line of windows could be gone over with one that slides, and was.

    What is `far` is brought near before: x and dy by asking for the next lines meanwhile, dx by clearing it.
    """
    cdef Py_ssize_t end, line, right = min((p.w.out - 1) * p.w.stride + p.w.end, p.w.size)   # from there no window sees a pixel
    while seen.looked < h.first + h.taps:
        if may_have_nan(x + seen.looked * p.w.size * p.channels, p.w.size, p.channels, channels):
            seen.last_nan = seen.looked
        seen.looked += 1
    if seen.last_nan >= h.first:
        return False
    end = seen.looked * p.w.size
    line = max(round_up(seen.cleared, p.w.size), end if far or channels % LANES else 0)   # vectors that overlap add to each other
    clear(dx + seen.cleared * p.channels, line - seen.cleared, p.channels, channels)
    slide_along(p, dy, x, dx, h, line // p.w.size, channels, far)
    while line < end:
        clear(dx + (line + right) * p.channels, p.w.size - right, p.channels, channels)
        line += p.w.size
    seen.cleared = line
    return True


cdef void pool_image_backward(
    const bint maxima, const bint tiled, const Pool *p, const real *dy, const real *dy_end, const real *x, const real *end, real *dx,
    bint far, Py_ssize_t blocks, Py_ssize_t task,
) noexcept nogil:
    """One image and one block of its channels, window after window."""
    cdef Py_ssize_t image = task // blocks, block = task % blocks, i, j, k
    cdef Py_ssize_t c = block_start(p.channels, blocks, block), channels = block_start(p.channels, blocks, block + 1) - c
    cdef Py_ssize_t pixels = p.d.size * p.h.size * p.w.size, line, needed
    cdef Window along[POOL_OUTPUTS]  # of a line, the same in each: computed once where they are few
    cdef const Window *w
    cdef Window d, h
    cdef bint aliasing = p.channels * sizeof(real) % 2048 == 0  # pixels share sets of the cache, from which a line falls out meanwhile
    cdef bint sliding = maxima and not tiled and not (far and aliasing) and channels >= LANES and slides(p)
    cdef Seen seen
    x += image * image_items(p) + c
    dx += image * image_items(p) + c
    dy += image * p.d.out * p.h.out * p.w.out * p.channels + c
    seen.cleared, seen.looked, seen.last_nan = 0, 0, -1
    windows_from(p.w, 0, along)
    for i in range(p.d.out):
        d = window(p.d, i)
        for j in range(p.h.out):
            h = window(p.h, j)
            if tiled and not maxima and channels < LANES and p.w.out <= POOL_OUTPUTS:
                share_line(p, dy, dy_end, dx, &d, &h, along)
                dy += p.w.out * p.channels
                continue
            if sliding and d.taps == 1 and slide_line(p, dy, x, dx, &h, channels, far, &seen):
                dy += p.w.out * p.channels
                continue
            line = ((d.first + (d.taps - 1) * d.step) * p.h.size + h.first + (h.taps - 1) * h.step) * p.w.size
            for k in range(p.w.out):
                if k % POOL_OUTPUTS == 0 and p.w.out > POOL_OUTPUTS:
                    windows_from(p.w, k, along)
                w = along + k % POOL_OUTPUTS
                if not tiled:
                    needed = line + w.first + w.taps * w.step
                    if needed > seen.cleared:
                        needed = min(max(needed, seen.cleared + POOL_AHEAD // channels), pixels)
                        clear(dx + seen.cleared * p.channels, needed - seen.cleared, p.channels, channels)
                        seen.cleared = needed
                if channels >= LANES:
                    back_pixel(maxima, tiled, p, x, end, dy, dx, &d, &h, w, channels)
                else:
                    back_small_pixel(maxima, tiled, p, x, end, dy, dy_end, dx, &d, &h, w)
                dy += p.channels
    if not tiled:
        clear(dx + seen.cleared * p.channels, pixels - seen.cleared, p.channels, channels)


cdef inline Py_ssize_t backward_blocks(Py_ssize_t batch, Py_ssize_t channels, int threads) noexcept nogil:
    """Blocks of channels such that every thread has some: all of them in one where the batch is large enough."""
    cdef Py_ssize_t blocks = 1 if batch >= 4 * threads or threads == 1 else ceil_div(2 * threads, batch)
    return max(min(blocks, channels // LANES), <Py_ssize_t> 1)


cdef void pool_backward(
    const bint maxima, const Pool *p, const real *dy, const real *x, real *dx, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t task, blocks = backward_blocks(batch, p.channels, threads)
    cdef const real *dy_end = dy + batch * p.d.out * p.h.out * p.w.out * p.channels
    cdef const real *end = x + batch * image_items(p)
    cdef bint far = batch * image_items(p) * <Py_ssize_t> sizeof(real) > NEAR
    cdef bint tiled = tiles(p.d) and tiles(p.h) and tiles(p.w)
    for task in prange(batch * blocks, num_threads=threads):
        if tiled:
            pool_image_backward(maxima, True, p, dy, dy_end, x, end, dx, far, blocks, task)
        else:
            pool_image_backward(maxima, False, p, dy, dy_end, x, end, dx, far, blocks, task)


def max_pool_backward(dy, x, dx, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """dx = the sum of dy[n, p, c] over the windows p whose first maximum (or NaN) it is. A window spans less than 2**31 pixels."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef const real *gradient = read_from(dy)
    cdef const real *source = read_from(x)
    cdef real *to = write_to(dx)
    with nogil:
        pool_backward(True, &p, gradient, source, to, batch, threads)


def avg_pool_backward(dy, dx, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """dx = the sum of dy[n, p, c] / count of p over the windows p that it is in."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef const real *gradient = read_from(dy)
    cdef real *to = write_to(dx)
    with nogil:  # x is not read
        pool_backward(False, &p, gradient, to, to, batch, threads)
