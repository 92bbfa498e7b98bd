# Maxima and averages over windows (pool_window.pxi), line by line: one kernel each for every pooling.
#
# x (N, D, H, W, C), y (N, P, Q, R, C), axes (3, 9): the windows along D, H and W. A window's taps are all inside x. x and y may have
# more channels, of which some are read or written.


cdef enum:
    POOL_CHANNELS = 128   # channels of a task, where the lines of few images are shared out
    POOL_OUTPUTS = 256    # of a line, in one task
    POOL_DISTANCE = 1024  # bytes of a line, about, that are asked for before a window sees them
    FEW_PIECES = 512      # bytes of a pixel that is read in few pieces
    PAGE = 4096           # bytes, within which processors follow one order of reading


cdef inline Py_ssize_t equal_windows(
    const Pool *p, const real *x, const real *end, const Window *d, const Window *h, Py_ssize_t *start, Py_ssize_t last
) noexcept nogil:
    """How many windows of a line, from the first of them at or after `start` on, are all inside and alike, their pixels, of less
    than a vector, read in one."""
    cdef const PoolAxis *w = p.w
    cdef Py_ssize_t step = w.stride * p.x_ld, behind, first
    if p.channels >= LANES or p.y_ld != p.channels or w.parts > 1 or w.end > w.size:
        return 0
    start[0] = first = max(start[0], ceil_div(-w.begin, w.stride)) if w.begin < 0 else start[0]
    last = min(last, (w.size - w.end) // w.stride + 1)
    if first >= last:
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


cdef apart run_of_means(
    const Pool *p, const real *x, const Window *d, const Window *h, Py_ssize_t first, Py_ssize_t outputs, Py_ssize_t whole, real *y
) noexcept nogil:
    if SELDOM_USED and h.taps == 2 and taps_along(p.w) == 2:  # as most have
        equal_means(2, 2, p, x, d, h, first, outputs, whole, y)
    else:
        equal_means(h.taps, taps_along(p.w), p, x, d, h, first, outputs, whole, y)


cdef inline Py_ssize_t pool_blocks(Py_ssize_t lines, Py_ssize_t channels, int threads) noexcept nogil:
    """Blocks of channels, only where threads have few lines: memory is best read in its order."""
    return 1 if threads == 1 or lines >= 4 * threads else max(channels // POOL_CHANNELS, <Py_ssize_t> 1)


cdef inline Py_ssize_t block_start(Py_ssize_t channels, Py_ssize_t blocks, Py_ssize_t block) noexcept nogil:
    """The first channel of a block, a multiple of LANES; no block has fewer than LANES channels but where there are no more."""
    return channels if block == blocks else block * channels // blocks // LANES * LANES


cdef inline Py_ssize_t pixel_bytes(const Pool *p) noexcept nogil:
    return p.channels * <Py_ssize_t> sizeof(real)


cdef inline bint reads_to_and_fro(const Pool *p) noexcept nogil:
    """Whether windows, which read some vectors of each of their pixels in turn, do so again and again within a page.

    Processors do not read ahead of that. Windows that share most of their pixels compute longer than they read.
    """
    return FEW_PIECES < pixel_bytes(p) < PAGE and 2 * p.w.stride > taps_along(p.w)


cdef inline void bring(
    bint now, const Pool *p, const real *x, const Window *d, const Window *h, Py_ssize_t first, Py_ssize_t columns
) noexcept nogil:
    """Columns of pixels, in the order of memory, of those lines that no window above has seen: asked for, or read `now`.

    Processors read ahead of what is read in order, not of what is asked for.
    """
    cdef Py_ssize_t a, b, c, k, line = 64 // <Py_ssize_t> sizeof(real)
    cdef const real *at
    for a in range(d.taps):
        for b in range(max(h.taps - p.h.stride, <Py_ssize_t> 0), h.taps):
            at = x + tap(p, d, h, a, b, first)
            for k in range(columns):
                for c in range(ceil_div(p.channels, line)):
                    if now:
                        touch(at + c * line)
                    else:
                        prefetch(at + c * line)
                at += p.x_ld


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
    cdef Py_ssize_t alike = 0, start = first
    cdef bint known = False, inside, far = not near and blocks == p.w.parts == 1 and p.channels > POOL_VECS * LANES
    cdef bint to_and_fro = far and reads_to_and_fro(p)
    cdef Py_ssize_t ahead = 1 + POOL_DISTANCE // (p.w.stride * pixel_bytes(p)) if far and not (to_and_fro or tile_all(p)) else 0
    x += line // p.h.out // p.d.out * image_items(p) + c
    y += (line * p.w.out + first) * p.y_ld + c
    places += ((line * p.w.out + first) * p.channels + c) * p.width
    inside = end - x >= tap(p, &d, &h, d.taps - 1, h.taps - 1, p.w.size) + LANES
    if what == MEANS and blocks == 1 and taps_along(p.w) <= POOL_TAPS:
        alike = equal_windows(p, x, end, &d, &h, &start, last)
    i = first
    while i < last:
        if alike and i == start:
            run_of_means(p, x, &d, &h, i, alike, min(alike, last - i - LANES // p.channels), y)
            i += alike
            y += alike * p.y_ld
            known = False
            continue
        w = next_window(p.w, &w, known, i)
        known = True
        if SELDOM_USED and what != PLACES and by_runs(what, p, x, &d, &h, &w, near, channels, y):
            y += p.y_ld
            i += 1
            continue
        if to_and_fro or ahead:
            bring(to_and_fro, p, x, &d, &h, w.first + ahead * p.w.stride, w.taps if to_and_fro else p.w.stride)
        if what == PLACES or channels >= LANES:
            pool_pixel(what, p, x, end, &d, &h, &w, y, places, channels)
        elif inside and (last - i) * channels >= LANES and p.y_ld == channels:
            pool_vectors(1, what, True, p, x, end, &d, &h, &w, y, places, 0)
        else:
            pool_vectors(1, what, False, p, x, end, &d, &h, &w, y, places, channels)
        y += p.y_ld
        places += p.channels * p.width
        i += 1


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
