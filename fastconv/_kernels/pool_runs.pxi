# Large windows, whose pixels are gone over as memory has them: all channels of one after the other, which is what processors read
# ahead. The sums (or maxima) of all channels stay in the first-level cache.
#
# Pixels of few channels are taken several at a time, as a line of whole vectors whose sums are added up in the end. So is what
# windows as wide as the image see of several of its lines: the mean of an image is one run of numbers.


cdef enum:
    RUN_ITEMS = 2048     # numbers of a line, at most; channels beyond are gone over apart
    WHOLE_PIXELS = 32      # of lines that are one run, at least
    RUN_LINES = 4        # lines that are gone over side by side; a run has as many at least
    SUM_VECTORS = 8      # of a line, where there are several pixels to one: sums that do not wait for each other


cdef struct Runs:
    # of a window: pixels that follow each other, and how they are gone over
    Py_ssize_t pixels
    Py_ssize_t width    # numbers of a line: the channels of one pixel or of several


cdef inline bint whole_lines(const Pool *p, const Window *h, const Window *w) noexcept nogil:
    return w.taps == p.w.size and (h.step == 1 or h.taps == 1)


cdef inline Runs runs_of(const int what, const Pool *p, const Window *h, const Window *w, bint near) noexcept nogil:
    """Those of a window; a `width` of 0 where it is too small, its pixels are apart, or others see them too.

    It must not depend on what a task's channels are. Pixels that are near are looked through in registers where they are few; those of
    a mean within the image, which are summed in the same order either way, may depend on what else there is.
    """
    cdef Runs r
    cdef bint whole = whole_lines(p, h, w)
    r.pixels, r.width = w.taps * (h.taps if whole else 1), 0
    if r.pixels < RUN_LINES or w.step > 1 or p.w.out > 1 and p.w.stride < p.w.end - p.w.begin:
        return r
    if what == MEANS and p.x_ld == p.channels < 2 * POOL_CHANNELS:   # one task's, which would be one of several blocks of channels else
        r.width = p.channels
        while r.width % LANES or r.width < SUM_VECTORS * LANES:
            r.width *= 2
    if r.width <= p.channels or r.width > RUN_ITEMS or r.pixels * p.channels < RUN_LINES * r.width:
        r.width = p.channels if p.channels > POOL_VECS * LANES else 0
        if r.pixels < (WHOLE_PIXELS if whole else RUN_LINES):
            r.width = 0
        if not whole and near and (what == MEANS or pool_taps(p) <= 2 * MANY_TAPS):
            r.width = 0
    return r


cdef inline vec joined(const int what, vec a, vec b) noexcept nogil:
    return larger(b, a) if what == MAXIMA else a + b


cdef inline void join_pixels(const int what, const int lines, const real *x, Py_ssize_t step, Py_ssize_t width, real *to) noexcept nogil:
    """Join so many lines to what is in `to`; the last vector may overlap the one before, and has a place of its own."""
    cdef Py_ssize_t j = 0, at, r
    cdef vec total
    while j < width:
        at = min(j, width - LANES)
        total = (<vec *> (to + j))[0]
        for r in range(lines):
            total = joined(what, total, (<const vec *> (x + r * step + at))[0])
        (<vec *> (to + j))[0] = total
        j += LANES


cdef inline void set_items(real *to, Py_ssize_t items, vec value) noexcept nogil:
    cdef Py_ssize_t j = 0
    while j < items:
        (<vec *> (to + j))[0] = value
        j += LANES


cdef inline void add_items(const real *x, Py_ssize_t items, real *to) noexcept nogil:
    """Add so many numbers; those behind them stay."""
    cdef Py_ssize_t j = 0
    while j < items:
        (<vec *> (to + j))[0] = (<vec *> (to + j))[0] + load(x + j, x + items)
        j += LANES


cdef inline void join_run(
    const int what, const real *x, Py_ssize_t pixels, Py_ssize_t step, Py_ssize_t channels, Py_ssize_t width, bint near, real *total,
) noexcept nogil:
    """Join pixels, `step` apart, in lines of `width` numbers; sums of POOL_TAPS lines at a time, whose rounding errors are small."""
    cdef real room[RUN_ITEMS + LANES]
    cdef real *part = total
    cdef Py_ssize_t each = width // channels, lines = pixels // each, some, r
    step *= each
    if what == MEANS:
        part = room
    while lines:
        some = min(lines, <Py_ssize_t> POOL_TAPS)
        lines -= some
        if what == MEANS:
            set_items(part, width, broadcast(0))
        r = 0
        while near and r + RUN_LINES <= some:
            join_pixels(what, RUN_LINES, x, step, width, part)
            x += RUN_LINES * step
            r += RUN_LINES
        while r < some:
            join_pixels(what, 1, x, step, width, part)
            x += step
            r += 1
        if what == MEANS:
            add_items(part, round_up(width, LANES), total)
    if what == MEANS and pixels % each:
        add_items(x, pixels % each * channels, total)


cdef inline void pool_runs(
    const int what, const Pool *p, const real *x, const Window *d, const Window *h, const Window *w, Runs runs, bint near,
    Py_ssize_t channels, real *y,
) noexcept nogil:
    """One window's maxima or means of some channels."""
    cdef real total[RUN_ITEMS + LANES]
    cdef Py_ssize_t first = 0, some, width, i, j, lines = 1 if whole_lines(p, h, w) else h.taps
    cdef vec count = broadcast(<real> (d.count * h.count * w.count)), value
    while first < channels:
        some = min(channels - first, <Py_ssize_t> RUN_ITEMS)
        if channels - first - some and channels - first - some < LANES:
            some -= LANES
        width = some if runs.width == p.channels else runs.width
        set_items(total, width, broadcast(-INFINITY if what == MAXIMA else 0))
        for i in range(d.taps):
            for j in range(lines):
                join_run(what, x + first + tap(p, d, h, i, j, w.first), runs.pixels, p.x_ld, some, width, near, total)
        while width > some:   # the sums of a line's pixels
            width //= 2
            add_items(total + width, round_up(width, LANES), total)
        i = 0
        while i < some:
            j = min(i, max(some - LANES, 0))
            value = (<vec *> (total + (i if runs.width == p.channels else j)))[0]
            if what == MEANS:
                value = value / count
            store(y + first + j, value, some - j)
            i += LANES
        first += some


cdef apart mean_of_runs(
    const Pool *p, const real *x, const Window *d, const Window *h, const Window *w, Runs runs, bint near, Py_ssize_t channels, real *y
) noexcept nogil:
    pool_runs(MEANS, p, x, d, h, w, runs, near, channels, y)


cdef apart largest_of_runs(
    const Pool *p, const real *x, const Window *d, const Window *h, const Window *w, Runs runs, bint near, Py_ssize_t channels, real *y
) noexcept nogil:
    pool_runs(MAXIMA, p, x, d, h, w, runs, near, channels, y)


cdef inline bint by_runs(
    const int what, const Pool *p, const real *x, const Window *d, const Window *h, const Window *w, bint near, Py_ssize_t channels, real *y
) noexcept nogil:
    """A window that is large enough; false where it is not."""
    cdef Runs runs = runs_of(what, p, h, w, near)
    if runs.width and what == MEANS:
        mean_of_runs(p, x, d, h, w, runs, near, channels, y)
    elif runs.width:
        largest_of_runs(p, x, d, h, w, runs, near, channels, y)
    return runs.width > 0
