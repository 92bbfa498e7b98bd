# Products with few columns, of which a vector would be nearly empty, as dot products along the channels of the input, in groups
# or not. Any taps, strides and dilations: each window's pixels are read where they lie.
#
#   y[m, j] = bias[j] + sum_{t, k} a[m, t, k] * b[t, k, j]      a vector of k at a time, whose lanes are added in the end


cdef enum:
    DOTS_PIXELS = 256   # of a strip of one tap: fewer of more, whose addresses
    DOTS_PLACES = 4096  # are so many
    DOTS_ADDRESSES = 8  # pixels whose addresses stay in registers
    DOTS_AHEAD = 32     # pixels ahead that are fetched from afar
    DOTS_COLUMNS = LANES // 2  # at most
    DOTS_SUM = 4        # steps of a sum that take as long as adding its lanes


cdef struct Dots:
    const real *columns  # [column, tap, channel], each tap in whole vectors
    const real *last     # the last vector, where it is not among the others; else NULL
    Py_ssize_t column    # elements of one
    Py_ssize_t taps, depth
    Py_ssize_t at_ld, offset  # the channels of a pixel under tap t: at[t * at_ld + pixel] + offset
    Py_ssize_t ahead
    mask fresh           # lanes of a last vector that the one before does not have


cdef inline void some_dots(const int cols, const int rows, const Dots *d, const real **at, vec *acc) noexcept nogil:
    """The lanes of acc[i * cols + j] sum up to the dot product of row i and column j.

    The last vector of a pixel overlaps the one before: its lanes that are `fresh` count, the others are zeros on both sides, since
    zero times infinity is NaN. Loops that run at least once, or gcc keeps the sums in memory.
    """
    cdef vec left[LANES]
    cdef vec pixel
    cdef mask lanes
    cdef Py_ssize_t depth = d.depth, ahead = d.ahead, tap = 0, column = d.column, i, j, k
    cdef const real *columns = d.columns
    cdef const real *x[LANES]
    for i in range(rows * cols):
        acc[i] = broadcast(0)
    while True:
        for i in range(rows):
            x[i] = at[i] + d.offset
        k, lanes = 0, broadcast_lane(-1)
        while True:
            for j in range(cols):
                left[j] = (<const vec *> (columns + j * column))[0]
            for i in range(rows):
                pixel = where(lanes, (<const vec *> (x[i] + k))[0])
                if ahead:
                    fetch(x[i] + k + ahead)
                for j in range(cols):
                    acc[i * cols + j] = acc[i * cols + j] + pixel * left[j]
            columns += LANES
            k += LANES
            if k >= depth:
                break
            if k + LANES > depth:
                k, lanes = depth - LANES, d.fresh
                if d.last:
                    columns = d.last
        tap += 1
        if tap == d.taps:
            return
        at += d.at_ld


cdef inline void dots_of_rows(const int cols, const Dots *d, const real **at, Py_ssize_t rows, vec start, real *sums) noexcept nogil:
    cdef vec acc[LANES]
    cdef Py_ssize_t i = 0, j
    while i < rows:
        if LANES // cols > DOTS_ADDRESSES:
            some_dots(cols, LANES // cols // 2, d, at + i, acc)
            some_dots(cols, LANES // cols // 2, d, at + i + LANES // cols // 2, acc + LANES // 2)
        else:
            for j in range(LANES // cols * cols, LANES):
                acc[j] = broadcast(0)
            some_dots(cols, LANES // cols, d, at + i, acc)
        (<vec *> (sums + i * cols))[0] = start + lane_sums(acc)
        i += LANES // cols


cdef inline bint is_few(const int number, Py_ssize_t items) noexcept nogil:
    """Whether that many are meant; False where the compiler need not think of them, being more than fit, or seldom used."""
    return (2 if SELDOM_USED else 4) * number <= LANES and number == items


cdef apart all_dots(Py_ssize_t cols, const Dots *d, const real **at, Py_ssize_t rows, vec start, real *sums) noexcept nogil:
    """sums[i * cols + j] = start[i * cols + j] + the dot product of row i and column j, as whole vectors; from as many addresses."""
    if cols == 1:
        dots_of_rows(1, d, at, rows, start, sums)
    elif is_few(2, cols):
        dots_of_rows(2, d, at, rows, start, sums)
    elif is_few(3, cols):
        dots_of_rows(3, d, at, rows, start, sums)
    elif is_few(4, cols):
        dots_of_rows(4, d, at, rows, start, sums)
    elif is_few(5, cols):
        dots_of_rows(5, d, at, rows, start, sums)
    elif is_few(6, cols):
        dots_of_rows(6, d, at, rows, start, sums)
    elif is_few(7, cols):
        dots_of_rows(7, d, at, rows, start, sums)
    elif is_few(8, cols):
        dots_of_rows(8, d, at, rows, start, sums)


cdef bint dots_pay(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Neither rows nor padding have a say, so that the bits of a pixel do not depend on how many others there are."""
    cdef Py_ssize_t taps
    if p.depth < LANES or (2 if SELDOM_USED else 4) * p.cols > LANES or groups * product_depth(p) * p.cols > SCATTER_ITEMS:
        return False
    taps = product_depth(p) // p.depth
    if groups == taps == 1:
        return 4 * p.cols <= LANES
    return taps <= DOTS_PLACES and 5 * p.cols * (ceil_div(p.depth, LANES) * taps + DOTS_SUM) < 4 * taps * p.depth


cdef void lay_dots(const Product *p, real *to) noexcept nogil:
    cdef Py_ssize_t whole = p.depth // LANES * LANES, last = round_up(p.depth, LANES) - LANES, j, t, tap
    for j in range(p.cols):
        for t in range(product_depth(p) // p.depth):
            weight_offsets(p, t * p.depth, 1, &tap)
            copy_spread(to, p.b + tap + j * p.b_col, p.b_k, whole)
            if whole < p.depth:
                zero(to + last, LANES)
                copy_spread(to + last + LANES - (p.depth - whole), p.b + tap + j * p.b_col + whole * p.b_k, p.b_k, p.depth - whole)
            to += last + LANES


cdef mask fresh_lanes(Py_ssize_t depth) noexcept nogil:
    """The lanes of a last vector that the one before does not have."""
    cdef mask lanes
    cdef Py_ssize_t i
    for i in range(LANES):
        (<lane *> &lanes)[i] = -(i >= LANES - 1 - (depth - 1) % LANES)
    return lanes


cdef void dots_strip(
    const Product *p, Py_ssize_t groups, Dots d, Py_ssize_t first, Py_ssize_t rows, const real *zeros, const real *columns, const real **at
) noexcept nogil:
    """`rows` rows from the first on, of all groups."""
    cdef Py_ssize_t out[DOTS_PIXELS]
    cdef real sums[DOTS_PIXELS * DOTS_COLUMNS + LANES]
    cdef vec start
    cdef Py_ssize_t i, t, group
    # a whole vector may be read from any pixel: none is copied
    find_pixels(p, first, rows, zeros, p.a + (p.batch * p.d.size * p.h.size * p.w.size - tail_pixels(p)) * p.a_ld, at, d.at_ld)
    row_outputs(p, first, rows, out)
    for t in range(d.taps):
        for i in range(rows, rows + LANES):  # the last one is computed again
            at[t * d.at_ld + i] = at[t * d.at_ld + rows - 1]
    for group in range(groups):
        d.columns, d.offset = columns + group * d.column * p.cols, group * p.depth
        for i in range(LANES):
            (<real *> &start)[i] = p.bias[group * p.cols + i % p.cols] if p.bias else 0
        all_dots(p.cols, &d, at, rows, start, sums)
        if groups == 1 and out[rows - 1] - out[0] == (rows - 1) * p.cols:
            copy(p.y + out[0], sums, rows * p.cols)
        else:
            for i in range(rows):
                copy_narrow(p.y + out[i] + group * p.cols, sums + i * p.cols, p.cols)
    if p.finish.pending:
        finish_rows(&p.finish, p.y, out, rows, p.y_ld, 0, groups * p.cols)


cdef int run_dots(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """Compute `p` for each group, as `run_groups` does. -1: no memory."""
    cdef Product q = p[0]
    cdef Dots d
    cdef Py_ssize_t rows = product_rows(p), items, pixel = own_lines(p.a_ld + LANES), group, tasks, task, strip, each
    cdef real *columns
    cdef real *zeros
    cdef real *scratch
    join_lines(&q)
    d.taps, d.depth, d.fresh = product_depth(p) // p.depth, p.depth, fresh_lanes(p.depth)
    d.column, d.last = d.taps * round_up(d.depth, LANES), NULL
    items = d.column * p.cols
    columns = new_scratch(own_lines(groups * items) + pixel, 1)
    zeros = columns + own_lines(groups * items)
    d.ahead = DOTS_AHEAD * p.a_ld if groups == d.taps == 1 and reads_far(p) else 0
    strip = max(min(DOTS_PLACES // d.taps, ROW_ITEMS // p.a_ld) // LANES, <Py_ssize_t> 1) * LANES
    strip = min(strip, <Py_ssize_t> DOTS_PIXELS)
    strip = min(strip, round_up(ceil_div(rows, threads), LANES))
    tasks, d.at_ld = ceil_div(rows, strip), strip + LANES
    threads = min(threads, tasks)
    each = own_lines(d.taps * d.at_ld * sizeof(void *) // sizeof(real))
    scratch = new_scratch(each, threads)
    if scratch != NULL and columns != NULL:
        zero(zeros, pixel)
        for group in range(groups):
            q.b = p.b + group * b_group
            lay_dots(&q, columns + group * items)
        if tasks == 1:
            dots_strip(&q, groups, d, 0, rows, zeros, columns, <const real **> scratch)
        else:
            for task in prange(tasks, schedule="dynamic", num_threads=threads):
                dots_strip(
                    &q, groups, d, task * strip, min(strip, rows - task * strip), zeros, columns,
                    <const real **> (scratch + threadid() * each),
                )
    else:
        tasks = -1
    free_lines(columns)
    free_lines(scratch)
    return 0 if tasks > 0 else -1
