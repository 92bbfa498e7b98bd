# Upsampling, and its way back. Along one axis it is a matrix with a row for each pixel p of the large image and a column for each
# pixel i of the small one; the way back is its transpose. A row or a column has few numbers that are not zero, all neighbours, and
# they are computed where they are used.
#
# x (N, D, H, W, C) is the small image, y (N, P, Q, R, C) the large one, axes (3, 2): pixels of x, and how many times as many y has.


cdef enum:
    RESIZE_PIXELS = 256   # of a line, in one task


cdef struct ResizeAxis:
    int64_t size, scale


cdef struct Resize:
    const ResizeAxis *d
    const ResizeAxis *h
    const ResizeAxis *w
    Py_ssize_t channels


cdef struct Span:
    Py_ssize_t first, end


cdef inline Py_ssize_t floor_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return a // b - (a % b < 0)


cdef inline Py_ssize_t centre_of(const ResizeAxis *axis, Py_ssize_t i) noexcept nogil:
    """Where the centre of pixel i is in y, in halves of a pixel; that of pixel p is at 2 * p + 1."""
    return (2 * i + 1) * axis.scale


cdef inline real weight_of(const bint linear, const ResizeAxis *axis, Py_ssize_t i, Py_ssize_t p) noexcept nogil:
    """What pixel i counts in pixel p: one minus the distance of their centres. Beyond the first and the last the edge is alone."""
    cdef Py_ssize_t distance = 2 * p + 1 - centre_of(axis, i)
    if not linear or (distance < 0 and i == 0) or (distance > 0 and i == axis.size - 1):
        return 1
    return <real> (2 * axis.scale - (distance if distance > 0 else -distance)) / <real> (2 * axis.scale)


cdef inline Py_ssize_t reach(const bint linear, const ResizeAxis *axis, Py_ssize_t i) noexcept nogil:
    """The first pixel of y that pixel i is the left one for; -1 stands for what is left of the first centre."""
    if not linear:
        return i * axis.scale
    return 0 if i < 0 else min(centre_of(axis, i) // 2, <Py_ssize_t> (axis.size * axis.scale))


cdef inline Span small_pixels(const bint linear, const ResizeAxis *axis, Py_ssize_t p) noexcept nogil:
    """The one or two pixels whose weight in pixel p is not zero."""
    cdef Span s
    if linear:
        s.first = max(floor_div(2 * p + 1 - 3 * axis.scale, 2 * axis.scale) + 1, <Py_ssize_t> 0)
        s.end = min(floor_div(2 * p + 3 * axis.scale, 2 * axis.scale), <Py_ssize_t> axis.size)
    else:
        s.first = p // axis.scale
        s.end = s.first + 1
    return s


cdef inline Span large_pixels(const bint linear, const ResizeAxis *axis, Py_ssize_t i) noexcept nogil:
    """The pixels in which the weight of pixel i is not zero."""
    cdef Span s
    if linear:
        s.first = max(floor_div((2 * i - 1) * axis.scale + 1, 2), <Py_ssize_t> 0)
        s.end = min(floor_div((2 * i + 3) * axis.scale, 2), <Py_ssize_t> (axis.size * axis.scale))
    else:
        s.first, s.end = i * axis.scale, (i + 1) * axis.scale
    return s


cdef inline void stretch(
    const int vecs, const bint linear, const bint whole, const Resize *r, const real *x, const real *end, real *y,
    Py_ssize_t d, Py_ssize_t h, Py_ssize_t i, const Span *ds, const Span *hs, const Span *ws,
) noexcept nogil:
    """The pixels `ws` of the line (d, h) of y, which lie between the pixels i and i + 1 of the lines (ds, hs) of x."""
    cdef Py_ssize_t j, k, p, v, next_ = r.channels if 0 <= i < r.w.size - 1 else 0
    cdef vec left[POOL_VECS]
    cdef vec right[POOL_VECS]
    cdef const real *at
    cdef real factor
    for v in range(vecs):
        left[v] = right[v] = broadcast(0)
    for j in range(ds.first, ds.end):
        for k in range(hs.first, hs.end):
            at = x + ((j * r.h.size + k) * r.w.size + max(i, <Py_ssize_t> 0)) * r.channels
            factor = weight_of(linear, r.d, j, d) * weight_of(linear, r.h, k, h)
            for v in range(vecs):
                left[v] = left[v] + pool_load(whole, at + v * LANES, end) * factor
                if linear:
                    right[v] = right[v] + pool_load(whole, at + next_ + v * LANES, end) * factor
    for p in range(ws.first, ws.end):
        factor = weight_of(True, r.w, i, p) if linear and next_ else 1
        for v in range(vecs):
            # of a pixel that does not count not even NaN does
            if linear and factor < 1:
                pool_store(whole, y + v * LANES, left[v] * factor + right[v] * (<real> 1 - factor), r.channels)
            else:
                pool_store(whole, y + v * LANES, left[v], r.channels)
        y += r.channels


cdef inline void stretch_line(
    const bint linear, const Resize *r, const real *x, const real *end, real *y, Py_ssize_t task
) noexcept nogil:
    """What RESIZE_PIXELS pixels of a line of x are the left ones for, in a line (n, d, h) of y."""
    cdef Py_ssize_t parts = ceil_div(r.w.size + linear, RESIZE_PIXELS), line = task // parts, c, i
    cdef Py_ssize_t first = task % parts * RESIZE_PIXELS - linear
    cdef Py_ssize_t last = min(first + RESIZE_PIXELS, <Py_ssize_t> r.w.size)
    cdef Py_ssize_t height = r.h.size * r.h.scale, depth = r.d.size * r.d.scale, width = r.w.size * r.w.scale
    cdef Py_ssize_t d = line // height % depth, h = line % height, y_end = reach(linear, r.w, last)
    cdef Span ds = small_pixels(linear, r.d, d), hs = small_pixels(linear, r.h, h), ws
    cdef bint inside
    x += line // height // depth * r.d.size * r.h.size * r.w.size * r.channels
    y += line * width * r.channels
    inside = end - x >= ((ds.end - 1) * r.h.size + hs.end) * r.w.size * r.channels + LANES
    ws.end = reach(linear, r.w, first)
    for i in range(first, last):
        ws.first, ws.end = ws.end, reach(linear, r.w, i + 1)
        c = 0
        while c + 4 * LANES <= r.channels:
            stretch(4, linear, True, r, x + c, end, y + ws.first * r.channels + c, d, h, i, &ds, &hs, &ws)
            c += 4 * LANES
        while c + LANES <= r.channels:
            stretch(1, linear, True, r, x + c, end, y + ws.first * r.channels + c, d, h, i, &ds, &hs, &ws)
            c += LANES
        if c < r.channels and r.channels > LANES:
            c = r.channels - LANES
            stretch(1, linear, True, r, x + c, end, y + ws.first * r.channels + c, d, h, i, &ds, &hs, &ws)
        elif c < r.channels and inside and (y_end - ws.end + 1) * r.channels >= LANES:
            stretch(1, linear, True, r, x, end, y + ws.first * r.channels, d, h, i, &ds, &hs, &ws)
        elif c < r.channels:
            stretch(1, linear, False, r, x, end, y + ws.first * r.channels, d, h, i, &ds, &hs, &ws)


cdef inline void gather(
    const int vecs, const bint linear, const bint whole, const Resize *r, const real *dy, const real *end, real *dx,
    Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, const Span *ds, const Span *hs, const Span *ws,
) noexcept nogil:
    """Channels of the pixel (d, h, w) of dx. Lines are summed apart."""
    cdef Py_ssize_t i, j, k, v
    cdef vec total[POOL_VECS]
    cdef vec line[POOL_VECS]
    cdef real factor
    cdef const real *at
    for v in range(vecs):
        total[v] = broadcast(0)
    for i in range(ds.first, ds.end):
        for j in range(hs.first, hs.end):
            at = dy + ((i * r.h.size * r.h.scale + j) * r.w.size * r.w.scale + ws.first) * r.channels
            for v in range(vecs):
                line[v] = broadcast(0)
            for k in range(ws.first, ws.end):
                factor = weight_of(linear, r.w, w, k)
                for v in range(vecs):
                    line[v] = line[v] + pool_load(whole, at + v * LANES, end) * factor
                at += r.channels
            factor = weight_of(linear, r.d, d, i) * weight_of(linear, r.h, h, j)
            for v in range(vecs):
                total[v] = total[v] + line[v] * factor
    for v in range(vecs):
        pool_store(whole, dx + v * LANES, total[v], r.channels)


cdef inline void gather_line(
    const bint linear, const Resize *r, const real *dy, const real *end, real *dx, Py_ssize_t task
) noexcept nogil:
    """RESIZE_PIXELS pixels of a line (n, d, h) of dx."""
    cdef Py_ssize_t parts = ceil_div(r.w.size, RESIZE_PIXELS), line = task // parts, w, c
    cdef Py_ssize_t first = task % parts * RESIZE_PIXELS, last = min(first + RESIZE_PIXELS, <Py_ssize_t> r.w.size)
    cdef Py_ssize_t width = r.w.size * r.w.scale, image = r.d.size * r.d.scale * r.h.size * r.h.scale * width * r.channels
    cdef Py_ssize_t d = line // r.h.size % r.d.size, h = line % r.h.size
    cdef Span ds = large_pixels(linear, r.d, d), hs = large_pixels(linear, r.h, h), ws
    cdef bint inside
    dy += line // r.h.size // r.d.size * image
    dx += (line * r.w.size + first) * r.channels
    inside = end - dy >= ((ds.end - 1) * r.h.size * r.h.scale + hs.end) * width * r.channels + LANES
    for w in range(first, last):
        ws = large_pixels(linear, r.w, w)
        c = 0
        while c + 4 * LANES <= r.channels:
            gather(4, linear, True, r, dy + c, end, dx + c, d, h, w, &ds, &hs, &ws)
            c += 4 * LANES
        while c + LANES <= r.channels:
            gather(1, linear, True, r, dy + c, end, dx + c, d, h, w, &ds, &hs, &ws)
            c += LANES
        if c < r.channels and r.channels > LANES:
            c = r.channels - LANES
            gather(1, linear, True, r, dy + c, end, dx + c, d, h, w, &ds, &hs, &ws)
        elif c < r.channels and inside and (last - w) * r.channels >= LANES:
            gather(1, linear, True, r, dy, end, dx, d, h, w, &ds, &hs, &ws)
        elif c < r.channels:
            gather(1, linear, False, r, dy, end, dx, d, h, w, &ds, &hs, &ws)
        dx += r.channels


cdef Resize new_resize(const int64_t[:, ::1] axes, Py_ssize_t channels) noexcept nogil:
    cdef Resize r
    r.d, r.h, r.w = <const ResizeAxis *> &axes[0, 0], <const ResizeAxis *> &axes[1, 0], <const ResizeAxis *> &axes[2, 0]
    r.channels = channels
    return r


def upsample_forward(
    const real[:, :, :, :, ::1] x, real[:, :, :, :, ::1] y, const int64_t[:, ::1] axes, bint linear, int threads, /,
):
    """y[n, p, c] = sum over i of weight[p, i] * x[n, i, c], where the weights repeat pixels or draw lines between them."""
    cdef Resize r = new_resize(axes, x.shape[4])
    cdef Py_ssize_t task, tasks = y.shape[0] * y.shape[1] * y.shape[2] * ceil_div(x.shape[3] + linear, RESIZE_PIXELS)
    cdef const real *source = &x[0, 0, 0, 0, 0]
    cdef const real *end = source + x.shape[0] * x.shape[1] * x.shape[2] * x.shape[3] * x.shape[4]
    cdef real *to = &y[0, 0, 0, 0, 0]
    for task in prange(tasks, nogil=True, num_threads=threads):
        if linear:
            stretch_line(True, &r, source, end, to, task)
        else:
            stretch_line(False, &r, source, end, to, task)


def upsample_backward(
    const real[:, :, :, :, ::1] dy, real[:, :, :, :, ::1] dx, const int64_t[:, ::1] axes, bint linear, int threads, /,
):
    """dx[n, i, c] = sum over p of weight[p, i] * dy[n, p, c]."""
    cdef Resize r = new_resize(axes, dx.shape[4])
    cdef Py_ssize_t task, tasks = dx.shape[0] * dx.shape[1] * dx.shape[2] * ceil_div(dx.shape[3], RESIZE_PIXELS)
    cdef const real *source = &dy[0, 0, 0, 0, 0]
    cdef const real *end = source + dy.shape[0] * dy.shape[1] * dy.shape[2] * dy.shape[3] * dy.shape[4]
    cdef real *to = &dx[0, 0, 0, 0, 0]
    for task in prange(tasks, nogil=True, num_threads=threads):
        if linear:
            gather_line(True, &r, source, end, to, task)
        else:
            gather_line(False, &r, source, end, to, task)
