# Softmax and its logarithm of the rows of a matrix. The greatest number is subtracted first: no power overflows.
# Long rows are gone along. Of short ones, as the classes of a pixel, LANES are gone through side by side, a row in each lane, and so
# are rows whose items are apart.
from libc.math cimport log

cdef enum:
    SHORT = 4 * LANES   # items of a row, at most
    FEW_ITEMS = PART_LANES * SELDOM_USED   # of a row, at most, that comes into lanes by permutations; more do in squares
    ROW_VECTORS = 32    # of a sum in the dtype of x


cdef inline vec log_of_sum(vec x, Py_ssize_t items) noexcept nogil:
    """log(x) for x from 1 to `items`."""
    cdef vec halvings = broadcast(0), one = broadcast(1)
    cdef mask large
    while items > 1:
        large = above(x, broadcast(2))
        x = choose(large, x * <real> 0.5, x)
        halvings = halvings + where(large, one)
        items = (items + 1) // 2
    return halvings * LOG2_HIGH + (halvings * LOG2_LOW + log1p_unit(x - one))


cdef apart softmax_lanes(
    bint logarithm, const real *x, real *y, Py_ssize_t ld, Py_ssize_t items, real share, real even
) noexcept nogil:
    """y = share * softmax(x) - even, or the logarithm of the softmax, for a row in each lane; items are ld apart; y may be x."""
    cdef vec part, most = broadcast(-INFINITY), total = broadcast(0)
    cdef Py_ssize_t i
    for i in range(items):
        part = (<const vec *> (x + i * ld))[0]
        most = choose(above(part, most), part, most)
    if logarithm:
        for i in range(items):
            total = total + exp_negative((<const vec *> (x + i * ld))[0] - most)
        total = log_of_sum(total, items)
        for i in range(items):
            (<vec *> (y + i * ld))[0] = ((<const vec *> (x + i * ld))[0] - most) - total
        return
    for i in range(items):
        part = exp_negative((<const vec *> (x + i * ld))[0] - most)
        (<vec *> (y + i * ld))[0] = part
        total = total + part
    total = broadcast(share) / total
    for i in range(items):
        (<vec *> (y + i * ld))[0] = (<const vec *> (y + i * ld))[0] * total - broadcast(even)


cdef apart softmax_backward_lanes(
    bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t ld, Py_ssize_t items
) noexcept nogil:
    cdef vec part, total = broadcast(0)
    cdef Py_ssize_t i
    for i in range(items):
        part = (<const vec *> (dy + i * ld))[0]
        total = total + (part if logarithm else part * (<const vec *> (y + i * ld))[0])
    for i in range(items):
        part = (<const vec *> (y + i * ld))[0]
        if logarithm:
            part = (<const vec *> (dy + i * ld))[0] - exp_negative(part) * total
        else:
            part = part * ((<const vec *> (dy + i * ld))[0] - total)
        (<vec *> (dx + i * ld))[0] = part


cdef struct Turn:
    # where each lane of LANES rows of few items comes from, into lanes and back: the lane of a pair of vectors, and which pair
    lane lanes_in[LANES * FEW_ITEMS + 1]
    lane pairs_in[LANES * FEW_ITEMS + 1]
    lane lanes_out[LANES * FEW_ITEMS + 1]
    lane pairs_out[LANES * FEW_ITEMS + 1]


cdef const Turn *set_turn(Py_ssize_t items, Turn *turn) noexcept nogil:
    """The same for rows of so many items, if these are few."""
    cdef Py_ssize_t r = 0, i = 0, p
    for p in range(items * LANES if FEW_ITEMS and items <= FEW_ITEMS else 0):
        turn.lanes_in[i * LANES + r] = <lane> (p % (2 * LANES))
        turn.pairs_in[i * LANES + r] = <lane> (p // (2 * LANES))
        turn.lanes_out[p] = <lane> (i % 2 * LANES + r)
        turn.pairs_out[p] = <lane> (i // 2)
        i += 1
        if i == items:
            i = 0
            r += 1
    return turn


cdef inline void permute_some(const int items, const real *x, const lane *lanes, const lane *pairs, real *y) noexcept nogil:
    cdef Py_ssize_t i, k
    cdef mask places, which
    cdef vec value, other
    for i in range(items):
        places, which = (<const mask *> (lanes + i * LANES))[0], (<const mask *> (pairs + i * LANES))[0]
        value = permuted_pair((<const vec *> x)[0], (<const vec *> (x + LANES))[0], places)
        for k in range(2, items, 2):
            if k + 1 < items:
                other = permuted_pair((<const vec *> (x + k * LANES))[0], (<const vec *> (x + (k + 1) * LANES))[0], places)
            else:
                other = permuted((<const vec *> (x + k * LANES))[0], places)
            value = choose(same_lanes(which, broadcast_lane(<lane> (k // 2))), other, value)
        (<vec *> (y + i * LANES))[0] = value


cdef apart permute(const real *x, const lane *lanes, const lane *pairs, Py_ssize_t items, real *y) noexcept nogil:
    if items == 2:
        permute_some(2, x, lanes, pairs, y)
    elif items == 3:
        permute_some(3, x, lanes, pairs, y)
    else:
        permute_some(<int> items, x, lanes, pairs, y)


cdef void into_lanes(const Turn *turn, const real *x, Py_ssize_t rows, Py_ssize_t items, real *lanes) noexcept nogil:
    """lanes[i, r] = x[r, i] for at most LANES short rows, and 0 in the other lanes."""
    cdef vec room[SHORT]
    if rows < LANES:
        memset(room, 0, items * sizeof(vec))
        memcpy(room, x, rows * items * sizeof(real))
        x = <real *> room
    if FEW_ITEMS and 1 < items <= FEW_ITEMS:
        permute(x, turn.lanes_in, turn.pairs_in, items, lanes)
    else:
        transpose_part(x, lanes, LANES, items, 0, items)


cdef void from_lanes(const Turn *turn, const real *lanes, Py_ssize_t rows, Py_ssize_t items, real *y) noexcept nogil:
    cdef vec room[SHORT]
    cdef real *to = y if rows == LANES else <real *> room
    if FEW_ITEMS and 1 < items <= FEW_ITEMS:
        permute(lanes, turn.lanes_out, turn.pairs_out, items, to)
    else:
        transpose_part(lanes, to, items, LANES, 0, LANES)
    if rows < LANES:
        memcpy(y, room, rows * items * sizeof(real))


cdef real greatest_of(const real *x, Py_ssize_t items) noexcept nogil:
    cdef vec part, most = broadcast(-INFINITY)
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = (<const vec *> (x + i))[0]
        most = choose(above(part, most), part, most)
        i += LANES
    if rest:
        part = end_of_row(x, items, rest, -INFINITY)
        most = choose(above(part, most), part, most)
    return maximum_of(most)


cdef real sum_of_powers(const real *x, Py_ssize_t items, real greatest, real *powers) noexcept nogil:
    """The sum of exp(x - greatest), each of which is written to `powers`, unless that is NULL."""
    cdef vec part, total = broadcast(0)
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = exp_negative((<const vec *> (x + i))[0] - broadcast(greatest))
        if powers != NULL:
            (<vec *> (powers + i))[0] = part
        total = total + part
        i += LANES
    if rest:
        total = total + exp_negative(end_of_row(x, items, rest, -INFINITY) - broadcast(greatest))
        if powers != NULL:
            store(powers + whole, exp_negative(load(x + whole, x + items) - broadcast(greatest)), rest)
    return sum_of(total)


cdef inline void softmax_row(const bint logarithm, const real *x, real *y, Py_ssize_t items) noexcept nogil:
    cdef real greatest = greatest_of(x, items), norm
    cdef Py_ssize_t i
    if logarithm:
        norm = <real> log(<double> sum_of_powers(x, items, greatest, NULL))
        for i in range(items):
            y[i] = (x[i] - greatest) - norm
    else:
        norm = 1 / sum_of_powers(x, items, greatest, y)
        for i in range(items):
            y[i] *= norm


cdef inline void softmax_backward_row(
    const bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t items
) noexcept nogil:
    cdef vec part, total = broadcast(0)
    cdef real all
    cdef Py_ssize_t i, rest = items % LANES, whole = items - rest
    i = 0
    while i < whole:
        part = (<const vec *> (dy + i))[0]
        total = total + (part if logarithm else part * (<const vec *> (y + i))[0])
        i += LANES
    if rest:
        part = end_of_row(dy, items, rest, 0)
        total = total + (part if logarithm else part * end_of_row(y, items, rest, 0))
    all = sum_of(total)
    i = 0
    while i < whole:
        part = (<const vec *> (y + i))[0]
        if logarithm:
            part = (<const vec *> (dy + i))[0] - exp_negative(part) * all
        else:
            part = part * ((<const vec *> (dy + i))[0] - broadcast(all))
        (<vec *> (dx + i))[0] = part
        i += LANES
    if rest:
        part = load(y + whole, y + items)
        if logarithm:
            part = load(dy + whole, dy + items) - exp_negative(part) * all
        else:
            part = part * (load(dy + whole, dy + items) - broadcast(all))
        store(dx + whole, part, rest)


cdef void softmax_rows(
    const Turn *turn, bint logarithm, const real *x, real *y, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    cdef real room[(SHORT + 1) * LANES]
    cdef real *lanes = aligned_in(room)
    cdef Py_ssize_t row = 0, some
    while items <= SHORT and row < rows:
        some = min(rows - row, <Py_ssize_t> LANES)
        into_lanes(turn, x + row * items, some, items, lanes)
        softmax_lanes(logarithm, lanes, lanes, LANES, items, 1, 0)
        from_lanes(turn, lanes, some, items, y + row * items)
        row += LANES
    for row in range(row, rows):
        if logarithm:
            softmax_row(True, x + row * items, y + row * items, items)
        else:
            softmax_row(False, x + row * items, y + row * items, items)


cdef void softmax_backward_rows(
    const Turn *turn, bint logarithm, const real *dy, const real *y, real *dx, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    cdef real room[2 * (SHORT + 1) * LANES]
    cdef real *lanes = aligned_in(room)
    cdef real *gradients = lanes + SHORT * LANES
    cdef Py_ssize_t row = 0, some
    while items <= SHORT and row < rows:
        some = min(rows - row, <Py_ssize_t> LANES)
        into_lanes(turn, dy + row * items, some, items, gradients)
        into_lanes(turn, y + row * items, some, items, lanes)
        softmax_backward_lanes(logarithm, gradients, lanes, gradients, LANES, items)
        from_lanes(turn, gradients, some, items, dx + row * items)
        row += LANES
    for row in range(row, rows):
        if logarithm:
            softmax_backward_row(True, dy + row * items, y + row * items, dx + row * items, items)
        else:
            softmax_backward_row(False, dy + row * items, y + row * items, dx + row * items, items)


cdef void softmax_columns(
    bint logarithm, const real *dy, const real *x, real *y, Py_ssize_t first, Py_ssize_t end, Py_ssize_t items, Py_ssize_t inner
) noexcept nogil:
    """Rows whose items are `inner` apart, from column `first` to `end`; with dy x is the output, and y the gradient of the input."""
    cdef Py_ssize_t at
    while first < end:
        at = min(first, end - LANES)   # the last vector overlaps the one before, whose rows it computes again
        if dy == NULL:
            softmax_lanes(logarithm, x + at, y + at, inner, items, 1, 0)
        else:
            softmax_backward_lanes(logarithm, dy + at, x + at, y + at, inner, items)
        first += LANES


cdef void softmax_all(
    bint logarithm, const real *dy, const real *x, real *y, Py_ssize_t size, Py_ssize_t items, Py_ssize_t inner, int threads
) noexcept nogil:
    cdef Turn places
    cdef const Turn *turn = set_turn(items, &places)
    cdef Py_ssize_t task, at, first, rows = size // items, some = rows_of_task(items)
    cdef Py_ssize_t parts = max(inner // round_up(some, LANES), <Py_ssize_t> 1), columns = round_up(some, LANES)
    if inner == 1:
        for task in prange(ceil_div(rows, some), num_threads=threads):
            at = task * some * items
            if dy == NULL:
                softmax_rows(turn, logarithm, x + at, y + at, min(some, rows - task * some), items)
            else:
                softmax_backward_rows(turn, logarithm, dy + at, x + at, y + at, min(some, rows - task * some), items)
        return
    for task in prange(rows // inner * parts, num_threads=threads):
        at = task // parts * items * inner
        first = task % parts * columns
        softmax_columns(
            logarithm, dy + at if dy != NULL else NULL, x + at, y + at, first,
            inner if task % parts == parts - 1 else first + columns, items, inner,
        )


def softmax_forward(x, y, Py_ssize_t items, Py_ssize_t inner, bint logarithm, int threads, /):
    """y[m, i, c] = exp(x[m, i, c]) / sum_j exp(x[m, j, c]), or its logarithm; c counts to `inner`, which is 1 or at least a vector."""
    cdef Py_ssize_t size
    cdef const real *source = read_from(x, &size)
    cdef real *to = write_to(y)
    with nogil:
        softmax_all(logarithm, NULL, source, to, size, items, inner, threads)


def softmax_backward(dy, y, dx, Py_ssize_t items, Py_ssize_t inner, bint logarithm, int threads, /):
    """dx = y * (dy - sum_j dy * y), or dy - exp(y) * sum_j dy where y is the logarithm."""
    cdef Py_ssize_t size
    cdef const real *source = read_from(y, &size)
    cdef const real *gradient = read_from(dy)
    cdef real *to = write_to(dx)
    with nogil:
        softmax_all(logarithm, gradient, source, to, size, items, inner, threads)
