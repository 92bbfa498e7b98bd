# Normalization: sums over the pixels for each channel, and the map that they decide. Pixels are rows of C channels.
#
# A line holds the channels of one or more pixels, `width` numbers in all, so that few channels still make long loops; tables
# are as wide. Pixels are normalized in sets: the whole batch is one, or each image is. A single set is cut into chunks that
# threads share; of several sets each is one task's, which reads it again while the cache still has it. How it is cut depends on
# sizes alone, and what comes of it is added up in order.

cdef enum:
    LINE = 64          # numbers of a line, about
    BLOCK_LINES = 16   # lines that are summed in the dtype of x, around the first of them, before they go to sums in double
    FEW_LINES = 4      # lines that a map goes over at a time
    CHUNKS = 64        # of a single set, at most
    CHUNK = 16384      # numbers, at least
    SUMS = 4           # for each number of a line: of x - origin, its square, dy, dy * (x - origin)
    TABLES = 6         # origin, mean, factor, shift, share, bias

cdef struct Norm:
    Py_ssize_t sets, items, pixels, channels, groups, width   # items: numbers of a set
    Py_ssize_t chunk, chunks                                  # numbers of a chunk, chunks of a set
    bint given          # whether mean and variance are given
    bint through        # whether gradients flow through them
    bint rectified      # whether gradients come back through a ReLU of the output
    real low            # the least output: 0 for a ReLU of it, else -infinity
    double eps
    const real *scale
    const real *bias    # NULL where a gradient does not need it
    const real *residual   # what is added to the output, or NULL
    real *mean          # (C,) or NULL: given, or written where it is not
    real *var


cdef Norm normalization(Py_ssize_t items, Py_ssize_t channels, Py_ssize_t sets, Py_ssize_t groups, double eps) noexcept nogil:
    cdef Norm n
    n.sets, n.items, n.channels, n.groups, n.eps = sets, items // sets, channels, groups, eps
    n.rectified, n.low, n.residual = False, -INFINITY, NULL
    n.pixels = n.items // channels
    n.width = max(LINE // channels, <Py_ssize_t> 1) * channels
    n.chunk, n.chunks = n.items, 1
    if sets == 1:
        n.chunk = (max(<Py_ssize_t> CHUNK, ceil_div(items, CHUNKS)) // n.width + 1) * n.width
        n.chunks = ceil_div(items, n.chunk)
    return n


cdef inline void into_doubles(
    vec first, vec second, vec base, const real *origin, Py_ssize_t lines, Py_ssize_t skip, double *to, double *squares
) noexcept nogil:
    """Add sums of d and of its square, d being what `base` was taken from, to those of what `origin` is taken from."""
    cdef real s[LANES]
    cdef real q[LANES]
    cdef real b[LANES]
    cdef double shift
    cdef Py_ssize_t i
    (<vec *> s)[0], (<vec *> q)[0], (<vec *> b)[0] = first, second, base
    for i in range(skip, LANES):
        shift = <double> b[i] - <double> origin[i]
        to[i] += s[i] + lines * shift
        squares[i] += q[i] + 2 * shift * s[i] + lines * shift * shift


cdef inline void products_into_doubles(
    vec first, vec second, vec base, const real *origin, Py_ssize_t skip, double *to, double *products
) noexcept nogil:
    cdef real s[LANES]
    cdef real q[LANES]
    cdef real b[LANES]
    cdef Py_ssize_t i
    (<vec *> s)[0], (<vec *> q)[0], (<vec *> b)[0] = first, second, base
    for i in range(skip, LANES):
        to[i] += s[i]
        products[i] += q[i] + (<double> b[i] - <double> origin[i]) * s[i]


cdef inline vec passed(vec dy, vec x, vec mean, vec share, vec bias) noexcept nogil:
    """What of dy goes back through a ReLU of the output, which is computed again, with the roundings of `map_lines`."""
    return where(above((x - mean) * share + bias, broadcast(0)), dy)


cdef inline void sum_block(
    const bint squares, const bint gradients, const bint rectified, const real *dy, const real *x, Py_ssize_t lines,
    Py_ssize_t width, const real *origin, double *sums,
) noexcept nogil:
    """Add a few lines to the sums. Around the first line no digits are lost, however far from 0 the numbers lie."""
    cdef Py_ssize_t j = 0, at, r
    cdef vec base, d, g, first, second, total, product
    cdef vec mean = broadcast(0), share = broadcast(0), bias = broadcast(0)
    while j < width:
        at = min(j, width - LANES)   # the last vector overlaps the one before, and skips what that has summed
        base = (<const vec *> (x + at))[0]
        first = second = total = product = broadcast(0)
        if rectified:
            mean = (<const vec *> (origin + width + at))[0]
            share = (<const vec *> (origin + 4 * width + at))[0]
            bias = (<const vec *> (origin + 5 * width + at))[0]
        for r in range(lines):
            d = (<const vec *> (x + r * width + at))[0] - base
            if squares:
                first = first + d
                second = second + d * d
            if gradients:
                g = (<const vec *> (dy + r * width + at))[0]
                if rectified:
                    g = passed(g, (<const vec *> (x + r * width + at))[0], mean, share, bias)
                total = total + g
                product = product + g * d
        if squares:
            into_doubles(first, second, base, origin + at, lines, j - at, sums + at, sums + width + at)
        if gradients:
            products_into_doubles(
                total, product, base, origin + at, j - at, sums + 2 * width + at, sums + 3 * width + at
            )
        j += LANES


cdef inline void sum_numbers(
    const bint squares, const bint gradients, const bint rectified, const real *dy, const real *x, Py_ssize_t items,
    Py_ssize_t width, const real *origin, double *sums,
) noexcept nogil:
    """sums (SUMS, width) = those over lines of x, of which the last may be cut short; `origin` begins the tables."""
    cdef Py_ssize_t i = 0, lines, c
    cdef double d
    cdef real g
    for c in range(0 if squares else 2 * width, (4 if gradients else 2) * width):
        sums[c] = 0
    while items - i >= width:
        lines = min((items - i) // width, <Py_ssize_t> BLOCK_LINES)
        sum_block(squares, gradients, rectified, dy + i, x + i, lines, width, origin, sums)
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


cdef void sum_chunk(
    const Norm *n, const real *dy, const real *x, Py_ssize_t chunk, const real *origin, double *sums
) noexcept nogil:
    """The sums of one chunk of a set that begins at x; dy is NULL where no gradient is wanted."""
    cdef Py_ssize_t start = chunk * n.chunk, items = min(n.chunk, n.items - start)
    if dy == NULL:
        sum_numbers(True, False, False, NULL, x + start, items, n.width, origin, sums)
    elif n.rectified:
        sum_numbers(False, True, True, dy + start, x + start, items, n.width, origin, sums)
    elif n.given:
        sum_numbers(False, True, False, dy + start, x + start, items, n.width, origin, sums)
    else:
        sum_numbers(True, True, False, dy + start, x + start, items, n.width, origin, sums)


cdef void repeat_line(real *table, Py_ssize_t width, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(channels, width):
        table[i] = table[i - channels]


cdef void set_origin(const Norm *n, const real *x, real *tables) noexcept nogil:
    """What sums are taken around: the mean where it is known, else the first pixel, which is not far from it.

    Also the output's own tables, for gradients through a ReLU of it.
    """
    cdef Py_ssize_t c, i
    for c in range(n.channels):
        tables[c] = n.mean[c] if n.given else x[c]
        if n.rectified:
            tables[n.width + c] = n.mean[c]
            tables[4 * n.width + c] = factor_of(n, c, n.var[c])
            tables[5 * n.width + c] = n.bias[c]
    for i in range(TABLES if n.rectified else 1):
        repeat_line(tables + i * n.width, n.width, n.channels)


cdef inline real factor_of(const Norm *n, Py_ssize_t c, real var) noexcept nogil:
    """What the distance from the mean is multiplied by."""
    return <real> (n.scale[c] / sqrt(<double> var + n.eps))


cdef void add_up(const Norm *n, bint gradients, double *sums) noexcept nogil:
    """Leave in the first C of each of the first (SUMS, width) numbers the sum over all chunks and all pixels of a line."""
    cdef Py_ssize_t i, c, k, each = SUMS * n.width, first = 2 if n.given else 0, end = 4 if gradients else 2
    for i in range(1, n.chunks):
        for c in range(first * n.width, end * n.width):
            sums[c] += sums[i * each + c]
    for k in range(first, end):
        for i in range(n.channels, n.width):
            sums[k * n.width + i % n.channels] += sums[k * n.width + i]


cdef void group_statistics(
    const Norm *n, const real *origin, double *sums, Py_ssize_t first, Py_ssize_t end, double *mean, double *var
) noexcept nogil:
    """Mean and variance over the channels from `first` to `end`."""
    cdef Py_ssize_t c
    cdef double shift
    mean[0] = var[0] = 0
    if n.given:
        mean[0], var[0] = n.mean[first], n.var[first]
        return
    for c in range(first, end):
        mean[0] += origin[c] + sums[c] / n.pixels
    mean[0] /= end - first
    for c in range(first, end):
        shift = sums[c] / n.pixels
        var[0] += max(sums[n.width + c] / n.pixels - shift * shift, 0.0)
        shift += origin[c] - mean[0]
        var[0] += shift * shift
    var[0] /= end - first
    if n.mean != NULL:
        n.mean[first], n.var[first] = <real> mean[0], <real> var[0]


cdef void forward_tables(const Norm *n, double *sums, real *tables) noexcept nogil:
    """Mean, factor, shift and share of y = (x - mean) * factor + shift + residual * share."""
    cdef Py_ssize_t g, c, size = n.channels // n.groups
    cdef double mean, var
    for g in range(n.groups):
        group_statistics(n, tables, sums, g * size, (g + 1) * size, &mean, &var)
        for c in range(g * size, (g + 1) * size):
            tables[n.width + c] = <real> mean
            tables[2 * n.width + c] = factor_of(n, c, <real> var)
            tables[3 * n.width + c] = n.bias[c]
            tables[4 * n.width + c] = 1
    for c in range(1, 5):
        repeat_line(tables + c * n.width, n.width, n.channels)


cdef void backward_tables(const Norm *n, double *sums, real *tables, double *dscale, double *dbias) noexcept nogil:
    """Mean, factor, shift and share of dx = (x - mean) * factor + shift + dy * share; the gradients of scale and bias.

    What comes out does not change when x is shifted or stretched, so the gradient loses its components along both.
    """
    cdef Py_ssize_t g, c, size = n.channels // n.groups
    cdef double mean, var, inverse, along_shift, along_stretch, product, count = size * n.pixels
    for g in range(n.groups):
        group_statistics(n, tables, sums, g * size, (g + 1) * size, &mean, &var)
        inverse = 1 / sqrt(<double> <real> var + n.eps)
        along_shift = along_stretch = 0
        for c in range(g * size, (g + 1) * size):
            product = sums[3 * n.width + c] - (mean - tables[c]) * sums[2 * n.width + c]
            along_shift += n.scale[c] * sums[2 * n.width + c]
            along_stretch += n.scale[c] * product
            dscale[c] += product * inverse
            dbias[c] += sums[2 * n.width + c]
        for c in range(g * size, (g + 1) * size):
            tables[n.width + c] = <real> mean
            tables[2 * n.width + c] = <real> (-inverse * inverse * inverse * along_stretch / count) if n.through else 0
            tables[3 * n.width + c] = <real> (-inverse * along_shift / count) if n.through else 0
            tables[4 * n.width + c] = factor_of(n, c, <real> var)
    for c in range(1, 5):
        repeat_line(tables + c * n.width, n.width, n.channels)


cdef inline void map_lines(
    const bint added, const bint rectified, const real *add, const real *x, Py_ssize_t lines, Py_ssize_t width,
    const real *tables, real low, real *y,
) noexcept nogil:
    cdef Py_ssize_t j = 0, at, r
    cdef vec mean, factor, shift, share = broadcast(0), bias = broadcast(0), value, item
    while j < width:
        at = min(j, width - LANES)
        mean = (<const vec *> (tables + width + at))[0]
        factor = (<const vec *> (tables + 2 * width + at))[0]
        shift = (<const vec *> (tables + 3 * width + at))[0]
        if added:
            share = (<const vec *> (tables + 4 * width + at))[0]
        if rectified:
            bias = (<const vec *> (tables + 5 * width + at))[0]
        for r in range(lines):
            value = ((<const vec *> (x + r * width + at))[0] - mean) * factor + shift
            if added:
                item = (<const vec *> (add + r * width + at))[0]
                if rectified:
                    item = passed(item, (<const vec *> (x + r * width + at))[0], mean, share, bias)
                value = item * share + value
            (<vec *> (y + r * width + at))[0] = choose(above(broadcast(low), value), broadcast(low), value)
        j += LANES


cdef inline void map_numbers(
    const bint added, const bint rectified, const real *add, const real *x, Py_ssize_t items, Py_ssize_t width,
    const real *tables, real low, real *y,
) noexcept nogil:
    """y = (x - mean) * factor + shift, plus add * share, at least `low`; a gradient to add may have to pass a ReLU."""
    cdef Py_ssize_t i = 0, lines, c
    cdef real value, item
    while items - i >= width:
        lines = min((items - i) // width, <Py_ssize_t> FEW_LINES)
        map_lines(added, rectified, add + i, x + i, lines, width, tables, low, y + i)
        i += lines * width
    for c in range(items - i):
        value = (x[i + c] - tables[width + c]) * tables[2 * width + c] + tables[3 * width + c]
        if added:
            item = add[i + c]
            if rectified:
                item = item if (x[i + c] - tables[width + c]) * tables[4 * width + c] + tables[5 * width + c] > 0 else 0
            value = item * tables[4 * width + c] + value
        y[i + c] = low if low > value else value


cdef void map_chunk(
    const Norm *n, const real *add, const real *x, Py_ssize_t chunk, const real *tables, real *y
) noexcept nogil:
    cdef Py_ssize_t start = chunk * n.chunk, items = min(n.chunk, n.items - start)
    if add == NULL:
        map_numbers(False, False, NULL, x + start, items, n.width, tables, n.low, y + start)
    elif n.rectified:
        map_numbers(True, True, add + start, x + start, items, n.width, tables, n.low, y + start)
    else:
        map_numbers(True, False, add + start, x + start, items, n.width, tables, n.low, y + start)


cdef void set_tables(const Norm *n, bint gradients, double *sums, real *tables, double *dparams) noexcept nogil:
    if gradients:
        backward_tables(n, sums, tables, dparams, dparams + n.channels)
    else:
        forward_tables(n, sums, tables)


cdef void some_sets(
    const Norm *n, const real *dy, const real *x, Py_ssize_t first, Py_ssize_t end, real *y, double *dparams, double *scratch
) noexcept nogil:
    """Whole sets, one after the other."""
    cdef real *tables = <real *> (scratch + SUMS * n.width)
    cdef Py_ssize_t s
    cdef const real *gradient = NULL
    for s in range(first, end):
        if dy != NULL:
            gradient = dy + s * n.items
        set_origin(n, x + s * n.items, tables)
        sum_chunk(n, gradient, x + s * n.items, 0, tables, scratch)
        add_up(n, dy != NULL, scratch)
        set_tables(n, dy != NULL, scratch, tables, dparams)
        map_chunk(n, gradient, x + s * n.items, 0, tables, y + s * n.items)


cdef int normalize(
    const Norm *n, const real *dy, const real *x, real *y, real *dscale, real *dbias, int threads
) noexcept nogil:
    """y, or with dy the gradient of x; -1 where there is no memory for the sums."""
    cdef Py_ssize_t tasks = min(n.sets, <Py_ssize_t> CHUNKS), some = ceil_div(n.sets, tasks), i, c, dparams = 2 * n.channels
    cdef Py_ssize_t lines = round_up((SUMS + TABLES) * n.width, 8), each = SUMS * n.width
    cdef Py_ssize_t sums = lines * threads if n.sets > 1 else lines + each * n.chunks
    cdef double *scratch = <double *> aligned_alloc(64, round_up(sums + dparams * tasks, 8) * sizeof(double))
    cdef double *parameters = scratch + sums
    cdef real *tables = <real *> (scratch + each * n.chunks)
    cdef double total
    if scratch == NULL:
        return -1
    for c in range(dparams * tasks):
        parameters[c] = 0
    if n.sets > 1:
        for i in prange(tasks, num_threads=threads):
            some_sets(
                n, dy, x, min(i * some, n.sets), min((i + 1) * some, n.sets), y, parameters + i * dparams,
                scratch + threadid() * lines,
            )
    else:
        set_origin(n, x, tables)
        if dy != NULL or not n.given:
            for i in prange(n.chunks, num_threads=threads):
                sum_chunk(n, dy, x, i, tables, scratch + i * each)
            add_up(n, dy != NULL, scratch)
        set_tables(n, dy != NULL, scratch, tables, parameters)
        for i in prange(n.chunks, num_threads=threads):
            map_chunk(n, dy if dy != NULL else n.residual, x, i, tables, y)
    if dy != NULL:
        for c in range(n.channels):
            total = 0
            for i in range(tasks):
                total = total + parameters[i * dparams + c]
            dscale[c] = <real> total
            total = 0
            for i in range(tasks):
                total = total + parameters[i * dparams + n.channels + c]
            dbias[c] = <real> total
    free(scratch)
    return 0


def norm_forward(
    x, scale, bias, residual, y, mean, var, bint given, bint relu, Py_ssize_t sets, Py_ssize_t groups, double eps, int threads
):
    """y[s, p, c] = (x[s, p, c] - mean[s, g]) / sqrt(var[s, g] + eps) * scale[c] + bias[c], g the group of channel c.

    `mean` and `var`, (C,) for one set and groups of one channel, are given or written; None where nobody asks for them.
    For one set, `residual` may be added to y; with `relu` y is at least 0.
    """
    cdef Py_ssize_t items, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *factors = read_from(scale, &channels)
    cdef Norm n = normalization(items, channels, sets, groups, eps)
    cdef real *to = write_to(y)
    cdef int failed
    n.given, n.through, n.scale, n.bias = given, False, factors, read_from(bias)
    n.mean = n.var = NULL
    if mean is not None:
        n.mean, n.var = <real *> read_from(mean), <real *> read_from(var)
    if residual is not None:
        n.residual = read_from(residual)
    if relu:
        n.low = 0
    with nogil:
        failed = normalize(&n, NULL, source, to, NULL, NULL, threads)
    if failed:
        raise MemoryError("no memory for the sums of a normalization")


def norm_backward(
    dy, x, scale, relu_bias, mean, var, dx, dscale, dbias, bint through, Py_ssize_t sets, Py_ssize_t groups, double eps,
    int threads,
):
    """The gradients of `norm_forward`; `mean` and `var`, (C,), are None where they are to be computed again.

    `through` says whether they depend on x. Where the output went through a ReLU, `relu_bias` is the bias, else None.
    """
    cdef Py_ssize_t items, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *factors = read_from(scale, &channels)
    cdef const real *gradient = read_from(dy)
    cdef Norm n = normalization(items, channels, sets, groups, eps)
    cdef real *to = write_to(dx)
    cdef real *to_scale = write_to(dscale)
    cdef real *to_bias = write_to(dbias)
    cdef int failed
    n.given, n.through, n.scale, n.bias = mean is not None, through, factors, NULL
    n.mean = n.var = NULL
    if mean is not None:
        n.mean, n.var = <real *> read_from(mean), <real *> read_from(var)
    if relu_bias is not None:
        n.rectified, n.bias = True, read_from(relu_bias)
    with nogil:
        failed = normalize(&n, gradient, source, to, to_scale, to_bias, threads)
    if failed:
        raise MemoryError("no memory for the sums of a normalization")
