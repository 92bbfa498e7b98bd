# The tile of a depthwise convolution, in which each channel has a kernel of its own, so that vectors run along the channels.
#
# A tile is one vector of channels of a few neighboring outputs: their sums, one row of the kernel and one input at a time are in
# registers, and each input is read once for all outputs of a line that see it. The last vector of channels and the last tile of a
# line overlap those before rather than be cut: their stores repeat the same values.


cdef extern from *:
    """
    static const real NOTHING[LANES]; /* what lies outside the image */
    /* x where low <= place < low + size, else zeros: by arithmetic, since a jump for each input costs more than the sums. */
    static inline const real *or_nothing(const real *x, size_t place, size_t low, size_t size) {
        size_t there = -(size_t)(place - low < size);
        return (const real *)((uintptr_t)NOTHING + (((uintptr_t)x - (uintptr_t)NOTHING) & there));
    }
    /* How far behind an address where a vector begins x is. */
    static inline intptr_t items_past_line(const real *x) { return (uintptr_t)x % VEC_BYTES / sizeof(real); }
    /* A row of the kernel over a row of inputs, of which those from `low` to `high` - 1 exist:
     *   acc[i] += x[i * stride + t] * factor[t]; for a gradient factor[t] += x[i * stride + t] * acc[i], of zeros outside too.
     * Each input goes to all outputs that see it: neighboring multiply-adds do not wait for each other. In C for its pragmas,
     * without which gcc leaves some of the loops, and with them the sums in memory. */
    static inline __attribute__((always_inline)) void slide(
        const int gradient, const int cols, const int taps, const int stride, const real *x, vec *acc, vec *factor,
        intptr_t channels, intptr_t low, intptr_t high
    ) {
        int place, t;
        #pragma GCC unroll 32
        for (place = 0; place < (cols - 1) * stride + taps; place++, x += channels) {
            vec value = {0};
            /* only the first and the last few can be outside */
            if ((place >= taps - 1 || place >= low) && (place <= (cols - 1) * stride || place < high)) value = held(x);
            else if (!gradient) continue;
            #pragma GCC unroll 8
            for (t = 0; t < taps; t++) {
                const int i = (place - t) / stride;
                if (place < t || i * stride != place - t || i >= cols) continue;
                if (gradient) factor[t] += value * acc[i];
                else acc[i] += value * factor[t];
            }
        }
    }
    """
    void __builtin_prefetch(const void *at, int writes, int keep) nogil
    Py_ssize_t items_past_line(const real *x) nogil
    const real *or_nothing(const real *x, Py_ssize_t place, Py_ssize_t low, Py_ssize_t size) nogil
    const real *NOTHING
    void slide(
        const bint gradient, const int cols, const int taps, const int stride, const real *x, vec *acc, vec *factor,
        Py_ssize_t channels, Py_ssize_t low, Py_ssize_t high,
    ) nogil


cdef enum:
    DEPTHWISE_COLS = 8       # outputs of a tile: the sums of one vector of channels are 8 of at least 16 registers
    PASS_TAPS = 5            # at most of a row that no kernel is compiled for, in one pass
    DEPTHWISE_TAPS = 7       # the longest row of a kernel that is kept in registers
    GRADIENT_SUMS = 8192     # of a weight gradient that a task holds: in the first-level cache, unless one vector has more
    DEPTHWISE_STRIP = 8192   # columns times channels of a strip: its next row of outputs finds the inputs in a near cache
    DEPTHWISE_CHANNELS = 512 # of a task
    PASS_SUMS = DEPTHWISE_CHANNELS * DEPTHWISE_COLS  # of a pass, in the first-level cache
    MANY_VECTORS = 8         # of a pixel: one more does not count where the others are read faster for it
    # bytes of both arrays that no cache holds: then lines are asked for ahead, which costs some time where one does (low tiles were
    # measured on a processor with a larger last cache)
    DEPTHWISE_FAR = (8 + 4 * LOW_TILE) << 20


cdef struct Depthwise:
    # records of the axes, one for each phase
    const int64_t *d
    const int64_t *h
    const int64_t *w
    Py_ssize_t phases_d, phases_h, phases_w, lines_d, lines_h, columns
    const real *x
    const real *x_end
    const real *weight
    const real *bias
    real *y
    Finish finish
    bint plain, padded, far, far_y
    Py_ssize_t batch, channels, per_tap, size_d, size_h, size_w, kernel_h, kernel_w, out_d, out_h, out_w
    Py_ssize_t past  # by so much the second vector of channels overlaps the first, and with those after it begins at a cache line


cdef struct Rows:
    # the rows of a window that lie inside the image: d of them, and h in each; the steps between them
    Py_ssize_t d, h, x_d, x_h, weight_d, weight_h, weight_w
    # how many rows after the last one the next line begins to use, where they are far away
    Py_ssize_t ahead
    # along a row: the axis, and the elements from a pixel to the next
    Axis w
    Py_ssize_t x_w
    const real *x
    const real *weight
    # one of several passes over the taps: the sums so far, whose line begins where that of the outputs does
    const real *sums
    Py_ssize_t sums_w, y_w
    bint unfinished  # then outputs are sums for the next pass, whole vectors
    # what outputs are clamped to
    bint bounded
    real least, most


cdef inline Py_ssize_t taps_inside(const Axis *axis, Py_ssize_t i, Py_ssize_t *first) noexcept nogil:
    """How many taps of window i are inside the input, and the first of them."""
    cdef Py_ssize_t start = i * axis.stride + axis.origin, end
    first[0] = ceil_div(-start, axis.dilation) if start < 0 else 0
    end = min(axis.taps, ceil_div(axis.size - start, axis.dilation)) if start < axis.size else 0
    return max(end - first[0], <Py_ssize_t> 0)


cdef inline void depthwise_tile(
    const int cols, const int taps, const int stride, const Rows *r,
    const real *x, const real *weight, const real *start, Py_ssize_t start_step, real *y, Py_ssize_t channels, Py_ssize_t y_step,
    Py_ssize_t low, Py_ssize_t high,
) noexcept nogil:
    """`cols` outputs, of whose inputs those from `low` to `high` - 1 exist; their sums begin with what is at `start`."""
    cdef vec acc[DEPTHWISE_COLS]
    cdef vec factor[DEPTHWISE_TAPS]
    cdef Py_ssize_t i, t, rows = r.d * r.h, in_plane = r.h
    cdef real least = r.least, most = r.most
    cdef bint bounded = r.bounded
    for i in range(cols):
        acc[i] = (<const vec *> (start + i * start_step))[0]
    while True:  # there is a row: a loop that may do nothing would have all sums in memory
        for t in range(taps):
            factor[t] = held(weight + t * r.weight_w)
        slide(False, cols, taps, stride, x, acc, factor, channels, low, high)
        x += r.x_h
        weight += r.weight_h
        in_plane -= 1
        if in_plane == 0:  # the first row of the next plane: one loop over all rows keeps the sums in registers
            x += r.x_d - r.h * r.x_h
            weight += r.weight_d - r.h * r.weight_h
            in_plane = r.h
        rows -= 1
        if rows == 0:
            break
    if bounded:
        for i in range(cols):
            (<vec *> (y + i * y_step))[0] = clamped(acc[i], least, most)
    else:
        for i in range(cols):
            (<vec *> (y + i * y_step))[0] = acc[i]


cdef inline bint fits_tiles(const Axis *w) noexcept nogil:
    """Whether inputs are neighbors and every window sees some of the image, as tiles compiled for their taps take it."""
    return (w.dilation == 1 or w.taps == 1) and w.origin + w.taps > 0 and (w.rows - 1) * w.stride + w.origin < w.size


cdef inline bint too_near(const int cols, const Rows *r, const real *x, Py_ssize_t channels, const real *end) noexcept nogil:
    """Whether the last vector of a tile would read beyond the end of the array, where a pixel is less than a vector."""
    cdef Py_ssize_t span = (cols - 1) * r.w.stride + (r.w.taps - 1) * r.w.dilation
    return end - x < (r.d - 1) * r.x_d + (r.h - 1) * r.x_h + span * channels + LANES


cdef inline bint is_far(Py_ssize_t items) noexcept nogil:
    return items > DEPTHWISE_FAR // <Py_ssize_t> sizeof(real)


cdef inline void fetch_ahead(const int cols, const bint little, const Rows *r, const real *x, Py_ssize_t channels) noexcept nogil:
    """Ask for what the next line reads first: a tile jumps from pixel to pixel, which no prefetcher of a processor foresees.

    Where `little` is computed of each, for the second-level cache: they would take the place of this line's in the first.
    """
    cdef Py_ssize_t i, k
    for k in range(r.ahead):
        for i in range(cols):
            if little:
                fetch(x + (r.h + k) * r.x_h + i * channels)
            else:
                prefetch(x + (r.h + k) * r.x_h + i * channels)


cdef inline void depthwise_vectors(
    const int cols, const int taps, const int stride, const Depthwise *p, const Rows *r,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, real *y,
) noexcept nogil:
    """A tile for each vector of channels first .. end - 1; fewer channels than lanes are the first lanes of one."""
    cdef real buffer[(DEPTHWISE_COLS + 1) * LANES]
    cdef real *few = aligned_in(buffer)
    cdef Py_ssize_t c = first, k, start = column * r.w.stride + r.w.origin, low = max(-start, <Py_ssize_t> 0)
    cdef Py_ssize_t high = max(r.w.size - start, low), y_step = r.y_w
    cdef Py_ssize_t last = min(max(end - LANES, first), p.channels - LANES), past = p.past
    cdef bint narrow = p.channels < LANES, apart_from_y = not r.unfinished and (narrow or not is_clamp(&p.finish))
    cdef const real *x = r.x + start * r.x_w
    cdef const real *start_at
    cdef real *to
    cdef Py_ssize_t to_step
    cdef Rows own = r[0]   # no store changes these, and a compiler sees it
    cdef const real *bias = p.bias
    cdef Py_ssize_t next_line = p.out_w * p.channels if p.far_y else 0
    y += column * y_step
    if narrow and too_near(cols, r, x, r.x_w, p.x_end):
        depthwise_plain(p, r, first, end, column, column + cols, y - column * y_step)
        return
    while c < end:
        if not narrow:
            c = min(c, last)
        start_at = NOTHING
        if bias:
            start_at = bias + c
        if own.sums:
            start_at = own.sums + column * own.sums_w + c
        if own.ahead:
            fetch_ahead(cols * stride, stride > 1, &own, x + c, own.x_w)
        if next_line:
            for k in range(cols):
                __builtin_prefetch(y + c + next_line + k * y_step, 1, 3)
        to, to_step = y + c, y_step
        if apart_from_y:
            to, to_step = few, LANES
        depthwise_tile(cols, taps, stride, &own, x + c, own.weight + c, start_at, own.sums_w, to, own.x_w, to_step, low, high)
        if apart_from_y and narrow:
            store_narrow(few, y, y_step, cols, p.channels, (r.w.rows - column) * p.channels if r.w.out_step == 1 else 0)
        elif apart_from_y:
            finish_vectors(&p.finish, few, p.y, y + c - p.y, y_step, cols, LANES, c)
        c += LANES - past
        past = 0


cdef apart store_narrow(
    const real *values, real *y, Py_ssize_t y_step, Py_ssize_t cols, Py_ssize_t channels, Py_ssize_t room
) noexcept nogil:
    """`channels` of each vector, or all of it while there is room: what is too much, the next outputs of the line write again."""
    cdef Py_ssize_t i, k
    for i in range(cols):
        if room - i * channels >= LANES:
            (<vec *> (y + i * y_step))[0] = (<const vec *> (values + i * LANES))[0]
        else:
            for k in range(channels):
                y[i * y_step + k] = values[i * LANES + k]


cdef inline void depthwise_columns(
    const int taps, const int stride, const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end,
    Py_ssize_t column, Py_ssize_t column_end, real *y,
) noexcept nogil:
    """Outputs column .. column_end - 1 of a line, in tiles; the last one overlaps the one before rather than be cut."""
    cdef Py_ssize_t rest, short
    while column < column_end:
        rest = column_end - column
        short = (DEPTHWISE_COLS - rest % DEPTHWISE_COLS) % DEPTHWISE_COLS
        # so many tiles of one column less, and none overlaps; arrays that no cache holds are read faster by the larger ones
        if 0 < short <= rest // (DEPTHWISE_COLS - 1) and (not p.far or rest <= 2 * (DEPTHWISE_COLS - 1)):
            depthwise_vectors(DEPTHWISE_COLS - 1, taps, stride, p, r, first, end, column, y)
            column += DEPTHWISE_COLS - 1
        elif column_end >= DEPTHWISE_COLS and rest > DEPTHWISE_COLS // 2:
            column = min(column, column_end - DEPTHWISE_COLS)
            depthwise_vectors(DEPTHWISE_COLS, taps, stride, p, r, first, end, column, y)
            column += DEPTHWISE_COLS
        elif column_end >= DEPTHWISE_COLS // 2:
            column = min(column, column_end - DEPTHWISE_COLS // 2)
            depthwise_vectors(DEPTHWISE_COLS // 2, taps, stride, p, r, first, end, column, y)
            column += DEPTHWISE_COLS // 2
        else:
            depthwise_vectors(1, taps, stride, p, r, first, end, column, y)
            column += 1


cdef whole depthwise_3_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(3, 1, p, r, first, end, column, column_end, y)


cdef whole depthwise_3_2(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(3, 2, p, r, first, end, column, column_end, y)


cdef whole depthwise_4_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(4, 1, p, r, first, end, column, column_end, y)


cdef whole depthwise_5_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(5, 1, p, r, first, end, column, column_end, y)


cdef whole depthwise_7_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(7, 1, p, r, first, end, column, column_end, y)


cdef whole depthwise_5_2(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(5, 2, p, r, first, end, column, column_end, y)


cdef whole depthwise_2_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(2, 1, p, r, first, end, column, column_end, y)


cdef whole depthwise_1_1(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(1, 1, p, r, first, end, column, column_end, y)
