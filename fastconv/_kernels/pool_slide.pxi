# The way back of maxima of 3x3 pixels, one or two apart, as a window that slides along a line. Its nine pixels and what they get are
# in registers: a pixel is read when the window reaches it, and written when it leaves.
#
# A line is gone over once for each vector of channels; from arrays beyond the caches, where a vector of each pixel would come slowly,
# the lines that come next are asked for meanwhile. Pixels outside the image are NaN, which no maximum is and nothing equals; so lines
# of x with a NaN are not gone over like this.

cdef extern from "<math.h>" nogil:
    const float NAN

cdef extern from "simd.h":
    mask equal(vec a, vec b) nogil
    mask unlike(vec a, vec b) nogil
    bint any_lane(mask a) nogil
    vec less_taken(vec a, vec b) nogil


cdef enum:
    SIDE = 3   # of the window


cdef struct Line:
    # a line under the window, at the channels of one vector: how many bytes its first pixel is from a place for what is outside
    # the image, and the next pixel from that: bytes, because an array may begin between the addresses that its elements want.
    # Of x, of dx as it is (zeros, where nothing is written yet), and of dx as it becomes.
    Py_ssize_t x, old, dx, step, old_step


cdef inline bint slides(const Pool *p) noexcept nogil:
    """Whether the windows are 3 neighbours wide, 1 or 2 apart, and no more than 3 lines high, in one plane, and leave out no line.

    Short vectors fill the registers as long ones do, and are more: 2 apart they go to their maxima sooner lane by lane.
    """
    return (
        p.d.size == 1 and p.channels >= LANES and (p.w.stride == 1 or LANES >= 8)
        and p.h.parts == 1 and p.h.step == 1 and p.h.stride <= p.h.end - p.h.begin <= SIDE
        and p.w.parts == 1 and p.w.step == 1 and p.w.stride < p.w.end - p.w.begin == SIDE
    )


cdef bint may_have_nan(const real *x, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t channels) noexcept nogil:
    """Whether the sum over some of a line of pixels is NaN, channels being at least LANES: that is so where one of them is."""
    cdef vec total[POOL_VECS]
    cdef Py_ssize_t i, v, c = 0, whole
    if channels == step:  # one long pixel
        channels, pixels = pixels * channels, 1
    whole = channels // (POOL_VECS * LANES) * (POOL_VECS * LANES)
    for v in range(POOL_VECS):
        total[v] = broadcast(0)
    for i in range(pixels):
        c = 0
        while c < whole:
            for v in range(POOL_VECS):
                total[v] = total[v] + (<const vec *> (x + c + v * LANES))[0]
            c += POOL_VECS * LANES
        while c < channels:
            total[0] = total[0] + (<const vec *> (x + min(c, channels - LANES)))[0]
            c += LANES
        x += step
    total[0] = (total[0] + total[1]) + (total[2] + total[3])
    return any_lane(unlike(total[0], total[0]))


cdef inline void enter(
    const Line *lines, real *outside, const int place, Py_ssize_t pixel, Py_ssize_t size, vec *x, vec *dx, vec *most
) noexcept nogil:
    """Read a column of pixels, and the largest of each three."""
    cdef Py_ssize_t r, inside = -(<Py_ssize_t> (0 <= pixel < size))
    most[place] = broadcast(-INFINITY)
    for r in range(SIDE):
        x[SIDE * r + place] = (<const vec *> (<const char *> outside + ((lines[r].x + pixel * lines[r].step) & inside)))[0]
        dx[SIDE * r + place] = (
            <const vec *> (<const char *> (outside + LANES) + ((lines[r].old + pixel * lines[r].old_step) & inside))
        )[0]
        most[place] = larger_number(x[SIDE * r + place], most[place])


cdef inline void leave(
    const Line *lines, real *outside, const int place, Py_ssize_t pixel, Py_ssize_t size, const vec *dx
) noexcept nogil:
    cdef Py_ssize_t r, inside = -(<Py_ssize_t> (0 <= pixel < size))
    for r in range(SIDE):
        (<vec *> (<char *> (outside + 2 * LANES) + ((lines[r].dx + pixel * lines[r].step) & inside)))[0] = dx[SIDE * r + place]


cdef inline void slide_three(
    const int stride, const Line *lines, real *outside, const PoolAxis *axis, const real *dy, Py_ssize_t dy_step, mask wanted,
    const real *ahead,
) noexcept nogil:
    """One vector of channels of a line of windows; lanes that are not wanted get nothing.

    ahead: the line of x that comes next, which is asked for (and those after it, and dy), or NULL.
    """
    cdef vec x[SIDE * SIDE]
    cdef vec dx[SIDE * SIDE]
    cdef vec most[SIDE]
    cdef vec best, rest, taken
    cdef Py_ssize_t i, k, r, pixel = axis.begin, size = axis.size
    for k in range(SIDE):
        enter(lines, outside, k, pixel + k, size, x, dx, most)
    for i in range(axis.out):
        best = larger_number(most[0], larger_number(most[1], most[2]))
        rest = where(wanted, (<const vec *> (dy + i * dy_step))[0])
        for k in range(SIDE * SIDE):
            taken = where(equal(x[k], best), rest)
            dx[k] = dx[k] + taken
            rest = less_taken(rest, taken)
        for k in range(stride):
            leave(lines, outside, k, pixel + k, size, dx)
        if ahead != NULL:
            fetch(dy + (axis.out + i) * dy_step)
            for k in range(stride * stride):
                fetch(ahead + (k // stride * size + pixel + k % stride) * dy_step)
        for k in range(SIDE - stride):
            most[k] = most[k + stride]
            for r in range(SIDE):
                x[SIDE * r + k], dx[SIDE * r + k] = x[SIDE * r + k + stride], dx[SIDE * r + k + stride]
        pixel += stride
        for k in range(SIDE - stride, SIDE):
            enter(lines, outside, k, pixel + k, size, x, dx, most)
    for k in range(SIDE):
        leave(lines, outside, k, pixel + k, size, dx)


cdef apart slide_along(
    const Pool *p, const real *dy, const real *x, real *dx, const Window *h, Py_ssize_t written, Py_ssize_t channels, bint far
) noexcept nogil:
    """Add to dx what a line of windows hands to their first largest pixels, of which none is NaN; from line `written` on, dx is 0."""
    cdef Line lines[SIDE]
    cdef real outside[3 * LANES]   # NaN for x, 0 for dx, and room for what becomes of it
    cdef lane indices[LANES]
    cdef mask wanted
    cdef const real *ahead
    cdef Py_ssize_t c = 0, r, i, at, step = p.channels * sizeof(real)
    for i in range(LANES):
        outside[i], outside[LANES + i] = NAN, 0
    while c < channels:
        for i in range(LANES):
            indices[i] = -1 if c + LANES <= channels or i >= LANES - (channels - c) else 0
        wanted = (<mask *> indices)[0]
        at = min(c, channels - LANES)
        memset(lines, 0, sizeof(lines))
        for r in range(h.taps):
            i = (h.first + r) * p.w.size * p.channels + at
            lines[r].x, lines[r].step = <Py_ssize_t> (x + i) - <Py_ssize_t> outside, step
            lines[r].dx = <Py_ssize_t> (dx + i) - <Py_ssize_t> (outside + 2 * LANES)
            if h.first + r < written:
                lines[r].old, lines[r].old_step = <Py_ssize_t> (dx + i) - <Py_ssize_t> (outside + LANES), step
        ahead = x + (h.first + h.taps) * p.w.size * p.channels + at if far else NULL
        if p.w.stride == 1:
            slide_three(1, lines, outside, p.w, dy + at, p.channels, wanted, ahead)
        else:
            slide_three(2, lines, outside, p.w, dy + at, p.channels, wanted, ahead)
        c += LANES
