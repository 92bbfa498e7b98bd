# Convolutions with a stride and few channels by Winograd's algorithm: the image is folded, so that what is left has stride 1.
#
# Squares of as many pixels as the strides say become one pixel of all their channels, and taps likewise, with zeros where the
# kernel has none:
#
#   7 taps, stride 2      t0 t1 | t2 t3 | t4 t5 | t6 0      4 taps of twice the channels along this axis
#
# A band of lines of an image, or a few images, are folded at a time, between zeros where windows see padding.


cdef enum:
    UNFOLDED = 16               # so many channels fill vectors without being folded (FEWEST_CHANNELS in _conv_algorithm.py)
    FOLDED_BYTES = 3 << 19      # of a band of folded lines
    FOR_ALL_BANDS = 1 << 21     # of transformed weights that are kept from band to band


cdef struct Fold:
    Product p                       # what is asked for
    Product q                       # of the first band: what Winograd's kernels compute
    Py_ssize_t images, lines, cuts  # of a band: images, of each so many lines of the output, which are cut into so many bands


cdef inline bint folds(const Product *p) noexcept nogil:
    return p.depth < UNFOLDED and (p.h.stride > 1 or p.w.stride > 1)


cdef inline Axis folded_axis(const Axis *axis) noexcept nogil:
    """The axis of folded pixels: those that windows see, padding included."""
    cdef Axis folded = axis[0]
    folded.taps = ceil_div(axis.taps, axis.stride)
    folded.size = axis.rows + folded.taps - 1
    folded.stride, folded.origin = 1, 0
    return folded


cdef Fold fold_of(const Product *p, int out_h) noexcept nogil:
    """`out_h`: lines of a tile, of which a band has whole ones. `p` has one group and one plane."""
    cdef Fold f
    cdef Py_ssize_t run = p.w.stride * p.depth, line, lines
    f.p = f.q = p[0]
    f.q.h, f.q.w = folded_axis(&p.h), folded_axis(&p.w)
    f.q.d.size, f.q.d.origin, f.q.d.stride = 1, 0, 1
    f.q.depth = p.h.stride * run
    f.q.a_ld = max(f.q.depth - run + round_up(run, PART_LANES), <Py_ssize_t> LANES)  # runs are copied in whole parts
    f.q.b_k = p.cols
    f.q.b_w = f.q.depth * p.cols
    f.q.b_h = f.q.w.taps * f.q.b_w
    f.q.b_d = f.q.h.taps * f.q.b_h
    line = f.q.w.size * f.q.a_ld * sizeof(real)
    lines = FOLDED_BYTES // line
    f.images, f.lines, f.cuts = min(max(lines // f.q.h.size, <Py_ssize_t> 1), p.batch), p.h.rows, 1
    if f.q.h.size > lines:
        f.lines = min(max((lines - f.q.h.taps + 1) // out_h, <Py_ssize_t> 1) * out_h, p.h.rows)
        f.cuts = ceil_div(p.h.rows, f.lines)
    return f


cdef inline Py_ssize_t fold_bands(const Fold *f) noexcept nogil:
    return ceil_div(f.p.batch, f.images) * f.cuts


cdef inline Py_ssize_t folded_items(const Fold *f) noexcept nogil:
    """Elements of a band of the image."""
    return own_lines(f.images * (f.lines + f.q.h.taps - 1) * f.q.w.size * f.q.a_ld)


cdef inline Product fold_band(const Fold *f, Py_ssize_t band, Py_ssize_t *image, Py_ssize_t *line) noexcept nogil:
    """Band number `band`, and the image and the line of the output that are its first."""
    cdef Product q = f.q
    cdef Py_ssize_t start
    image[0], line[0] = band // f.cuts * f.images, band % f.cuts * f.lines
    start = (image[0] * f.p.out_h + line[0]) * f.p.out_w * f.p.y_ld
    q.batch = min(f.images, f.p.batch - image[0])
    q.h.rows = min(f.lines, f.p.h.rows - line[0])
    q.h.size = q.h.rows + q.h.taps - 1
    q.y += start
    if q.finish.residual:
        q.finish.residual += start
    return q


cdef inline void copy_parts(real *to, const real *source, Py_ssize_t items) noexcept nogil:
    """Up to PART_LANES - 1 elements more are read and written."""
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (to + i))[0] = (<const vec *> (source + i))[0]
        i += LANES
    while i < items:
        (<part *> (to + i))[0] = (<const part *> (source + i))[0]
        i += PART_LANES


cdef void fold_line(const Product *p, const Product *q, Py_ssize_t image, Py_ssize_t line, real *to) noexcept nogil:
    """A line of folded pixels, a line of the image in them after the other."""
    cdef Py_ssize_t run = p.w.stride * p.depth, row, i, j
    cdef Py_ssize_t low = min(ceil_div(max(-p.w.origin, <Py_ssize_t> 0), p.w.stride), q.w.size)
    cdef Py_ssize_t high = max(min(max(p.w.size - p.w.origin, <Py_ssize_t> 0) // p.w.stride, q.w.size), low)
    cdef const real *source
    for i in range(p.h.stride):
        row = line * p.h.stride + p.h.origin + i
        if 0 <= row < p.h.size and 0 <= p.d.origin < p.d.size:
            source = p.a + ((image * p.d.size + p.d.origin) * p.h.size + row) * p.w.size * p.depth
            for j in range(low):
                pack_run(p, source, j * p.w.stride + p.w.origin, 0, run, to + j * q.a_ld)
            for j in range(low, high - 1):
                copy_parts(to + j * q.a_ld, source + (j * p.w.stride + p.w.origin) * p.depth, run)
            for j in range(max(high - 1, low), q.w.size):
                pack_run(p, source, j * p.w.stride + p.w.origin, 0, run, to + j * q.a_ld)
        else:
            for j in range(q.w.size):
                zero(to + j * q.a_ld, run)
        to += run


cdef void fold_lines(
    const Product *p, const Product *q, Py_ssize_t image, Py_ssize_t line, real *to, int threads
) noexcept nogil:
    """All lines of a band."""
    cdef Py_ssize_t i, items = q.w.size * q.a_ld
    for i in prange(q.batch * q.h.size, num_threads=threads):
        fold_line(p, q, image + i // q.h.size, line + i % q.h.size, to + i * items)


cdef inline Py_ssize_t folded_tap(const Product *p, const Product *q, Py_ssize_t r, Py_ssize_t s) noexcept nogil:
    """Where in a folded weight the channels of a tap begin: they are neighbors there too."""
    return r // p.h.stride * q.b_h + s // p.w.stride * q.b_w + (r % p.h.stride * p.w.stride + s % p.w.stride) * p.depth * q.b_k


cdef void fold_weight(const Product *p, const Product *q, real *to) noexcept nogil:
    cdef Py_ssize_t r, s
    memset(to, 0, q.b_d * sizeof(real))
    for r in range(p.h.taps):
        for s in range(p.w.taps):
            copy(to + folded_tap(p, q, r, s), p.b + r * p.b_h + s * p.b_w, p.depth * p.cols)


cdef inline Winograd folded_cut(const Product *p, int out_h, int out_w) noexcept nogil:
    """`winograd_cut`, of the folded convolution where there is a stride."""
    cdef Fold f
    if not folds(p):
        return winograd_cut(p, out_h, out_w)
    f = fold_of(p, out_h)
    return winograd_cut(&f.q, out_h, out_w)


cdef int pack_folded(const Product *p, int out_h, int out_w, real *to, int threads) noexcept nogil:
    """The transformed weight. -1: no memory."""
    cdef Winograd g = folded_cut(p, out_h, out_w)
    cdef real *weight = new_scratch(own_lines(g.p.b_d), 1)
    if weight == NULL:
        return -1
    fold_weight(p, &g.p, weight)
    g.p.b = weight
    transform_all_weights(&g, ceil_div(p.cols, TILE_N), to, threads)
    free_lines(weight)
    return 0


cdef int run_folded(const Product *p, int out_h, int out_w, int threads) noexcept nogil:
    """Compute `p`, whose folded taps are those of so many outputs a tile. -1: no memory."""
    cdef Fold f = fold_of(p, out_h)
    cdef Winograd g = winograd_cut(&f.q, out_h, out_w)
    cdef Py_ssize_t bands = fold_bands(&f), items = folded_items(&f), band, image, line, u_items
    cdef Py_ssize_t weight = 0 if p.packed else own_lines(f.q.b_d)
    cdef real *scratch
    cdef Product q
    cdef int status = 0
    u_items = own_lines(packed_weights(&g, ceil_div(p.cols, TILE_N), 0))
    if p.packed or bands == 1 or u_items * <Py_ssize_t> sizeof(real) > FOR_ALL_BANDS:
        u_items = 0
    scratch = new_scratch(items + weight + u_items, 1)
    if scratch == NULL:
        return -1
    f.q.a = scratch
    if not p.packed:
        fold_weight(p, &f.q, scratch + items)
        f.q.b = g.p.b = scratch + items
    if u_items:  # for all bands
        transform_all_weights(&g, ceil_div(p.cols, TILE_N), scratch + items + weight, threads)
        f.q.packed = scratch + items + weight
    for band in range(bands):
        q = fold_band(&f, band, &image, &line)
        fold_lines(p, &q, image, line, scratch, threads)
        status |= run_winograd(&q, 1, 0, out_h, out_w, threads)
    free_lines(scratch)
    return status


cdef int run_folded_gradient(const Product *p, int out_h, int out_w, const real *dy, real *to, int threads) noexcept nogil:
    """Write the gradient of the weight, to which the bands add in turn. -1: no memory."""
    cdef Fold f = fold_of(p, out_h)
    cdef Py_ssize_t items = folded_items(&f), band, image, line, r, s
    cdef Product q = fold_band(&f, 0, &image, &line)
    cdef Py_ssize_t chunks = winograd_gradient_grid(&q, out_h, out_w, 1).chunks
    cdef real *scratch = new_scratch(items + own_lines((chunks + 1) * q.b_d), 1)
    cdef real *sums = scratch + items
    cdef int status = 0
    if scratch == NULL:
        return -1
    for band in range(fold_bands(&f)):
        q = fold_band(&f, band, &image, &line)
        q.a = scratch
        fold_lines(p, &q, image, line, scratch, threads)
        status |= run_winograd_gradient(
            &q, out_h, out_w, 1, dy + (image * p.out_h + line) * p.out_w * p.y_ld, sums + (q.b_d if band else 0), q.b_d, threads
        )
        chunks = winograd_gradient_grid(&q, out_h, out_w, 1).chunks
        add_parts(sums, chunks + (1 if band else 0), q.b_d, sums, threads)
    for r in range(p.h.taps):
        for s in range(p.w.taps):
            copy(to + r * p.b_h + s * p.b_w, sums + folded_tap(p, &q, r, s), p.depth * p.cols)
    free_lines(scratch)
    return status
