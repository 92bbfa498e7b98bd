# Sums over lines of numbers: of x and its square, of a gradient and its product with x, in the dtype of x for a few lines around the
# first of them, and in double precision for the rest.

cdef enum:
    BLOCK_LINES = 32     # lines that are summed in the dtype of x before they go to sums in double; the last block takes the rest too
    FEW_LINES = 4        # lines that are gone over side by side, where a cache holds them
    FAR_COLUMNS = 2048   # of a line, at a time: pieces of a page with gaps between them are read at half the speed
    NEAR_COLUMNS = 512   # at a time where the second-level cache holds the lines: sums and tables stay in the first-level cache
    SUMS = 4             # for each number of a line: of x - origin, its square, dy, dy * (x - origin)

cdef struct Order:
    # how a block of lines is gone over
    Py_ssize_t columns   # so many of all its lines, then the next ones
    bint apart           # one line after the other, else FEW_LINES side by side


cdef inline vec passed(vec dy, vec x, vec mean, vec share, vec bias) noexcept nogil:
    """What of dy goes back through a ReLU of the output, which is computed again, with the roundings of `map_lines`."""
    return where(above((x - mean) * share + bias, broadcast(0)), dy)


cdef inline void sum_lines(
    const int lines, const bint squares, const bint gradients, const bint rectified, const real *dy, const real *x,
    const real *base, Py_ssize_t width, Py_ssize_t first, Py_ssize_t end, const real *origin, real *parts,
) noexcept nogil:
    """Add `lines` lines, from column `first` to `end`, to parts (SUMS, FAR_COLUMNS), along the lines: memory is read in its order."""
    cdef Py_ssize_t j = first, at, r
    cdef vec around, d, g, one, two, total, product
    cdef vec mean = broadcast(0), share = broadcast(0), bias = broadcast(0)
    while j < end:
        at = min(j, width - LANES)   # the last vector overlaps the one before, whose lanes it sums in vain
        around = (<const vec *> (base + at))[0]
        if squares:
            one, two = (<vec *> parts)[0], (<vec *> (parts + FAR_COLUMNS))[0]
        if gradients:
            total, product = (<vec *> (parts + 2 * FAR_COLUMNS))[0], (<vec *> (parts + 3 * FAR_COLUMNS))[0]
        if rectified:
            mean = (<const vec *> (origin + width + at))[0]
            share = (<const vec *> (origin + 4 * width + at))[0]
            bias = (<const vec *> (origin + 5 * width + at))[0]
        for r in range(lines):
            d = (<const vec *> (x + r * width + at))[0] - around
            if squares:
                one = one + d
                two = two + d * d
            if gradients:
                g = (<const vec *> (dy + r * width + at))[0]
                if rectified:
                    g = passed(g, (<const vec *> (x + r * width + at))[0], mean, share, bias)
                total = total + g
                product = product + g * d
        if squares:
            (<vec *> parts)[0], (<vec *> (parts + FAR_COLUMNS))[0] = one, two
        if gradients:
            (<vec *> (parts + 2 * FAR_COLUMNS))[0], (<vec *> (parts + 3 * FAR_COLUMNS))[0] = total, product
        parts += LANES
        j += LANES


cdef inline void into_doubles(
    const bint squares, const bint gradients, const real *parts, const real *base, const real *origin, Py_ssize_t items,
    Py_ssize_t lines, Py_ssize_t width, double *sums,
) noexcept nogil:
    """Add sums around `base` to those around `origin`."""
    cdef Py_ssize_t c
    cdef double shift
    for c in range(items):
        shift = <double> base[c] - <double> origin[c]
        if squares:
            sums[c] += parts[c] + lines * shift
            sums[width + c] += parts[FAR_COLUMNS + c] + 2 * shift * parts[c] + lines * shift * shift
        if gradients:
            sums[2 * width + c] += parts[2 * FAR_COLUMNS + c]
            sums[3 * width + c] += parts[3 * FAR_COLUMNS + c] + shift * parts[2 * FAR_COLUMNS + c]


cdef inline void sum_block(
    const bint squares, const bint gradients, const bint rectified, const real *dy, const real *x, Py_ssize_t lines,
    Py_ssize_t width, Order order, const real *origin, double *sums,
) noexcept nogil:
    """Add a few lines to the sums. Around the first line no digits are lost, however far from 0 the numbers lie."""
    cdef real room[SUMS * FAR_COLUMNS + 16]
    cdef real *parts = room + (64 - <size_t> &room[0] % 64) // sizeof(real)   # from a cache line
    cdef Py_ssize_t first = 0, end, whole, c, i, k, r
    while first < width:
        end = min(first + order.columns, width)
        for k in range(0 if squares else 2, 4 if gradients else 2):
            for c in range(ceil_div(end - first, LANES)):
                (<vec *> (parts + k * FAR_COLUMNS + c * LANES))[0] = broadcast(0)
        r = 0
        while not order.apart and r + FEW_LINES <= lines:
            i = r * width
            sum_lines(FEW_LINES, squares, gradients, rectified, dy + i, x + i, x, width, first, end, origin, parts)
            r += FEW_LINES
        while r < lines:
            i = r * width
            sum_lines(1, squares, gradients, rectified, dy + i, x + i, x, width, first, end, origin, parts)
            r += 1
        whole = first + (end - first) // LANES * LANES
        into_doubles(squares, gradients, parts, x + first, origin + first, whole - first, lines, width, sums + first)
        if whole < end:
            into_doubles(
                squares, gradients, parts + whole - first + LANES - (end - whole), x + whole, origin + whole, end - whole, lines,
                width, sums + whole,
            )
        first = end


cdef inline void sum_numbers(
    const bint squares, const bint gradients, const bint rectified, const real *dy, const real *x, Py_ssize_t items,
    Py_ssize_t width, Order order, const real *origin, double *sums,
) noexcept nogil:
    """sums (SUMS, width) = those over lines of x, of which the last may be cut short; `origin` begins the tables."""
    cdef Py_ssize_t i = 0, lines, c
    cdef double d
    cdef real g
    for c in range(0 if squares else 2 * width, (4 if gradients else 2) * width):
        sums[c] = 0
    while items - i >= width:
        lines = (items - i) // width
        lines = BLOCK_LINES if lines >= 2 * BLOCK_LINES else lines
        sum_block(squares, gradients, rectified, dy + i, x + i, lines, width, order, origin, sums)
        i += lines * width
    for c in range(items - i):
        d = <double> x[i + c] - <double> origin[c]
        if squares:
            sums[c] += d
            sums[width + c] += d * d
        if gradients:
            g = dy[i + c]
            if rectified:
                g = g if (x[i + c] - origin[width + c]) * origin[4 * width + c] + origin[5 * width + c] > 0 else 0
            sums[2 * width + c] += <double> g
            sums[3 * width + c] += <double> g * d
