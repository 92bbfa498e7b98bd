# Blocks of a mobile network (Sandler et al. 2018, "MobileNetV2: inverted residuals and linear bottlenecks"): a convolution to many
# channels, a depthwise one, a 1x1 one back to few. Nobody else reads what lies between them, which is far more than what goes in
# and out; so a thread takes some lines of the depthwise output at a time and makes what they need in buffers that stay in the
# cache of its core. Instead of the depthwise convolution there may be factors for each channel, the gates of squeeze and excitation:
#
#   x  ->  lines of the expansion  ->  lines of the depthwise  ->  lines of y
#          those that the next windows need too go to the front
#
# Threads take parts of an image, and make the lines where two parts meet twice. What is computed, and in which order, is what the
# kernels do one after the other, so that the results are the same bits.


cdef enum:
    NEAR_LINES = 480 << 10   # bytes of both buffers, about: half of a second-level cache


cdef struct Block:
    Product expansion
    Depthwise depthwise   # its x and y are filled in for each band
    const real *gate      # (N, C), instead of it; or NULL
    Product projection
    bint expands, projects
    Py_ssize_t band                      # lines of the depthwise output at a time
    Py_ssize_t parts                     # of an image
    Py_ssize_t expanded, between         # elements of the buffers
    Py_ssize_t scratch                   # of the products


cdef Depthwise one_phase(const int64_t *axes, Py_ssize_t channels) noexcept nogil:
    """The depthwise convolution of one image of whole vectors with finite weights, but for the arrays."""
    cdef Depthwise p
    p.d, p.h, p.w = axes, axes + 10, axes + 20
    p.phases_d = p.phases_h = p.phases_w = p.lines_d = p.batch = 1
    p.size_d, p.size_h, p.size_w = p.d[0], p.h[0], p.w[0]
    p.out_d, p.out_h, p.out_w = p.d[1], p.h[1], p.w[1]
    p.lines_h, p.columns = p.out_h, p.out_w
    p.kernel_h, p.kernel_w = p.h[2], p.w[2]
    p.channels = p.per_tap = channels
    p.bias = NULL
    p.x_end = NULL
    p.plain = p.padded = p.far = p.far_y = False
    p.past = 0
    return p


cdef Product packed_product(object taken, Py_ssize_t batch) except *:
    """The product of a convolution that is given as (weight, packed, bias, axes, channels, outputs)."""
    cdef Product p
    weight, packed, bias, axes, channels, outputs = taken
    p = forward_product(records_of(axes), batch, channels, outputs, 1)
    if bias is not None:
        p.bias = read_from(bias)
    if packed is not None:
        array, weight = packed.use()
        p.packed = read_from(array)
        p.packed_group = packed_size(&p, 1, 0, 0)
    if weight is not None:
        p.b = read_from(weight)
    return p


cdef inline Py_ssize_t most_scratch(const Product *p) noexcept nogil:
    """Of the product of any of its lines."""
    if p.packed and over_lines(p):
        return some_lines_scratch(p, p.h.rows)
    return product_scratch(p, Grid(ROWS, 1, min(round_up(p.cols, TILE_N), <Py_ssize_t> COLUMNS), 1))


cdef void cut_block(Block *b, Py_ssize_t batch, int threads) noexcept nogil:
    """Into parts for the threads, and bands of lines that the buffers hold."""
    cdef const Depthwise *p = &b.depthwise
    cdef Axis h = read_axis(p.h)
    cdef Py_ssize_t line = p.size_w * p.channels, made = p.out_w * p.channels if b.projects else 0
    cdef Py_ssize_t near = NEAR_LINES // <Py_ssize_t> sizeof(real), lines, bands
    b.parts = min(ceil_div(threads, batch), p.out_h)
    lines = ceil_div(p.out_h, b.parts)
    b.band = lines
    if b.expands:
        b.band = (near - (seen(&h, 1) - h.stride) * line) // (h.stride * line + made)
    elif b.projects:
        b.band = near // (4 * made)
    bands = ceil_div(lines, max(b.band, <Py_ssize_t> 1))
    b.band = ceil_div(lines, bands)
    b.expanded = own_lines(min(seen(&h, b.band), h.size) * line) if b.expands else 0
    b.between = own_lines(b.band * made)
    b.scratch = 0
    if b.expands:
        b.scratch = most_scratch(&b.expansion)
    if b.projects:
        b.scratch = max(b.scratch, most_scratch(&b.projection))


cdef void product_lines(
    const Product *p, Py_ssize_t image, Py_ssize_t first, Py_ssize_t end, real *y, real *scratch
) noexcept nogil:
    """Lines first .. end - 1 of the product for an image, to y."""
    cdef Product q = p[0]
    cdef Grid g
    cdef Py_ssize_t block, line = image * p.h.rows + first
    if p.packed and over_lines(p):
        q.y = y - line * p.w.rows * p.y_ld
        some_lines(&q, line, end - first, scratch)
        return
    q.batch = 1
    q.a += image * q.d.size * q.h.size * q.w.size * q.a_ld
    if whole_axis(&p.h):
        q.a += first * q.w.size * q.a_ld
        q.h.size = end - first
    else:
        q.h.origin += first * q.h.stride
    q.h.rows = q.out_h = end - first
    q.y = y
    join_lines(&q)
    q.in_place = product_in_place(&q)
    g = product_grid(&q, 1, 1)
    for block in range(g.row_blocks * g.col_blocks):
        product_block(&q, g, block, scratch)


cdef void depthwise_lines(const Depthwise *p, Py_ssize_t first, Py_ssize_t end) noexcept nogil:
    cdef Py_ssize_t block = depthwise_block(p.channels), channel = 0
    while channel < p.channels:
        depthwise_part(p, first, end, channel, min(channel + block, p.channels))
        channel += block


cdef void block_part(const Block *b, Py_ssize_t image, Py_ssize_t first, Py_ssize_t end, real *scratch) noexcept nogil:
    """Lines first .. end - 1 of an image."""
    cdef Depthwise p = b.depthwise
    cdef Product last = b.projection
    cdef Axis h = read_axis(p.h)
    cdef Py_ssize_t line = p.size_w * p.channels, made = p.out_w * p.channels, y_line = p.out_w * b.projection.y_ld
    cdef Py_ssize_t low = 0, high = 0, before, start, stop, then  # lines low .. high - 1 of the expansion are in its buffer
    cdef real *expanded = scratch + b.scratch
    cdef real *between = expanded + b.expanded
    if not b.expands:
        p.x += image * p.size_h * line
    if not b.projects:
        p.y += image * p.out_h * made
        if p.finish.residual:
            p.finish.residual += image * p.out_h * made
    while first < end:
        then = min(first + b.band, end)
        if b.expands:
            before = low
            low = min(max(first * h.stride + h.origin, <Py_ssize_t> 0), h.size)
            stop = max(min((first * h.stride + h.origin) + seen(&h, then - first), h.size), low)
            start = low
            if low < high:
                memmove(expanded, expanded + (low - before) * line, (high - low) * line * sizeof(real))
                start = high
            high = max(stop, start)
            if start < high:
                product_lines(&b.expansion, image, start, high, expanded + (start - low) * line, scratch)
            p.x = expanded - low * line
        if b.projects:
            p.y = between - first * made
        if b.gate:
            scale_part(
                p.x + first * line, p.channels, b.gate + image * p.channels, NULL, -INFINITY, between,
                (then - first) * p.out_w, p.channels,
            )
        else:
            depthwise_lines(&p, first, then)
        if b.projects:
            last.a, last.h.size, last.h.rows = between, then - first, then - first
            before = (image * p.out_h + first) * y_line
            if b.projection.finish.residual:
                last.finish.residual = b.projection.finish.residual + before
            product_lines(&last, 0, 0, then - first, b.projection.y + before, scratch)
        first = then


cdef void block_task(const Block *b, Py_ssize_t image, Py_ssize_t part, real *scratch) noexcept nogil:
    block_part(b, image, part * b.depthwise.out_h // b.parts, (part + 1) * b.depthwise.out_h // b.parts, scratch)


def mobile_block(
    x, expansion, expanded, depthwise, gate, between, projection, residual, activation, y, Py_ssize_t batch, int threads, /,
):
    """y = f(projection(g(depthwise(h(expansion(x))))) + residual); the expansion or the projection may be None, and is left out.

    Or y = f(projection(x * gate) + residual), where the depthwise convolution and what is before it is None: a row of `gate` for
    each image.

    A convolution is (weight, packed, bias, axes, channels, outputs), `packed` as `conv_frozen` takes it, in one group and by the
    direct product; the projection multiplies each pixel by itself. `depthwise` is (weight, bias, axes, channels), of whole
    vectors, its weight finite; `expanded` (h), `between` (g) and `activation` (f) are activations or None. Images have two axes.
    Scratch: NEAR_LINES of lines, or those of one window where they are more.
    """
    cdef Block b
    cdef Py_ssize_t task, tasks, each
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef real *scratch
    if gate is None:
        weight, bias, axes, channels = depthwise
        b.depthwise = one_phase(records_of(axes), channels)
        b.depthwise.weight, b.gate = read_from(weight), NULL
        if bias is not None:
            b.depthwise.bias = read_from(bias)
    else:  # the pixels are those of the projection
        b.depthwise = one_phase(records_of(projection[3]), projection[4])
        b.gate = read_from(gate)
    b.expands, b.projects = expansion is not None, projection is not None
    b.depthwise.finish = finish_of(None, between) if b.projects else finish_of(residual, activation)
    b.depthwise.x = read_from(x)
    b.depthwise.y = write_to(y)
    b.expansion = b.projection = bare_product()
    if b.expands:
        b.expansion = packed_product(expansion, batch)
        b.expansion.a, b.expansion.finish = b.depthwise.x, finish_of(None, expanded)
    if b.projects:
        b.projection = packed_product(projection, batch)
        b.projection.y, b.projection.finish = b.depthwise.y, finish_of(residual, activation)
    cut_block(&b, batch, threads)
    each = own_lines(b.scratch) + b.expanded + b.between
    tasks = batch * b.parts
    threads = min(<Py_ssize_t> threads, tasks)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        raise MemoryError("no memory for the lines of a block of convolutions")
    memset(taken, 0, sizeof(taken))
    with nogil, parallel(num_threads=threads):
        task = take_task(taken, tasks, threads, threadid())
        while task >= 0:
            block_task(&b, task // b.parts, task % b.parts, scratch + threadid() * each)
            task = take_task(taken, tasks, threads, threadid())
    free_lines(scratch)
