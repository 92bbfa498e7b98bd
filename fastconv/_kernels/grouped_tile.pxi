# The tile of groups that share a vector and have as many outputs as inputs: the weight of a group goes by its diagonals.
#
# On diagonal r of a group of n channels, lane c multiplies its own input, as it lies, by the weight from input c to output
# (c + r) % n. No tap needs a permutation: a pixel's n sums are turned once, after the last tap.
#
#   y = start + s[0] + turn(s[1]) + turn(turn(s[2])) + ...      turn: lane o takes what lane (o - 1) % n of its group has
#
# Neighbors are added first, then pairs of them, turned twice, and so on: each addition waits for another, and so there are few in a row.


cdef extern from *:
    """
    enum {
        DIAGONALS = MANY_REGISTERS || SELDOM_USED,   /* whether they are compiled */
        DIAGONAL_SUMS = MANY_REGISTERS ? 24 : 12,    /* of 32 registers or 16 */
    };
    """
    const int DIAGONALS
    const int DIAGONAL_SUMS


cdef enum:
    DIAGONAL_ROWS = 24  # of a strip: tiles of three, six and twelve
    TURNS = 4           # by 1, 2, 4 and 8 lanes


cdef void pack_diagonals(
    const real *b, Py_ssize_t b_col, Py_ssize_t b_group, const Py_ssize_t *offsets, Py_ssize_t taps, Py_ssize_t n, Py_ssize_t share,
    real *to,
) noexcept nogil:
    """to[(t * n + r) * LANES + m * n + c] = element (t, c) of column (c + r) % n of group m, m < share; 0 in the lanes beyond."""
    cdef Py_ssize_t t, m, c, o, ld = 2 * n + 1
    cdef real twice[2 * LANES * LANES]  # rows, each again after itself: ld on is the next one, from its element of diagonal 0
    cdef bint squares = b_col == 1 and n % PART_LANES == 0
    cdef const real *row
    cdef real *place
    for t in range(taps):
        if share * n < LANES:
            zero(to, n * LANES)
        for m in range(share):
            place = to + m * n
            for c in range(n if squares else 0):
                row = b + offsets[t * n + c] + m * b_group
                copy(twice + 2 * n * c, row, n)
                copy(twice + 2 * n * c + n, row, n)
            for c in range(n // PART_LANES if squares else 0):
                for o in range(n // PART_LANES):
                    transpose_small_square(twice + (c * ld + o) * PART_LANES, ld, place + (o * LANES + c) * PART_LANES, LANES)
            for o in range(0 if squares else n):
                row = b + m * b_group + o * b_col
                for c in range(o + 1):
                    place[(o - c) * LANES + c] = row[offsets[t * n + c]]
                for c in range(o + 1, n):
                    place[(o - c + n) * LANES + c] = row[offsets[t * n + c]]
        to += n * LANES


cdef inline void accumulate_diagonals(
    const int rows, const int diagonals, const Left *windows, Py_ssize_t first, const real *b, Py_ssize_t b_tap, bint fresh, vec *turned
) noexcept nogil:
    """turned[i] = the sums of some diagonals (2, 4 or 8), from b on, of row first + i, turned, and those before (none if `fresh`),
    turned on by as many lanes.
    """
    cdef vec acc[DIAGONAL_SUMS]
    cdef vec near[DIAGONAL_SUMS]
    cdef vec other
    cdef const real *lanes = <const real *> windows.lanes
    cdef const real **at
    cdef mask once, twice, four_times, before
    cdef Py_ssize_t i, r, s
    for i in range(rows * diagonals):
        acc[i] = broadcast(0)
    for s in range(windows.runs):
        at = windows.at + s * windows.at_ld + first
        if diagonals > rows:  # what is fewer stays in registers
            for i in range(rows):
                near[i] = held(at[i] + windows.offset)
            for r in range(diagonals):
                other = held(b + r * LANES)
                for i in range(rows):
                    acc[i * diagonals + r] = acc[i * diagonals + r] + near[i] * other
            for i in range(rows):
                needed(near[i])
        else:
            for r in range(diagonals):
                near[r] = held(b + r * LANES)
            for i in range(rows):
                other = held(at[i] + windows.offset)
                for r in range(diagonals):
                    acc[i * diagonals + r] = acc[i * diagonals + r] + other * near[r]
        b += b_tap
    once, twice = <mask> held(lanes), <mask> held(lanes + LANES)  # read only now: the products leave no registers for them
    four_times = <mask> held(lanes + 2 * LANES)
    before = twice if diagonals == 2 else four_times if diagonals == 4 else <mask> held(lanes + 3 * LANES)
    for i in range(rows):
        for r in range(diagonals // 2):
            acc[i * diagonals + r] = acc[i * diagonals + 2 * r] + permuted(acc[i * diagonals + 2 * r + 1], once)
        for r in range(diagonals // 4):
            acc[i * diagonals + r] = acc[i * diagonals + 2 * r] + permuted(acc[i * diagonals + 2 * r + 1], twice)
        other = acc[i * diagonals]
        if diagonals == 8:
            other = other + permuted(acc[i * diagonals + 1], four_times)
        turned[i] = other if fresh else other + permuted(turned[i], before)


cdef inline void some_diagonals(
    const int diagonals, Py_ssize_t rows, const Left *windows, const real *b, Py_ssize_t b_tap, bint fresh, vec *turned
) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + DIAGONAL_SUMS // diagonals <= rows:
        accumulate_diagonals(DIAGONAL_SUMS // diagonals, diagonals, windows, i, b, b_tap, fresh, turned + i)
        i += DIAGONAL_SUMS // diagonals
    while i < rows:
        accumulate_diagonals(1, diagonals, windows, i, b, b_tap, fresh, turned + i)
        i += 1


cdef apart diagonals_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, const Left *windows, Py_ssize_t n, const real *b, const real *start, const Ending *ending, real *y,
    const Py_ssize_t *out,
) noexcept nogil:
    """y (rows <= DIAGONAL_ROWS x cols <= LANES) = start + windows @ b (a panel of `pack_diagonals`), and its `ending`.

    Diagonals, an even number, are taken eight, four or two at a time, the last first.
    """
    cdef vec turned[DIAGONAL_ROWS]
    cdef vec value
    cdef real edge[LANES]
    cdef Py_ssize_t left = n, i
    for i in range(rows if windows.far else 0):
        prefetch(y + out[i])
    while left > 0:
        if DIAGONAL_SUMS > 12 and LANES > 8 and left >= 8:
            left -= 8
            some_diagonals(8, rows, windows, b + left * LANES, n * LANES, left + 8 == n, turned)
        elif LANES > 4 and left >= 4:
            left -= 4
            some_diagonals(4, rows, windows, b + left * LANES, n * LANES, left + 4 == n, turned)
        else:
            left -= 2
            some_diagonals(2, rows, windows, b + left * LANES, n * LANES, left + 2 == n, turned)
    for i in range(rows):
        value = turned[i] + (<const vec *> start)[0]
        if cols < LANES:
            (<vec *> edge)[0] = value
            end_values(ending, edge, out[i], cols)
            copy_narrow(y + out[i], edge, cols)
            continue
        if ending.add != NULL:
            value = value + (<const vec *> (ending.add + out[i]))[0]
        if ending.clamps:
            value = clamped(value, ending.low, ending.high)
        (<vec *> (y + out[i]))[0] = value
