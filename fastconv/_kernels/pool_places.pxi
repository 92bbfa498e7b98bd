# The backward pass of maxima, whose places in their windows forward has kept. Where windows have few taps and pixels many channels, each
# pixel gathers what it gets: from every window that it is in, dy where the place is its own. Else each number of dy goes to its place
# by itself. Both add in the order of the windows.

cdef extern from "simd.h":
    mask same_bytes(const void *source, Py_ssize_t byte) nogil


cdef enum:
    BYTE_PLACES = 256
    MOST_GIVERS = 16        # windows that a pixel gathers from: at most the taps of one


cdef struct Over:
    # an axis: from the first tap of a window to the last; from a window that a pixel is in to the next, and how many taps less it is there
    const PoolAxis *axis
    Py_ssize_t reach, step, taps


cdef struct Seers:
    # the windows that a pixel is in, along one axis: `count` from window `first` on, to which it is tap `tap`
    Py_ssize_t first, count, tap


cdef struct Lines:
    # a line (image, d, h) of dx, one after the other
    Over over_d, over_h
    Seers above
    Py_ssize_t image, d, h


cdef struct Givers:
    # windows: where their outputs begin, and the place of the pixel in each
    Py_ssize_t count
    Py_ssize_t at[MOST_GIVERS]
    Py_ssize_t place[MOST_GIVERS]


cdef struct Behind:
    # a normalization and a ReLU that the pooled pixels came out of: its input, and tables of its backward pass
    const real *x
    const real *tables
    Py_ssize_t width


cdef inline Over over_axis(const PoolAxis *axis) noexcept nogil:
    cdef Py_ssize_t both = common(axis.stride, axis.step)
    return Over(axis, (taps_along(axis) - 1) * axis.step, axis.step // both, axis.stride // both)


cdef inline Seers seers(const Over *over, Py_ssize_t pixel) noexcept nogil:
    cdef Py_ssize_t stride = over.axis.stride, step = over.axis.step, behind = pixel - over.axis.begin   # window 0's first tap
    cdef Py_ssize_t last = min(behind // stride, over.axis.out - 1)
    cdef Seers s
    s.first = max(ceil_div(behind - over.reach, stride), <Py_ssize_t> 0)
    if step > 1:
        while s.first <= last and (behind - s.first * stride) % step:
            s.first += 1
    s.count, s.tap = max(last + 1 - s.first, <Py_ssize_t> 0), behind - s.first * stride
    if step > 1:
        s.count, s.tap = ceil_div(s.count, over.step), s.tap // step
    return s


cdef inline Lines lines_from(const Pool *p, Py_ssize_t line) noexcept nogil:
    cdef Lines l
    l.over_d, l.over_h = over_axis(p.d), over_axis(p.h)
    l.image, l.d, l.h = line // p.h.size // p.d.size, line // p.h.size % p.d.size, line % p.h.size
    l.above = seers(&l.over_d, l.d)
    return l


cdef inline void next_line(const Pool *p, Lines *l) noexcept nogil:
    l.h += 1
    if l.h == p.h.size:
        l.h = 0
        l.d += 1
        if l.d == p.d.size:
            l.d = 0
            l.image += 1
        l.above = seers(&l.over_d, l.d)


cdef inline void givers_of_line(const Pool *p, const Lines *l, Givers *rows) noexcept nogil:
    """The lines of windows that a line is in."""
    cdef Seers h = seers(&l.over_h, l.h)
    cdef Py_ssize_t i, j, line = (l.image * p.d.out + l.above.first) * p.h.out + h.first, each = p.w.out * p.channels
    cdef Py_ssize_t place = place_of(p, l.above.tap, h.tap, 0), down = taps_along(p.w) * l.over_h.taps
    rows.count = 0
    for i in range(l.above.count):
        for j in range(h.count):
            rows.at[rows.count], rows.place[rows.count] = (line + j * l.over_h.step) * each, place - j * down
            rows.count += 1
        line += l.over_d.step * p.h.out
        place -= place_of(p, l.over_d.taps, 0, 0)


cdef inline void gather(
    const int vecs, const int count, const bint behind, const Givers *givers, const real *dy, const unsigned char *places,
    const Behind *b, const real *x, Py_ssize_t c, real *dx,
) noexcept nogil:
    """Vectors from channel c on, from so many windows, or (0) from as many as there are."""
    cdef vec total[POOL_VECS]
    cdef vec source
    cdef Py_ssize_t i, v, at, place
    for v in range(vecs):
        total[v] = broadcast(0)
    for i in range(count if count else givers.count):
        at, place = givers.at[i] + c, givers.place[i]
        for v in range(vecs):
            total[v] = total[v] + where(same_bytes(places + at + v * LANES, place), (<const vec *> (dy + at + v * LANES))[0])
    for v in range(vecs):
        if behind:
            source = (<const vec *> (x + c + v * LANES))[0]
            total[v] = gradient_behind(total[v], source, b.tables + c + v * LANES, b.width)
        (<vec *> (dx + c + v * LANES))[0] = total[v]


cdef inline void gather_pixel(
    const int count, const bint behind, const Givers *givers, const real *dy, const unsigned char *places, const Behind *b,
    const real *x, real *dx, Py_ssize_t channels,
) noexcept nogil:
    cdef Py_ssize_t c = 0
    while not behind and c + 4 * LANES <= channels:
        gather(4, count, behind, givers, dy, places, b, x, c, dx)
        c += 4 * LANES
    while c + 2 * LANES <= channels:
        gather(2, count, behind, givers, dy, places, b, x, c, dx)
        c += 2 * LANES
    if c + LANES <= channels:
        gather(1, count, behind, givers, dy, places, b, x, c, dx)
        c += LANES
    if c < channels:
        gather(1, count, behind, givers, dy, places, b, x, channels - LANES, dx)


cdef inline void gather_some(
    const bint behind, const Pool *p, const real *dy, const unsigned char *places, const Behind *b, Py_ssize_t first, real *dx,
    const Givers *rows, const Over *over, const Seers *along, Py_ssize_t pixels,
) noexcept nogil:
    """Pixels of a line, of at least LANES channels, from item `first` on."""
    cdef Givers givers
    cdef const Seers *w
    cdef const real *x = b.x + first if behind else NULL
    cdef Py_ssize_t pixel, channels = p.channels, i, k, at, place
    dx += first
    for pixel in range(pixels):
        w = along + pixel
        givers.count = 0
        for i in range(rows.count):
            at, place = rows.at[i] + w.first * channels, rows.place[i] + w.tap
            for k in range(w.count):
                givers.at[givers.count], givers.place[givers.count] = at, place
                givers.count += 1
                at += over.step * channels
                place -= over.taps
        if givers.count == 1:
            gather_pixel(1, behind, &givers, dy, places, b, x, dx, channels)
        elif not behind and givers.count == 2:
            gather_pixel(2, behind, &givers, dy, places, b, x, dx, channels)
        elif not behind and givers.count == 4:
            gather_pixel(4, behind, &givers, dy, places, b, x, dx, channels)
        else:
            gather_pixel(0, behind, &givers, dy, places, b, x, dx, channels)
        dx += channels
        if behind:
            x += channels


cdef apart gather_pixels(
    const Pool *p, const real *dy, const unsigned char *places, Py_ssize_t first, real *dx, const Givers *rows, const Over *over,
    const Seers *along, Py_ssize_t pixels,
) noexcept nogil:
    gather_some(False, p, dy, places, NULL, first, dx, rows, over, along, pixels)


cdef apart gather_pixels_behind(
    const Pool *p, const real *dy, const unsigned char *places, const Behind *b, Py_ssize_t first, real *dx, const Givers *rows,
    const Over *over, const Seers *along, Py_ssize_t pixels,
) noexcept nogil:
    gather_some(True, p, dy, places, b, first, dx, rows, over, along, pixels)


cdef void gather_lines(
    const Pool *p, const real *dy, const unsigned char *places, const Behind *b, real *dx, Py_ssize_t first, Py_ssize_t pixels,
    Py_ssize_t line, Py_ssize_t end,
) noexcept nogil:
    """Some pixels of each of the lines (n, d, h) of dx from one on and before another."""
    cdef Over over = over_axis(p.w)
    cdef Lines lines = lines_from(p, line)
    cdef Seers along[POOL_OUTPUTS]
    cdef Givers rows
    cdef Py_ssize_t k, at
    for k in range(pixels):
        along[k] = seers(&over, first + k)
    for line in range(line, end):
        givers_of_line(p, &lines, &rows)
        at = (line * p.w.size + first) * p.channels
        if b == NULL:
            gather_pixels(p, dy, places, at, dx, &rows, &over, along, pixels)
        else:
            gather_pixels_behind(p, dy, places, b, at, dx, &rows, &over, along, pixels)
        next_line(p, &lines)


cdef inline Py_ssize_t distance(const Pool *p, Py_ssize_t place) noexcept nogil:
    """Items from the first tap of a window, which may be outside, to another."""
    cdef Py_ssize_t row = taps_along(p.w), lines = taps_along(p.h)
    return ((place // row // lines * p.d.step * p.h.size + place // row % lines * p.h.step) * p.w.size + place % row * p.w.step) * p.channels


cdef inline Py_ssize_t place_at(const unsigned char *places, Py_ssize_t width, Py_ssize_t i) noexcept nogil:
    if width == 1:
        return places[i]
    if width == 2:
        return (<const uint16_t *> places)[i]
    return (<const int32_t *> places)[i]


cdef inline void scatter_regular(
    const bint alone, const bint inside, const Pool *p, const real *dy, const unsigned char *places, real *dx, Py_ssize_t start,
    Py_ssize_t channels, const Py_ssize_t *distances, Py_ssize_t first, Py_ssize_t end,
) noexcept nogil:
    """A line of windows, none of which is empty, the first tap of the first at item `start` of an image; a place is a byte.

    Only items first .. end - 1 are written. Windows are `alone` that share no pixels.
    """
    cdef Py_ssize_t i, c, at, step = p.w.stride * channels
    for i in range(p.w.out):
        for c in range(channels):
            at = start + distances[places[c]] + c
            if alone and inside:
                dx[at] = dy[c]
            elif inside or first <= at < end:
                dx[at] += dy[c]
        start += step
        places += channels
        dy += channels


cdef apart scatter_any(
    const Pool *p, const real *dy, const unsigned char *places, real *dx, Py_ssize_t origin, Py_ssize_t first, Py_ssize_t end,
) noexcept nogil:
    """The same of any windows, whose lines begin at item `origin`."""
    cdef Py_ssize_t i, c, at, channels = p.channels
    cdef Window w
    for i in range(p.w.out):
        w = window(p.w, i)
        for c in range(channels if w.taps else 0):
            at = origin + (w.first - w.skipped * w.step) * channels + distance(p, place_at(places, p.width, i * channels + c)) + c
            if first <= at < end:
                dx[at] += dy[i * channels + c]


cdef apart scatter_windows(
    const Pool *p, bint inside, const real *dy, const unsigned char *places, real *dx, Py_ssize_t origin, const Py_ssize_t *distances,
    Py_ssize_t first, Py_ssize_t end,
) noexcept nogil:
    cdef Py_ssize_t start = origin + p.w.begin * p.channels, channels = p.channels
    cdef bint alone = tile_all(p)
    if p.width > 1 or p.w.step > 1 or p.w.parts > 1:
        scatter_any(p, dy, places, dx, origin, first, end)
    elif not inside:
        scatter_regular(False, False, p, dy, places, dx, start, channels, distances, first, end)
    elif alone and channels == 1:
        scatter_regular(True, True, p, dy, places, dx, start, 1, distances, first, end)
    elif alone:
        scatter_regular(True, True, p, dy, places, dx, start, channels, distances, first, end)
    elif channels == 1:
        scatter_regular(False, True, p, dy, places, dx, start, 1, distances, first, end)
    else:
        scatter_regular(False, True, p, dy, places, dx, start, channels, distances, first, end)


cdef void scatter_lines(
    const Pool *p, const real *dy, const unsigned char *places, real *dx, Py_ssize_t first, Py_ssize_t end
) noexcept nogil:
    """Lines (d, h) of one image of dx: they are set to zero shortly before the first window gets there."""
    cdef Py_ssize_t distances[BYTE_PLACES]
    cdef Py_ssize_t taps = pool_taps(p), line = p.w.size * p.channels, outputs = p.w.out * p.channels, cleared = first
    cdef Py_ssize_t i, j, top, bottom
    cdef Window d, h
    for i in range(min(taps, <Py_ssize_t> BYTE_PLACES)):
        distances[i] = distance(p, i)
    for i in range(p.d.out):
        d = window(p.d, i)
        for j in range(p.h.out):
            h = window(p.h, j)
            top = d.first * p.h.size + h.first
            bottom = last_pixel(&d) * p.h.size + last_pixel(&h)
            if d.taps and h.taps and first <= bottom and top < end:
                if min(bottom + 1, end) > cleared:
                    memset(dx + cleared * line, 0, (min(bottom + 1, end) - cleared) * line * sizeof(real))
                    cleared = min(bottom + 1, end)
                scatter_windows(
                    p, first <= top and bottom < end, dy, places, dx,
                    ((d.first - d.skipped * d.step) * p.h.size + h.first - h.skipped * h.step) * line,
                    distances, first * line, end * line,
                )
            dy += outputs
            places += outputs * p.width
    memset(dx + cleared * line, 0, (end - cleared) * line * sizeof(real))


cdef inline bint gathers(const Pool *p) noexcept nogil:
    """Whether to look at each tap of a vector of windows takes less than to go to one place for each of its lanes."""
    cdef Py_ssize_t taps = pool_taps(p)
    cdef bint tiled = tile_all(p)
    if p.width > 1 or p.d.parts > 1 or p.h.parts > 1 or p.w.parts > 1:
        return False
    if taps <= LANES:
        return p.channels >= (2 * LANES if tiled else 4 * LANES)
    # 3x3 above all, where eight bytes are widened by one instruction: 16 taps took 1.2 to 1.3 times as long
    return LANES == 8 and taps <= LANES + LANES // 2 and p.channels >= (8 * LANES if tiled else 5 * LANES)


cdef void gather_task(
    const Pool *p, const real *dy, const unsigned char *places, const Behind *b, real *dx, Py_ssize_t lines, Py_ssize_t tasks,
    Py_ssize_t task,
) noexcept nogil:
    """One of as many `tasks` for each part of the lines."""
    cdef Py_ssize_t first = task // tasks * POOL_OUTPUTS, part = task % tasks
    gather_lines(
        p, dy, places, b, dx, first, min(<Py_ssize_t> POOL_OUTPUTS, p.w.size - first), part * lines // tasks,
        (part + 1) * lines // tasks,
    )


cdef inline Py_ssize_t scatter_bands(const Pool *p, Py_ssize_t batch, int threads) noexcept nogil:
    """Parts of an image, where there are few: windows that reach into two are gone over twice."""
    cdef Py_ssize_t bands = 1 if batch >= 4 * threads or threads == 1 else ceil_div(2 * threads, batch)
    return max(min(bands, p.d.size * p.h.size // (4 * taps_along(p.h) * p.h.step)), <Py_ssize_t> 1)


cdef void scatter_task(
    const Pool *p, const real *dy, const unsigned char *places, real *dx, Py_ssize_t bands, Py_ssize_t task
) noexcept nogil:
    """One of the bands of an image."""
    cdef Py_ssize_t image = task // bands, band = task % bands, outputs = image * p.d.out * p.h.out * p.w.out * p.channels
    cdef Py_ssize_t lines = p.d.size * p.h.size
    scatter_lines(
        p, dy + outputs, places + outputs * p.width, dx + image * image_items(p), band * lines // bands, (band + 1) * lines // bands
    )


cdef void maxima_backward(
    const Pool *p, const real *dy, const unsigned char *places, real *dx, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t lines = batch * p.d.size * p.h.size, tasks = min(lines, <Py_ssize_t> 8 * threads) if threads > 1 else 1
    cdef Py_ssize_t bands = scatter_bands(p, batch, threads), task
    if gathers(p):
        for task in prange(tasks * ceil_div(p.w.size, POOL_OUTPUTS), num_threads=threads):
            gather_task(p, dy, places, NULL, dx, lines, tasks, task)
    else:
        for task in prange(batch * bands, num_threads=threads):
            scatter_task(p, dy, places, dx, bands, task)


def max_pool_backward(dy, places, dx, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """dx = the sum of dy[n, p, c] over the windows p whose place names it."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef const real *gradient = read_from(dy)
    cdef const unsigned char *numbers = places_of(places, False, &p.width)
    cdef real *to = write_to(dx)
    with nogil:
        maxima_backward(&p, gradient, numbers, to, batch, threads)
