# Depthwise convolution: x (N, D, H, W, C), y (N, D', H', W', C), weight (T, R, S, 1, C).
#
# Lines of outputs are cut into tiles (depthwise_tile.pxi) where all of a tile is inside the image and at its edges; the adjoint is
# the same over the phases of its axes. Rows that no tile is compiled for take several passes, each of a few taps.


cdef void start_sums(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """What sums begin with: the bias, or the sums of the pass before."""
    cdef Py_ssize_t i
    for i in range(column, column_end):
        if r.sums:
            memcpy(y + i * r.y_w + first, r.sums + i * r.sums_w + first, (end - first) * sizeof(real))
        elif p.bias:
            memcpy(y + i * r.y_w + first, p.bias + first, (end - first) * sizeof(real))
        else:
            zero(y + i * r.y_w + first, end - first)


cdef apart depthwise_plain(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """Tap after tap, of those inside the image: at the end of arrays of few channels, and for weights that are not finite."""
    cdef Py_ssize_t k, t, c, place, start
    cdef const real *x
    cdef const real *factor
    cdef real *to
    start_sums(p, r, first, end, column, column_end, y)
    while column < column_end:
        to = y + column * r.y_w
        start = column * r.w.stride + r.w.origin
        for k in range(r.d * r.h):
            for t in range(r.w.taps):
                place = start + t * r.w.dilation
                if 0 <= place < r.w.size:
                    x = r.x + k // r.h * r.x_d + k % r.h * r.x_h + place * r.x_w
                    factor = r.weight + k // r.h * r.weight_d + k % r.h * r.weight_h + t * r.weight_w
                    for c in range(first, end):
                        to[c] = to[c] + x[c] * factor[c]
        column += 1


cdef apart depthwise_outside(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """Outputs that see nothing of the image: what their sums begin with, finished."""
    cdef real *to
    start_sums(p, r, first, end, column, column_end, y)
    while column < column_end:
        to = y + column * r.y_w + first
        finish_values(&p.finish, to, to - p.y, end - first, first)
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
    """The kernel compiled for these taps and stride, or NULL."""
    if not fits_tiles(w):
        return NULL
    if w.stride == 1:
        if w.taps == 1:
            return depthwise_1_1
        if w.taps == 2:
            return depthwise_2_1
        if w.taps == 3:
            return depthwise_3_1
        if w.taps == 4:
            return depthwise_4_1
        if w.taps == 5:
            return depthwise_5_1
        if SELDOM_USED and w.taps == 7:
            return depthwise_7_1
    if w.stride == 2:
        if w.taps == 3:
            return depthwise_3_2
        if SELDOM_USED and w.taps == 5:
            return depthwise_5_2
    return NULL


cdef inline Py_ssize_t pass_taps(Py_ssize_t taps) noexcept nogil:
    """How many of so many neighboring taps a pass takes: the same in each, about, and as many as a kernel is compiled for."""
    return ceil_div(taps, ceil_div(taps, <Py_ssize_t> PASS_TAPS))


cdef inline Py_ssize_t whole_vectors_from(const Depthwise *p, Py_ssize_t first) noexcept nogil:
    """Where the vectors of a block begin: the last one may have less than a vector, and then overlaps the one before."""
    return max(min(first, p.channels - LANES), <Py_ssize_t> 0)


cdef void depthwise_pass(
    const Depthwise *p, const Rows *r, Py_ssize_t tap, Py_ssize_t taps,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y,
) noexcept nogil:
    """Every `stride`th tap of a row, `taps` of them from `tap` on: a kernel with stride 1 over every `stride`th pixel.

    One tap alone may have any dilation.
    """
    cdef Rows each = r[0]
    cdef Py_ssize_t stride = r.w.stride, at = r.w.origin + tap * r.w.dilation, pixel = (at % stride + stride) % stride, left, right
    cdef DepthwiseKernel kernel
    each.w.stride, each.w.dilation, each.w.taps = 1, 1, taps
    each.w.origin = (at - pixel) // stride
    each.w.size = max(ceil_div(r.w.size - pixel, stride), <Py_ssize_t> 0)
    each.x += pixel * r.x_w
    each.x_w *= stride
    each.weight += tap * r.weight_w
    each.weight_w *= stride
    left = min(max(1 - each.w.origin - taps, column), column_end)
    right = max(min(each.w.size - each.w.origin, column_end), left)
    if each.unfinished:
        start_sums(p, &each, whole_vectors_from(p, first), end, column, left, y)
        start_sums(p, &each, whole_vectors_from(p, first), end, right, column_end, y)
    else:
        depthwise_outside(p, &each, first, end, column, left, y)
        depthwise_outside(p, &each, first, end, right, column_end, y)
    if left == right:
        return
    each.w.origin += left
    each.w.rows = right - left
    if each.sums:
        each.sums += left * each.sums_w
    kernel = depthwise_kernel(&each.w)
    kernel(p, &each, first, end, 0, right - left, y + left * each.y_w)


cdef apart depthwise_passes(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """Outputs of rows that no kernel was compiled for, in several passes over their taps.

    A pass takes some of every `step`th tap; of dilated rows with a stride one. It reads the sums of the one before from one
    buffer and writes its own to another, since tiles overlap: none adds twice.
    """
    cdef real buffers[2 * PASS_SUMS]
    cdef real *sums
    cdef Rows each = r[0]
    cdef Py_ssize_t width = max(end - first, <Py_ssize_t> LANES), step = r.w.stride if r.w.dilation == 1 else r.w.taps
    cdef Py_ssize_t phase = 0, taps = ceil_div(r.w.taps, step), done = 0, some, number = 0  # of a phase: taps to do and done
    while True:
        some = pass_taps(taps)
        number += 1
        each.unfinished = some < taps or phase + 1 < min(step, r.w.taps)
        each.bounded = r.bounded and not each.unfinished
        sums = buffers + number % 2 * PASS_SUMS - column * width - whole_vectors_from(p, first)
        each.y_w = width if each.unfinished else r.y_w
        depthwise_pass(p, &each, phase + done * step, some, first, end, column, column_end, sums if each.unfinished else y)
        if not each.unfinished:
            return
        each.sums, each.sums_w = sums, width
        done += some
        taps -= some
        if taps == 0:
            phase += 1
            taps, done = ceil_div(r.w.taps - phase, step), 0


cdef void depthwise_rows(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    cdef DepthwiseKernel kernel = depthwise_kernel(&r.w)
    cdef Py_ssize_t some = PASS_SUMS // round_up(end - first, LANES) // DEPTHWISE_COLS * DEPTHWISE_COLS
    if kernel:
        kernel(p, r, first, end, column, column_end, y)
        return
    while column < column_end:
        depthwise_passes(p, r, first, end, column, min(column + some, column_end), y)
        column += some


cdef void interleaved_lines(
    const Depthwise *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end, real *y
) noexcept nogil:
    """A line of a dilated kernel: it is as many lines, whose pixels take turns, as the dilation says; `column` counts in each."""
    cdef Rows each = r[0]
    cdef Py_ssize_t i, start
    each.w.dilation = 1
    each.w.out_step *= r.w.dilation
    each.y_w *= r.w.dilation
    each.x_w *= r.w.dilation
    for i in range(min(r.w.dilation, r.w.rows)):
        start = ((i + r.w.origin) % r.w.dilation + r.w.dilation) % r.w.dilation
        each.x = r.x + start * r.x_w
        each.w.origin = (i + r.w.origin - start) // r.w.dilation
        each.w.size = max(ceil_div(r.w.size - start, r.w.dilation), <Py_ssize_t> 0)
        each.w.rows = ceil_div(r.w.rows - i, r.w.dilation)
        depthwise_rows(
            p, &each, first, end, column, min(column_end, each.w.rows), y + (r.w.out_first + i * r.w.out_step) * p.channels
        )


cdef void depthwise_line(
    const Depthwise *p, Py_ssize_t line, Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, Py_ssize_t column_end
) noexcept nogil:
    """Columns of line (n, d, h) of the output, all phases of them; channels first .. end - 1."""
    cdef Py_ssize_t h = line % p.lines_h, d = line // p.lines_h % p.lines_d, n = line // p.lines_h // p.lines_d
    cdef Axis axis_d = read_axis(p.d + d % p.phases_d * 10), axis_h = read_axis(p.h + h % p.phases_h * 10)
    cdef Py_ssize_t tap_d, tap_h, phase, per_row = p.size_w * p.channels, per_weight = p.kernel_w * p.per_tap
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
    r.sums, r.sums_w, r.unfinished = NULL, 0, False
    r.least, r.most = p.finish.a, p.finish.b
    r.bounded = p.finish.pending and is_clamp(&p.finish)
    for phase in range(p.phases_w):
        r.w = read_axis(p.w + phase * 10)
        r.weight = p.weight + (
            (axis_d.tap_first + tap_d * axis_d.tap_step) * p.kernel_h + axis_h.tap_first + tap_h * axis_h.tap_step
        ) * per_weight + r.w.tap_first * p.per_tap
        r.weight_w = r.w.tap_step * p.per_tap
        r.x_w, r.y_w = p.channels, r.w.out_step * p.channels
        if p.plain:
            depthwise_plain(p, &r, first, end, column, min(column_end, r.w.rows), y + r.w.out_first * p.channels)
        elif r.d * r.h == 0:
            depthwise_outside(p, &r, first, end, column, min(column_end, r.w.rows), y + r.w.out_first * p.channels)
        elif r.w.dilation > 1 and r.w.taps > 1 and r.w.stride == 1 and p.channels >= LANES:
            interleaved_lines(p, &r, first, end, column, column_end, y)
        else:
            depthwise_rows(p, &r, first, end, column, min(column_end, r.w.rows), y + r.w.out_first * p.channels)
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
    residual, activation, int threads, /,
):
    """y[n, p, q, c] = f(bias[c] + sum_{r, s} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, 0, c] + residual[...]).

    Each axis has one record; for the adjoint, one for each phase of its stride. What lies outside x is zero, and an infinite
    weight makes NaN of it; the adjoint of a convolution has nothing there. `residual` and `activation` (f) may be None.
    """
    cdef Depthwise p
    cdef Finish late = finish_of(residual, activation)
    cdef Py_ssize_t task, lines, block, blocks, parts, taps, items
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
    items = p.batch * p.out_d * p.out_h * p.out_w * p.channels
    p.far, p.far_y = is_far(p.x_end - p.x + items), is_far(items)
    p.past = items_past_line(p.x) if p.channels % LANES == 0 and p.channels >= MANY_VECTORS * LANES else 0
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
    by_channels = few_rows(p.batch * p.out_d * p.out_h * p.out_w, threads)
    block = depthwise_block(p.channels)
    if by_channels:  # blocks like those of products before and after it
        block = min(block, round_up(ceil_div(p.channels, 2 * threads), LANES))
    blocks = ceil_div(p.channels, block)
    parts = min(lines, max(p.batch, ceil_div(4 * threads, blocks)))
    memset(taken, 0, sizeof(taken))
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
    free_lines(wide)
