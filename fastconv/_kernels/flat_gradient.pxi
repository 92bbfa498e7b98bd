# The gradient of the weight of convolutions with few channels, as flat.pxi: vectors run over the numbers (tap s, channel c,
# output o) of one line of the kernel, which are neighbors in its array. Of each pixel of dy, lane (s, c, o) takes output o, and of
# the line of its window input s * C + c.


cdef enum:
    FLAT_ROWS = 3       # lines of the kernel at a time
    FLAT_SUMS = 1 << 14  # elements of the gradient at most


cdef struct FlatGradient:
    Product p
    Py_ssize_t items    # of a line of the kernel
    Py_ssize_t vectors  # of such a line, the last one not always full
    Py_ssize_t line     # elements of a padded line of the input
    Py_ssize_t band     # lines of dy at a time
    const real *dy


cdef inline bint flat_gradient_pays(const Product *p) noexcept nogil:
    return permutes() and flat_gradient_fits(p)


cdef bint flat_gradient_fits(const Product *p) noexcept nogil:
    """Whether columns leave part of a vector empty, or windows would be copied in short runs."""
    cdef bint empty = 4 * p.cols <= 3 * LANES, short = window_run(p) < LANES and p.w.stride == 1
    return (
        TILE_V < p.cols <= LANES and 0 < p.depth <= LANES // 2 and (empty or short)
        and p.cols == p.y_ld and p.depth == p.a_ld and p.w.dilation == 1 and p.h.dilation > 0
        and p.w.rows * p.cols >= LANES and few_lines_fit(p) and product_depth(p) * p.cols <= FLAT_SUMS
    )


cdef inline void flat_gradient_tile(
    const int rows, const int vecs, const FlatGradient *g, Py_ssize_t row, Py_ssize_t vector, const real *x, const real *dy,
    Py_ssize_t lines, real *sums,
) noexcept nogil:
    """Add what `lines` lines of dy give to `vecs` vectors of `rows` lines of the kernel; x: the padded line of the first tap."""
    cdef vec acc[FLAT_ROWS * TILE_V]
    cdef vec output[TILE_V]
    cdef mask of_x[TILE_V]
    cdef mask of_dy[TILE_V]
    cdef vec pixel
    cdef Py_ssize_t i, j, q, line, flat, first = vector * LANES // g.p.cols, step = line_step(&g.p), tap = g.p.h.dilation * g.line
    x += row * tap + first
    for j in range(vecs):
        for i in range(LANES):
            flat = (vector + j) * LANES + i
            (<lane *> &of_x[j])[i] = flat // g.p.cols - first
            (<lane *> &of_dy[j])[i] = flat % g.p.cols
        for i in range(rows):
            acc[i * TILE_V + j] = (<const vec *> (sums + ((row + i) * g.vectors + vector + j) * LANES))[0]
    for line in range(lines):
        for q in range(g.p.w.rows):
            pixel = held(dy + q * g.p.y_ld)
            for j in range(vecs):
                output[j] = permuted(pixel, of_dy[j])
            for i in range(rows):
                pixel = held(x + q * step + i * tap)
                for j in range(vecs):
                    acc[i * TILE_V + j] = acc[i * TILE_V + j] + output[j] * permuted(pixel, of_x[j])
        x += g.p.h.stride * g.line
        dy += g.p.w.rows * g.p.y_ld
    for j in range(vecs):
        for i in range(rows):
            (<vec *> (sums + ((row + i) * g.vectors + vector + j) * LANES))[0] = acc[i * TILE_V + j]


cdef inline void flat_gradient_vectors(
    const int vecs, const FlatGradient *g, Py_ssize_t vector, const real *x, const real *dy, Py_ssize_t lines, real *sums
) noexcept nogil:
    """All lines of the kernel."""
    cdef Py_ssize_t row, tap
    for tap in range(g.p.d.taps):
        row = 0
        while row + FLAT_ROWS <= g.p.h.taps:
            flat_gradient_tile(FLAT_ROWS, vecs, g, row, vector, x, dy, lines, sums)
            row += FLAT_ROWS
        if g.p.h.taps - row == 2:
            flat_gradient_tile(2, vecs, g, row, vector, x, dy, lines, sums)
        elif g.p.h.taps - row == 1:
            flat_gradient_tile(1, vecs, g, row, vector, x, dy, lines, sums)
        x += plane_line(&g.p)
        sums += g.p.h.taps * g.vectors * LANES


cdef void flat_gradient_lines(const FlatGradient *g, const real *x, const real *dy, Py_ssize_t lines, real *sums) noexcept nogil:
    cdef Py_ssize_t vector = 0
    while vector + TILE_V <= g.vectors:
        flat_gradient_vectors(TILE_V, g, vector, x, dy, lines, sums)
        vector += TILE_V
    while vector < g.vectors:
        flat_gradient_vectors(1, g, vector, x, dy, lines, sums)
        vector += 1


cdef inline Py_ssize_t flat_gradient_sums(const FlatGradient *g) noexcept nogil:
    return taps_line(&g.p) * g.vectors * LANES


cdef inline Py_ssize_t flat_gradient_padded(const FlatGradient *g) noexcept nogil:
    return seen(&g.p.h, g.band) * g.line


cdef void flat_gradient_part(const FlatGradient *g, Py_ssize_t line, Py_ssize_t end, real *db, real *scratch) noexcept nogil:
    """db = the sum over lines line .. end - 1 of dy, those of all images in turn."""
    cdef const Product *p = &g.p
    cdef Py_ssize_t row = p.w.rows * p.y_ld, last = p.batch * p.d.rows * p.h.rows - 1, h, lines, i
    cdef real *sums = scratch
    cdef real *padded = sums + flat_gradient_sums(g)
    cdef real *copied = padded + flat_gradient_padded(g)
    zero(sums, flat_gradient_sums(g))
    while line < end:
        h = line % p.h.rows
        lines = min(min(g.band, p.h.rows - h), end - line)
        pad_lines(p, line // p.h.rows, h * p.h.stride + p.h.origin, seen(&p.h, lines), g.line, padded)
        if line + lines <= last:
            flat_gradient_lines(g, padded, g.dy + line * row, lines, sums)
        else:  # a whole vector may not be read from the last pixel
            flat_gradient_lines(g, padded, g.dy + line * row, lines - 1, sums)
            copy(copied, g.dy + last * row, row)
            zero(copied + row, LANES)
            flat_gradient_lines(g, padded + (lines - 1) * p.h.stride * g.line, copied, 1, sums)
        line += lines
    for i in range(taps_line(p)):
        copy(db + i * g.items, sums + i * g.vectors * LANES, g.items)


cdef int run_flat_gradient(
    const Product *p, const real *dy, real *db, Py_ssize_t items, Py_ssize_t parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart. -1: no memory."""
    cdef FlatGradient g
    cdef Py_ssize_t each, part, lines = p.batch * p.d.rows * p.h.rows, some = ceil_div(lines, parts)
    cdef real *scratch
    g.p, g.line, g.dy, g.items = p[0], padded_line(p), dy, p.w.taps * p.depth * p.cols
    g.vectors = ceil_div(g.items, LANES)
    g.band = min(max(PADDED // (g.line * p.h.stride), <Py_ssize_t> 1), p.h.rows)
    each = own_lines(flat_gradient_sums(&g) + flat_gradient_padded(&g) + p.w.rows * p.y_ld + LANES)
    threads = min(threads, parts)
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    if parts == 1:
        flat_gradient_part(&g, 0, lines, db, scratch)
    else:
        for part in prange(parts, schedule="dynamic", num_threads=threads):
            flat_gradient_part(
                &g, min(part * some, lines), min((part + 1) * some, lines), db + part * items, scratch + threadid() * each
            )
    free_lines(scratch)
    return 0
