# Convolutions with stride 1 along the line to few channels, and the adjoints of those from few: vectors run along the line.
#
# A band of lines is taken apart into a plane for each input channel, between zeros. Then a tap is a vector of the plane, at any
# place, times one weight; tiles are PLANAR_LINES lines of as many neighboring outputs as a vector has, of up to PLANAR_COLS
# channels. Their sums go into planes too, which are put together, pixel after pixel, by small squares.
#
#   plane      0 0 a0 a1 a2 a3 ...      sums of line p, channel o:   y[p, :, o] += plane[p + r, s :] * w[r, s, o]


cdef enum:
    PLANAR_LINES = 4                # of a tile: with PLANAR_COLS 24 sums
    PLANAR_COLS = 6
    PLANAR_MOST = LANES // 2        # channels of the output at most: more fill vectors of their own
    PLANAR_DEPTH = 16               # of the input; where outputs fill half a vector, PART_LANES
    PLANAR_WEIGHTS = 1 << 13        # weights at most


cdef struct Planar:
    Product p
    Py_ssize_t line, plane   # elements of a padded line, and from one plane to the next
    Py_ssize_t wide, made    # the same of the sums
    Py_ssize_t band, bands   # lines of the output of a task, and tasks of an image
    const real *weights      # [channel, tap h, tap w, column]


cdef inline bint planar_pays(const Product *p) noexcept nogil:
    """Whether it is to be computed so. Who asks has 32 registers: where that is a constant 0, none of this is compiled."""
    return permutes() and planar_fits(p)


cdef bint planar_fits(const Product *p) noexcept nogil:
    """Whether outputs of a line fill vectors, and their channels do not."""
    return (
        0 < p.cols <= PLANAR_MOST and p.cols == p.y_ld
        and 0 < p.depth <= (PLANAR_DEPTH if p.cols < PLANAR_MOST else PART_LANES) and p.depth == p.a_ld
        and p.w.stride == 1 and p.w.out_step == 1 and p.w.rows == p.out_w and 4 * p.w.rows >= 3 * LANES
        and p.h.dilation > 0 and p.w.dilation > 0 and p.h.taps * p.w.taps > 1
        and whole_axis(&p.d) and p.out_d == p.d.rows and p.d.out_first == 0 and p.d.out_step == 1
        and product_depth(p) * p.cols <= PLANAR_WEIGHTS and seen(&p.h, PLANAR_LINES) * planar_line(p) * p.depth <= MOST_PADDED
    )


cdef inline Py_ssize_t planar_line(const Product *p) noexcept nogil:
    """Elements of a padded line: what the windows of whole vectors see."""
    return round_up(seen(&p.w, max(p.w.rows, <Py_ssize_t> LANES)), LINE_ITEMS)


cdef void take_apart(const Product *p, const real *x, Py_ssize_t pixels, real *to, Py_ssize_t plane) noexcept nogil:
    """to[c * plane + i] = x[i * depth + c]; there are PART_LANES planes at least."""
    cdef Py_ssize_t depth = p.depth, i = 0, c
    if depth == 1:
        copy(to, x, pixels)
        return
    while i + PART_LANES < pixels:
        c = 0
        while c < depth:
            c = max(min(c, depth - PART_LANES), <Py_ssize_t> 0)
            transpose_small_square(x + i * depth + c, depth, to + c * plane + i, plane)
            c += PART_LANES
        i += PART_LANES
    for i in range(i, pixels):
        for c in range(depth):
            to[c * plane + i] = x[i * depth + c]


cdef void put_together(const real *planes, Py_ssize_t plane, Py_ssize_t pixels, Py_ssize_t cols, real *y) noexcept nogil:
    """y[i * cols + o] = planes[o * plane + i]; fewer channels than PART_LANES are written with what the next pixel overwrites."""
    cdef Py_ssize_t i = 0, o
    if cols == 1:
        copy(y, planes, pixels)
        return
    while i + PART_LANES < pixels or (i < pixels and cols >= PART_LANES):  # whole pixels: the last ones overlap those before
        i = min(i, pixels - PART_LANES)
        o = 0
        while o < cols:
            o = max(min(o, cols - PART_LANES), <Py_ssize_t> 0)
            transpose_small_square(planes + o * plane + i, plane, y + i * cols + o, cols)
            o += PART_LANES
        i += PART_LANES
    for i in range(i, pixels):
        for o in range(cols):
            y[i * cols + o] = planes[o * plane + i]


cdef void pad_planes(const Planar *f, Py_ssize_t image, Py_ssize_t first, Py_ssize_t count, real *to) noexcept nogil:
    """`count` lines of all channels of an image, from line `first` on, between zeros."""
    cdef const Product *p = &f.p
    cdef Py_ssize_t before = min(max(-p.w.origin, <Py_ssize_t> 0), f.line)
    cdef Py_ssize_t skipped = min(max(p.w.origin, <Py_ssize_t> 0), p.w.size), i, c
    cdef Py_ssize_t size = min(p.w.size - skipped, f.line - before)
    for i in range(count):
        if 0 <= first + i < p.h.size:
            for c in range(p.depth):
                zero(to + c * f.plane, before)
                zero(to + c * f.plane + before + size, f.line - before - size)
            take_apart(p, p.a + ((image * p.h.size + first + i) * p.w.size + skipped) * p.depth, size, to + before, f.plane)
        else:
            for c in range(p.depth):
                zero(to + c * f.plane, f.line)
        to += f.line


cdef inline void planar_tile(const int cols, const Planar *f, const real *x, Py_ssize_t col, real *made) noexcept nogil:
    """PLANAR_LINES lines of LANES outputs of channels col .. col + cols - 1; x: what their first window sees."""
    cdef const Product *p = &f.p
    cdef vec acc[PLANAR_LINES * PLANAR_COLS]
    cdef vec pixels[PLANAR_LINES]
    cdef vec weight
    cdef const real *w = f.weights + col
    cdef const real *at
    cdef Py_ssize_t next_line = p.h.stride * f.line, i, o, c, r, s
    for o in range(cols):
        for i in range(PLANAR_LINES):
            acc[i * PLANAR_COLS + o] = broadcast(p.bias[col + o] if p.bias else 0)
    for c in range(p.depth):
        for r in range(p.h.taps):
            at = x + c * f.plane + r * p.h.dilation * f.line
            for s in range(p.w.taps):
                for i in range(PLANAR_LINES):
                    pixels[i] = held(at + i * next_line)
                for o in range(cols):
                    weight = in_register(broadcast(w[o]))
                    for i in range(PLANAR_LINES):
                        acc[i * PLANAR_COLS + o] = acc[i * PLANAR_COLS + o] + pixels[i] * weight
                at += p.w.dilation
                w += p.cols
    for o in range(cols):
        for i in range(PLANAR_LINES):
            (<vec *> (made + (col + o) * f.made + i * f.wide))[0] = acc[i * PLANAR_COLS + o]


cdef whole planar_vectors(const Planar *f, const real *x, real *made) noexcept nogil:
    """PLANAR_LINES lines of LANES outputs, all channels: an even number of them at a time."""
    cdef Py_ssize_t col = 0, tiles = ceil_div(f.p.cols, PLANAR_COLS), tile, cols
    for tile in range(tiles):
        cols = f.p.cols * (tile + 1) // tiles - col
        if cols == 1:
            planar_tile(1, f, x, col, made)
        elif cols == 2:
            planar_tile(2, f, x, col, made)
        elif cols == 3:
            planar_tile(3, f, x, col, made)
        elif cols == 4:
            planar_tile(4, f, x, col, made)
        elif cols == 5:
            planar_tile(5, f, x, col, made)
        else:
            planar_tile(6, f, x, col, made)
        col += cols


cdef inline Py_ssize_t planar_padded(const Planar *f) noexcept nogil:
    """Elements of the planes of a band."""
    return max(f.p.depth, <Py_ssize_t> PART_LANES) * f.plane


cdef void planar_band(const Planar *f, Py_ssize_t task, real *scratch) noexcept nogil:
    """One band of lines of an image."""
    cdef const Product *p = &f.p
    cdef Py_ssize_t image = task // f.bands, first = task % f.bands * f.band, end = min(first + f.band, p.h.rows), h = first, w, i
    cdef Py_ssize_t y_line = p.h.out_step * p.out_w * p.y_ld
    cdef real *made = scratch + planar_padded(f)
    cdef real *y = p.y + ((image * p.out_h + p.h.out_first + h * p.h.out_step) * p.out_w + p.w.out_first) * p.y_ld
    pad_planes(f, image, h * p.h.stride + p.h.origin, seen(&p.h, round_up(end - h, PLANAR_LINES)), scratch)
    while h < end:
        w = 0
        while w < p.w.rows:  # the last vector overlaps the one before
            w = max(min(w, p.w.rows - LANES), <Py_ssize_t> 0)
            planar_vectors(f, scratch + (h - first) * p.h.stride * f.line + w, made + w)
            w += LANES
        for i in range(min(end - h, <Py_ssize_t> PLANAR_LINES)):
            put_together(made + i * f.wide, f.made, p.w.rows, p.cols, y + i * y_line)
        if p.finish.pending:  # of a forward convolution, whose lines are neighbors
            finish_pixels(&p.finish, y, y - p.y, min(end - h, <Py_ssize_t> PLANAR_LINES) * p.w.rows, p.cols)
        h += PLANAR_LINES
        y += PLANAR_LINES * y_line


cdef int run_planar(const Product *p, int threads) noexcept nogil:
    """The whole product. -1: no memory."""
    cdef Planar f
    cdef Py_ssize_t each, task, tasks, c, r, s, o
    cdef int status = 0
    cdef bint ordered
    cdef real *scratch
    cdef real *weights
    cdef real *to
    f.p, f.line = p[0], planar_line(p)
    f.band = ceil_div(p.h.rows, ceil_div(threads, p.batch * p.d.size))  # few images are shared
    f.band = min(max(PADDED // (f.line * p.h.stride * p.depth), <Py_ssize_t> 1), f.band)
    f.band = round_up(f.band, PLANAR_LINES)
    f.bands = ceil_div(p.h.rows, f.band)
    f.plane = seen(&p.h, f.band) * f.line + LINE_ITEMS
    f.wide = round_up(max(p.w.rows, <Py_ssize_t> LANES), LINE_ITEMS)
    f.made = PLANAR_LINES * f.wide + LINE_ITEMS
    tasks = p.batch * p.d.size * f.bands
    threads = min(threads, tasks)
    each = own_lines(planar_padded(&f) + max(p.cols, <Py_ssize_t> PART_LANES) * f.made)
    scratch = new_scratch(each, threads)
    weights = new_scratch(own_lines(product_depth(p) * p.cols), 1)
    if scratch != NULL and weights != NULL:
        f.weights = to = weights
        ordered = p.depth == 1 and p.b_col == 1 and p.b_w == p.cols and p.b_h == p.w.taps * p.cols
        if ordered:
            f.weights = p.b
        for c in range(0 if ordered else p.depth):
            for r in range(p.h.taps):
                for s in range(p.w.taps):
                    for o in range(p.cols):
                        to[o] = p.b[r * p.b_h + s * p.b_w + c * p.b_k + o * p.b_col]
                    to += p.cols
        if tasks == 1:
            planar_band(&f, 0, scratch)
        else:
            for task in prange(tasks, schedule="dynamic", num_threads=threads):
                planar_band(&f, task, scratch + threadid() * each)
    else:
        status = -1
    free_lines(weights)
    free_lines(scratch)
    return status
