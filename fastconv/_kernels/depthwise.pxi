# Depthwise convolution: each channel is convolved with a kernel of its own, so vectors run along the channels.
#
# x (N, D, H, W, C), y (N, D', H', W', C), weight (T, R, S, 1, C). A tile is one vector of channels of a few neighbouring outputs:
# their sums, one row of the kernel and the inputs under it are in registers, and each input is read once for all outputs of a line
# that see it. The adjoint is the same loop over the phases of its axes. The last vector of channels and the last tile of a line
# overlap those before rather than be cut: their stores repeat the same values.


cdef extern from *:
    """
    static const real NOTHING[LANES]; /* what lies outside the image */
    /* x where low <= place < low + size, else zeros: by arithmetic, since a jump for each input costs more than the sums. */
    static inline const real *or_nothing(const real *x, size_t place, size_t low, size_t size) {
        size_t there = -(size_t)(place - low < size);
        return (const real *)((uintptr_t)NOTHING + (((uintptr_t)x - (uintptr_t)NOTHING) & there));
    }
    """
    void __builtin_prefetch(const void *at, int writes, int keep) nogil
    const real *or_nothing(const real *x, Py_ssize_t place, Py_ssize_t low, Py_ssize_t size) nogil
    const real *NOTHING


cdef enum:
    DEPTHWISE_COLS = 8       # outputs of a tile: the sums of one vector of channels are 8 of at least 16 registers
    DEPTHWISE_TAPS = 7       # the longest row of a kernel that is kept in registers
    GRADIENT_SUMS = 8192     # of a weight gradient that a task holds: in the first-level cache, unless one vector has more
    DEPTHWISE_STRIP = 8192   # columns times channels of a strip: its next row of outputs finds the inputs in a near cache
    DEPTHWISE_CHANNELS = 256 # of a task
    DEPTHWISE_FAR = 8388608  # bytes of both arrays that no near cache holds: then lines are asked for ahead, which costs some time


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
    bint plain, padded, far
    Py_ssize_t batch, channels, per_tap, size_d, size_h, size_w, kernel_h, kernel_w, out_d, out_h, out_w


cdef struct Rows:
    # the rows of a window that lie inside the image: d of them, and h in each; the steps between them
    Py_ssize_t d, h, x_d, x_h, weight_d, weight_h, weight_w
    # how many rows after the last one the next line begins to use, where they are far away
    Py_ssize_t ahead
    # along a row
    Axis w
    const real *x
    const real *weight
    # what outputs are clamped to
    real least, most


cdef inline Py_ssize_t taps_inside(const Axis *axis, Py_ssize_t i, Py_ssize_t *first) noexcept nogil:
    """How many taps of window i are inside the input, and the first of them."""
    cdef Py_ssize_t start = i * axis.stride + axis.origin, end
    first[0] = ceil_div(-start, axis.dilation) if start < 0 else 0
    end = min(axis.taps, ceil_div(axis.size - start, axis.dilation)) if start < axis.size else 0
    return max(end - first[0], <Py_ssize_t> 0)


cdef inline void depthwise_tile(
    const int cols, const int taps, const int stride, const bint inside, const Rows *r,
    const real *x, const real *weight, const real *bias, real *y, Py_ssize_t channels, Py_ssize_t y_step,
    Py_ssize_t low, Py_ssize_t size,
) noexcept nogil:
    """`cols` outputs, of whose inputs `size` from `low` on exist: all where `inside`.

    taps 0: a row of any number of taps, with whatever stride and dilation, each multiplied as it comes.
    """
    cdef vec acc[DEPTHWISE_COLS]
    cdef vec factor[DEPTHWISE_TAPS]
    cdef const real *at
    cdef Py_ssize_t i, k, t, place, in_plane = r.h
    for i in range(cols):
        acc[i] = (<const vec *> bias)[0]
    for k in range(r.d * r.h):
        if taps:
            for t in range(taps):
                factor[t] = held(weight + t * r.weight_w)
            slide(False, cols, taps, stride, inside, x, acc, factor, channels, low, size)
        else:
            for t in range(r.w.taps):
                factor[0] = held(weight + t * r.weight_w)
                for i in range(cols):
                    place = i * r.w.stride + t * r.w.dilation
                    at = x + place * channels
                    acc[i] = acc[i] + factor[0] * held(at if inside else or_nothing(at, place, low, size))
        x += r.x_h
        weight += r.weight_h
        in_plane -= 1
        if in_plane == 0:  # the first row of the next plane: one loop over all rows keeps the sums in registers
            x += r.x_d - r.h * r.x_h
            weight += r.weight_d - r.h * r.weight_h
            in_plane = r.h
    for i in range(cols):
        (<vec *> (y + i * y_step))[0] = clamped(acc[i], r.least, r.most)


cdef inline void slide(
    const bint gradient, const int cols, const int taps, const int stride, const bint inside, const real *x,
    vec *acc, vec *factor, Py_ssize_t channels, Py_ssize_t low, Py_ssize_t size,
) noexcept nogil:
    """A row of the kernel over a row of inputs: the window slides, and reads what it does not hold yet.

    acc[i] += x[i * stride + t] * factor[t]; for a gradient factor[t] += x[i * stride + t] * acc[i].
    """
    cdef vec window[DEPTHWISE_TAPS]
    cdef Py_ssize_t i, t
    for t in range(taps - stride):
        window[t] = held(x if inside else or_nothing(x, t, low, size))
        x += channels
    for i in range(cols):
        for t in range(taps - stride, taps):
            window[t] = held(x if inside else or_nothing(x, i * stride + t, low, size))
            x += channels
        for t in range(taps):
            if gradient:
                factor[t] = factor[t] + window[t] * acc[i]
            else:
                acc[i] = acc[i] + window[t] * factor[t]
        for t in range(taps - stride):
            window[t] = window[t + stride]


cdef inline bint too_near(const int cols, const Rows *r, const real *x, Py_ssize_t channels, const real *end) noexcept nogil:
    """Whether the last vector of a tile would read beyond the end of the array, where a pixel is less than a vector."""
    cdef Py_ssize_t span = (cols - 1) * r.w.stride + (r.w.taps - 1) * r.w.dilation
    return end - x < (r.d - 1) * r.x_d + (r.h - 1) * r.x_h + span * channels + LANES


cdef inline bint is_far(Py_ssize_t items) noexcept nogil:
    return items > DEPTHWISE_FAR // <Py_ssize_t> sizeof(real)


cdef inline void fetch_ahead(const int cols, const Rows *r, const real *x, Py_ssize_t channels) noexcept nogil:
    """Ask for what the next line reads first: a tile jumps from pixel to pixel, which no prefetcher of a processor foresees."""
    cdef Py_ssize_t i, k
    for k in range(r.ahead):
        for i in range(cols):
            __builtin_prefetch(x + (r.h + k) * r.x_h + i * channels, 0, 3)


cdef inline void depthwise_vectors(
    const int cols, const int taps, const int stride, const Depthwise *p, const Rows *r,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, real *y,
) noexcept nogil:
    """A tile for each vector of channels first .. end - 1; fewer channels than lanes are the first lanes of one."""
    cdef real buffer[(DEPTHWISE_COLS + 1) * LANES]
    cdef real *few = aligned_in(buffer)
    cdef Py_ssize_t c = first, k, start = column * r.w.stride + r.w.origin, low = max(-start, <Py_ssize_t> 0)
    cdef Py_ssize_t size = max(r.w.size - start - low, <Py_ssize_t> 0), y_step = r.w.out_step * p.channels
    cdef bint inside = low == 0 and size > (cols - 1) * r.w.stride + (r.w.taps - 1) * r.w.dilation
    cdef bint narrow = p.channels < LANES, apart_from_y = narrow or not is_clamp(&p.finish)
    cdef const real *x = r.x + start * p.channels
    cdef const real *bias
    cdef real *to
    cdef Py_ssize_t to_step
    y += column * y_step
    if narrow and too_near(cols, r, x, p.channels, p.x_end):
        depthwise_plain(p, r, first, end, column, column + cols, y - column * y_step)
        return
    while c < end:
        if not narrow:
            c = min(c, p.channels - LANES)
        bias = p.bias + c if p.bias else NOTHING
        if r.ahead:
            fetch_ahead(cols * max(stride, 1), r, x + c, p.channels)
            for k in range(cols):
                __builtin_prefetch(y + c + p.out_w * p.channels + k * y_step, 1, 3)
        to, to_step = y + c, y_step
        if apart_from_y:
            to, to_step = few, LANES
        if inside:
            depthwise_tile(cols, taps, stride, True, r, x + c, r.weight + c, bias, to, p.channels, to_step, 0, 0)
        else:
            depthwise_tile(cols, taps, stride, False, r, x + c, r.weight + c, bias, to, p.channels, to_step, low, size)
        if narrow:
            store_narrow(few, y, y_step, cols, p.channels, (r.w.rows - column) * p.channels if r.w.out_step == 1 else 0)
        elif apart_from_y:
            finish_vectors(&p.finish, few, p.y, y + c - p.y, y_step, cols, LANES, c)
        c += LANES


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
    cdef Py_ssize_t rest
    while column < column_end:
        rest = column_end - column
        if column_end >= DEPTHWISE_COLS and rest > DEPTHWISE_COLS // 2:
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


cdef whole depthwise_any(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    depthwise_columns(0, 0, p, r, first, end, column, column_end, y)


cdef void depthwise_plain(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """Tap after tap, of those inside the image: at the end of arrays of few channels, and for weights that are not finite."""
    cdef Py_ssize_t k, t, c, place, start
    cdef const real *x
    cdef const real *factor
    cdef real *to
    while column < column_end:
        to = y + column * r.w.out_step * p.channels
        start = column * r.w.stride + r.w.origin
        for c in range(first, end):
            to[c] = p.bias[c] if p.bias else 0
        for k in range(r.d * r.h):
            for t in range(r.w.taps):
                place = start + t * r.w.dilation
                if 0 <= place < r.w.size:
                    x = r.x + k // r.h * r.x_d + k % r.h * r.x_h + place * p.channels
                    factor = r.weight + k // r.h * r.weight_d + k % r.h * r.weight_h + t * r.weight_w
                    for c in range(first, end):
                        to[c] = to[c] + x[c] * factor[c]
        column += 1


cdef void add_padding(
    const Depthwise *p, const Axis *d, const Axis *h, const Axis *w, Py_ssize_t i, Py_ssize_t j,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y,
) noexcept nogil:
    """Zeros times the taps outside the image: nothing, unless a weight is not finite."""
    cdef Py_ssize_t td, th, tw, c
    cdef const real *factor
    while column < column_end:
        for td in range(d.taps):
            for th in range(h.taps):
                for tw in range(w.taps):
                    if not (is_inside(d, i, td) and is_inside(h, j, th) and is_inside(w, column, tw)):
                        factor = p.weight + ((td * p.kernel_h + th) * p.kernel_w + tw) * p.per_tap
                        for c in range(first, end):
                            y[column * p.channels + c] += 0 * factor[c]
        column += 1


cdef inline bint is_inside(const Axis *axis, Py_ssize_t i, Py_ssize_t t) noexcept nogil:
    return 0 <= i * axis.stride + axis.origin + t * axis.dilation < axis.size


cdef bint all_finite(const real *x, Py_ssize_t items) noexcept nogil:
    """Whether no element is NaN or infinite: those times 0 are no zeros."""
    cdef Py_ssize_t i, whole = items - items % LANES
    cdef real lanes[LANES]
    cdef vec zeros = broadcast(0)
    for i in range(whole // LANES):
        zeros = zeros + (<const vec *> (x + i * LANES))[0] * <real> 0
    (<vec *> lanes)[0] = zeros
    for i in range(LANES):
        if lanes[i] != 0:
            return False
    for i in range(whole, items):
        if 0 * x[i] != 0:
            return False
    return True


ctypedef void (*DepthwiseKernel)(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil


cdef DepthwiseKernel depthwise_kernel(const Axis *w) noexcept nogil:
    """The kernel compiled for these taps and stride, or the one for all."""
    if w.dilation != 1 and w.taps > 1:
        return depthwise_any
    if w.stride == 1:
        if w.taps == 2:  # a phase of 3 or 5 taps with stride 2
            return depthwise_2_1
        if w.taps == 3:
            return depthwise_3_1
        if w.taps == 5:
            return depthwise_5_1
        if w.taps == 7:
            return depthwise_7_1
    if w.stride == 2:
        if w.taps == 3:
            return depthwise_3_2
        if w.taps == 5:
            return depthwise_5_2
    return depthwise_any


cdef void depthwise_line(
    const Depthwise *p, Py_ssize_t line, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end
) noexcept nogil:
    """Columns of line (n, d, h) of the output, all phases of them; channels first .. end - 1."""
    cdef Py_ssize_t h = line % p.lines_h, d = line // p.lines_h % p.lines_d, n = line // p.lines_h // p.lines_d
    cdef Axis axis_d = read_axis(p.d + d % p.phases_d * 10), axis_h = read_axis(p.h + h % p.phases_h * 10)
    cdef Py_ssize_t tap_d, tap_h, phase, per_row = p.size_w * p.channels, per_weight = p.kernel_w * p.per_tap
    cdef DepthwiseKernel kernel
    cdef Rows r
    cdef real *y
    d //= p.phases_d
    h //= p.phases_h
    if d >= axis_d.rows or h >= axis_h.rows:
        return
    r.d, r.h = taps_inside(&axis_d, d, &tap_d), taps_inside(&axis_h, h, &tap_h)
    r.x_d, r.x_h = axis_d.dilation * p.size_h * per_row, axis_h.dilation * per_row
    r.ahead = min(axis_h.stride, axis_h.taps) if p.far else 0
    r.weight_d, r.weight_h = axis_d.tap_step * p.kernel_h * per_weight, axis_h.tap_step * per_weight
    r.x = p.x + (
        (n * p.size_d + d * axis_d.stride + axis_d.origin + tap_d * axis_d.dilation) * p.size_h
        + h * axis_h.stride + axis_h.origin + tap_h * axis_h.dilation
    ) * per_row
    y = p.y + (
        (n * p.out_d + axis_d.out_first + d * axis_d.out_step) * p.out_h + axis_h.out_first + h * axis_h.out_step
    ) * p.out_w * p.channels
    r.least, r.most = -INFINITY, INFINITY
    if is_clamp(&p.finish):
        r.least, r.most = p.finish.a, p.finish.b
    for phase in range(p.phases_w):
        r.w = read_axis(p.w + phase * 10)
        r.weight = p.weight + (
            (axis_d.tap_first + tap_d * axis_d.tap_step) * p.kernel_h + axis_h.tap_first + tap_h * axis_h.tap_step
        ) * per_weight + r.w.tap_first * p.per_tap
        r.weight_w = r.w.tap_step * p.per_tap
        kernel = depthwise_plain if p.plain else depthwise_kernel(&r.w)
        kernel(p, &r, first, end, column, min(column_end, r.w.rows), y + r.w.out_first * p.channels)
        if p.padded:
            add_padding(p, &axis_d, &axis_h, &r.w, d, h, first, end, column, min(column_end, r.w.rows), y)


cdef inline Py_ssize_t depthwise_block(Py_ssize_t channels) noexcept nogil:
    """Channels of a task: even parts, but whole vectors."""
    return round_up(ceil_div(channels, ceil_div(channels, DEPTHWISE_CHANNELS)), LANES)


cdef void depthwise_part(const Depthwise *p, Py_ssize_t line, Py_ssize_t end, Py_ssize_t first, Py_ssize_t channel_end) noexcept nogil:
    """Lines line .. end - 1 of all, some of their channels: in strips of columns whose rows stay in the first-level cache."""
    cdef Py_ssize_t each = p.lines_d * p.lines_h, last, column, i
    cdef Py_ssize_t strip = max(DEPTHWISE_STRIP // (channel_end - first), <Py_ssize_t> DEPTHWISE_COLS)
    strip -= strip % DEPTHWISE_COLS
    while line < end:
        last = min(end, round_up(line + 1, each))
        column = 0
        while column < p.columns:
            for i in range(line, last):
                depthwise_line(p, i, first, channel_end, column, column + strip)
            column += strip
        line = last


cdef void depthwise_task(
    const Depthwise *p, Py_ssize_t part, Py_ssize_t parts, Py_ssize_t lines, Py_ssize_t number, Py_ssize_t block
) noexcept nogil:
    """One of `parts` parts of the lines, and block number `number` of the channels."""
    depthwise_part(p, part * lines // parts, (part + 1) * lines // parts, number * block, min((number + 1) * block, p.channels))


def depthwise(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] weight, const real[::1] bias, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] phases_d, const int64_t[:, ::1] phases_h, const int64_t[:, ::1] phases_w, bint adjoint,
    residual, activation, int threads,
):
    """y[n, p, q, c] = f(bias[c] + sum_{r, s} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, 0, c] + residual[...]).

    Each axis has one record; for the adjoint, one for each phase of its stride. What lies outside x is zero, and an infinite
    weight makes NaN of it; the adjoint of a convolution has nothing there. `residual` and `activation` (f) may be None.
    """
    cdef Depthwise p
    cdef Finish late = finish_of(residual, activation)
    cdef Py_ssize_t task, lines, block, blocks, parts, taps
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef bint by_channels
    cdef real *wide
    if 0 in (phases_d.shape[0], phases_h.shape[0], phases_w.shape[0]):  # no tap reaches any pixel
        return
    p.d, p.h, p.w = &phases_d[0, 0], &phases_h[0, 0], &phases_w[0, 0]
    p.phases_d, p.phases_h, p.phases_w = phases_d.shape[0], phases_h.shape[0], phases_w.shape[0]
    p.lines_d, p.lines_h = p.phases_d * phases_d[0, 1], p.phases_h * phases_h[0, 1]  # the first phase has the most rows
    p.columns = phases_w[0, 1]
    p.x, p.y, p.weight = &x[0, 0, 0, 0, 0], &y[0, 0, 0, 0, 0], &weight[0, 0, 0, 0, 0]
    p.bias = NULL
    if bias is not None:
        p.bias = &bias[0]
    p.batch, p.size_d, p.size_h, p.size_w, p.channels = x.shape[0], x.shape[1], x.shape[2], x.shape[3], x.shape[4]
    p.kernel_h, p.kernel_w = weight.shape[1], weight.shape[2]
    p.out_d, p.out_h, p.out_w = y.shape[1], y.shape[2], y.shape[3]
    p.plain = not all_finite(p.weight, weight.shape[0] * p.kernel_h * p.kernel_w * p.channels)
    p.padded = p.plain and not adjoint
    p.x_end = p.x + x.shape[0] * p.size_d * p.size_h * p.size_w * p.channels
    p.far = is_far((p.x_end - p.x) + p.batch * p.out_d * p.out_h * p.out_w * p.channels)
    p.per_tap = p.channels
    p.finish = late
    if p.plain or p.channels < LANES:  # kernels that add to what they have written
        p.finish = nothing_more()
    taps = weight.shape[0] * p.kernel_h * p.kernel_w
    wide = NULL
    if p.channels < LANES:  # a whole vector for each tap, and for the bias
        wide = new_scratch(own_lines((taps + 1) * LANES), 1)
        if wide == NULL:
            raise MemoryError("no memory for the weight of a depthwise convolution")
        zero(wide, (taps + 1) * LANES)
        for task in range(taps * p.channels):
            wide[task // p.channels * LANES + task % p.channels] = p.weight[task]
        if p.bias:
            memcpy(wide + taps * LANES, p.bias, p.channels * sizeof(real))
        p.weight, p.bias, p.per_tap = wide, wide + taps * LANES, LANES
    lines = p.batch * p.lines_d * p.lines_h
    block = depthwise_block(p.channels)
    blocks = ceil_div(p.channels, block)
    parts = min(lines, max(p.batch, ceil_div(4 * threads, blocks)))
    memset(taken, 0, sizeof(taken))
    by_channels = few_rows(p.batch * p.out_d * p.out_h * p.out_w, threads)
    with nogil, parallel(num_threads=threads):
        task = take_task(taken, parts * blocks, threads, threadid())
        while task >= 0:
            if by_channels:
                depthwise_task(&p, task % parts, parts, lines, task // parts, block)
            else:
                depthwise_task(&p, task // blocks, parts, lines, task % blocks, block)
            task = take_task(taken, parts * blocks, threads, threadid())
    if late.pending and not p.finish.pending:
        with nogil:
            finish_all(&late, p.y, p.batch * p.out_d * p.out_h * p.out_w, p.channels, threads)
    free(wide)
