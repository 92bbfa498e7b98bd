# Convolutions with so few channels that one would leave most of a vector empty: vectors run over pixels and channels together.
#
# A line of the output is one row of numbers (pixel, channel), LANES of them at a time. Lane l belongs to pixel l // O and needs
# the inputs of that pixel's window: a vector of the input's line, padded beforehand, holds those of all lanes for some taps, and
# a permutation for each tap brings them there. The weights are laid out likewise.
#
#   O = 6:   lanes     0 1 2 3 4 5 | 6 7 8 9 10 11 | 12 ...       x[q + s]  0 0 0 0 0 0 | 1 1 1 1 1 1 | 2 ...
#            channel   0 1 2 3 4 5 | 0 1 2 3  4  5 |  0 ...       times     w[s, 0..5]  | w[s, 0..5]  | ...


cdef enum:
    FLAT_VECS = 4            # vectors of a line at a time
    FLAT_WEIGHTS = 1 << 15   # elements of the weights laid out at most


cdef struct Flat:
    Product p
    Py_ssize_t period       # vectors after which the lanes belong to the same channels again
    Py_ssize_t width        # vectors of a step's weights: so many more that FLAT_VECS are neighbors, whichever is the first
    Py_ssize_t vectors      # of a line of the output, the last one not always full
    Py_ssize_t line         # elements of a padded line of the input
    Py_ssize_t band, bands  # lines of the output of a task, and tasks of an image
    const real *weights     # [step, width, lane]
    const real *bias        # [width, lane]
    Py_ssize_t *offsets     # of each run of neighboring inputs of a window in the padded lines
    Py_ssize_t runs, some   # and how many inputs of a run one vector has for all lanes
    Py_ssize_t *starts      # of each vector in a padded line
    mask lanes[LANES + FLAT_VECS]


cdef inline Py_ssize_t lane_reach(const Product *p) noexcept nogil:
    """From the input of the first lane to that of the last at most."""
    return (LANES + p.cols - 2) // p.cols * line_step(p)


cdef inline bint permutes() noexcept nogil:
    """Whether lanes of a vector change places in one instruction; vectors of 16 bytes do it through memory."""
    return LANES * sizeof(real) > 16


cdef inline bint flat_pays(const Product *p) noexcept nogil:
    """Whether it is to be computed so: a constant where lanes do not change places, so that none of this is compiled there."""
    return permutes() and flat_fits(p)


cdef bint flat_fits(const Product *p) noexcept nogil:
    """Whether lanes of one vector find their inputs in one vector, and whole lines of the output are written."""
    return (
        2 * p.cols <= LANES and p.cols == p.y_ld and p.depth == p.a_ld and product_depth(p) > 0
        and lane_reach(p) < LANES
        and p.out_d == p.d.rows and p.d.out_first == 0 and p.d.out_step == 1 and p.w.out_step == 1
        and p.h.dilation > 0 and p.w.dilation > 0 and product_rows(p) > FEW
        and (product_depth(p) + 1) * (p.cols + FLAT_VECS) * LANES <= FLAT_WEIGHTS and few_lines_fit(p)
    )


cdef inline Py_ssize_t flat_period(const Product *p) noexcept nogil:
    return p.cols // common(p.cols, LANES)


cdef inline Py_ssize_t flat_items(const Product *p) noexcept nogil:
    """Elements of the weights as they are laid out."""
    return product_depth(p) * (flat_period(p) + FLAT_VECS - 1) * LANES


cdef void lay_columns(const real *b, Py_ssize_t b_col, Py_ssize_t cols, real *to, Py_ssize_t items) noexcept nogil:
    """Columns over and over, one for each lane; b == NULL: zeros."""
    cdef Py_ssize_t i, j = 0
    for i in range(items):
        to[i] = b[j * b_col] if b else 0
        j = j + 1 if j + 1 < cols else 0


cdef void lay_weights(const Product *p, real *to) noexcept nogil:
    cdef Py_ssize_t depth = product_depth(p), items = flat_items(p) // depth, k, offset
    for k in range(depth):
        weight_offsets(p, k, 1, &offset)
        lay_columns(p.b + offset, p.b_col, p.cols, to + k * items, items)


cdef void lay_places(Flat *f) noexcept nogil:
    """Where runs and vectors begin, and what each lane takes of a vector."""
    cdef const Product *p = &f.p
    cdef Py_ssize_t run = window_run(p), column, at, r, tw, i, j
    for r in range(f.runs):
        at = r * run // p.depth  # the tap
        tw = at % p.w.taps
        f.offsets[r] = line_offset(p, at // p.w.taps) + tw * p.w.dilation * p.a_ld
    for j in range(f.vectors):
        f.starts[j] = j * LANES // p.cols * line_step(p)
    for j in range(f.width):
        column, at = j * LANES % p.cols, 0
        for i in range(LANES):
            (<lane *> &f.lanes[j])[i] = at
            column += 1
            if column == p.cols:
                column, at = 0, at + line_step(p)


cdef inline void flat_tile(
    const int lines, const int vecs, const Flat *f, const real *x, Py_ssize_t vector, real *y, Py_ssize_t y_line, Py_ssize_t items
) noexcept nogil:
    """`vecs` vectors of `lines` lines of the output, from number `vector` on; `items` of their elements are in the line."""
    cdef vec acc[2 * FLAT_VECS]
    cdef vec inputs[2 * FLAT_VECS]
    cdef vec weight
    cdef const real *at[FLAT_VECS]
    cdef mask lanes[FLAT_VECS]
    cdef Py_ssize_t i, j, k, r, into, end, run = window_run(&f.p), step = f.width * LANES, next_line = f.p.h.stride * f.line
    cdef const real *w = f.weights + vector % f.period * LANES
    cdef const real *bias = f.bias + vector % f.period * LANES
    for j in range(vecs):
        at[j] = x + f.starts[vector + j]
        for i in range(lines):
            acc[i * FLAT_VECS + j] = (<const vec *> (bias + j * LANES))[0]
    for r in range(f.runs):
        into = 0
        while into < run:
            end = min(into + f.some, run)
            for j in range(vecs):
                lanes[j] = f.lanes[vector % f.period + j]
                for i in range(lines):
                    inputs[i * FLAT_VECS + j] = held(at[j] + f.offsets[r] + into + i * next_line)
            for k in range(into, end):
                for j in range(vecs):
                    weight = (<const vec *> (w + j * LANES))[0]
                    for i in range(lines):
                        acc[i * FLAT_VECS + j] = acc[i * FLAT_VECS + j] + weight * permuted(inputs[i * FLAT_VECS + j], lanes[j])
                    lanes[j] = lanes[j] + broadcast_lane(1)
                w += step
            into = end
    for j in range(vecs):
        for i in range(lines):
            store(y + i * y_line + j * LANES, acc[i * FLAT_VECS + j], items - j * LANES)


cdef inline void flat_tiles(const int lines, const int vecs, const Flat *f, const real *x, real *y, Py_ssize_t y_line) noexcept nogil:
    """`lines` lines of the output by tiles of `vecs` vectors, the last of which overlaps the one before."""
    cdef Py_ssize_t v = 0, items = f.p.w.rows * f.p.cols
    while v < f.vectors:
        v = min(v, f.vectors - vecs)
        flat_tile(lines, vecs, f, x, v, y + v * LANES, y_line, items - v * LANES)
        v += vecs


cdef whole flat_pair(const Flat *f, const real *x, real *y, Py_ssize_t y_line) noexcept nogil:
    """Two lines of many vectors: what nearly all is made of is unrolled, and nothing else."""
    flat_tiles(2, FLAT_VECS, f, x, y, y_line)


cdef void flat_any(int lines, const Flat *f, const real *x, real *y, Py_ssize_t y_line) noexcept nogil:
    flat_tiles(lines, min(f.vectors, <Py_ssize_t> FLAT_VECS), f, x, y, y_line)


cdef void flat_band(const Flat *f, Py_ssize_t task, real *padded) noexcept nogil:
    """One band of lines of an image."""
    cdef const Product *p = &f.p
    cdef Py_ssize_t image = task // f.bands, h = task % f.bands * f.band, end = min(h + f.band, p.h.rows), first = h
    cdef Py_ssize_t y_line = p.h.out_step * p.out_w * p.y_ld
    cdef real *y = p.y + ((image * p.out_h + p.h.out_first + h * p.h.out_step) * p.out_w + p.w.out_first) * p.y_ld
    pad_lines(p, image, h * p.h.stride + p.h.origin, seen(&p.h, end - h), f.line, padded)
    while h < end:
        if h + 2 <= end and f.vectors >= FLAT_VECS:
            flat_pair(f, padded + (h - first) * p.h.stride * f.line, y, y_line)
        else:
            flat_any(min(end - h, <Py_ssize_t> 2), f, padded + (h - first) * p.h.stride * f.line, y, y_line)
        if p.finish.pending:  # of a forward convolution, whose lines are neighbors
            finish_pixels(&p.finish, y, y - p.y, min(end - h, <Py_ssize_t> 2) * p.w.rows, p.cols)
        h += 2
        y += 2 * y_line


cdef int run_flat(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Flat f
    cdef Py_ssize_t depth = product_depth(p), each, task, tasks, items
    cdef real *scratch
    cdef real *tables
    f.p, f.line, f.period = p[0], padded_line(p), flat_period(p)
    f.width = f.period + FLAT_VECS - 1
    f.vectors = ceil_div(p.w.rows * p.cols, LANES)
    f.runs, f.some = depth // window_run(p), LANES - lane_reach(p)
    f.band = ceil_div(p.h.rows, ceil_div(threads, p.batch * p.d.rows))  # few images are shared
    f.band = min(max(PADDED // (f.line * p.h.stride) // 2 * 2, <Py_ssize_t> 2), round_up(f.band, 2))
    f.bands = ceil_div(p.h.rows, f.band)
    tasks = p.batch * p.d.rows * f.bands
    threads = min(threads, tasks)
    each = own_lines(seen(&p.h, f.band) * f.line)
    items = f.width * LANES
    scratch = new_scratch(each, threads)
    tables = new_scratch(own_lines(items + (0 if p.packed else flat_items(p))), 1)
    f.offsets = <Py_ssize_t *> malloc((f.runs + f.vectors) * sizeof(Py_ssize_t))
    if scratch != NULL and tables != NULL and f.offsets != NULL:
        f.starts = f.offsets + f.runs
        lay_places(&f)
        lay_columns(p.bias, 1, p.cols, tables, items)
        f.bias, f.weights = tables, p.packed
        if f.weights == NULL:
            lay_weights(p, tables + items)
            f.weights = tables + items
        if tasks == 1:
            flat_band(&f, 0, scratch)
        else:
            for task in prange(tasks, schedule="dynamic", num_threads=threads):
                flat_band(&f, task, scratch + threadid() * each)
    else:
        depth = -1
    free(f.offsets)
    free_lines(tables)
    free_lines(scratch)
    return 0 if depth >= 0 else -1
