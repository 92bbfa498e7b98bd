# Normalization: sums over the pixels for each channel, and the map that they decide. Pixels are rows of C channels.
#
# A line holds the channels of one or more pixels, `width` numbers in all, so that few channels still make long loops; tables
# are as wide. Pixels are normalized in sets: the whole batch is one, or each image is. A single set is cut into chunks that
# threads share; of several sets each is one task's, which reads it again while the cache still has it. How it is cut depends on
# sizes alone, and what comes of it is added up in order.

cdef enum:
    LINE = 64          # numbers of a line, about
    CHUNKS = 64        # of a single set, at most
    CHUNK = 16384      # numbers, at least,
    CHUNK_LINES = 16   # in so many lines, at least
    PARTIAL = 1 << 19  # sums of all chunks, at most

cdef struct Norm:
    Py_ssize_t sets, items, pixels, channels, groups, width   # items: numbers of a set
    Py_ssize_t chunk, chunks                                  # numbers of a chunk, chunks of a set
    Order order
    bint given          # whether mean and variance are given
    bint through        # whether gradients flow through them
    bint rectified      # whether gradients come back through a ReLU of the output
    real low            # the least output: 0 for a ReLU of it, else -infinity
    double eps
    const real *scale
    const real *bias    # NULL where a gradient does not need it
    const real *residual   # what is added to the output, or NULL
    real *mean          # (sets, groups) or NULL: given, or written where it is not
    real *var


cdef inline Py_ssize_t most_chunks(Py_ssize_t sums) noexcept nogil:
    """The most chunks, of which each has so many sums."""
    return max(min(<Py_ssize_t> CHUNKS, PARTIAL // sums), <Py_ssize_t> 1)


cdef Norm normalization(
    Py_ssize_t items, Py_ssize_t channels, Py_ssize_t sets, Py_ssize_t groups, double eps, bint gradients
) noexcept nogil:
    """How the numbers are cut, and gone over.

    What the caches hold is summed and mapped FEW_LINES at a time, which share what is read beside them, unless as many lines of x
    and of dy would share sets of the cache. What lies beyond, as all sets together may, is read in its order, which is what processors
    read ahead.
    """
    cdef Norm n
    cdef Py_ssize_t lines
    cdef bint near
    n.sets, n.items, n.channels, n.groups, n.eps = sets, items // sets, channels, groups, eps
    n.rectified, n.low, n.residual = False, -INFINITY, NULL
    n.pixels = n.items // channels
    n.width = max(LINE // channels, <Py_ssize_t> 1) * channels
    near = items * sizeof(real) <= NEAR
    n.order.apart = not near or gradients and n.width * sizeof(real) % SETS == 0
    n.order.columns = NEAR_COLUMNS if items * sizeof(real) <= NEAREST else FAR_COLUMNS
    n.chunk, n.chunks = n.items, 1
    if sets == 1:
        lines = ceil_div(items, n.width)
        n.chunks = max(min(ceil_div(items, CHUNK), min(lines // CHUNK_LINES, most_chunks(SUMS * n.width))) // 2 * 2, <Py_ssize_t> 1)
        n.chunk = round_up(ceil_div(lines, n.chunks), FEW_LINES) * n.width
        n.chunks = ceil_div(items, n.chunk)
    return n


cdef apart sum_chunk(
    const Norm *n, const real *dy, const real *x, Py_ssize_t chunk, const real *origin, double *sums
) noexcept nogil:
    """The sums of one chunk of a set that begins at x; dy is NULL where no gradient is wanted."""
    cdef Py_ssize_t start = chunk * n.chunk, items = min(n.chunk, n.items - start)
    if dy == NULL:
        sum_numbers(True, False, False, NULL, x + start, items, n.width, n.order, origin, sums)
    elif n.rectified:
        sum_numbers(False, True, True, dy + start, x + start, items, n.width, n.order, origin, sums)
    elif n.given:
        sum_numbers(False, True, False, dy + start, x + start, items, n.width, n.order, origin, sums)
    else:
        sum_numbers(True, True, False, dy + start, x + start, items, n.width, n.order, origin, sums)


cdef void repeat_line(real *table, Py_ssize_t width, Py_ssize_t channels) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(channels, width):
        table[i] = table[i - channels]


cdef void set_origin(const Norm *n, const real *x, real *tables) noexcept nogil:
    """What sums are taken around: the mean where it is known, else the first pixel, which is not far from it.

    Also the output's own tables, for gradients through a ReLU of it.
    """
    cdef Py_ssize_t c, i, g, size = n.channels // n.groups
    for g in range(n.groups if n.given and size > 1 else 0):
        for c in range(g * size, (g + 1) * size):
            tables[c] = n.mean[g]
    if size == 1 or not n.given:
        memcpy(tables, n.mean if n.given else x, n.channels * sizeof(real))
    for c in range(n.channels if n.rectified else 0):
        tables[n.width + c] = n.mean[c]
        tables[4 * n.width + c] = factor(n.scale[c], n.var[c], n.eps)
        tables[5 * n.width + c] = n.bias[c]
    for i in range(TABLES if n.rectified else 1):
        repeat_line(tables + i * n.width, n.width, n.channels)


cdef void spread(double *x, Py_ssize_t groups, Py_ssize_t size) noexcept nogil:
    """Each group's number becomes that of each of its channels."""
    cdef Py_ssize_t g, c
    cdef double value
    for g in range(groups - 1 if size > 1 else -1, -1, -1):
        value = x[g]
        for c in range(g * size, (g + 1) * size):
            x[c] = value


cdef inline double inverse_deviation(real var, double eps) noexcept nogil:
    return 1 / sqrt(<double> var + eps)


cdef inline real factor(real scale, real var, double eps) noexcept nogil:
    """What the distance from the mean is multiplied by."""
    return <real> (scale * inverse_deviation(var, eps))


cdef void add_up(const Norm *n, bint gradients, double *sums) noexcept nogil:
    """Leave in the first C of each of the first (SUMS, width) numbers the sum over all chunks and all pixels of a line."""
    cdef Py_ssize_t i, c, k, each = SUMS * n.width, first = 2 if n.given else 0, end = 4 if gradients else 2
    for i in range(1, n.chunks):
        for c in range(first * n.width, end * n.width):
            sums[c] += sums[i * each + c]
    for k in range(first, end):
        for i in range(1, n.width // n.channels):
            for c in range(n.channels):
                sums[k * n.width + c] += sums[k * n.width + i * n.channels + c]


cdef double sum_around(const double *x, Py_ssize_t items, double around, bint squared) noexcept nogil:
    """The sum of the distances from a number, or of their squares; eight sums, since each would wait for the one before."""
    cdef double part[8]
    cdef double d, total = 0
    cdef Py_ssize_t i = 0, k
    for k in range(8):
        part[k] = 0
    while i + 8 <= items:
        for k in range(8):
            d = x[i + k] - around
            part[k] += d * d if squared else d
        i += 8
    for k in range(items - i):
        d = x[i + k] - around
        part[k] += d * d if squared else d
    for k in range(8):
        total += part[k]
    return total


cdef void set_statistics(const Norm *n, const real *origin, double *sums) noexcept nogil:
    """Each channel's mean, and 1 / sqrt(var + eps), both of its group, in the place of its first two sums."""
    cdef Py_ssize_t c, g, groups = n.groups, size = n.channels // groups
    cdef double shift, share = 1.0 / n.pixels, eps = n.eps
    cdef double *means = sums
    cdef double *vars = sums + n.width
    if n.given:
        for g in range(groups):
            means[g], vars[g] = n.mean[g], n.var[g]
    else:
        for c in range(n.channels):
            shift = means[c] * share
            means[c] = origin[c] + shift
            vars[c] = max(vars[c] * share - shift * shift, 0.0)
        for g in range(groups if size > 1 else 0):
            shift = sum_around(means + g * size, size, 0, False) / size
            vars[g] = (sum_around(vars + g * size, size, 0, False) + sum_around(means + g * size, size, shift, True)) / size
            means[g] = shift
        if n.mean != NULL:
            for g in range(groups):
                n.mean[g], n.var[g] = <real> means[g], <real> vars[g]
    for g in range(groups):
        vars[g] = inverse_deviation(<real> vars[g], eps)
    spread(means, groups, size)
    spread(vars, groups, size)


cdef void forward_tables(const Norm *n, double *sums, real *tables) noexcept nogil:
    """Mean, factor, shift and share of y = (x - mean) * factor + shift + residual * share."""
    cdef Py_ssize_t c, width = n.width
    cdef const real *scale = n.scale
    set_statistics(n, tables, sums)
    for c in range(n.channels):
        tables[width + c] = <real> sums[c]
        tables[2 * width + c] = <real> (scale[c] * sums[width + c])   # as `factor` rounds
        tables[3 * width + c] = n.bias[c]
        tables[4 * width + c] = 1
    for c in range(1, 5):
        repeat_line(tables + c * width, width, n.channels)


cdef void add_over_groups(const Norm *n, double *sums) noexcept nogil:
    """Each channel's number becomes the sum over its group."""
    cdef Py_ssize_t g, c, size = n.channels // n.groups
    cdef double total
    if size == 1:
        return
    for g in range(n.groups):
        total = sum_around(sums + g * size, size, 0, False)
        for c in range(g * size, (g + 1) * size):
            sums[c] = total


cdef void backward_tables(const Norm *n, double *sums, real *tables, double *dscale, double *dbias) noexcept nogil:
    """Mean, factor, shift and share of dx = (x - mean) * factor + shift + dy * share; the gradients of scale and bias.

    What comes out does not change when x is shifted or stretched, so the gradient loses its components along both. The loops are
    such that vectors of channels go through them: with 2,048 channels this took as long as each of the passes over 7 x 7 pixels.
    """
    cdef Py_ssize_t c, width = n.width, channels = n.channels
    cdef double product, inverse, share = 1.0 / (channels // n.groups * n.pixels)
    cdef bint through = n.through
    cdef const double *inverses = sums + width
    cdef double *along_shift = sums + 2 * width
    cdef double *along_stretch = sums + 3 * width
    cdef const real *scale = n.scale
    set_statistics(n, tables, sums)
    for c in range(channels):
        product = along_stretch[c] - (sums[c] - tables[c]) * along_shift[c]
        dscale[c] += product * inverses[c]
        dbias[c] += along_shift[c]
        along_shift[c] *= scale[c]
        along_stretch[c] = product * scale[c]
    add_over_groups(n, along_shift)
    add_over_groups(n, along_stretch)
    for c in range(channels):
        inverse = inverses[c]
        tables[width + c] = <real> sums[c]
        tables[2 * width + c] = <real> (-inverse * inverse * inverse * along_stretch[c] * share) if through else 0
        tables[3 * width + c] = <real> (-inverse * along_shift[c] * share) if through else 0
        tables[4 * width + c] = <real> (scale[c] * inverse)   # as `factor` rounds
    for c in range(1, 5):
        repeat_line(tables + c * width, width, channels)


cdef apart map_chunk(
    const Norm *n, const real *add, const real *x, Py_ssize_t chunk, const real *tables, real *y
) noexcept nogil:
    cdef Py_ssize_t start = chunk * n.chunk, items = min(n.chunk, n.items - start)
    if add == NULL:
        map_numbers(False, False, NULL, x + start, items, n.width, n.order, tables, n.low, y + start)
    elif n.rectified:
        map_numbers(True, True, add + start, x + start, items, n.width, n.order, tables, n.low, y + start)
    else:
        map_numbers(True, False, add + start, x + start, items, n.width, n.order, tables, n.low, y + start)


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
    cdef Norm one = n[0]
    cdef Py_ssize_t s
    cdef const real *gradient = NULL
    for s in range(first, end):
        if dy != NULL:
            gradient = dy + s * n.items
        if n.mean != NULL:
            one.mean, one.var = n.mean + s * n.groups, n.var + s * n.groups
        set_origin(&one, x + s * n.items, tables)
        sum_chunk(&one, gradient, x + s * n.items, 0, tables, scratch)
        add_up(&one, dy != NULL, scratch)
        set_tables(&one, dy != NULL, scratch, tables, dparams)
        map_chunk(&one, gradient, x + s * n.items, 0, tables, y + s * n.items)


cdef inline Py_ssize_t last_first(Py_ssize_t i, Py_ssize_t chunks, int threads) noexcept nogil:
    """Each thread goes backwards through those that it has summed, of which its caches hold the last ones."""
    cdef Py_ssize_t share = ceil_div(chunks, threads), first = i // share * share
    return first + min(first + share, chunks) - 1 - i


cdef void one_set_tables(
    const Norm *n, const real *dy, const real *x, real *tables, double *sums, double *dparams, int threads
) noexcept nogil:
    """The tables of a single set: its chunks are summed by all threads."""
    cdef Py_ssize_t i, each = SUMS * n.width
    set_origin(n, x, tables)
    if dy != NULL or not n.given:
        for i in prange(n.chunks, num_threads=threads):
            sum_chunk(n, dy, x, i, tables, sums + i * each)
        add_up(n, dy != NULL, sums)
    set_tables(n, dy != NULL, sums, tables, dparams)


cdef int normalize(
    const Norm *n, const real *dy, const real *x, real *y, real *dscale, real *dbias, int threads
) noexcept nogil:
    """y, or with dy the gradient of x; -1 where there is no memory for the sums."""
    cdef Py_ssize_t dparams = 2 * n.channels, tasks = min(n.sets, most_chunks(dparams)), some = ceil_div(n.sets, tasks), i, c
    cdef Py_ssize_t lines = round_up((SUMS + TABLES) * n.width, 8), each = SUMS * n.width
    cdef Py_ssize_t sums = lines * threads if n.sets > 1 else lines + each * n.chunks
    cdef double *scratch = <double *> new_lines(round_up(sums + dparams * tasks, 8) * sizeof(double))
    cdef double *parameters = scratch + sums
    cdef real *tables = <real *> (scratch + each * n.chunks)
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
        one_set_tables(n, dy, x, tables, scratch, parameters, threads)
        for i in prange(n.chunks, num_threads=threads):
            map_chunk(n, dy if dy != NULL else n.residual, x, last_first(i, n.chunks, threads), tables, y)
    if dy != NULL:
        write_parameters(n, parameters, tasks, dscale, dbias)
    free_lines(scratch)
    return 0


cdef void write_parameters(const Norm *n, const double *parameters, Py_ssize_t tasks, real *dscale, real *dbias) noexcept nogil:
    """The gradients of scale and bias: the sums of those that tasks have found."""
    cdef Py_ssize_t i, c
    cdef double total
    for c in range(n.channels):
        total = 0
        for i in range(tasks):
            total = total + parameters[i * 2 * n.channels + c]
        dscale[c] = <real> total
        total = 0
        for i in range(tasks):
            total = total + parameters[i * 2 * n.channels + n.channels + c]
        dbias[c] = <real> total


def norm_forward(
    x, scale, bias, residual, y, mean, var, bint given, bint relu, Py_ssize_t sets, Py_ssize_t groups, double eps, int threads, /,
):
    """y[s, p, c] = (x[s, p, c] - mean[s, g]) / sqrt(var[s, g] + eps) * scale[c] + bias[c], g the group of channel c.

    `mean` and `var`, (sets, groups), are given or written; None where nobody asks for them.
    For one set, `residual` may be added to y; with `relu` y is at least 0.
    """
    cdef Py_ssize_t items, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *factors = read_from(scale, &channels)
    cdef Norm n = normalization(items, channels, sets, groups, eps, False)
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
    int threads, /,
):
    """The gradients of `norm_forward`; `mean` and `var`, (sets, groups), are None where they are to be computed again.

    `through` says whether they depend on x. Where the output went through a ReLU, `relu_bias` is the bias, else None.
    """
    cdef Py_ssize_t items, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *factors = read_from(scale, &channels)
    cdef const real *gradient = read_from(dy)
    cdef Norm n = normalization(items, channels, sets, groups, eps, True)
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
