# Maxima and averages over windows. One kernel each for every pooling: padding, dilation, ceil mode, adaptive and global windows
# differ in the records of `geometry.PoolAxis` alone, from which each window is computed where it is used. The place of a maximum,
# which its backward pass needs, is the number of its tap in the window, row by row, with those taps too that are outside x.
#
# x (N, D, H, W, C), y (N, P, Q, R, C), axes (3, 9): the windows along D, H and W. A window's taps are all inside x.
# Vectors run along the channels. Channels that fill no vector are computed in one that overlaps the last; where a pixel is less
# than a vector, its vectors reach into the next pixels, which overwrite what these wrote there. x and y may have more channels,
# of which some are read or written.


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
    POOL_CHANNELS = 128   # channels of a task, where the lines of few images are shared out
    POOL_TAPS = 128       # of a line, that are summed apart
    POOL_OUTPUTS = 256    # of a line, in one task
    POOL_VECS = 4         # vectors of a pixel reduced together: their lines are neighbors in memory
    POOL_DISTANCE = 1024  # bytes of a line, about, that are asked for before a window sees them


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
    cdef Py_ssize_t c = 0
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


cdef inline Py_ssize_t equal_windows(
    const Pool *p, const real *x, const real *end, const Window *d, const Window *h, Py_ssize_t first, Py_ssize_t last
) noexcept nogil:
    """How many windows of a line from `first` on are all inside and alike, their pixels, of less than a vector, read in one."""
    cdef const PoolAxis *w = p.w
    cdef Py_ssize_t step = w.stride * p.x_ld, behind
    if p.channels >= LANES or p.y_ld != p.channels or w.parts > 1 or w.begin < 0 or (w.out - 1) * w.stride + w.end > w.size:
        return 0
    if w.out == 1 or taps_along(w) > RUN_LINES * SUM_VECTORS:  # pool_runs.pxi sums those, in another order, where images are far
        return 0
    behind = end - x - tap(p, d, h, d.taps - 1, h.taps - 1, first * w.stride + w.end - 1) - LANES  # of the first window's last pixel
    return min(last - first, behind // step + 1 if behind >= 0 else 0)


cdef inline void equal_means(
    const int h_taps, const int w_taps, const Pool *p, const real *x, const Window *d, const Window *h, Py_ssize_t first,
    Py_ssize_t outputs, Py_ssize_t whole, real *y
) noexcept nogil:
    """The means of so many windows of h_taps x w_taps, as `window_mean`.

    Of the first `whole` of them a vector is written, whose excess the next ones overwrite.
    """
    cdef Window w = window(p.w, first)
    cdef Py_ssize_t number = d.count * h.count * w.count, n, i, j, k, step = w.step * p.x_ld, next_window = p.w.stride * p.x_ld
    cdef Py_ssize_t next_plane = d.step * p.h.size * p.w.size * p.x_ld, next_line = h.step * p.w.size * p.x_ld
    cdef Py_ssize_t planes = d.taps, channels = p.channels
    cdef bint exact = number & (number - 1) == 0  # then a factor does
    cdef vec count = broadcast(1 / <real> number if exact else <real> number), mean, line
    cdef const real *at
    x += tap(p, d, h, 0, 0, w.first)
    for n in range(outputs):
        mean = broadcast(0)
        for i in range(planes):
            for j in range(h_taps):
                at = x + i * next_plane + j * next_line
                line = broadcast(0)
                for k in range(w_taps):
                    line = line + (<const vec *> (at + k * step))[0]
                mean = mean + line
        mean = mean * count if exact else mean / count
        if n < whole:
            (<vec *> y)[0] = mean
        else:
            copy_narrow(y, <const real *> &mean, channels)
        x += next_window
        y += channels


cdef inline Py_ssize_t pool_blocks(Py_ssize_t lines, Py_ssize_t channels, int threads) noexcept nogil:
    """Blocks of channels, only where threads have few lines: memory is best read in its order."""
    return 1 if threads == 1 or lines >= 4 * threads else max(channels // POOL_CHANNELS, <Py_ssize_t> 1)


cdef inline Py_ssize_t block_start(Py_ssize_t channels, Py_ssize_t blocks, Py_ssize_t block) noexcept nogil:
    """The first channel of a block, a multiple of LANES; no block has fewer than LANES channels but where there are no more."""
    return channels if block == blocks else block * channels // blocks // LANES * LANES


cdef inline Py_ssize_t pool_ahead(const Pool *p, bint near, Py_ssize_t blocks) noexcept nogil:
    """How many outputs before its window a pixel is asked for; 0 where it is near anyway."""
    if near or p.w.parts > 1 or blocks > 1:
        return 0
    return 1 + POOL_DISTANCE // (p.w.stride * p.channels * <Py_ssize_t> sizeof(real))


cdef inline void ask_for(const Pool *p, const real *x, const Window *d, const Window *h, Py_ssize_t i) noexcept nogil:
    """Ask for the pixels that window i of its line is the first to see, in the order of memory.

    Windows read some vectors of each of their pixels in turn, and in such an order processors do not read ahead.
    """
    cdef Py_ssize_t a, b, c, k, line = 64 // <Py_ssize_t> sizeof(real)
    cdef const real *at
    for a in range(d.taps):
        for b in range(max(h.taps - p.h.stride, <Py_ssize_t> 0), h.taps):
            at = x + tap(p, d, h, a, b, i * p.w.stride + p.w.begin)
            for k in range(p.w.stride):
                for c in range(ceil_div(p.channels, line)):
                    prefetch(at + k * p.x_ld + c * line)


cdef void pool_line(
    const int what, const Pool *p, const real *x, const real *end, real *y, unsigned char *places, bint near, Py_ssize_t blocks,
    Py_ssize_t task,
) noexcept nogil:
    """POOL_OUTPUTS outputs of a line (n, d, h), and one block of their channels."""
    cdef Py_ssize_t block = task % blocks, parts = ceil_div(p.w.out, POOL_OUTPUTS)
    cdef Py_ssize_t line = task // blocks // parts, first = task // blocks % parts * POOL_OUTPUTS, i
    cdef Py_ssize_t last = min(first + POOL_OUTPUTS, <Py_ssize_t> p.w.out)
    cdef Py_ssize_t c = block_start(p.channels, blocks, block), channels = block_start(p.channels, blocks, block + 1) - c
    cdef Window d = window(p.d, line // p.h.out % p.d.out), h = window(p.h, line % p.h.out), w
    cdef Py_ssize_t alike, some, ahead = pool_ahead(p, near, blocks)
    cdef bint inside
    x += line // p.h.out // p.d.out * image_items(p) + c
    y += (line * p.w.out + first) * p.y_ld + c
    places += ((line * p.w.out + first) * p.channels + c) * p.width
    inside = end - x >= tap(p, &d, &h, d.taps - 1, h.taps - 1, p.w.size) + LANES
    if what == MEANS and blocks == 1 and not ahead and taps_along(p.w) <= POOL_TAPS:
        alike = equal_windows(p, x, end, &d, &h, first, last)
        some = min(alike, last - first - LANES // p.channels)
        if SELDOM_USED and h.taps == 2 and taps_along(p.w) == 2:  # as most have
            equal_means(2, 2, p, x, &d, &h, first, alike, some, y)
        else:
            equal_means(h.taps, taps_along(p.w), p, x, &d, &h, first, alike, some, y)
        first += alike
        y += alike * p.y_ld
    for i in range(first, last):
        w = window(p.w, i)
        if SELDOM_USED and what != PLACES and by_runs(what, p, x, &d, &h, &w, near, channels, y):
            y += p.y_ld
            continue
        if ahead:
            ask_for(p, x, &d, &h, i + ahead)
        if what == PLACES or channels >= LANES:
            pool_pixel(what, p, x, end, &d, &h, &w, y, places, channels)
        elif inside and (last - i) * channels >= LANES and p.y_ld == channels:
            pool_vectors(1, what, True, p, x, end, &d, &h, &w, y, places, 0)
        else:
            pool_vectors(1, what, False, p, x, end, &d, &h, &w, y, places, channels)
        y += p.y_ld
        places += p.channels * p.width


cdef void pool_lines(
    const int what, const Pool *p, const real *x, const real *end, real *y, unsigned char *places, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t task, lines = batch * p.d.out * p.h.out * ceil_div(p.w.out, POOL_OUTPUTS)
    cdef Py_ssize_t blocks = pool_blocks(lines, p.channels, threads)
    cdef bint near = batch * image_items(p) * <Py_ssize_t> sizeof(real) <= NEAR
    if threads == 1:  # to ask OpenMP takes longer than a small pooling
        for task in range(lines * blocks):
            pool_line(what, p, x, end, y, places, near, blocks, task)
        return
    for task in prange(lines * blocks, num_threads=threads):
        pool_line(what, p, x, end, y, places, near, blocks, task)


cdef inline const real *pool_operands(x, y, Pool *p, Py_ssize_t batch, Py_ssize_t *items, real **to) except NULL:
    """x and y, which may have more channels than are pooled, and how many items x has."""
    cdef const real *source = read_from(x, items)
    cdef Py_ssize_t written
    p.x_ld = items[0] // (batch * p.d.size * p.h.size * p.w.size)
    to[0] = write_to(y, &written)
    p.y_ld = written // (batch * p.d.out * p.h.out * p.w.out)
    return source


def max_pool_forward(x, Py_ssize_t x_first, y, Py_ssize_t y_first, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """y[n, p, c] = the largest x[n, window p, c]; NaN where there is one; -inf where the window is empty.

    The channels are those of x from x_first on and those of y from y_first on; there is something to write.
    """
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef Py_ssize_t items
    cdef real *to
    cdef const real *source = pool_operands(x, y, &p, batch, &items, &to)
    with nogil:
        if by_columns(MAXIMA, &p):
            pool_columns(False, &p, source + x_first, to + y_first, NULL, batch, threads)
        else:
            pool_lines(MAXIMA, &p, source + x_first, source + items, to + y_first, NULL, batch, threads)


def max_pool_places(x, y, places, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """y as by max_pool_forward, and places[n, p, c], of 1, 2 or 4 bytes, each the first maximum's (or NaN's) in its window."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef Py_ssize_t items
    cdef real *to
    cdef const real *source = pool_operands(x, y, &p, batch, &items, &to)
    cdef unsigned char *numbers = places_of(places, True, &p.width)
    with nogil:
        if by_columns(PLACES, &p):
            pool_columns(True, &p, source, to, numbers, batch, threads)
        else:
            pool_lines(PLACES, &p, source, source + items, to, numbers, batch, threads)


def avg_pool_forward(x, Py_ssize_t x_first, y, Py_ssize_t y_first, axes, Py_ssize_t batch, Py_ssize_t channels, int threads, /):
    """y[n, p, c] = sum of x[n, window p, c] / count of p; channels as for the maximum."""
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef Py_ssize_t items
    cdef real *to
    cdef const real *source = pool_operands(x, y, &p, batch, &items, &to)
    with nogil:
        pool_lines(MEANS, &p, source + x_first, source + items, to + y_first, NULL, batch, threads)
