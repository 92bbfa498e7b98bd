# The adjoint of a convolution with few input channels, which would leave most of a vector empty as columns of a product.
#
# Here a column is one weight (r, s, c) of the kernel: each pixel of dy times the weight gives all that it adds to its window,
# and lines of the window are runs of S * C neighbours in dx. Runs of neighbouring windows overlap: to add one after the other in
# memory would wait each time for what was just written there. So each pixel of a line gathers what the runs have for it, and
# only the finished line is added.
#
#   dx[n, p * stride + r - before, (q * stride + s - before, c)] += (dy[n, p, q, :] . weight[r, (s, c), :])


cdef enum:
    SCATTER_PIXELS = 56        # pixels of dy whose products wait to be added
    SCATTER_ITEMS = 1 << 19    # elements of the packed weight, and of the products that wait: what takes more is left to the product


cdef struct Scatter:
    Axis d, h, w    # of the convolution
    const real *dy
    const real *bias
    real *dx
    real *weights   # packed: panels of `columns` = R * S * C for each tap of d and each `step` of the depth
    Py_ssize_t inputs, outputs, columns, panels, step, band, bands
    Py_ssize_t overlap  # windows of a line that a pixel is in, at most


cdef bint scatter_pays(const Scatter *s, Py_ssize_t groups) noexcept nogil:
    """Whether few channels, which lie side by side, leave half of each vector empty."""
    cdef Py_ssize_t columns = s.h.taps * s.w.taps * s.inputs, ld = round_up(columns, TILE_N)
    return (
        groups == 1 and s.w.dilation == 1 and 2 * s.inputs <= LANES and columns > s.inputs
        and s.w.stride <= s.w.taps  # no pixel of a line is in no window
        and s.d.taps * ld * (s.outputs + 1) <= SCATTER_ITEMS
        and (SCATTER_PIXELS + 2 * ceil_div(s.w.taps, s.w.stride)) * ld <= SCATTER_ITEMS
    )


cdef void pack_scatter(const Scatter *s, const real *weight) noexcept nogil:
    cdef Py_ssize_t offsets[DEPTH]
    cdef Py_ssize_t t, k = 0, depth
    for t in range(DEPTH):
        offsets[t] = t
    while k < s.outputs:
        depth = min(s.step, s.outputs - k)
        for t in range(s.d.taps):
            pack_columns(
                weight + t * s.columns * s.outputs + k, s.outputs, offsets, depth, s.columns, scatter_panels(s, t, k),
                panel_items(s.step),
            )
        k += depth


cdef inline Py_ssize_t scatter_sums(const Scatter *s) noexcept nogil:
    """Elements of the products of SCATTER_PIXELS pixels, between zeros for those that would reach from beyond."""
    return own_lines((SCATTER_PIXELS + 2 * (s.overlap - 1)) * s.panels * TILE_N + LANES)


cdef inline real *scatter_panels(const Scatter *s, Py_ssize_t tap, Py_ssize_t k) noexcept nogil:
    return s.weights + (k // s.step * s.d.taps + tap) * s.panels * panel_items(s.step)


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
    """What `rows` neighbouring windows, whose runs are `ld` apart, have for the pixels of a line, from the first of the first.

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
    cdef const real *at[SCATTER_PIXELS]
    cdef Py_ssize_t out[SCATTER_PIXELS]
    cdef real zeros[TILE_N]
    cdef real numbers[LANES]
    cdef Py_ssize_t depth, q = 0, k, i, j, r, h, rows, first, low, high, width
    cdef Left left = left_operand(NULL, &at[0], SCATTER_PIXELS, 1, &depth)
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
            for j in range(s.panels):
                width = panel_width(s.columns - j * TILE_N)
                windows_by_panel(
                    rows, width, &left, 0, scatter_panels(s, tap, k) + j * panel_items(s.step), width,
                    zeros if k == 0 else NULL, sums + j * TILE_N, out,
                )
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
    for i in range(h_first * s.w.size, h_end * s.w.size):
        for c in range(s.inputs):
            dx[i * s.inputs + c] = s.bias[c] if s.bias else 0
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


cdef int run_scatter(Scatter s, const real *weight, Py_ssize_t planes, int threads) noexcept nogil:
    """Compute the adjoint of a convolution on `planes` planes of dx. -1: no memory."""
    cdef Py_ssize_t task, each
    cdef real *scratch
    s.columns = s.h.taps * s.w.taps * s.inputs
    s.panels, s.step = ceil_div(s.columns, TILE_N), depth_step(s.outputs)
    # lines of dy at the border of a band are computed for both: bands are much higher than the kernel
    s.bands = max(min(ceil_div(4 * threads, planes), s.h.size // (4 * s.h.taps * s.h.dilation)), <Py_ssize_t> 1)
    s.band = ceil_div(s.h.size, s.bands)
    s.bands = ceil_div(s.h.size, s.band)
    s.overlap = ceil_div(s.w.taps, s.w.stride)
    each = scatter_sums(&s) + own_lines((SCATTER_PIXELS + s.overlap) * s.w.stride * s.inputs + LANES)
    scratch = new_scratch(each, threads)
    s.weights = new_scratch(
        own_lines(ceil_div(s.outputs, s.step) * s.d.taps * s.panels * panel_items(s.step)), 1
    )
    if scratch != NULL and s.weights != NULL:
        pack_scatter(&s, weight)
        for task in prange(planes * s.bands, schedule="dynamic", num_threads=threads):
            scatter_band(&s, task, scratch + threadid() * each)
    free(s.weights)
    free(scratch)
    return 0 if scratch != NULL and s.weights != NULL else -1
