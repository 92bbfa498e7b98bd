# What an inference step does to its output while it is in the cache: the sum with a shortcut, and the activation.


cdef enum:
    NO_ACTIVATION = -1
    CLAMP = -2   # beside those of elementwise.pxi, all that only clamp
    PRELU = -3   # a slope for each channel


cdef struct Finish:
    # y = f(y + residual)
    bint pending            # whether there is any of it
    const real *residual    # of the shape of y, or NULL
    int kind                # of the activation
    real a, b               # its parameters; bounds where it clamps, or where there is none
    const real *slope


cdef struct Ending:
    # What a tile does with its sums before it writes them: y = min(max(y + add, low), high)
    const real *add  # as y lies in memory, or NULL
    bint clamps
    real low, high


cdef inline Finish nothing_more() noexcept nogil:
    return Finish(False, NULL, NO_ACTIVATION, -INFINITY, INFINITY, NULL)


cdef Finish finish_of(residual, activation) except *:
    """From arguments of a kernel: an array or None, and (name, a, b, slope) as of fastconv.functional.calls.Activation or None."""
    cdef Finish f = nothing_more()
    cdef double a, b  # Python's numbers become a `real` by way of a float
    if residual is not None:
        f.residual, f.pending = read_from(residual), True
    if activation is not None:
        name, a, b, slope = activation
        f.pending, f.kind = True, CLAMP
        if slope is not None:
            f.kind, f.slope = PRELU, read_from(slope)
        elif name == "relu":
            f.a = 0
        elif name == "relu6":
            f.a, f.b = 0, 6
        else:
            f.a, f.b = <real> a, <real> b
            if name != "clip":
                f.kind = ACTIVATIONS[name]
    return f


cdef inline bint only_clamps(const Finish *f) noexcept nogil:
    """Whether sums only have to be brought within bounds, those of nothing_more() among them."""
    return f.kind == CLAMP or f.kind == NO_ACTIVATION


cdef inline bint is_clamp(const Finish *f) noexcept nogil:
    """Whether there is no shortcut either."""
    return f.residual == NULL and only_clamps(f)


cdef inline Ending no_ending() noexcept nogil:
    return Ending(NULL, False, -INFINITY, INFINITY)


cdef inline Ending ending_of(const Finish *f, Py_ssize_t at) noexcept nogil:
    """As much of it as a tile does whose outputs begin `at` elements after those of y: all, where it `only_clamps`, or nothing."""
    cdef Ending ending = no_ending()
    if only_clamps(f):
        ending.clamps, ending.low, ending.high = f.kind == CLAMP, f.a, f.b
        if f.residual:
            ending.add = f.residual + at
    return ending


cdef inline vec clamped_sum(const bint add, const real *y, const real *residual, real low, real high) noexcept nogil:
    return clamped((<const vec *> y)[0] + (<const vec *> residual)[0] if add else (<const vec *> y)[0], low, high)


cdef inline void clamp_values(const bint add, real *y, const real *residual, Py_ssize_t items, real low, real high) noexcept nogil:
    cdef Py_ssize_t i = 0, rest = items % LANES
    cdef vec last = broadcast(0)
    cdef real value
    if rest and items > LANES:  # the last vector overlaps the one before
        last = clamped_sum(add, y + items - LANES, residual + items - LANES, low, high)
    while i + LANES <= items:
        (<vec *> (y + i))[0] = clamped_sum(add, y + i, residual + i, low, high)
        i += LANES
    if rest and items > LANES:
        (<vec *> (y + items - LANES))[0] = last
        return
    while i < items:
        value = y[i] + residual[i] if add else y[i]
        value = low if low > value else value
        y[i] = high if high < value else value
        i += 1


cdef apart end_values(const Ending *ending, real *y, Py_ssize_t at, Py_ssize_t items) noexcept nogil:
    """The same for `items` neighbors that a tile has left elsewhere: what is added to them is `at` elements on."""
    if ending.add:
        clamp_values(True, y, ending.add + at, items, ending.low, ending.high)
    elif ending.clamps:
        clamp_values(False, y, NULL, items, ending.low, ending.high)


cdef apart finish_values(const Finish *f, real *y, Py_ssize_t at, Py_ssize_t items, Py_ssize_t channel) noexcept nogil:
    """y[i] = f(y[i] + residual[at + i]) for neighbors of one pixel, from `channel` on; of several pixels where all slopes are one."""
    if only_clamps(f):
        if f.residual:
            clamp_values(True, y, f.residual + at, items, f.a, f.b)
        else:
            clamp_values(False, y, NULL, items, f.a, f.b)
        return
    if f.residual:
        add_portion(y, f.residual + at, y, items)
    if f.kind == PRELU:
        prelu_rows(y, f.slope + channel, y, 1, items)
    else:
        forward_portion(f.kind, y, y, 1, 0, items, f.a, f.b)


cdef inline void finish_pixels(const Finish *f, real *y, Py_ssize_t at, Py_ssize_t pixels, Py_ssize_t channels) noexcept nogil:
    """The same for pixels that are neighbors, all of their channels."""
    cdef Py_ssize_t i
    if f.kind != PRELU:
        finish_values(f, y, at, pixels * channels, 0)
        return
    for i in range(pixels):
        finish_values(f, y + i * channels, at + i * channels, channels, 0)


cdef void finish_rows(
    const Finish *f, real *y, const Py_ssize_t *out, Py_ssize_t rows, Py_ssize_t y_ld, Py_ssize_t channel, Py_ssize_t cols
) noexcept nogil:
    """The same for columns channel .. channel + cols - 1 of rows that begin at y + out[i]."""
    cdef Py_ssize_t i
    cdef bint neighbors = out[rows - 1] - out[0] == (rows - 1) * y_ld
    if cols == y_ld and neighbors:
        finish_pixels(f, y + out[0], out[0], rows, cols)
        return
    if neighbors and f.kind >= 0 and not f.residual:
        forward_portion(f.kind, y + out[0] + channel, y + out[0] + channel, rows, y_ld, cols, f.a, f.b)
        return
    for i in range(rows):
        finish_values(f, y + out[i] + channel, out[i] + channel, cols, channel)


cdef apart finish_vectors(
    const Finish *f, real *values, real *y, Py_ssize_t at, Py_ssize_t step, Py_ssize_t count, Py_ssize_t items, Py_ssize_t channel
) noexcept nogil:
    """y[at + k * step + i] = f(values[k * LANES + i] + residual[the same]) for `count` pixels and `items` <= LANES channels.

    For kernels that write some outputs twice: these must be the same both times, so what is in y takes no part.
    """
    cdef Py_ssize_t k
    if f.residual:
        for k in range(count):
            add_portion(values + k * LANES, f.residual + at + k * step, values + k * LANES, items)
    if f.kind == PRELU:
        for k in range(count):
            prelu_rows(values + k * LANES, f.slope + channel, values + k * LANES, 1, items)
    elif f.kind >= 0:
        forward_portion(f.kind, values, values, 1, 0, count * LANES, f.a, f.b)
    elif f.kind != NO_ACTIVATION:
        for k in range(count):
            (<vec *> (values + k * LANES))[0] = clamped((<const vec *> (values + k * LANES))[0], f.a, f.b)
    for k in range(count):
        if items == LANES:
            (<vec *> (y + at + k * step))[0] = (<const vec *> (values + k * LANES))[0]
        else:
            copy(y + at + k * step, values + k * LANES, items)


cdef void finish_all(const Finish *f, real *y, Py_ssize_t rows, Py_ssize_t channels, int threads) noexcept nogil:
    """The same for a whole array: after kernels that do not finish what they have in a cache."""
    cdef Py_ssize_t some = max(PORTION // channels, <Py_ssize_t> 1), task
    for task in prange(ceil_div(rows, some), num_threads=threads):
        finish_pixels(f, y + task * some * channels, task * some * channels, min(some, rows - task * some), channels)


cdef void add_portion(const real *x, const real *residual, real *y, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (y + i))[0] = (<const vec *> (x + i))[0] + (<const vec *> (residual + i))[0]
        i += LANES
    while i < items:
        y[i] = x[i] + residual[i]
        i += 1


def activated_sum(x, residual, y, str name, double a, double b, int threads, /):
    """y[i] = f(x[i] + residual[i]) for the activation `name` (None: the sum itself) with parameters a and b.

    y may be x or residual. A portion is activated while the first-level cache has its sums.
    """
    cdef int kind = -1 if name is None else ACTIVATIONS[name]
    cdef Py_ssize_t block, items, some
    cdef const real *source = read_from(x, &items)
    cdef const real *other = read_from(residual)
    cdef real *to = write_to(y)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        some = min(items - block * PORTION, <Py_ssize_t> PORTION)
        add_portion(source + block * PORTION, other + block * PORTION, to + block * PORTION, some)
        if kind >= 0:
            forward_portion(kind, to + block * PORTION, to + block * PORTION, 1, 0, some, a, b)


cdef void prelu_rows(const real *x, const real *slope, real *y, Py_ssize_t rows, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t row, c, whole = channels - channels % LANES
    cdef vec part
    for row in range(rows):
        c = 0
        while c < whole:
            part = (<const vec *> (x + c))[0]
            (<vec *> (y + c))[0] = choose(above(part, broadcast(0)), part, part * (<const vec *> (slope + c))[0])
            c += LANES
        while c < channels:
            y[c] = x[c] if x[c] > 0 else x[c] * slope[c]
            c += 1
        x += channels
        y += channels


def prelu_forward(x, slope, y, int threads, /):
    """y[m, c] = x[m, c] where it is positive, else x[m, c] * slope[c]; y may be x."""
    cdef Py_ssize_t task, rows, channels, some
    cdef const real *source = read_from(x, &rows)
    cdef const real *slopes = read_from(slope, &channels)
    cdef real *to = write_to(y)
    rows, some = rows // channels, max(PORTION // channels, <Py_ssize_t> 1)
    for task in prange(ceil_div(rows, some), nogil=True, num_threads=threads):
        prelu_rows(
            source + task * some * channels, slopes, to + task * some * channels, min(some, rows - task * some), channels
        )
