# The maxima of a line of windows in two steps: the largest of each column of pixels under the line, then the largest of each window's
# columns. A column is gone over once, however many windows it is in, and pixels of few channels fill whole vectors.


cdef extern from "simd.h":
    mask unlike(vec a, vec b) nogil
    bint any_lane(mask a) nogil
    mask comes_first(vec b, mask at_b, vec a, mask at_a) nogil


cdef enum:
    MANY_TAPS = 24          # with more (twice as many where windows tile) columns are faster, whatever the channels
    COLUMN_ITEMS = 2048     # numbers of a line that are looked through at a time
    COLUMN_CHANNELS = 64    # of a pixel, about


cdef struct Line:
    # windows that are taken together: those along D and H, and so many along W
    Window d, h
    const Window *along
    Py_ssize_t count


cdef struct Columns:
    # of pixels under a line: for each channel the largest number, and the place it has in a window that begins with its column
    real largest[COLUMN_ITEMS + LANES]
    lane places[COLUMN_ITEMS + LANES]


cdef inline bint by_columns(const int what, const Pool *p) noexcept nogil:
    cdef bint tiled = tile_all(p), runs = SELDOM_USED and what == MAXIMA and tiled and p.channels > POOL_VECS * LANES
    return p.channels < LANES and (what == PLACES or 2 * p.channels <= LANES) or (
        pool_taps(p) > (2 * MANY_TAPS if tiled else MANY_TAPS) and not runs
    )


cdef inline void windows_from(const PoolAxis *axis, Py_ssize_t first, Window *to, Py_ssize_t count) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        to[i] = window(axis, first + i)


cdef inline void keep_first(vec value, mask place, vec *best, mask *found) noexcept nogil:
    cdef mask here = comes_first(value, place, best[0], found[0])
    best[0], found[0] = choose(here, value, best[0]), choose_lanes(here, place, found[0])


cdef inline bint find_in_columns(
    const bint placed, const Pool *p, const real *x, const Line *line, Py_ssize_t first, Py_ssize_t step, Py_ssize_t pixels,
    Py_ssize_t room, Py_ssize_t channels, Columns *columns,
) noexcept nogil:
    """Columns of pixels `step` apart; where there is `room` for fewer, later ones go where earlier ones are.

    With places a NaN may not be found: the answer is false where there may be one.
    """
    cdef Py_ssize_t runs = pixels, items = channels, i, r, a, b, at, slot = -1
    cdef Py_ssize_t under = p.h.step * p.w.size * p.x_ld, behind = p.d.step * p.h.size * p.w.size * p.x_ld, row = taps_along(p.w)
    cdef vec best, value, total = broadcast(0)
    cdef mask found, here, place
    cdef const real *source
    x += tap(p, &line.d, &line.h, 0, 0, first)
    if step == 1 and pixels <= room and channels == p.x_ld:
        runs, items = 1, pixels * channels
    for r in range(runs):
        slot = 0 if slot == room - 1 else slot + 1
        i = 0
        while i < items:
            at = max(min(i, items - LANES), <Py_ssize_t> 0)
            best, found = broadcast(-INFINITY), broadcast_lane(<lane> place_of(p, line.d.skipped, line.h.skipped, 0))
            for a in range(line.d.taps):
                place = broadcast_lane(<lane> place_of(p, line.d.skipped + a, line.h.skipped, 0))
                for b in range(line.h.taps):
                    source = x + r * step * p.x_ld + a * behind + b * under + at
                    value = load(source, source + items - at)
                    if placed:
                        here = above(value, best)
                        best, found = choose(here, value, best), choose_lanes(here, place, found)
                        place = place + broadcast_lane(<lane> row)
                        total = total + value
                    else:
                        best = larger(value, best)
            at += slot * items
            if placed:
                found = found + broadcast_lane(<lane> (r - slot))
            if r >= room and placed:
                keep_first((<vec *> (columns.largest + at))[0], (<mask *> (columns.places + at))[0], &best, &found)
            elif r >= room:
                best = larger((<vec *> (columns.largest + at))[0], best)
            (<vec *> (columns.largest + at))[0] = best
            if placed:
                (<mask *> (columns.places + at))[0] = found
            i += LANES
    return not placed or not any_lane(unlike(total, total))


cdef inline vec first_of_columns(
    const bint placed, const Columns *columns, Py_ssize_t at, const Window *w, Py_ssize_t taps, Py_ssize_t gap, mask *found
) noexcept nogil:
    """The maxima of windows, and their places: the columns are `gap` numbers apart."""
    cdef vec best = (<const vec *> (columns.largest + at))[0]
    cdef Py_ssize_t k
    if not placed:
        for k in range(1, taps):
            best = larger((<const vec *> (columns.largest + at + k * gap))[0], best)
        return best
    found[0] = (<const mask *> (columns.places + at))[0]
    for k in range(1, taps):
        at += gap
        keep_first(
            (<const vec *> (columns.largest + at))[0], (<const mask *> (columns.places + at))[0] + broadcast_lane(<lane> k), &best, found
        )
    found[0] = found[0] + broadcast_lane(<lane> w.skipped)
    return best


cdef inline void copy_apart(
    const Py_ssize_t part, unsigned char *to, Py_ssize_t to_step, const unsigned char *source, Py_ssize_t step, Py_ssize_t count
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(count):
        memcpy(to + i * to_step, source + i * step, part)


cdef void pack_windows(
    unsigned char *to, Py_ssize_t to_step, const unsigned char *source, Py_ssize_t step, Py_ssize_t size, Py_ssize_t count
) noexcept nogil:
    """Copy `size` bytes of each pixel, in parts that reach into the next one but for the last: a copy of many sizes is slow."""
    cdef Py_ssize_t part = 4 if size <= 4 else 8 if size <= 8 else 16 if size <= 16 else 32
    cdef Py_ssize_t parted = max(count - ceil_div(part - size, size), <Py_ssize_t> 0)
    if to_step == size == step:
        memcpy(to, source, count * size)
        return
    if to_step != size or size > 32:
        parted = 0
    elif part == 4:
        copy_apart(4, to, to_step, source, step, parted)
    elif part == 8:
        copy_apart(8, to, to_step, source, step, parted)
    elif part == 16:
        copy_apart(16, to, to_step, source, step, parted)
    else:
        copy_apart(32, to, to_step, source, step, parted)
    copy_apart(size, to + parted * to_step, to_step, source + parted * step, step, count - parted)


cdef apart find_one_by_one(
    const Pool *p, const real *x, const Line *line, const Window *w, real *y, unsigned char *places, Py_ssize_t channels
) noexcept nogil:
    """The first NaN of a window, or else its first largest pixel."""
    cdef Py_ssize_t i, j, k, c, place
    cdef real best, value
    for c in range(channels):
        best, place = -INFINITY, place_of(p, line.d.skipped, line.h.skipped, w.skipped)
        for i in range(line.d.taps):
            for j in range(line.h.taps):
                for k in range(w.taps):
                    value = x[tap(p, &line.d, &line.h, i, j, w.first + k * w.step) + c]
                    if not value <= best and best == best:
                        best, place = value, place_of(p, line.d.skipped + i, line.h.skipped + j, w.skipped + k)
        y[c] = best
        if p.width == 1:
            places[c] = <unsigned char> place
        elif p.width == 2:
            (<uint16_t *> places)[c] = <uint16_t> place
        elif p.width == 4:
            (<int32_t *> places)[c] = <int32_t> place


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


cdef inline void maxima_of_block(
    const bint placed, const Pool *p, const real *x, const Line *line, real *y, unsigned char *places, Py_ssize_t channels
) noexcept nogil:
    """A line of windows, and so many of their channels."""
    cdef Columns columns
    cdef real largest[COLUMN_ITEMS + LANES]
    cdef unsigned char numbers[4 * (COLUMN_ITEMS + LANES)]   # places, as bytes
    cdef const Window *w = line.along
    cdef mask found = broadcast_lane(0)
    cdef Py_ssize_t room = COLUMN_ITEMS // channels, count = line.count, fit, some, first, end, taps, gap, step, i, k, at
    cdef bint known, close = p.w.parts == 1 and channels * p.w.stride < LANES   # a vector reaches several windows, and what is between
    while count:
        fit = windows_within(p, w, count, room, &first, &end)
        if fit:
            known = find_in_columns(placed, p, x, line, first, 1, end - first, room, channels, &columns)
            taps, gap = room, w.step * channels
        else:   # a window that is wider: its columns share places
            known = find_in_columns(placed, p, x, line, w.first, w.step, w.taps, room, channels, &columns)
            fit, first, taps, gap = 1, w.first, min(room, w.taps), channels
        count -= fit
        while fit:
            some, step = fit, channels
            if close:
                some, step = windows_alike(w, fit, p.w.stride), p.w.stride * channels
                at = max((w.first - first) * channels, <Py_ssize_t> 0)
                for i in range(ceil_div((some - 1) * step + channels, LANES)):
                    i *= LANES
                    (<vec *> (largest + i))[0] = first_of_columns(placed, &columns, at + i, w, min(taps, w.taps), gap, &found)
                    if placed:
                        write_places(p, numbers + i * p.width, found)
            else:
                for k in range(some):
                    at = max((w[k].first - first) * channels, <Py_ssize_t> 0)
                    for i in range(ceil_div(channels, LANES)):
                        i = max(min(i * LANES, channels - LANES), <Py_ssize_t> 0)
                        (<vec *> (largest + k * step + i))[0] = first_of_columns(
                            placed, &columns, at + i, w + k, min(taps, w[k].taps), gap, &found
                        )
                        if placed:
                            write_places(p, numbers + (k * step + i) * p.width, found)
            if known:
                pack_windows(
                    <unsigned char *> y, p.y_ld * sizeof(real), <unsigned char *> largest, step * sizeof(real), channels * sizeof(real),
                    some,
                )
                if placed:
                    pack_windows(places, p.channels * p.width, numbers, step * p.width, channels * p.width, some)
            for k in range(some):
                if not known or w[k].taps == 0:
                    find_one_by_one(p, x, line, w + k, y + k * p.y_ld, places + k * p.channels * p.width, channels)
            w += some
            y += some * p.y_ld
            places += some * p.channels * p.width
            fit -= some


cdef apart maxima_of_line(
    const bint placed, const Pool *p, const real *x, const Line *line, real *y, unsigned char *places
) noexcept nogil:
    cdef Py_ssize_t blocks = ceil_div(p.channels, COLUMN_CHANNELS), block, c, channels
    for block in range(blocks):
        c = block_start(p.channels, blocks, block)
        channels = block_start(p.channels, blocks, block + 1) - c
        if placed:
            maxima_of_block(True, p, x + c, line, y + c, places + c * p.width, channels)
        else:
            maxima_of_block(False, p, x + c, line, y + c, NULL, channels)


cdef void maxima_of_lines(
    const bint placed, const Pool *p, const real *x, real *y, unsigned char *places, Py_ssize_t unit, Py_ssize_t end
) noexcept nogil:
    """POOL_OUTPUTS outputs of a line (n, d, h) are a unit; these from one on and before another."""
    cdef Py_ssize_t parts = ceil_div(p.w.out, POOL_OUTPUTS), l, k, at, done = -1
    cdef Window along[POOL_OUTPUTS]  # of a line, the same in each: computed once where they are few
    cdef Line line
    line.along = along
    while unit < end:
        l, k = unit // parts, unit % parts * POOL_OUTPUTS
        line.d, line.h = window(p.d, l // p.h.out % p.d.out), window(p.h, l % p.h.out)
        line.count = min(<Py_ssize_t> p.w.out - k, <Py_ssize_t> POOL_OUTPUTS)
        if k != done:
            windows_from(p.w, k, along, line.count)
            done = k
        at = l * p.w.out + k
        maxima_of_line(
            placed, p, x + l // p.h.out // p.d.out * image_items(p), &line, y + at * p.y_ld, places + at * p.channels * p.width
        )
        unit += 1


cdef void pool_columns(
    bint placed, const Pool *p, const real *x, real *y, unsigned char *places, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t units = batch * p.d.out * p.h.out * ceil_div(p.w.out, POOL_OUTPUTS), tasks = min(units, <Py_ssize_t> 8 * threads), task
    if threads == 1:
        maxima_of_lines(placed, p, x, y, places, 0, units)
        return
    for task in prange(tasks, num_threads=threads):
        maxima_of_lines(placed, p, x, y, places, task * units // tasks, (task + 1) * units // tasks)
