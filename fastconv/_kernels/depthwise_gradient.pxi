# The weight gradient of a depthwise convolution: the tiles of depthwise_tile.pxi, with the roles of outputs and taps exchanged.
#
# x (N, D, H, W, C), dy (N, D', H', W', C). A task is some lines of the outputs and a block of channels; it sums into scratch,
# (vectors, T, R, S, LANES), so that a last vector that overlaps the one before has sums of its own.


cdef struct DepthwiseGradient:
    Axis d, h, w
    const real *x
    const real *x_end
    const real *dy
    const real *dy_end
    Py_ssize_t channels, taps


ctypedef void (*DepthwiseGradientKernel)(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil


cdef inline void depthwise_gradient_tile(
    const int cols, const int taps, const int stride, const Rows *r,
    const real *x, const real *dy, real *sums, Py_ssize_t channels, Py_ssize_t low, Py_ssize_t high,
) noexcept nogil:
    """sums[row of the kernel, t] += x * dy over `cols` outputs: their dy and a row of the sums are in registers."""
    cdef vec grad[DEPTHWISE_COLS]
    cdef vec total[DEPTHWISE_TAPS]
    cdef Py_ssize_t i, k, t, place, in_plane = r.h
    for i in range(cols):
        grad[i] = held(dy + i * channels)
    for k in range(r.d * r.h):
        if taps:
            for t in range(taps):
                total[t] = held(sums + t * LANES)
            slide(True, cols, taps, stride, x, grad, total, channels, low, high)
            for t in range(taps):
                (<vec *> (sums + t * LANES))[0] = total[t]
        else:
            for t in range(r.w.taps):
                total[0] = held(sums + t * LANES)
                for i in range(cols):
                    place = i * r.w.stride + t * r.w.dilation
                    total[0] = total[0] + grad[i] * held(or_nothing(x + place * channels, place, low, high - low))
                (<vec *> (sums + t * LANES))[0] = total[0]
        x += r.x_h
        sums += r.weight_h
        in_plane -= 1
        if in_plane == 0:
            x += r.x_d - r.h * r.x_h
            sums += r.weight_d - r.h * r.weight_h
            in_plane = r.h


cdef inline void depthwise_gradient_vectors(
    const int cols, const int taps, const int stride, const DepthwiseGradient *p, const Rows *r,
    Py_ssize_t first, Py_ssize_t end, Py_ssize_t column, const real *dy, real *sums,
) noexcept nogil:
    """A tile for each vector of channels first .. end - 1; each has sums of its own."""
    cdef Py_ssize_t c = first, start = column * r.w.stride + r.w.origin, low = max(-start, <Py_ssize_t> 0)
    cdef Py_ssize_t high = max(r.w.size - start, low)
    cdef const real *x = r.x + start * p.channels
    cdef Py_ssize_t i
    dy += column * p.channels
    if p.channels < LANES and (
        p.dy_end - dy < (cols - 1) * p.channels + LANES or too_near(cols, r, x, p.channels, p.x_end)
    ):
        depthwise_gradient_plain(p, r, column, column + cols, dy - column * p.channels, sums)
        return
    while c < end:
        c = max(min(c, p.channels - LANES), <Py_ssize_t> 0)
        if r.ahead:
            fetch_ahead(cols * max(stride, 1), True, r, x + c, p.channels)
            for i in range(cols):
                fetch(dy + c + (r.w.rows + i) * p.channels)
        depthwise_gradient_tile(cols, taps, stride, r, x + c, dy + c, sums, p.channels, low, high)
        sums += p.taps * LANES
        c += LANES


cdef inline void depthwise_gradient_columns(
    const int taps, const int stride, const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    """A line of outputs in tiles that do not overlap: 7 columns are a width of many networks, and twice 7 another."""
    cdef Py_ssize_t column = 0, rest
    while column < r.w.rows:
        rest = r.w.rows - column
        if rest == DEPTHWISE_COLS - 1 or rest == 2 * (DEPTHWISE_COLS - 1):
            depthwise_gradient_vectors(DEPTHWISE_COLS - 1, taps, stride, p, r, first, end, column, dy, sums)
            column += DEPTHWISE_COLS - 1
        elif rest >= DEPTHWISE_COLS:
            depthwise_gradient_vectors(DEPTHWISE_COLS, taps, stride, p, r, first, end, column, dy, sums)
            column += DEPTHWISE_COLS
        elif rest >= DEPTHWISE_COLS // 2:
            depthwise_gradient_vectors(DEPTHWISE_COLS // 2, taps, stride, p, r, first, end, column, dy, sums)
            column += DEPTHWISE_COLS // 2
        else:
            depthwise_gradient_vectors(1, taps, stride, p, r, first, end, column, dy, sums)
            column += 1


cdef whole depthwise_gradient_3_1(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(3, 1, p, r, first, end, dy, sums)


cdef whole depthwise_gradient_3_2(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(3, 2, p, r, first, end, dy, sums)


cdef whole depthwise_gradient_5_1(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(5, 1, p, r, first, end, dy, sums)


cdef whole depthwise_gradient_7_1(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(7, 1, p, r, first, end, dy, sums)


cdef whole depthwise_gradient_5_2(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(5, 2, p, r, first, end, dy, sums)


cdef whole depthwise_gradient_any(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    depthwise_gradient_columns(0, 0, p, r, first, end, dy, sums)


cdef apart depthwise_gradient_plain(
    const DepthwiseGradient *p, const Rows *r, Py_ssize_t column, Py_ssize_t column_end, const real *dy, real *sums
) noexcept nogil:
    """Product after product, at the end of arrays of few channels."""
    cdef Py_ssize_t k, t, c, i, place
    cdef const real *x
    cdef const real *at
    cdef real *to
    for k in range(r.d * r.h):
        x = r.x + k // r.h * r.x_d + k % r.h * r.x_h
        for t in range(r.w.taps):
            to = sums + k // r.h * r.weight_d + k % r.h * r.weight_h + t * LANES
            for i in range(column, column_end):
                place = i * r.w.stride + r.w.origin + t * r.w.dilation
                at = or_nothing(x + place * p.channels, place, 0, r.w.size)
                for c in range(p.channels):
                    to[c] = to[c] + at[c] * dy[i * p.channels + c]


cdef DepthwiseGradientKernel depthwise_gradient_kernel(const DepthwiseGradient *p) noexcept nogil:
    if not fits_tiles(&p.w):
        return depthwise_gradient_any
    if p.w.stride == 1:
        if p.w.taps == 3:
            return depthwise_gradient_3_1
        if p.w.taps == 5:
            return depthwise_gradient_5_1
        if SELDOM_USED and p.w.taps == 7:
            return depthwise_gradient_7_1
    if p.w.stride == 2:
        if p.w.taps == 3:
            return depthwise_gradient_3_2
        if p.w.taps == 5:
            return depthwise_gradient_5_2
    return depthwise_gradient_any


cdef void depthwise_gradient_line(
    const DepthwiseGradient *p, DepthwiseGradientKernel kernel, Py_ssize_t line, Py_ssize_t first, Py_ssize_t end, real *sums
) noexcept nogil:
    """Add the products of output line (n, d, h)."""
    cdef Py_ssize_t h = line % p.h.rows, d = line // p.h.rows % p.d.rows, n = line // p.h.rows // p.d.rows
    cdef Py_ssize_t tap_d, tap_h, per_row = p.w.size * p.channels
    cdef const real *dy = p.dy + line * p.w.rows * p.channels
    cdef Rows r
    r.w = p.w
    r.d, r.h = taps_inside(&p.d, d, &tap_d), taps_inside(&p.h, h, &tap_h)
    r.x_d, r.x_h = p.d.dilation * p.h.size * per_row, p.h.dilation * per_row
    r.ahead = min(p.h.stride, p.h.taps) if is_far((p.x_end - p.x) + (p.dy_end - p.dy)) else 0
    r.weight_h = p.w.taps * LANES
    r.weight_d = p.h.taps * r.weight_h
    r.x = p.x + (
        (n * p.d.size + d * p.d.stride + p.d.origin + tap_d * p.d.dilation) * p.h.size
        + h * p.h.stride + p.h.origin + tap_h * p.h.dilation
    ) * per_row
    kernel(p, &r, first, end, dy, sums + tap_d * r.weight_d + tap_h * r.weight_h)
    if r.d < p.d.taps or r.h < p.h.taps:
        add_padding_gradient(p, d, h, first, end, dy, sums)


cdef void add_padding_gradient(
    const DepthwiseGradient *p, Py_ssize_t d, Py_ssize_t h, Py_ssize_t first, Py_ssize_t end, const real *dy, real *sums
) noexcept nogil:
    """Zeros times dy for the rows of taps outside the image: nothing, unless a dy is not finite."""
    cdef Py_ssize_t c = first, i, td, th, tw
    cdef real *to
    cdef vec zeros
    while c < end:
        if p.channels >= LANES:
            c = min(c, p.channels - LANES)
        zeros = broadcast(0)
        for i in range(p.w.rows):
            zeros = zeros + load(dy + i * p.channels + c, dy + i * p.channels + p.channels) * <real> 0
        for td in range(p.d.taps):
            for th in range(p.h.taps):
                if not (is_inside(&p.d, d, td) and is_inside(&p.h, h, th)):
                    to = sums + (td * p.h.taps + th) * p.w.taps * LANES
                    for tw in range(p.w.taps):
                        (<vec *> (to + tw * LANES))[0] = (<vec *> (to + tw * LANES))[0] + zeros
        sums += p.taps * LANES
        c += LANES


cdef void depthwise_gradient_part(
    const DepthwiseGradient *p, DepthwiseGradientKernel kernel, Py_ssize_t line, Py_ssize_t line_end, Py_ssize_t first, Py_ssize_t end,
    real *sums, real *dweight,
) noexcept nogil:
    """The sums over some lines and channels, each vector of channels apart: (vectors, taps, LANES); then dweight (taps, C)."""
    cdef Py_ssize_t t, i, c = first
    zero(sums, ceil_div(end - first, LANES) * p.taps * LANES)
    while line < line_end:
        depthwise_gradient_line(p, kernel, line, first, end, sums)
        line += 1
    while c < end:
        if p.channels >= LANES:
            c = min(c, p.channels - LANES)
        for t in range(p.taps):
            for i in range(min(p.channels, <Py_ssize_t> LANES)):
                dweight[t * p.channels + c + i] = sums[t * LANES + i]
        sums += p.taps * LANES
        c += LANES


def depthwise_backward_weight(
    x, dy, dweight, axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t parts, int threads, /,
):
    """dweight[r, s, 0, c] = sum x[n, p * stride + r * dilation - before, ..., c] * dy[n, p, q, c].

    The lines (n, p) are cut into so many even parts, whose sums are added in order. Scratch: those sums, and for each thread
    those of one block of channels.
    """
    cdef DepthwiseGradient p
    cdef Py_ssize_t task, block, blocks, lines, each, items
    cdef real *scratch
    cdef real *to = write_to(dweight)
    cdef real *partial = to
    cdef DepthwiseGradientKernel kernel
    cdef const int64_t *record = records_of(axes)
    p.d, p.h, p.w = read_axis(record), read_axis(record + 10), read_axis(record + 20)
    p.x, p.dy, p.channels = read_from(x), read_from(dy), channels
    p.x_end = p.x + batch * p.d.size * p.h.size * p.w.size * channels
    p.dy_end = p.dy + batch * p.d.rows * p.h.rows * p.w.rows * channels
    p.taps = p.d.taps * p.h.taps * p.w.taps
    items = p.taps * channels
    lines = batch * p.d.rows * p.h.rows
    block = min(depthwise_block(p.channels), max(round_up(GRADIENT_SUMS // p.taps, LANES), <Py_ssize_t> LANES))
    blocks = ceil_div(p.channels, block)
    each = own_lines(round_up(block, LANES) * p.taps)
    kernel = depthwise_gradient_kernel(&p)
    with nogil:
        scratch = new_scratch(each, threads)
        if parts > 1:
            partial = new_scratch(own_lines(parts * items), 1)
        if scratch != NULL and partial != NULL:
            for task in prange(parts * blocks, schedule="dynamic", num_threads=threads):
                depthwise_gradient_part(
                    &p, kernel, task // blocks * lines // parts, (task // blocks + 1) * lines // parts,
                    task % blocks * block, min((task % blocks + 1) * block, p.channels),
                    scratch + threadid() * each, partial + task // blocks * items,
                )
            if partial != to:
                add_parts(partial, parts, items, to, threads)
        free_lines(scratch)
        if partial != to:
            free_lines(partial)
    if scratch == NULL or partial == NULL:
        raise MemoryError("no memory for the scratch of a depthwise weight gradient")
