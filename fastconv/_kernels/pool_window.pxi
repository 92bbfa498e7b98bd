# Windows of a pooling: where each lies, and its maximum or mean. Padding, dilation, ceil mode, adaptive and global windows differ in
# the records of `geometry.PoolAxis` alone, from which each window is computed where it is used. The place of a maximum, which its
# backward pass needs, is the number of its tap in the window, row by row, with those taps too that are outside x.
#
# Vectors run along the channels. Channels that fill no vector are computed in one that overlaps the last; where a pixel is less
# than a vector, its vectors reach into the next pixels, which overwrite what these wrote there.


cdef extern from "<math.h>" nogil:
    const float INFINITY

cdef extern from "simd.h":
    vec larger(vec a, vec b) nogil
    void write_bytes(void *to, mask lanes) nogil
    void write_pairs(void *to, mask lanes) nogil
    void write_words(void *to, mask lanes) nogil


cdef enum:
    MEANS, MAXIMA, PLACES   # what is wanted of windows; with PLACES the maxima, and where they are


cdef enum:
    POOL_TAPS = 128  # of a line, that are summed apart
    POOL_VECS = 4    # vectors of a pixel reduced together: their lines are neighbors in memory


cdef struct PoolAxis:
    int64_t size, out, stride, parts, begin, end, step, counted_from, counted_to


cdef struct Pool:
    const PoolAxis *d
    const PoolAxis *h
    const PoolAxis *w
    Py_ssize_t channels, x_ld, y_ld  # of each pixel, and from one pixel to the next
    Py_ssize_t width                 # bytes of a place


cdef struct Window:
    # along one axis: reads `first + t * step` for t < taps, behind taps that are `skipped`; an average divides by the product of
    # the axes' counts
    Py_ssize_t first, taps, step, skipped, count


cdef inline int64_t taps_before(int64_t place, int64_t begin, int64_t end, int64_t step) noexcept nogil:
    cdef int64_t span = min(end, place) - begin
    if span <= 0:
        return 0
    return span if step == 1 else ceil_div(span, step)


cdef inline Window window(const PoolAxis *axis, Py_ssize_t i) noexcept nogil:
    cdef int64_t begin = i * axis.stride + axis.begin, end = i * axis.stride + axis.end
    cdef Window w
    if axis.parts > 1:
        begin, end = begin // axis.parts, end // axis.parts
    w.skipped = taps_before(0, begin, end, axis.step)
    w.taps = taps_before(axis.size, begin, end, axis.step) - w.skipped
    w.first = begin + w.skipped * axis.step if w.taps else 0
    w.step = axis.step
    w.count = taps_before(axis.counted_to, begin, end, axis.step) - taps_before(axis.counted_from, begin, end, axis.step)
    w.count = max(w.count, <Py_ssize_t> 1)
    return w


cdef inline Window next_window(const PoolAxis *axis, const Window *before, bint known, Py_ssize_t i) noexcept nogil:
    """Window i; from the one before if that is known: most are inside, as that one is, and differ in where they begin."""
    cdef Window w
    cdef int64_t begin = i * axis.stride + axis.begin
    if not known or axis.parts > 1 or begin < axis.stride or begin - axis.begin + axis.end > axis.size:
        return window(axis, i)
    w = before[0]
    w.first = begin
    return w


cdef Pool new_pool(const int64_t *axes, Py_ssize_t channels) noexcept nogil:
    cdef Pool p
    p.d, p.h, p.w = <const PoolAxis *> axes, <const PoolAxis *> (axes + 9), <const PoolAxis *> (axes + 18)
    p.channels = p.x_ld = p.y_ld = channels
    p.width = 0
    return p


cdef inline Py_ssize_t taps_along(const PoolAxis *axis) noexcept nogil:
    """The most taps of a window, those outside x too."""
    return ceil_div(axis.end - axis.begin, axis.parts * axis.step)


cdef inline Py_ssize_t pool_taps(const Pool *p) noexcept nogil:
    return taps_along(p.d) * taps_along(p.h) * taps_along(p.w)


cdef inline Py_ssize_t place_of(const Pool *p, Py_ssize_t i, Py_ssize_t j, Py_ssize_t k) noexcept nogil:
    """The number of tap i along D, j along H, k along W."""
    return (i * taps_along(p.h) + j) * taps_along(p.w) + k


cdef inline bint tiles(const PoolAxis *axis) noexcept nogil:
    """Whether each pixel is in one window, but for some that come after all."""
    return axis.parts == 1 and axis.step == 1 and axis.begin <= 0 and axis.end - axis.begin == axis.stride


cdef inline bint tile_all(const Pool *p) noexcept nogil:
    return tiles(p.d) and tiles(p.h) and tiles(p.w)


cdef inline Py_ssize_t image_items(const Pool *p) noexcept nogil:
    return p.d.size * p.h.size * p.w.size * p.x_ld


cdef inline Py_ssize_t tap(const Pool *p, const Window *d, const Window *h, Py_ssize_t i, Py_ssize_t j, Py_ssize_t at) noexcept nogil:
    """Where in an image pixel `at` is, on the line of tap i along D and tap j along H."""
    return (((d.first + i * d.step) * p.h.size + h.first + j * h.step) * p.w.size + at) * p.x_ld


cdef inline vec pool_load(const bint whole, const real *x, const real *end) noexcept nogil:
    return (<const vec *> x)[0] if whole else load(x, end)


cdef inline void pool_store(const bint whole, real *y, vec value, Py_ssize_t items) noexcept nogil:
    if whole:
        (<vec *> y)[0] = value
    else:
        store(y, value, items)


cdef inline void window_max(
    const int vecs, const bint whole, const Pool *p, const real *x, const real *end,
    const Window *d, const Window *h, const Window *w, vec *best,
) noexcept nogil:
    cdef Py_ssize_t i, j, k, v, step = w.step * p.x_ld
    cdef const real *at
    for v in range(vecs):
        best[v] = broadcast(-INFINITY)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, i, j, w.first)
            for k in range(w.taps):
                for v in range(vecs):
                    best[v] = larger(pool_load(whole, at + v * LANES, end), best[v])
                at += step


cdef inline void window_places(
    const int vecs, const Pool *p, const real *x, const Window *d, const Window *h, const Window *w, vec *best, mask *found
) noexcept nogil:
    """The maxima, and the places of the first of each; a NaN is larger than any number."""
    cdef Py_ssize_t i, j, k, v, step = w.step * p.x_ld
    cdef mask place = broadcast_lane(<lane> place_of(p, d.skipped, h.skipped, w.skipped)), here
    cdef vec value
    cdef const real *at
    for v in range(vecs):
        best[v], found[v] = broadcast(-INFINITY), place
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, i, j, w.first)
            place = broadcast_lane(<lane> place_of(p, d.skipped + i, h.skipped + j, w.skipped))
            for k in range(w.taps):
                for v in range(vecs):
                    value = (<const vec *> (at + v * LANES))[0]
                    here = beats(value, best[v])
                    best[v], found[v] = choose(here, value, best[v]), choose_lanes(here, place, found[v])
                place = place + broadcast_lane(1)
                at += step


cdef inline void write_places(const Pool *p, unsigned char *to, mask found) noexcept nogil:
    if p.width == 1:
        write_bytes(to, found)
    elif p.width == 2:
        write_pairs(to, found)
    else:
        write_words(to, found)


cdef inline void window_mean(
    const int vecs, const bint whole, const Pool *p, const real *x, const real *end,
    const Window *d, const Window *h, const Window *w, vec *mean,
) noexcept nogil:
    """Parts of lines are summed apart: the rounding error grows with a window's sides, not with its area."""
    cdef Py_ssize_t i, j, k, v, part, step = w.step * p.x_ld
    cdef const real *at
    cdef vec line[POOL_VECS]
    cdef vec count = broadcast(<real> (d.count * h.count * w.count))
    for v in range(vecs):
        mean[v] = broadcast(0)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, i, j, w.first)
            part = 0
            while part < w.taps:
                for v in range(vecs):
                    line[v] = broadcast(0)
                for k in range(min(w.taps - part, <Py_ssize_t> POOL_TAPS)):
                    for v in range(vecs):
                        line[v] = line[v] + pool_load(whole, at + v * LANES, end)
                    at += step
                for v in range(vecs):
                    mean[v] = mean[v] + line[v]
                part += POOL_TAPS
    for v in range(vecs):
        mean[v] = mean[v] / count


cdef inline void pool_four_vectors(
    const int vecs, const int what, const real *x, Py_ssize_t right, Py_ssize_t down, real *y
) noexcept nogil:
    """What `window_max` and `window_mean` find in 2x2 pixels."""
    cdef vec a, b, c, d
    cdef Py_ssize_t i, v
    for v in range(vecs):
        i = v * LANES
        a, b = (<const vec *> (x + i))[0], (<const vec *> (x + i + right))[0]
        c, d = (<const vec *> (x + i + down))[0], (<const vec *> (x + i + down + right))[0]
        if what == MAXIMA:
            a = larger(d, larger(c, larger(b, larger(a, broadcast(-INFINITY)))))
        else:
            a = (broadcast(0) + a + b + (broadcast(0) + c + d)) * broadcast(0.25)
        (<vec *> (y + i))[0] = a


cdef inline void pool_four(
    const int what, const real *x, Py_ssize_t right, Py_ssize_t down, real *y, Py_ssize_t channels
) noexcept nogil:
    """All channels of a window of 2x2 pixels, as most are, without loops over taps."""
    cdef Py_ssize_t c = 0
    while c + 4 * LANES <= channels:
        pool_four_vectors(4, what, x + c, right, down, y + c)
        c += 4 * LANES
    if c + 2 * LANES <= channels:
        pool_four_vectors(2, what, x + c, right, down, y + c)
        c += 2 * LANES
    while c < channels:
        c = min(c, channels - LANES)
        pool_four_vectors(1, what, x + c, right, down, y + c)
        c += LANES


cdef inline bint is_four(const int what, const Window *d, const Window *h, const Window *w) noexcept nogil:
    return SELDOM_USED and what != PLACES and d.taps == 1 and h.taps == w.taps == 2 and (what == MAXIMA or d.count * h.count * w.count == 4)


cdef inline void pool_vectors(
    const int vecs, const int what, const bint whole, const Pool *p, const real *x, const real *end,
    const Window *d, const Window *h, const Window *w, real *y, unsigned char *places, Py_ssize_t items,
) noexcept nogil:
    """Channels of one output: vectors that are `whole`, or one that writes `items` and reads nothing from `end` on."""
    cdef vec value[POOL_VECS]
    cdef mask found[POOL_VECS]
    cdef Py_ssize_t v
    if what == MEANS:
        window_mean(vecs, whole, p, x, end, d, h, w, value)
    elif what == MAXIMA:
        window_max(vecs, whole, p, x, end, d, h, w, value)
    else:
        window_places(vecs, p, x, d, h, w, value, found)
    for v in range(vecs):
        pool_store(whole, y + v * LANES, value[v], items)
        if what == PLACES:
            write_places(p, places + v * LANES * p.width, found[v])


cdef inline void pool_pixel(
    const int what, const Pool *p, const real *x, const real *end,
    const Window *d, const Window *h, const Window *w, real *y, unsigned char *places, Py_ssize_t channels,
) noexcept nogil:
    """One output's channels, at least LANES."""
    cdef Py_ssize_t c = 0, right = w.step * p.x_ld, down = h.step * p.w.size * p.x_ld
    if is_four(what, d, h, w):
        if what == MEANS:
            pool_four(MEANS, x + tap(p, d, h, 0, 0, w.first), right, down, y, channels)
        else:
            pool_four(MAXIMA, x + tap(p, d, h, 0, 0, w.first), right, down, y, channels)
        return
    while c + 4 * LANES <= channels:
        pool_vectors(4, what, True, p, x + c, end, d, h, w, y + c, places + c * p.width, 0)
        c += 4 * LANES
    if c + 2 * LANES <= channels:
        pool_vectors(2, what, True, p, x + c, end, d, h, w, y + c, places + c * p.width, 0)
        c += 2 * LANES
    if c + LANES <= channels:
        pool_vectors(1, what, True, p, x + c, end, d, h, w, y + c, places + c * p.width, 0)
        c += LANES
    if c < channels:
        c = channels - LANES
        pool_vectors(1, what, True, p, x + c, end, d, h, w, y + c, places + c * p.width, 0)
