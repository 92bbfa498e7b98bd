# The backward pass of averages. A task is one image and some of its channels, whose windows are taken in order: this fixes every sum.
#
# Windows that `tile` the image (no pixel is in two) write their pixels. Others add to them, and what they add to is set to zero
# shortly before the first window gets there, while it is in the cache anyway.


cdef inline void give(const bint tiled, real *dx, vec value) noexcept nogil:
    (<vec *> dx)[0] = value if tiled else (<vec *> dx)[0] + value


cdef inline void give_shares(
    const int vecs, const bint tiled, const Pool *p, const real *dy, real *dx, const Line *line, const Window *w
) noexcept nogil:
    cdef vec share[POOL_VECS]
    cdef Py_ssize_t i, j, k, v, at
    for v in range(vecs):
        share[v] = (<const vec *> (dy + v * LANES))[0] / broadcast(<real> (line.d.count * line.h.count * w.count))
    for i in range(line.d.taps):
        for j in range(line.h.taps):
            at = tap(p, &line.d, &line.h, i, j, w.first)
            for k in range(w.taps):
                for v in range(vecs):
                    give(tiled, dx + at + v * LANES, share[v])
                at += w.step * p.channels


cdef inline void scatter_shares(
    const Pool *p, const real *dy, real *dx, Py_ssize_t items, const Line *line, const Window *w
) noexcept nogil:
    """One by one: a vector that overlaps the one before waits for it to reach memory."""
    cdef real share[LANES]
    cdef real count = <real> (line.d.count * line.h.count * w.count)
    cdef Py_ssize_t i, j, k, c, at
    for c in range(items):
        share[c] = dy[c] / count
    for i in range(line.d.taps):
        for j in range(line.h.taps):
            at = tap(p, &line.d, &line.h, i, j, w.first)
            for k in range(w.taps):
                for c in range(items):
                    dx[at + c] += share[c]
                at += w.step * p.channels


cdef inline void give_means(
    const bint tiled, const Pool *p, const real *dy, real *dx, const Line *line, Py_ssize_t channels
) noexcept nogil:
    cdef Py_ssize_t c, k
    for k in range(line.count):
        c = 0
        while c + 4 * LANES <= channels:
            give_shares(4, tiled, p, dy + c, dx + c, line, line.along + k)
            c += 4 * LANES
        while c + LANES <= channels:
            give_shares(1, tiled, p, dy + c, dx + c, line, line.along + k)
            c += LANES
        if c < channels and tiled:
            c = channels - LANES
            give_shares(1, tiled, p, dy + c, dx + c, line, line.along + k)
        elif c < channels:
            scatter_shares(p, dy + c, dx + c, channels - c, line, line.along + k)
        dy += p.channels


cdef inline void copy_means(const Pool *p, const real *dy, const real *dy_end, real *dx, const Line *line) noexcept nogil:
    """A line of averages that tile the image, of fewer channels than a vector: the first line of dx, and copies of it."""
    cdef Py_ssize_t i, j, k, at = 0, first = line.along[0].first, from_ = tap(p, &line.d, &line.h, 0, 0, 0)
    cdef const Window *w = line.along
    cdef vec share
    if line.d.taps == 0 or line.h.taps == 0:
        return
    for i in range(line.count):
        w = line.along + i
        share = load(dy + i * p.channels, dy_end) / broadcast(<real> (line.d.count * line.h.count * w.count))
        for k in range(w.first, w.first + w.taps):
            store(dx + from_ + k * p.channels, share, (p.w.size - k) * p.channels)
    for i in range(line.d.taps):
        for j in range(line.h.taps):
            at = tap(p, &line.d, &line.h, i, j, 0)
            if at != from_:
                memcpy(
                    dx + at + first * p.channels, dx + from_ + first * p.channels,
                    (w.first + w.taps - first) * p.channels * sizeof(real),
                )


cdef apart share_means(
    const Pool *p, bint tiled, const real *dy, const real *dy_end, real *dx, const Line *line, Py_ssize_t channels
) noexcept nogil:
    if tiled and channels < LANES:
        copy_means(p, dy, dy_end, dx, line)
    elif tiled:
        give_means(True, p, dy, dx, line, channels)
    else:
        give_means(False, p, dy, dx, line, channels)


cdef inline void clear(real *dx, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    if channels == step:
        memset(dx, 0, pixels * step * sizeof(real))
        return
    for i in range(pixels):
        memset(dx + i * step, 0, channels * sizeof(real))


cdef void clear_behind(
    const Pool *p, real *dx, const Line *line, Py_ssize_t right, bint last_line, bint last_plane, Py_ssize_t channels
) noexcept nogil:
    """Clear what windows that tile leave out: pixels behind those of a line, lines behind the last, planes behind the last."""
    cdef Py_ssize_t i, j, at, lines = line.h.first + line.h.taps, planes = line.d.first + line.d.taps
    for i in range(line.d.taps):
        for j in range(line.h.taps):
            clear(dx + tap(p, &line.d, &line.h, i, j, right), p.w.size - right, p.channels, channels)
        if last_line:
            at = (line.d.first + i) * p.h.size + lines
            clear(dx + at * p.w.size * p.channels, (p.h.size - lines) * p.w.size, p.channels, channels)
    if last_line and last_plane:
        at = planes * p.h.size * p.w.size
        clear(dx + at * p.channels, (p.d.size - planes) * p.h.size * p.w.size, p.channels, channels)


cdef inline Py_ssize_t last_pixel(const Window *w) noexcept nogil:
    return w.first + (w.taps - 1) * w.step


cdef void pool_image_backward(
    const Pool *p, bint tiled, const real *dy, const real *dy_end, real *dx, Py_ssize_t blocks, Py_ssize_t task
) noexcept nogil:
    """One image and one block of its channels, window after window."""
    cdef Py_ssize_t image = task // blocks, block = task % blocks, i, j, k, cleared = 0, seen
    cdef Py_ssize_t c = block_start(p.channels, blocks, block), channels = block_start(p.channels, blocks, block + 1) - c
    cdef Py_ssize_t pixels = p.d.size * p.h.size * p.w.size
    cdef Window along[POOL_OUTPUTS]  # of a line, the same in each: computed once where they are few
    cdef Line line
    dx += image * image_items(p) + c
    dy += image * p.d.out * p.h.out * p.w.out * p.channels + c
    line.along = along
    for i in range(p.d.out):
        line.d = window(p.d, i)
        for j in range(p.h.out):
            line.h = window(p.h, j)
            k = 0
            while k < p.w.out:
                line.count = min(p.w.out - k, <Py_ssize_t> POOL_OUTPUTS)
                if p.w.out > POOL_OUTPUTS or i == j == 0:
                    windows_from(p.w, k, along, line.count)
                if not tiled:
                    seen = (last_pixel(&line.d) * p.h.size + last_pixel(&line.h)) * p.w.size
                    seen += min(((k + line.count - 1) * p.w.stride + p.w.end) // p.w.parts, p.w.size)
                    if seen > cleared:
                        clear(dx + cleared * p.channels, seen - cleared, p.channels, channels)
                        cleared = seen
                share_means(p, tiled, dy, dy_end, dx, &line, channels)
                dy += line.count * p.channels
                k += line.count
            if tiled:
                clear_behind(
                    p, dx, &line, last_pixel(along + line.count - 1) + 1, j == p.h.out - 1, i == p.d.out - 1, channels
                )
    if not tiled:
        clear(dx + cleared * p.channels, pixels - cleared, p.channels, channels)


cdef inline Py_ssize_t backward_blocks(Py_ssize_t batch, Py_ssize_t channels, int threads) noexcept nogil:
    """Blocks of channels such that every thread has some: all of them in one where the batch is large enough."""
    cdef Py_ssize_t blocks = 1 if batch >= 4 * threads or threads == 1 else ceil_div(2 * threads, batch)
    return max(min(blocks, channels // LANES), <Py_ssize_t> 1)


def avg_pool_backward(dy, dx, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """dx = the sum of dy[n, p, c] / count of p over the windows p that it is in."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef Py_ssize_t items, task, blocks = backward_blocks(batch, channels, threads)
    cdef const real *gradient = read_from(dy, &items)
    cdef real *to = write_to(dx)
    cdef bint tiled = tile_all(&p)
    if SELDOM_USED and not tiled and spreads(&p):
        with nogil:
            spread_means(&p, gradient, gradient + items, to, batch, threads)
        return
    with nogil:
        for task in prange(batch * blocks, num_threads=threads):
            pool_image_backward(&p, tiled, gradient, gradient + items, to, blocks, task)
