# The adjoint of a convolution with few input channels, which would leave most of a vector empty as columns of a product.
#
# Here a column is one weight (r, s, c) of the kernel: each pixel of dy times the weight gives all that it adds to its window,
# and lines of the window are runs of S * C neighbors in dx. Runs of neighboring windows overlap: to add one after the other in
# memory would wait each time for what was just written there. So each pixel of a line gathers what the runs have for it, and
# only the finished line is added.
#
#   dx[n, p * stride + r - before, (q * stride + s - before, c)] += (dy[n, p, q, :] . weight[r, (s, c), :])
#
# A convolution with stride 1 and few outputs is the adjoint of one whose taps are in reverse.


cdef enum:
    SCATTER_PIXELS = 56        # pixels of dy whose products wait to be added
    SCATTER_ITEMS = 1 << 19    # elements of the packed weight, and of the products that wait: what takes more is left to the product


cdef struct Scatter:
    Axis d, h, w    # of the convolution
    const real *dy
    const real *bias
    real *dx
    Finish finish
    # the weight (T, R, S, inputs, outputs); `reversed`: from its last tap on, (T, R, S, outputs, inputs) at strides b_d, b_h, b_w, b_k
    const real *b
    Py_ssize_t b_d, b_h, b_w, b_k
    bint reversed
    const real *packed  # panels of `columns` = R * S * C for each tap of d and each `step` of the depth
    Py_ssize_t inputs, outputs, columns, panels, step, band, bands
    Py_ssize_t overlap  # windows of a line that a pixel is in, at most


cdef inline Axis reversed_axis(const Axis *axis) noexcept nogil:
    """The axis of the convolution whose adjoint is one of stride 1."""
    cdef Axis other = axis[0]
    other.size, other.rows, other.origin = axis.rows, axis.size, -axis.origin - (axis.taps - 1) * axis.dilation
    return other


cdef Scatter scatter_of(const Product *p) noexcept nogil:
    """A forward convolution with stride 1 as an adjoint."""
    cdef Scatter s
    s.d, s.h, s.w = reversed_axis(&p.d), reversed_axis(&p.h), reversed_axis(&p.w)
    s.dy, s.dx, s.bias, s.finish, s.packed = p.a, p.y, p.bias, p.finish, p.packed
    s.inputs, s.outputs = p.cols, p.depth
    s.b = p.b + (p.d.taps - 1) * p.b_d + (p.h.taps - 1) * p.b_h + (p.w.taps - 1) * p.b_w
    s.b_d, s.b_h, s.b_w, s.b_k, s.reversed = -p.b_d, -p.b_h, -p.b_w, p.b_k, True
    lay_scatter(&s)
    return s


cdef inline void lay_scatter(Scatter *s) noexcept nogil:
    s.columns = s.h.taps * s.w.taps * s.inputs
    s.panels, s.step = ceil_div(s.columns, TILE_N), depth_step(s.outputs)
    s.overlap = ceil_div(s.w.taps, s.w.stride)


cdef bint scatters_forward(const Product *p) noexcept nogil:
    """Whether a product is a forward convolution that is done sooner so: less is multiplied than added, three times as dear."""
    cdef Scatter s
    if not (
        p.b_col == 1 and p.cols == p.y_ld and p.depth == p.a_ld and p.depth >= LANES
        and p.d.stride == p.h.stride == p.w.stride == 1 and p.h.dilation > 0
    ):
        return False
    s = scatter_of(p)
    return scatter_pays(&s, 1) and (
        ceil_div(s.columns, LANES) * p.depth + 3 * p.h.taps * (p.w.taps + 2) < p.h.taps * p.w.taps * p.depth
    )


cdef bint finite_weight(const Product *p) noexcept nogil:
    """Whether the weight of a forward convolution is finite: scattered, it would not meet the padding."""
    return finite_items(p.b, p.d.taps * p.b_d)


cdef bint scatter_pays(const Scatter *s, Py_ssize_t groups) noexcept nogil:
    """Whether few channels, which lie side by side, would leave much of each vector empty."""
    cdef Py_ssize_t columns = s.h.taps * s.w.taps * s.inputs, ld = round_up(columns, TILE_N)
    return (
        groups == 1 and s.w.dilation == 1 and columns > s.inputs
        and s.w.stride <= s.w.taps  # no pixel of a line is in no window
        and s.d.taps * ld * (s.outputs + 1) <= SCATTER_ITEMS
        and (SCATTER_PIXELS + 2 * ceil_div(s.w.taps, s.w.stride)) * ld <= SCATTER_ITEMS
        and (takes_less_scattered(s) if LOW_TILE else 2 * s.inputs <= LANES)
    )


cdef inline bint takes_less_scattered(const Scatter *s) noexcept nogil:
    """By the multiply-adds of vectors. To gather the windows of a vector of a line takes as long as 8 for each, and as 16 more; a product
    as narrow as its channels takes more for windows that are soon read, and twice as long in phases of a stride.

    How many lines there are has no say, or a band of an image would be computed otherwise than all of it; they are taken for as many
    as a line has pixels.
    """
    cdef Py_ssize_t inputs = ceil_div(s.inputs, LANES), windows = s.d.taps * s.h.taps, strides = s.d.stride * s.h.stride * s.w.stride
    cdef Py_ssize_t gathered = windows * (s.overlap + 2) * ceil_div(s.w.stride * s.inputs, LANES)
    cdef Py_ssize_t scattered = s.d.taps * ceil_div(s.columns, LANES) * s.outputs + 8 * gathered
    cdef Py_ssize_t product = windows * s.w.taps * inputs * (2 * s.outputs if strides > 1 else s.outputs + 6)
    cdef double line = pixels_scattered(&s.w)
    return inputs <= 2 and 1.25 * scattered * pixels_scattered(&s.d) * (line * line if s.h.taps > 1 else line) < product / <double> strides


cdef inline double pixels_scattered(const Axis *axis) noexcept nogil:
    """Pixels that are scattered for each that is written."""
    return axis.rows / <double> max(axis.size, <Py_ssize_t> 1)


cdef inline Py_ssize_t scatter_items(const Scatter *s) noexcept nogil:
    """Elements of the packed weight."""
    return ceil_div(s.outputs, s.step) * s.d.taps * s.panels * panel_items(s.step)


cdef inline Py_ssize_t scatter_panels(const Scatter *s, Py_ssize_t tap, Py_ssize_t k) noexcept nogil:
    """Where in the packed weight the panels of a tap of d and of the outputs from k on begin."""
    return (k // s.step * s.d.taps + tap) * s.panels * panel_items(s.step)


cdef void pack_scatter(const Scatter *s, real *packed) noexcept nogil:
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t t, k = 0, depth
    for t in range(DEPTH):
        offsets[t] = t
    while k < s.outputs:
        depth = min(s.step, s.outputs - k)
        for t in range(s.d.taps):
            if s.reversed:
                pack_reversed(s, s.b + t * s.b_d + k * s.b_k, depth, packed + scatter_panels(s, t, k))
            else:
                pack_columns(
                    s.b + t * s.b_d + k, s.outputs, offsets, depth, s.columns, packed + scatter_panels(s, t, k), panel_items(s.step)
                )
        k += depth


cdef void pack_reversed(const Scatter *s, const real *b, Py_ssize_t depth, real *panels) noexcept nogil:
    """The panels of one tap of d, from a weight whose taps are in reverse and whose inputs are neighbors."""
    cdef Py_ssize_t column = 0, r, w, c, k, i, width, run
    cdef const real *source
    cdef real *to
    zero(panels, s.panels * panel_items(s.step))
    for r in range(s.h.taps):
        for w in range(s.w.taps):
            source = b + r * s.b_h + w * s.b_w
            c = 0
            while c < s.inputs:  # those of one panel; they and the rows are neighbors in memory
                width, run = panel_width(s.columns - column // TILE_N * TILE_N), min(s.inputs - c, TILE_N - column % TILE_N)
                to = panels + column // TILE_N * panel_items(s.step) + column % TILE_N
                for k in range(depth):
                    for i in range(run):
                        to[k * width + i] = source[k * s.b_k + c + i]
                c += run
                column += run


cdef inline Py_ssize_t scatter_sums(const Scatter *s) noexcept nogil:
    """Elements of the products of SCATTER_PIXELS pixels, between zeros for those that would reach from beyond."""
    return own_lines((SCATTER_PIXELS + 2 * (s.overlap - 1)) * s.panels * TILE_N + LANES)


cdef inline Py_ssize_t scatter_gathered(const Scatter *s) noexcept nogil:
    """Elements of what a line gathers."""
    return own_lines((SCATTER_PIXELS + s.overlap) * s.w.stride * s.inputs + LANES)


cdef inline void add_run(real *to, const real *source, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (to + i))[0] = (<vec *> (to + i))[0] + (<const vec *> (source + i))[0]
        i += LANES
    while i + PART_LANES <= items:
        (<part *> (to + i))[0] = (<part *> (to + i))[0] + (<const part *> (source + i))[0]
        i += PART_LANES
    while i < items:
        to[i] += source[i]
        i += 1


cdef inline void gather_runs(
    const Scatter *s, const real *sums, Py_ssize_t ld, Py_ssize_t rows, const real *numbers, real *line
) noexcept nogil:
    """What `rows` neighboring windows, whose runs are `ld` apart, have for the pixels of a line, from the first of the first.

    `stride` pixels at a time, to which the same windows reach; before the first run and after the last are zeros, so that they are
    as many everywhere. Vectors reach beyond the pixels, and are written over by what follows. `numbers`: 0, 1, ... LANES - 1.
    """
    cdef Py_ssize_t unit = s.w.stride * s.inputs, before = (s.overlap - 1) * unit, i, k, v
    cdef Py_ssize_t rest = s.w.taps * s.inputs - before  # of a run, for the last pixels it reaches
    cdef const real *at
    cdef vec sum
    for i in range(rows + s.overlap - 1):
        v = 0
        while v < unit:
            at = sums + (i - s.overlap + 1) * ld + before + v
            sum = where(above(broadcast(<real> (rest - v)), (<const vec *> numbers)[0]), (<const vec *> at)[0])
            for k in range(1, s.overlap):
                at += ld - unit
                sum = sum + (<const vec *> at)[0]
            (<vec *> (line + i * unit + v))[0] = sum
            v += LANES


cdef void scatter_line(
    const Scatter *s, const real *dy, Py_ssize_t tap, Py_ssize_t p, real *plane, Py_ssize_t h_first, Py_ssize_t h_end, real *sums
) noexcept nogil:
    """Add what one line of dy (line p of its plane) gives to lines h_first .. h_end - 1 of a plane of dx.

    `sums` begins with zeros, as many as the runs that reach the first pixel without being there.
    """
    cdef Py_ssize_t ld = s.panels * TILE_N, run = s.w.taps * s.inputs, line = s.w.size * s.inputs
    cdef real *gathered = sums + scatter_sums(s)
    cdef real *copies = gathered + scatter_gathered(s)
    cdef const real *panel
    cdef const real *start
    cdef const real *at[SCATTER_PIXELS]
    cdef Py_ssize_t out[SCATTER_PIXELS]
    cdef real zeros[TILE_N]
    cdef real numbers[LANES]
    cdef Py_ssize_t depth, q = 0, k, i, j, r, h, rows, first, low, high, width
    cdef Left left = left_operand(copies, &at[0], SCATTER_PIXELS, 1, &depth)
    sums += (s.overlap - 1) * ld
    zero(zeros, TILE_N)
    for i in range(LANES):
        numbers[i] = <real> i
    while q < s.w.rows:
        rows = min(s.w.rows - q, <Py_ssize_t> SCATTER_PIXELS)
        for i in range(rows):
            out[i] = i * ld
        k = 0
        while k < s.outputs:
            depth = min(s.step, s.outputs - k)
            for i in range(rows):
                at[i] = dy + (q + i) * s.outputs + k
            if LOW_TILE:
                copy_windows(&left, rows, copies)
            for j in range(s.panels):
                width = panel_width(s.columns - j * TILE_N)
                panel = s.packed + scatter_panels(s, tap, k) + j * panel_items(s.step)
                start = zeros if k == 0 else NULL
                if LOW_TILE:
                    packed_by_panel(rows, width, &left, 0, panel, depth, start, NULL, sums + j * TILE_N, out)
                else:
                    windows_by_panel(rows, width, &left, 0, panel, width, start, NULL, sums + j * TILE_N, out)
            k += depth
        zero(sums + rows * ld, (s.overlap - 1) * ld + LANES)
        for r in range(s.h.taps):
            h = p * s.h.stride + s.h.origin + r * s.h.dilation
            if h_first <= h < h_end:
                gather_runs(s, sums + r * run, ld, rows, numbers, gathered)
                first = (q * s.w.stride + s.w.origin) * s.inputs
                low = max(-first, <Py_ssize_t> 0)
                high = min(((rows - 1) * s.w.stride + s.w.taps) * s.inputs, line - first)
                add_run(plane + h * line + first + low, gathered + low, high - low)
        q += rows


cdef void scatter_band(const Scatter *s, Py_ssize_t task, real *sums) noexcept nogil:
    """Compute some lines of one plane of dx: taps and lines of dy in order, whatever the band."""
    cdef Py_ssize_t plane = task // s.bands, n = plane // s.d.size, h_first = task % s.bands * s.band
    cdef Py_ssize_t h_end = min(h_first + s.band, s.h.size), t, z, p, p_first, p_end, i, c
    cdef Py_ssize_t reach = (s.h.taps - 1) * s.h.dilation
    cdef real *dx = s.dx + plane * s.h.size * s.w.size * s.inputs
    if s.bias == NULL:
        memset(dx + h_first * s.w.size * s.inputs, 0, (h_end - h_first) * s.w.size * s.inputs * sizeof(real))
    for i in range(h_first * s.w.size, h_end * s.w.size if s.bias else 0):
        for c in range(s.inputs):
            dx[i * s.inputs + c] = s.bias[c]
    zero(sums, (s.overlap - 1) * s.panels * TILE_N)
    p_first = ceil_div(max(h_first - s.h.origin - reach, <Py_ssize_t> 0), s.h.stride)
    p_end = min((h_end - 1 - s.h.origin) // s.h.stride + 1, s.h.rows) if h_end > s.h.origin else 0
    for t in range(s.d.taps):
        z = plane % s.d.size - s.d.origin - t * s.d.dilation
        if z >= 0 and z % s.d.stride == 0 and z // s.d.stride < s.d.rows:
            for p in range(p_first, p_end):
                scatter_line(
                    s, s.dy + (((n * s.d.rows + z // s.d.stride) * s.h.rows + p) * s.w.rows) * s.outputs, t, p, dx,
                    h_first, h_end, sums,
                )
    if s.finish.pending:
        finish_pixels(
            &s.finish, dx + h_first * s.w.size * s.inputs, dx + h_first * s.w.size * s.inputs - s.dx, (h_end - h_first) * s.w.size,
            s.inputs,
        )


cdef int run_scatter(Scatter s, Py_ssize_t batch, int threads) noexcept nogil:
    """Compute the adjoint of a convolution of so many images. -1: no memory."""
    cdef Py_ssize_t planes = batch * s.d.size, each, task
    cdef real *scratch
    cdef real *packed = NULL
    # lines of dy at the border of a band are computed for both: so few bands that each thread has as many planes
    s.bands = 1 if planes >= 4 * threads else threads // common(planes, threads)
    s.bands = max(min(s.bands, s.h.size // (s.h.taps * s.h.dilation)), <Py_ssize_t> 1)
    s.band = ceil_div(s.h.size, s.bands)
    s.bands = ceil_div(s.h.size, s.band)
    each = scatter_sums(&s) + scatter_gathered(&s) + (SCATTER_PIXELS * DEPTH_LD if LOW_TILE else 0)
    scratch = new_scratch(each, threads)
    if s.packed == NULL:
        packed = new_scratch(own_lines(scatter_items(&s)), 1)
        if packed != NULL:
            pack_scatter(&s, packed)
        s.packed = packed
    if scratch != NULL and s.packed != NULL:
        for task in prange(planes * s.bands, schedule="dynamic", num_threads=threads):
            scatter_band(&s, task, scratch + threadid() * each)
    free_lines(packed)
    free_lines(scratch)
    return 0 if scratch != NULL and s.packed != NULL else -1
