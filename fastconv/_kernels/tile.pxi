# The register tile: every multiplication of convolutions, linear layers and their gradients happens in `accumulate`.
#
# The right operand is a panel of vectors, the last of which may be half a one. The left operand is read in one of seven forms:
# from packed rows of DEPTH_LD elements, a constant, so that all rows of a tile are at constant offsets from ONE pointer; or where
# it lies, by the distance of its rows or the addresses of windows. Groups of channels that share a vector multiply each its own
# element, which a permutation brings to its lanes.


cdef enum:
    DEPTH = 288      # columns of the left operand at a time: its rows stay in the first-level cache, panels come from the second
    STEPS = 4        # of the sum at a time where one vector leaves registers for the right operand
    TILE_FULL = 4    # rows of two vectors that are enough sums for all multipliers of a core
    ASIDE = 16       # steps of a low tile at a time, between which is asked for what comes next
    DEPTH_LD = 304   # elements between packed rows: whole cache lines, but no power of two, whose rows would share a set


cdef enum Form:
    ROWS_PACKED      # element (i, k) is a[i * DEPTH_LD + k]
    ROWS_SPACED      # element (i, k) is a[i * at_ld + k]
    RUNS_SPACED      # element k of run s of row i is at[s][i * at_ld + k], for k < length[s]
    COLUMNS_PACKED   # element (i, k) is a[k * at_ld + i]
    ROWS_AT          # row i is made of runs: element k of run s is at[s * at_ld + i][offset + k * step], for k < length[s]
    ROWS_SPREAD      # the same with step 1, but lane j multiplies element k + lanes[j], all of one vector
    COLUMNS_AT       # column k is one run: element (i, k) is at[k][i]


cdef struct Left:
    # The left operand of a product; which fields it needs, its form says.
    const real *a
    const real **at
    Py_ssize_t at_ld, runs
    const Py_ssize_t *length
    Py_ssize_t offset, step
    const lane *lanes
    # what is fetched meanwhile, for the products that follow: `pace` elements at each step, of one range and then another
    const real *ahead
    const real *ahead_end
    const real *then
    const real *then_end
    Py_ssize_t pace
    bint far  # whether the lines of y, and of what is added, are asked for before they are needed


cdef inline Left left_operand(
    const real *a, const real **at, Py_ssize_t at_ld, Py_ssize_t runs, const Py_ssize_t *length, const lane *lanes=NULL
) noexcept nogil:
    return Left(a, at, at_ld, runs, length, 0, 1, lanes, NULL, NULL, NULL, NULL, 0, False)


cdef inline void copy_windows(const Left *windows, Py_ssize_t rows, real *packed) noexcept nogil:
    """packed[i * DEPTH_LD + k] = element k of row i, run after run.

    Down some rows at a time, and the last vector of a run overlaps the one before: along a short run its ends would cost more.
    """
    cdef Py_ssize_t first = 0, end, i, s, k, length
    cdef const real **at
    cdef real *to
    while first < rows:
        end, to = min(first + TILE_M, rows), packed
        for s in range(windows.runs):
            at, length, k = windows.at + s * windows.at_ld, windows.length[s], 0
            while k < length and length >= LANES:
                k = min(k, length - LANES)
                for i in range(first, end):
                    (<vec *> (to + i * DEPTH_LD + k))[0] = (<const vec *> (at[i] + windows.offset + k))[0]
                k += LANES
            for i in range(first, end if length < LANES else first):
                copy(to + i * DEPTH_LD, at[i] + windows.offset, length)
            to += length
        first = end


cdef inline void multiply(
    const int rows, const int width, vec *acc, half_vec *rest, const real *b, const real *a, const real **at, const Py_ssize_t a_row,
    Py_ssize_t k, const Py_ssize_t *apart=NULL,
) noexcept nogil:
    """One step of the sum: acc[i, j] and rest[i] += (at[i][k], or where `at` is NULL a[i * a_row] or a[apart[i]]) * b[j]."""
    cdef vec row[TILE_V]
    cdef half_vec row_rest
    cdef vec left
    cdef real x
    cdef Py_ssize_t i, j
    for j in range(width // LANES):
        row[j] = (<const vec *> (b + j * LANES))[0]
    if width % LANES:
        row_rest = (<const half_vec *> (b + width // LANES * LANES))[0]
    for i in range(rows):
        x = at[i][k] if at != NULL else a[apart[i] if apart != NULL else i * a_row]
        left = broadcast(x)
        if width == TILE_N:
            left = in_register(left)
        for j in range(width // LANES):
            acc[i * TILE_V + j] = acc[i * TILE_V + j] + row[j] * left
        if width % LANES:
            rest[i] = rest[i] + row_rest * x


cdef inline void multiply_steps(
    const int rows, const int width, vec *acc, half_vec *rest, const real *b, Py_ssize_t b_k, const real **at, Py_ssize_t k,
    Py_ssize_t step,
) noexcept nogil:
    """STEPS steps of one vector or half a one, row by row: there are more addresses than registers, and each serves all steps."""
    cdef vec row[STEPS]
    cdef half_vec row_rest[STEPS]
    cdef Py_ssize_t i, j
    for j in range(STEPS):
        if width == LANES:
            row[j] = (<const vec *> (b + j * b_k))[0]
        else:
            row_rest[j] = (<const half_vec *> (b + j * b_k))[0]
    for i in range(rows):
        for j in range(STEPS):
            if width == LANES:
                acc[i * TILE_V] = acc[i * TILE_V] + row[j] * at[i][k + j * step]
            else:
                rest[i] = rest[i] + row_rest[j] * at[i][k + j * step]


cdef inline void fetch_run(const real *x, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < items:
        fetch(x + i)
        i += 4 * PART_LANES  # a cache line


cdef inline const real *look_ahead(
    const int width, const real *ahead, Py_ssize_t pace, Py_ssize_t step, Py_ssize_t asked, const real *y, const real *add,
    const Py_ssize_t *out,
) noexcept nogil:
    """Between two steps of the sum: the line at `ahead`, and row `step` of y, and of `add`, while there are such. What is next after
    `ahead`.

    So few at a time that no multiply-add waits: as many in a row as a core can wait for would stop it.
    """
    cdef Py_ssize_t j
    fetch(ahead)
    if step < asked:
        for j in range(ceil_div(width, LANES)):
            prefetch(y + out[step] + j * LANES)
            if add:
                prefetch(add + out[step] + j * LANES)
    return ahead + pace


cdef inline void accumulate(
    const int form, const int rows, const int width, Left *left, Py_ssize_t first, Py_ssize_t depth,
    const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y[out[i] + j] = (start[j] or y[out[i] + j]) + sum_k left[first + i, k] * b[k * b_k + j], and its `ending` or NULL.

    `form`, `rows` (at most TILE_M, or TILE_TALL of one vector) and `width` (columns: halves of LANES up to TILE_N) are constants where
    it is called, so that the compiler unrolls the tile and keeps it in registers. The order of the sum is that of k, whatever the tile.
    """
    cdef vec acc[TILE_TALL * TILE_V]
    cdef half_vec rest[TILE_TALL]
    cdef int vecs = width // LANES, whole = width // LANES * LANES
    cdef const real *at[TILE_TALL]
    cdef const real *a = left.a
    cdef const real *ahead = left.ahead if left.pace else b
    cdef const real *add = ending.add if ending != NULL else NULL
    cdef Py_ssize_t asked = rows if left.far and (start or add) else 0, step = 0
    cdef vec pixel[TILE_M]
    cdef Py_ssize_t apart[TILE_TALL]
    cdef mask lanes
    cdef vec row
    cdef Py_ssize_t i, j, k, s, end
    for i in range(rows):
        for j in range(vecs):
            acc[i * TILE_V + j] = (<const vec *> (start + j * LANES if start else y + out[i] + j * LANES))[0]
        if whole < width:
            rest[i] = (<const half_vec *> (start + whole if start else y + out[i] + whole))[0]
    if LOW_TILE and (form == ROWS_SPACED or form == RUNS_SPACED or form == ROWS_AT or SELDOM_USED and form == ROWS_PACKED):
        for i in range(asked):  # at once: between the steps it would take registers from the addresses of rows, and more time
            prefetch(y + out[i])
            if add:
                prefetch(add + out[i])
        asked = 0
    if form == ROWS_SPACED:
        a += first * left.at_ld
        for i in range(rows):
            apart[i] = kept(i * left.at_ld)
        for k in range(depth):
            multiply(rows, width, acc, rest, b, a, NULL, 0, 0, apart)
            ahead = look_ahead(width, ahead, left.pace, k, 0, y, add, out)
            a += 1
            b += b_k
    elif form == RUNS_SPACED:  # a loop of its own: the one around it would slow what has one run
        for i in range(rows):
            apart[i] = kept(i * left.at_ld)
        for s in range(left.runs):
            a = left.at[s] + first * left.at_ld
            for k in range(left.length[s]):
                multiply(rows, width, acc, rest, b, a, NULL, 0, 0, apart)
                a += 1
                b += b_k
    elif form == ROWS_PACKED:
        a += first * DEPTH_LD
        for k in range(depth):
            multiply(rows, width, acc, rest, b, a, NULL, DEPTH_LD, 0)
            ahead = look_ahead(width, ahead, left.pace, k, asked, y, add, out)
            a += 1
            b += b_k
    elif form == COLUMNS_PACKED:
        a += first
        for k in range(depth):
            multiply(rows, width, acc, rest, b, a, NULL, 1, 0)
            a += left.at_ld
            b += b_k
    elif form == ROWS_AT and LOW_TILE:  # of step 1
        for s in range(left.runs):
            for i in range(rows):
                at[i] = left.at[s * left.at_ld + first + i] + left.offset
            k = 0
            while k < left.length[s]:
                end = min(k + ASIDE, left.length[s])
                fetch_run(ahead, left.pace * (end - k))
                ahead += left.pace * (end - k)
                while k < end:
                    multiply(rows, width, acc, rest, b, NULL, at, 0, k)
                    k += 1
                    b += b_k
    elif form == ROWS_AT:
        for s in range(left.runs):
            for i in range(rows):
                at[i] = left.at[s * left.at_ld + first + i] + left.offset
            k, end = 0, left.length[s] * left.step
            while width <= LANES and k + (STEPS - 1) * left.step < end:
                multiply_steps(rows, width, acc, rest, b, b_k, at, k, left.step)
                for i in range(STEPS):
                    ahead = look_ahead(width, ahead, left.pace, step, asked, y, add, out)
                    step += 1
                k += STEPS * left.step
                b += STEPS * b_k
            while k < end:
                multiply(rows, width, acc, rest, b, NULL, at, 0, k)
                ahead = look_ahead(width, ahead, left.pace, step, asked, y, add, out)
                step += 1
                k += left.step
                b += b_k
    elif form == ROWS_SPREAD:
        for s in range(left.runs):
            for i in range(rows):
                pixel[i] = held(left.at[s * left.at_ld + first + i] + left.offset)
            lanes = (<const mask *> left.lanes)[0]
            for k in range(left.length[s]):
                row = (<const vec *> b)[0]
                for i in range(rows):
                    acc[i * TILE_V] = acc[i * TILE_V] + row * permuted(pixel[i], lanes)
                lanes = lanes + broadcast_lane(1)
                b += b_k
    else:
        for k in range(depth):
            multiply(rows, width, acc, rest, b, address(left.at[k] + first), NULL, 1, 0)
            ahead = look_ahead(width, ahead, left.pace, 0, 0, y, NULL, out)
            b += b_k
    if left.pace:
        left.ahead = ahead
        if ahead >= left.ahead_end:
            left.ahead, left.ahead_end, left.then_end = left.then, left.then_end, NULL
            if left.ahead_end == NULL:
                left.pace = 0
    if add:
        for i in range(rows):
            for j in range(vecs):
                acc[i * TILE_V + j] = acc[i * TILE_V + j] + (<const vec *> (add + out[i] + j * LANES))[0]
            if whole < width:
                rest[i] = rest[i] + (<const half_vec *> (add + out[i] + whole))[0]
    if ending != NULL and ending.clamps:
        for i in range(rows):
            for j in range(vecs):
                acc[i * TILE_V + j] = clamped(acc[i * TILE_V + j], ending.low, ending.high)
            if whole < width:
                rest[i] = clamped_half(rest[i], ending.low, ending.high)
    for i in range(rows):
        for j in range(vecs):
            (<vec *> (y + out[i] + j * LANES))[0] = acc[i * TILE_V + j]
        if whole < width:
            (<half_vec *> (y + out[i] + whole))[0] = rest[i]


cdef apart wide_tile_of_windows(
    Left *left, Py_ssize_t first, const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    accumulate(ROWS_AT, TILE_M, TILE_N, left, first, 0, b, b_k, start, ending, y, out)


cdef apart narrow_tile_of_windows(
    Left *left, Py_ssize_t first, const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    accumulate(ROWS_AT, TILE_M, LANES, left, first, 0, b, b_k, start, ending, y, out)


cdef inline Py_ssize_t accumulate_rows(
    const int form, const int width, Py_ssize_t rows, Left *left, Py_ssize_t first, Py_ssize_t depth,
    const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """Run the highest tile that `rows` fills (heights TILE_TALL, TILE_M, a half, a quarter, 2, 1) and return its height.

    A tile of one row waits for its own sums as long as one of two rows: a quarter and one are twice two. Of low tiles, where every
    row counts, one of four is the lowest that does not wait: seven rows are four and three, eight twice four, eleven take two of four.
    """
    if LOW_TILE and width == LANES and (form == ROWS_PACKED or form == COLUMNS_PACKED) and rows >= TILE_TALL:
        accumulate(form, TILE_TALL, width, left, first, depth, b, b_k, start, ending, y, out)
        return TILE_TALL
    if LOW_TILE and width == LANES and form == RUNS_SPACED and rows >= 2 * TILE_FULL:
        accumulate(form, 2 * TILE_FULL, width, left, first, depth, b, b_k, start, ending, y, out)
        return 2 * TILE_FULL
    if LOW_TILE and TILE_FULL <= rows < 2 * TILE_M and rows % 3:
        accumulate(form, TILE_FULL, width, left, first, depth, b, b_k, start, ending, y, out)
        return TILE_FULL
    if LOW_TILE and form == ROWS_AT and rows >= TILE_M:  # functions of their own, or addresses are in no registers
        if width == LANES:
            narrow_tile_of_windows(left, first, b, b_k, start, ending, y, out)
        else:
            wide_tile_of_windows(left, first, b, b_k, start, ending, y, out)
        return TILE_M
    if rows >= TILE_M:
        accumulate(form, TILE_M, width, left, first, depth, b, b_k, start, ending, y, out)
        return TILE_M
    if rows >= TILE_M // 2:
        accumulate(form, TILE_M // 2, width, left, first, depth, b, b_k, start, ending, y, out)
        return TILE_M // 2
    if rows >= TILE_M // 4 and TILE_M // 4 > 2 and rows != TILE_M // 4 + 1:
        accumulate(form, TILE_M // 4, width, left, first, depth, b, b_k, start, ending, y, out)
        return TILE_M // 4
    if rows >= 2 and TILE_M // 2 > 2 and form != ROWS_SPACED:  # one and one: only the last strip has them
        accumulate(form, 2, width, left, first, depth, b, b_k, start, ending, y, out)
        return 2
    accumulate(form, 1, width, left, first, depth, b, b_k, start, ending, y, out)
    return 1
