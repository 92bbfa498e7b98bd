# Convolutions with stride 1 along the line from many channels to few, and the adjoints of those from few: vectors run across the
# channels of the input.
#
# A tile is LANES neighboring outputs of one channel, each a vector of sums. For each line of taps and each vector of channels a
# window of TAPS pixels slides along the padded line, each pixel meets all the taps, whose weights stay in registers, and in the
# end the lanes of each vector are added: nothing is transposed, and no lane is empty.
#
#   pixels    x0 x1 x2 x3 ...           sums   y0 += x0 w0 + x1 w1 + x2 w2      y1 += x1 w0 + x2 w1 + x3 w2 ...


cdef enum:
    ACROSS_TAPS = 5         # along the line at most
    ACROSS_ITEMS = 1 << 17  # elements of the padded lines of a band at most


cdef struct Across:
    Product p
    Py_ssize_t line         # elements of a padded line
    Py_ssize_t wide         # sums of a line, of one channel
    Py_ssize_t band, bands  # lines of the output of a task, and tasks of an image
    const real *weights     # [column, tap h, tap w, channel]
    bint finite             # the weights: lines of zeros may be left out


cdef inline bint across_pays(const Product *p) noexcept nogil:
    """Whether columns leave half of a vector empty, channels fill vectors, and outputs of a line as many lanes."""
    return (
        2 * p.cols < LANES and p.cols == p.y_ld and p.depth == p.a_ld and p.depth > 0 and p.depth % LANES == 0
        and (p.w.taps == 3 or p.w.taps == ACROSS_TAPS) and p.w.stride == p.w.dilation == 1 and p.h.dilation > 0
        and p.w.out_step == 1 and p.w.rows == p.out_w and 4 * p.w.rows >= 3 * LANES
        and whole_axis(&p.d) and p.out_d == p.d.rows and p.d.out_first == 0 and p.d.out_step == 1
        and seen(&p.h, 1) + 1 <= ACROSS_ITEMS // across_line(p) and product_depth(p) * p.cols <= SCATTER_ITEMS
    )


cdef inline Py_ssize_t across_line(const Product *p) noexcept nogil:
    """Elements of a padded line: what the windows of whole tiles see."""
    return round_up(seen(&p.w, round_up(p.w.rows, LANES)) * p.a_ld + LANES, LINE_ITEMS)


cdef inline void across_tile(
    const int taps, const Across *f, const real *x, const real *w, Py_ssize_t lines, vec start, real *made
) noexcept nogil:
    """LANES outputs from `lines` lines of taps, 1 at least; x: what the first of them sees by its first tap; w: the weight of that.

    One loop that runs at least once, or gcc keeps the sums in memory.
    """
    cdef vec acc[LANES]
    cdef vec weight[ACROSS_TAPS]
    cdef vec pixel
    cdef const real *at
    cdef Py_ssize_t depth = f.p.depth, v = 0, i, s
    for i in range(LANES):
        acc[i] = broadcast(0)
    while True:
        for s in range(taps):
            weight[s] = (<const vec *> (w + s * depth + v))[0]
        at = x + v
        for i in range(LANES + taps - 1):
            pixel = held(at)
            for s in range(taps):
                if 0 <= i - s < LANES:
                    acc[i - s] = acc[i - s] + pixel * weight[s]
            at += depth
        v += LANES
        if v == depth:
            v = 0
            x += f.p.h.dilation * f.line
            w += taps * depth
            lines -= 1
            if lines == 0:
                (<vec *> made)[0] = start + lane_sums(acc)
                return


cdef inline void across_sums(const int taps, const Across *f, const real *x, Py_ssize_t tap, Py_ssize_t lines, real *made) noexcept nogil:
    """made[c * wide + w] of a line of the output, from `lines` lines of taps from number `tap` on, which see the padded line x first."""
    cdef Py_ssize_t w = 0, c
    while w < f.p.w.rows:
        for c in range(f.p.cols):
            across_tile(
                taps, f, x + w * f.p.depth, f.weights + c * product_depth(&f.p) + tap * taps * f.p.depth, lines,
                broadcast(f.p.bias[c] if f.p.bias else 0), made + c * f.wide + w,
            )
        w += LANES


cdef whole across_line_of_all(const Across *f, const real *x, Py_ssize_t tap, Py_ssize_t lines, real *made) noexcept nogil:
    if f.p.w.taps == 3:
        across_sums(3, f, x, tap, lines, made)
    else:
        across_sums(ACROSS_TAPS, f, x, tap, lines, made)


cdef void across_band(const Across *f, Py_ssize_t task, real *padded) noexcept nogil:
    """One band of lines of an image; each line of the input is padded when the first window sees it."""
    cdef const Product *p = &f.p
    cdef Py_ssize_t image = task // f.bands, first = task % f.bands * f.band, end = min(first + f.band, p.h.rows), h, low, high
    cdef Py_ssize_t top = first * p.h.stride + p.h.origin, lines = 0, seen_lines, line
    cdef real *made = padded + seen(&p.h, f.band) * f.line
    cdef real *y
    for h in range(first, end):
        seen_lines = seen(&p.h, h - first + 1)
        pad_lines(p, image, top + lines, seen_lines - lines, f.line, padded + lines * f.line)
        lines = seen_lines
        line, low, high = h * p.h.stride + p.h.origin, 0, p.h.taps
        while f.finite and low + 1 < high and line + low * p.h.dilation < 0:
            low += 1
        while f.finite and low + 1 < high and line + (high - 1) * p.h.dilation >= p.h.size:
            high -= 1
        across_line_of_all(f, padded + ((h - first) * p.h.stride + low * p.h.dilation) * f.line, low, high - low, made)
        y = p.y + ((image * p.out_h + p.h.out_first + h * p.h.out_step) * p.out_w + p.w.out_first) * p.y_ld
        put_together(made, f.wide, p.w.rows, p.cols, y)
        if p.finish.pending:
            finish_pixels(&p.finish, y, y - p.y, p.w.rows, p.cols)


cdef int run_across(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Across f
    cdef Py_ssize_t depth = product_depth(p), each, task, tasks, o, k
    cdef Py_ssize_t most
    cdef int status = 0
    cdef real *scratch
    cdef real *weights
    f.p, f.line, f.wide = p[0], across_line(p), round_up(p.w.rows, LANES) + LINE_ITEMS
    most = max((ACROSS_ITEMS // f.line - seen(&p.h, 1)) // p.h.stride + 1, <Py_ssize_t> 1)
    f.band = min(ceil_div(p.h.rows, ceil_div(threads, p.batch * p.d.size)), most)  # few images are shared
    f.bands = ceil_div(p.h.rows, f.band)
    tasks = p.batch * p.d.size * f.bands
    threads = min(threads, tasks)
    each = own_lines(seen(&p.h, f.band) * f.line + max(p.cols, <Py_ssize_t> PART_LANES) * f.wide)
    scratch = new_scratch(each, threads)
    weights = new_scratch(own_lines(depth * p.cols), 1)
    if scratch != NULL and weights != NULL:
        for k in range(p.h.taps * p.w.taps):
            for o in range(p.cols):
                copy_spread(
                    weights + o * depth + k * p.depth, p.b + k // p.w.taps * p.b_h + k % p.w.taps * p.b_w + o * p.b_col, p.b_k, p.depth
                )
        f.weights, f.finite = weights, finite_items(weights, depth * p.cols)
        if tasks == 1:
            across_band(&f, 0, scratch)
        else:
            for task in prange(tasks, schedule="dynamic", num_threads=threads):
                across_band(&f, task, scratch + threadid() * each)
    else:
        status = -1
    free_lines(weights)
    free_lines(scratch)
    return status


cdef inline void copy_spread(real *to, const real *source, Py_ssize_t step, Py_ssize_t items) noexcept nogil:
    """to[k] = source[k * step]."""
    cdef Py_ssize_t k
    if step == 1:
        copy(to, source, items)
        return
    for k in range(items):
        to[k] = source[k * step]
