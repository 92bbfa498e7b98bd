# Where the maxima of a line of windows are, found in two steps: the first largest of each column of pixels under the line, then the
# first largest of each window's columns. A column is gone over once, however many windows it is in, and pixels of few channels fill
# whole vectors; then every maximum is gone to by itself.


cdef extern from "simd.h":
    mask equal(vec a, vec b) nogil
    mask unlike(vec a, vec b) nogil
    bint any_lane(mask a) nogil
    mask comes_first(vec b, mask at_b, vec a, mask at_a) nogil


cdef enum:
    PLACES = 2048         # numbers of a line that are looked through at a time
    PLACE_CHANNELS = 64   # of a pixel, about


cdef struct Line:
    # windows that are taken together: those along D and H, and so many along W
    Window d, h
    const Window *along
    Py_ssize_t count


cdef struct Columns:
    # of pixels under a line: for each channel the largest number, and how many pixels it is away from the first of its column
    real largest[PLACES + LANES]
    lane places[PLACES + LANES]


cdef inline void keep_first(vec value, mask place, vec *best, mask *found) noexcept nogil:
    cdef mask here = comes_first(value, place, best[0], found[0])
    best[0], found[0] = choose(here, value, best[0]), choose_lanes(here, place, found[0])


cdef inline bint find_in_columns(
    const Pool *p, const real *x, const Line *line, Py_ssize_t first, Py_ssize_t step, Py_ssize_t pixels, Py_ssize_t room,
    Py_ssize_t channels, Columns *columns,
) noexcept nogil:
    """Columns of pixels `step` apart; where there is `room` for fewer, later ones go where earlier ones are. False if one may have a NaN."""
    cdef Py_ssize_t runs = pixels, items = channels, i, r, a, b, at, slot = -1
    cdef Py_ssize_t under = p.h.step * p.w.size, behind = p.d.step * p.h.size * p.w.size   # pixels from one tap to the next
    cdef vec best, value, total = broadcast(0)
    cdef mask found, here
    cdef const real *source
    x += tap(p, &line.d, &line.h, 0, 0, first)
    if step == 1 and pixels <= room and channels == p.channels:
        runs, items = 1, pixels * channels
    for r in range(runs):
        slot = 0 if slot == room - 1 else slot + 1
        i = 0
        while i < items:
            at = max(min(i, items - LANES), <Py_ssize_t> 0)
            best, found = broadcast(-INFINITY), broadcast_lane(0)
            for a in range(line.d.taps):
                for b in range(line.h.taps):
                    source = x + (r * step + a * behind + b * under) * p.channels + at
                    value = load(source, source + items - at)
                    here = above(value, best)
                    best = choose(here, value, best)
                    found = choose_lanes(here, broadcast_lane(<lane> (a * behind + b * under)), found)
                    total = total + value
            at += slot * items
            if r >= room:
                found = found + broadcast_lane(<lane> ((r - slot) * step))
                keep_first((<vec *> (columns.largest + at))[0], (<mask *> (columns.places + at))[0], &best, &found)
            (<vec *> (columns.largest + at))[0] = best
            (<mask *> (columns.places + at))[0] = found
            i += LANES
    return not any_lane(unlike(total, total))


cdef inline mask first_of_columns(
    const Columns *columns, Py_ssize_t at, Py_ssize_t taps, Py_ssize_t gap, Py_ssize_t step
) noexcept nogil:
    """Where the maxima of windows are, in pixels from the first: their columns are `step` pixels apart, and here `gap` numbers."""
    cdef vec best = (<const vec *> (columns.largest + at))[0]
    cdef mask found = (<const mask *> (columns.places + at))[0]
    cdef Py_ssize_t k
    for k in range(1, taps):
        at += gap
        keep_first(
            (<const vec *> (columns.largest + at))[0],
            (<const mask *> (columns.places + at))[0] + broadcast_lane(<lane> (k * step)), &best, &found,
        )
    return found


cdef inline void give_each(
    const Pool *p, const real *dy, real *dx, const Window *w, Py_ssize_t count, Py_ssize_t channels, const lane *found, Py_ssize_t step
) noexcept nogil:
    cdef Py_ssize_t k, c, ld = p.channels
    cdef real *to
    for k in range(count):
        if w[k].taps:
            to = dx + w[k].first * ld
            for c in range(channels):
                to[found[c] * ld + c] += dy[c]
        dy += ld
        found += step


cdef apart give_one_by_one(
    const Pool *p, const real *dy, const real *x, real *dx, const Line *line, const Window *w, Py_ssize_t channels
) noexcept nogil:
    """What a window hands to its first NaN, or else to its first largest pixel."""
    cdef Py_ssize_t i, j, k, c, at, place
    cdef real best
    if not (line.d.taps and line.h.taps and w.taps):
        return
    for c in range(channels):
        best, place = -INFINITY, tap(p, &line.d, &line.h, 0, 0, w.first)
        for i in range(line.d.taps):
            for j in range(line.h.taps):
                for k in range(w.taps):
                    at = tap(p, &line.d, &line.h, i, j, w.first + k * w.step)
                    if not x[at + c] <= best and best == best:
                        best, place = x[at + c], at
        dx[place + c] += dy[c]


cdef inline Py_ssize_t windows_within(
    const Pool *p, const Window *w, Py_ssize_t count, Py_ssize_t room, Py_ssize_t *first, Py_ssize_t *end
) noexcept nogil:
    """How many windows there is room for, and columns that hold theirs: with gaps between taps, one may begin or end before the last."""
    cdef const Window *last
    count = min(count, room)
    first[0] = max(w.first - w.step + 1, <Py_ssize_t> 0)
    while count:
        last = w + count - 1
        end[0] = p.w.size if last.step > p.w.size else min(last.first + last.taps * last.step, <Py_ssize_t> p.w.size)
        if end[0] - first[0] <= room:
            break
        count //= 2
    return count


cdef inline Py_ssize_t windows_alike(const Window *w, Py_ssize_t count, Py_ssize_t stride) noexcept nogil:
    """How many windows follow each other at this distance with as many taps as the first."""
    while w[count - 1].taps != w.taps or w[count - 1].first != w.first + (count - 1) * stride:
        count = (count + 1) // 2
    return count


cdef inline void give_to_block(
    const Pool *p, const real *dy, const real *x, real *dx, const Line *line, const Window *w, Py_ssize_t count, Py_ssize_t channels
) noexcept nogil:
    cdef Columns columns
    cdef lane found[PLACES + LANES]
    cdef Py_ssize_t room = PLACES // channels, fit, some, first, end, taps, gap, step, i, k, at
    cdef Py_ssize_t origin = tap(p, &line.d, &line.h, 0, 0, 0)
    cdef bint numbers, close = p.w.parts == 1 and channels * p.w.stride < LANES   # a vector reaches several windows, and what is between
    while count:
        fit = windows_within(p, w, count, room, &first, &end)
        if fit:
            numbers = find_in_columns(p, x, line, first, 1, end - first, room, channels, &columns)
            taps, gap = room, w.step * channels
        else:   # a window that is wider: its columns share places
            numbers = find_in_columns(p, x, line, w.first, w.step, w.taps, room, channels, &columns)
            fit, first, taps, gap = 1, w.first, min(room, w.taps), channels
        count -= fit
        while fit:
            some, step = fit, channels
            if close:
                some, step = windows_alike(w, fit, p.w.stride), p.w.stride * channels
                at = (w.first - first) * channels
                for i in range(ceil_div((some - 1) * step + channels, LANES)):
                    (<mask *> (found + i * LANES))[0] = first_of_columns(&columns, at + i * LANES, min(taps, w.taps), gap, w.step)
            else:
                for k in range(some):
                    at = (w[k].first - first) * channels
                    for i in range(ceil_div(channels, LANES)):
                        i = max(min(i * LANES, channels - LANES), <Py_ssize_t> 0)
                        (<mask *> (found + k * step + i))[0] = first_of_columns(&columns, at + i, min(taps, w[k].taps), gap, w.step)
            if numbers:
                give_each(p, dy, dx + origin, w, some, channels, found, step)
            else:
                for k in range(some):
                    give_one_by_one(p, dy + k * p.channels, x, dx, line, w + k, channels)
            w += some
            dy += some * p.channels
            fit -= some


cdef apart give_to_places(
    const Pool *p, const real *dy, const real *x, real *dx, const Line *line, const Window *along, Py_ssize_t count, Py_ssize_t channels
) noexcept nogil:
    """Add to dx what windows hand to their first largest pixels."""
    cdef Py_ssize_t blocks = ceil_div(channels, PLACE_CHANNELS), block, c
    if not (line.d.taps and line.h.taps):
        return
    for block in range(blocks):
        c = block_start(channels, blocks, block)
        give_to_block(p, dy + c, x + c, dx + c, line, along, count, block_start(channels, blocks, block + 1) - c)
