# The ways back of pooling. A task is one image and some of its channels, whose windows are taken in order: this fixes every sum.
#
# Windows that `tile` the image (no pixel is in two) write their pixels. Others add to them, and what they add to is set to zero
# shortly before the first window gets there, while it is in the cache anyway.


cdef extern from "simd.h":
    vec less_taken(vec a, vec b) nogil


cdef enum:
    BACK_VECS = 2           # vectors of a pixel that are taken together
    MANY_TAPS = 24   # with more (twice as many where windows tile), the maxima of columns are found first


cdef inline bint tiles(const PoolAxis *axis) noexcept nogil:
    """Whether each pixel is in one window, but for some that come after all."""
    return axis.parts == 1 and axis.step == 1 and axis.begin <= 0 and axis.end - axis.begin == axis.stride


cdef inline Py_ssize_t taps_along(const PoolAxis *axis) noexcept nogil:
    return min(ceil_div(axis.end - axis.begin, axis.parts * axis.step), axis.size)


cdef inline bint in_steps(const Pool *p, bint tiled) noexcept nogil:
    """Whether maxima are found in columns first: pixels have few channels, or windows many taps."""
    cdef Py_ssize_t taps = taps_along(p.d) * taps_along(p.h) * taps_along(p.w)
    return p.channels < LANES or taps > (2 * MANY_TAPS if tiled else MANY_TAPS)


cdef inline void windows_from(const PoolAxis *axis, Py_ssize_t first, Window *to, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        to[i] = window(axis, first + i)


cdef inline void give(const bint tiled, real *dx, vec value) noexcept nogil:
    (<vec *> dx)[0] = value if tiled else (<vec *> dx)[0] + value


cdef inline bint give_to_largest(
    const int vecs, const bint tiled, const bint kept, const real *dy, const real *x, real *dx, Py_ssize_t planes, Py_ssize_t lines,
    Py_ssize_t taps, Py_ssize_t plane, Py_ssize_t line, Py_ssize_t step, mask wanted,
) noexcept nogil:
    """Go over a window once for the largest, and again for the first that equals it, which takes dy and leaves 0 to the others.

    The window has taps along so many planes and lines, and how far these are from each other is given in elements; 3 x 3 may be kept
    in registers. A NaN equals nothing: where the sum says that there may be one, nothing is given and the answer is false.
    """
    cdef vec seen[9 * BACK_VECS]
    cdef vec best[BACK_VECS]
    cdef vec rest[BACK_VECS]
    cdef vec value, taken, total = broadcast(0)
    cdef Py_ssize_t i, j, k, v, at
    cdef bint numbers
    for v in range(vecs):
        best[v] = broadcast(-INFINITY)
    for i in range(planes):
        for j in range(lines):
            at = i * plane + j * line
            for k in range(taps):
                for v in range(vecs):
                    value = (<const vec *> (x + at + v * LANES))[0]
                    if kept:
                        seen[(j * 3 + k) * vecs + v] = value
                    best[v] = larger_number(value, best[v])
                    total = total + value
                at += step
    numbers = not any_lane(unlike(total, total))
    for v in range(vecs):
        rest[v] = where(wanted, (<const vec *> (dy + v * LANES))[0]) if numbers else broadcast(0)
    for i in range(planes):
        for j in range(lines):
            at = i * plane + j * line
            for k in range(taps):
                for v in range(vecs):
                    value = seen[(j * 3 + k) * vecs + v] if kept else (<const vec *> (x + at + v * LANES))[0]
                    taken = where(equal(value, best[v]), rest[v])
                    give(tiled, dx + at + v * LANES, taken)
                    rest[v] = less_taken(rest[v], taken)
                at += step
    return numbers


cdef inline bint give_to_few(
    const int vecs, const bint tiled, const real *dy, const real *x, real *dx, Py_ssize_t planes, Py_ssize_t lines,
    Py_ssize_t taps, Py_ssize_t plane, Py_ssize_t line, Py_ssize_t step, mask wanted,
) noexcept nogil:
    if planes == 1 and lines == 3 and taps == 3:
        return give_to_largest(vecs, tiled, True, dy, x, dx, 1, 3, 3, plane, line, step, wanted)
    return give_to_largest(vecs, tiled, False, dy, x, dx, planes, lines, taps, plane, line, step, wanted)


cdef inline void ask_for_lines(
    const Pool *p, const real *dy, const real *x, const Line *line, const Window *w, Py_ssize_t channels
) noexcept nogil:
    """Ask for what the window below is the first to see, and for its dy: processors do not read ahead in the order of windows."""
    cdef Py_ssize_t i, j, k, c, at, one = 64 // <Py_ssize_t> sizeof(real)
    for c in range(ceil_div(channels, one)):
        fetch(dy + c * one)
    for i in range(line.d.taps):
        for j in range(p.h.stride):
            at = tap(p, &line.d, &line.h, i, 0, w.first) + (line.h.taps + j) * p.w.size * p.channels
            for k in range(p.w.stride):
                for c in range(ceil_div(channels, one)):
                    fetch(x + at + k * p.channels + c * one)


cdef inline void give_to_maxima(
    const bint tiled, const Pool *p, const real *dy, const real *x, real *dx, const Line *windows, Py_ssize_t channels, bint far
) noexcept nogil:
    """What a line of windows hands to their first largest pixels, which have at least LANES channels."""
    cdef lane indices[LANES]
    cdef mask all_lanes = broadcast_lane(-1), last_lanes, wanted
    cdef Py_ssize_t c, k, at, taps, first_lane, rest = channels % LANES, count = windows.count, ld = p.channels
    cdef Py_ssize_t planes = windows.d.taps, lines = windows.h.taps, step = p.w.step * ld
    cdef Py_ssize_t line = p.h.step * p.w.size * ld, plane = p.d.step * p.h.size * p.w.size * ld
    cdef Py_ssize_t first = tap(p, &windows.d, &windows.h, 0, 0, 0)
    cdef bint numbers
    for k in range(LANES):
        indices[k] = -1 if tiled or k >= LANES - rest else 0
    last_lanes = (<mask *> indices)[0]
    for k in range(count):
        if far:
            ask_for_lines(p, dy + count * ld, x, windows, windows.along + k, channels)
        at, taps, c = first + windows.along[k].first * ld, windows.along[k].taps, 0
        while c < channels:
            first_lane = c
            if c + 2 * LANES <= channels:
                numbers = give_to_few(2, tiled, dy + c, x + at + c, dx + at + c, planes, lines, taps, plane, line, step, all_lanes)
                c += 2 * LANES
            else:
                c = min(c, channels - LANES)
                wanted = all_lanes if c == first_lane else last_lanes
                numbers = give_to_few(1, tiled, dy + c, x + at + c, dx + at + c, planes, lines, taps, plane, line, step, wanted)
                if tiled:
                    first_lane = c   # all are written, those too that the vector before has written
                c += LANES
            if not numbers:
                give_one_by_one(
                    p, dy + first_lane, x + first_lane, dx + first_lane, windows, windows.along + k, c - first_lane
                )
        dy += ld


cdef apart give_maxima(
    const Pool *p, bint tiled, const real *dy, const real *x, real *dx, const Line *line, Py_ssize_t channels, bint far
) noexcept nogil:
    if tiled:
        give_to_maxima(True, p, dy, x, dx, line, channels, far)
    elif in_steps(p, False):
        give_to_places(p, dy, x, dx, line, line.along, line.count, channels)
    else:
        give_to_maxima(False, p, dy, x, dx, line, channels, far)


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
    const Pool *p, bint maxima, bint tiled, const real *dy, const real *dy_end, const real *x, real *dx, bint far,
    Py_ssize_t blocks, Py_ssize_t task,
) noexcept nogil:
    """One image and one block of its channels, window after window."""
    cdef Py_ssize_t image = task // blocks, block = task % blocks, i, j, k, cleared = 0, seen
    cdef Py_ssize_t c = block_start(p.channels, blocks, block), channels = block_start(p.channels, blocks, block + 1) - c
    cdef Py_ssize_t pixels = p.d.size * p.h.size * p.w.size
    cdef Window along[POOL_OUTPUTS]  # of a line, the same in each: computed once where they are few
    cdef Line line
    x += image * image_items(p) + c
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
                if maxima:
                    give_maxima(p, tiled, dy, x, dx, &line, channels, far)
                else:
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


cdef void pool_backward(
    bint maxima, const Pool *p, const real *dy, const real *x, real *dx, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t task, blocks = backward_blocks(batch, p.channels, threads)
    cdef const real *dy_end = dy + batch * p.d.out * p.h.out * p.w.out * p.channels
    cdef bint far = batch * image_items(p) * <Py_ssize_t> sizeof(real) > NEAR
    cdef bint tiled = tiles(p.d) and tiles(p.h) and tiles(p.w) and not (maxima and in_steps(p, True))
    for task in prange(batch * blocks, num_threads=threads):
        pool_image_backward(p, maxima, tiled, dy, dy_end, x, dx, far, blocks, task)


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
