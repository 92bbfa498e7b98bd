# The backward pass of averages whose windows overlap: each line of dx from the lines of windows that it is in, written once. Windows are
# added up across the lines first, so that a pixel takes as many sums as a window has rows and columns, and not as it has taps.


cdef enum:
    SPREAD_ITEMS = 4096      # sums of windows, in the first-level cache
    SPREAD_CHANNELS = 128    # of a pixel, where there are many
    SPREAD_TAPS = SPREAD_ITEMS // SPREAD_CHANNELS - 8


cdef struct Spread:
    # lines of windows: where each begins in dy, its weight beside the first's, and what that divides by
    Py_ssize_t count, divisor
    Py_ssize_t at[MOST_GIVERS]
    real weight[MOST_GIVERS]


cdef inline bint spreads(const Pool *p) noexcept nogil:
    """Whether windows are regular and overlap so much that fewer sums pay, or what is no whole vector would be added one by one."""
    cdef double once = <double> p.d.stride * p.h.stride * p.w.stride   # pixels, if each were in one window
    return (
        pool_taps(p) >= (2 if p.channels % LANES else 3) * once
        and p.d.parts == p.h.parts == p.w.parts == p.d.step == p.h.step == p.w.step == 1 and taps_along(p.w) <= SPREAD_TAPS
        and taps_along(p.d) * taps_along(p.h) <= MOST_GIVERS
    )


cdef inline Spread spread_of_line(const Pool *p, const Lines *l) noexcept nogil:
    cdef Seers h = seers(&l.over_h, l.h)
    cdef Spread s
    cdef Py_ssize_t i, j, counted
    s.count, s.divisor = 0, 1
    for i in range(l.above.count):
        for j in range(h.count):
            counted = window(p.d, l.above.first + i).count * window(p.h, h.first + j).count
            if s.count == 0:
                s.divisor = counted
            s.at[s.count] = ((l.image * p.d.out + l.above.first + i) * p.h.out + h.first + j) * p.w.out * p.channels
            s.weight[s.count] = <real> s.divisor / <real> counted
            s.count += 1
    return s


cdef inline void shares_of_pixels(
    const Pool *p, const real *dy, const Spread *s, Py_ssize_t first, Py_ssize_t end, Py_ssize_t c, Py_ssize_t channels, real *shares
) noexcept nogil:
    """What windows first .. end - 1 of a line hand to each pixel under them, of whole vectors of channels."""
    cdef Py_ssize_t o, i, r
    cdef vec total, divisor
    for o in range(first, end):
        divisor = broadcast(<real> (s.divisor * window(p.w, o).count))
        i = 0
        while i < channels:
            i = min(i, channels - LANES)
            total = broadcast(0)
            for r in range(s.count):
                total = total + (<const vec *> (dy + s.at[r] + o * p.channels + c + i))[0] * s.weight[r]
            (<vec *> (shares + i))[0] = total / divisor
            i += LANES
        shares += channels


cdef inline void add_shares(
    const Pool *p, const Over *over, const real *shares, Py_ssize_t first, Py_ssize_t pixel, Py_ssize_t end, Py_ssize_t channels,
    real *dx,
) noexcept nogil:
    """Pixels from one on and before another, from the shares of window `first` and those after it."""
    cdef Py_ssize_t i, k
    cdef Seers w
    cdef vec total
    cdef const real *at
    while pixel < end:
        w = seers(over, pixel)
        i = 0
        while i < channels:
            i = min(i, channels - LANES)
            total = broadcast(0)
            at = shares + (w.first - first) * channels + i
            for k in range(w.count):
                total = total + (<const vec *> (at + k * channels))[0]
            (<vec *> (dx + pixel * p.channels + i))[0] = total
            i += LANES
        pixel += 1


cdef inline void spread_narrow(
    const Pool *p, const real *dy, const real *dy_end, const Spread *s, Py_ssize_t first, Py_ssize_t last, Py_ssize_t pixel, Py_ssize_t end,
    real *room, real *shares, real *dx,
) noexcept nogil:
    """The same for pixels of less than a vector: shares lie where their windows begin, and the line is added to itself, moved by pixels."""
    cdef Py_ssize_t channels = p.channels, taps = taps_along(p.w), items = (end - pixel) * channels, i = 0, c, k, o, r
    cdef Py_ssize_t to = pixel - taps + 1
    cdef vec total
    cdef real divisor
    memset(shares, 0, (items + (taps - 1) * channels) * sizeof(real))
    while i < (last - first) * channels:
        total = broadcast(0)
        for r in range(s.count):
            total = total + load(dy + s.at[r] + first * channels + i, dy_end) * s.weight[r]
        (<vec *> (room + i))[0] = total
        i += LANES
    for o in range(first, last):
        divisor = <real> (s.divisor * window(p.w, o).count)
        for c in range(channels):
            shares[(o * p.w.stride + p.w.begin - to) * channels + c] = room[(o - first) * channels + c] / divisor
    i = 0
    while i < items:
        if items >= LANES:
            i = min(i, items - LANES)
        total = broadcast(0)
        for k in range(taps):
            total = total + (<const vec *> (shares + i + k * channels))[0]
        store(dx + pixel * channels + i, total, items - i)
        i += LANES


cdef apart spread_lines(
    const Pool *p, const real *dy, const real *dy_end, real *dx, Py_ssize_t line, Py_ssize_t end
) noexcept nogil:
    """Lines (n, d, h) of dx from one on and before another."""
    cdef real room[SPREAD_ITEMS + LANES]
    cdef real shares[SPREAD_ITEMS + LANES]
    cdef Over over = over_axis(p.w)
    cdef Lines lines = lines_from(p, line)
    cdef Py_ssize_t taps = taps_along(p.w), channels = p.channels, blocks, block, c, some, pixel, stop, first, last, begin
    cdef Spread s
    blocks = 1 if channels * (taps + 7) <= SPREAD_ITEMS else ceil_div(channels, SPREAD_CHANNELS - LANES)
    for line in range(line, end):
        s = spread_of_line(p, &lines)
        for block in range(blocks):
            c = block_start(channels, blocks, block)
            some = block_start(channels, blocks, block + 1) - c
            pixel = 0
            while pixel < p.w.size:
                stop = min(pixel + SPREAD_ITEMS // some - taps, <Py_ssize_t> p.w.size)
                begin = pixel - taps + 1 - p.w.begin
                first = ceil_div(begin, p.w.stride) if begin > 0 else 0
                last = max(min((stop - 1 - p.w.begin) // p.w.stride + 1, <Py_ssize_t> p.w.out), first)
                if channels < LANES:
                    spread_narrow(p, dy, dy_end, &s, first, last, pixel, stop, room, shares, dx + line * p.w.size * channels)
                else:
                    shares_of_pixels(p, dy, &s, first, last, c, some, shares)
                    add_shares(p, &over, shares, first, pixel, stop, some, dx + line * p.w.size * channels + c)
                pixel = stop
        next_line(p, &lines)


cdef void spread_means(const Pool *p, const real *dy, const real *dy_end, real *dx, Py_ssize_t batch, int threads) noexcept nogil:
    cdef Py_ssize_t lines = batch * p.d.size * p.h.size, tasks = min(lines, <Py_ssize_t> 8 * threads) if threads > 1 else 1, task
    if threads == 1:
        spread_lines(p, dy, dy_end, dx, 0, lines)
        return
    for task in prange(tasks, num_threads=threads):
        spread_lines(p, dy, dy_end, dx, task * lines // tasks, (task + 1) * lines // tasks)
