# The tiles of grouped_gradient.pxi: what a strip of pixels adds to the gradient of the weight.
#
# A tile is a vector of columns for some taps and some channels of a group: its sums stay in registers over a strip of pixels, of
# each of which it reads one vector of dy and the pixels under the taps. Where columns are few and channels are not, it is some
# vectors of the channels under the taps for some columns.


cdef extern from *:
    """
    enum { GRADIENT_TAPS = 3, GRADIENT_CHANNELS = TILE_M * TILE_V >= 24 ? 8 : 4 }; /* 24 sums of 32 registers, or 12 of 16 */
    """
    const int GRADIENT_TAPS      # of a tile
    const int GRADIENT_CHANNELS  # of a tile


cdef enum:
    COPIED_STRIP = 16    # times TILE_M rows at a time of copies, each of which is read by many tiles


cdef inline void accumulate_pixels(
    const int taps, const int channels, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t tap, Py_ssize_t channel,
    const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, bint fresh,
) noexcept nogil:
    """The vector at db[offsets[tap + t, channel + c]] = (0 or itself) + sum_i x[i, tap + t, channel + c] * the vector at dy[i * dy_ld].

    offsets (taps, channels of a group). Where groups share the vector, each lane has its own element of the pixel.
    """
    cdef vec acc[GRADIENT_TAPS * GRADIENT_CHANNELS]
    cdef vec pixel[GRADIENT_TAPS]
    cdef const real *at[GRADIENT_TAPS]
    cdef vec grad
    cdef mask lanes
    cdef Py_ssize_t i, t, c
    offsets += tap * x.length[0] + channel
    for t in range(taps):
        for c in range(channels):
            acc[t * channels + c] = broadcast(0) if fresh else (<const vec *> (db + offsets[t * x.length[0] + c]))[0]
    if spread:
        lanes = (<const mask *> x.lanes)[0] + broadcast_lane(channel)
    for i in range(rows):
        grad = held(dy + i * dy_ld)
        for t in range(taps):
            at[t] = x.at[(tap + t) * x.at_ld + i] + x.offset
            if spread:
                pixel[t] = held(at[t])
            else:
                at[t] += channel
        for c in range(channels):
            for t in range(taps):
                if spread:
                    acc[t * channels + c] = acc[t * channels + c] + grad * permuted(pixel[t], lanes + broadcast_lane(c))
                else:
                    acc[t * channels + c] = acc[t * channels + c] + grad * at[t][c]
    for t in range(taps):
        for c in range(channels):
            (<vec *> (db + offsets[t * x.length[0] + c]))[0] = acc[t * channels + c]


cdef inline Py_ssize_t accumulate_channels(
    const int taps, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t tap, Py_ssize_t channel,
    const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, bint fresh,
) noexcept nogil:
    """Run the tile of the most channels that are left in the group, and return how many these are."""
    cdef Py_ssize_t left = x.length[0] - channel
    if not spread and left >= GRADIENT_CHANNELS:  # groups that share a vector have fewer, or go across
        accumulate_pixels(taps, GRADIENT_CHANNELS, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
        return GRADIENT_CHANNELS
    if left >= GRADIENT_CHANNELS // 2:
        accumulate_pixels(taps, GRADIENT_CHANNELS // 2, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
        return GRADIENT_CHANNELS // 2
    if left >= 2 and GRADIENT_CHANNELS > 4:
        accumulate_pixels(taps, 2, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
        return 2
    accumulate_pixels(taps, 1, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
    return 1


ctypedef void (*PanelGradient)(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil


cdef whole gradient_of_one(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    gradient_panel(False, rows, x, dy, dy_ld, db, offsets, fresh)


cdef whole gradient_of_several(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    gradient_panel(True, rows, x, dy, dy_ld, db, offsets, fresh)


cdef void gradient_of_copies(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    """The same of a whole group: its pixels are copied, and tiles go across taps. So is dy, whose rows may share a set of the cache."""
    cdef real nothing[TILE_N]
    cdef real panel[COPIED_STRIP * TILE_M * TILE_N]
    cdef real *copies = <real *> x.a
    cdef Py_ssize_t j = 0, i, width
    zero(nothing, TILE_N)
    copy_windows(x, rows, copies)
    while j < cols:
        width = min(cols - j, <Py_ssize_t> TILE_N)
        if width % LANES:
            zero(panel, rows * TILE_N)
        for i in range(rows):
            copy_narrow(panel + i * TILE_N, dy + i * dy_ld + j, width)
        columns_by_panel(
            x.runs * x.length[0], width, copies, DEPTH_LD, panel, TILE_N, rows, nothing if fresh else NULL, db + j, offsets,
        )
        j += TILE_N


cdef inline void gradient_panel(
    const bint spread, Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *db, const Py_ssize_t *offsets,
    bint fresh,
) noexcept nogil:
    """Add what `rows` pixels give to all taps and channels of one panel."""
    cdef Py_ssize_t tap = 0, channel
    while tap < x.runs:
        channel = 0
        while channel < x.length[0]:
            if x.runs - tap >= GRADIENT_TAPS:
                channel += accumulate_channels(GRADIENT_TAPS, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
            else:
                channel += accumulate_channels(1, spread, rows, x, tap, channel, dy, dy_ld, db, offsets, fresh)
        tap += GRADIENT_TAPS if x.runs - tap >= GRADIENT_TAPS else 1


cdef inline void accumulate_across(
    const int units, const int cols, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t unit, const real *dy, Py_ssize_t dy_ld,
    real *sums, Py_ssize_t step, bint fresh,
) noexcept nogil:
    """sums[u * step + j * LANES] (vectors) += the sum over i of vector `unit` + u of pixel i, times dy[i * dy_ld + j].

    Vectors are counted over the channels of all taps; the last one of a tap overlaps the one before. Where groups share the vector,
    each lane has its own element of dy.
    """
    cdef vec acc[GRADIENT_TAPS * GRADIENT_CHANNELS]
    cdef vec pixel[GRADIENT_TAPS]
    cdef const real **at[GRADIENT_TAPS]
    cdef Py_ssize_t into[GRADIENT_TAPS]
    cdef Py_ssize_t vectors = ceil_div(x.length[0], LANES), i, j, u
    cdef vec factor
    cdef mask lanes
    cdef const real *nearest
    for u in range(units):
        at[u] = x.at + (unit + u) // vectors * x.at_ld
        into[u] = x.offset
        if not spread:
            into[u] += min((unit + u) % vectors * LANES, x.length[0] - LANES)
        for j in range(cols):
            acc[u * cols + j] = broadcast(0) if fresh else (<const vec *> (sums + u * step + j * LANES))[0]
    if spread:
        lanes = (<const mask *> x.lanes)[0]
    for i in range(rows):
        for u in range(units):
            pixel[u] = held(at[u][i] + into[u])
        for j in range(cols):
            if spread:
                nearest = address_after(dy, acc[units * cols - cols + j - 1]) if j else dy
                factor = permuted((<const vec *> nearest)[0], lanes + broadcast_lane(j))
            else:
                factor = in_register(broadcast(dy[j]))
            for u in range(units):
                acc[u * cols + j] = acc[u * cols + j] + pixel[u] * factor
        for u in range(units):
            needed(pixel[u])
        dy += dy_ld
    for u in range(units):
        for j in range(cols):
            (<vec *> (sums + u * step + j * LANES))[0] = acc[u * cols + j]


cdef inline void across_columns(
    const int units, const bint spread, Py_ssize_t rows, const Left *x, Py_ssize_t unit, const real *dy, Py_ssize_t dy_ld, real *sums,
    Py_ssize_t cols, bint fresh,
) noexcept nogil:
    """All columns, by tiles of the most that are left."""
    cdef Py_ssize_t j = 0, step = cols * LANES
    sums += unit * step
    while j < cols:
        if cols - j >= GRADIENT_CHANNELS:
            accumulate_across(units, GRADIENT_CHANNELS, spread, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += GRADIENT_CHANNELS
        elif cols - j >= GRADIENT_CHANNELS // 2:
            accumulate_across(units, GRADIENT_CHANNELS // 2, spread, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += GRADIENT_CHANNELS // 2
        elif cols - j >= 2 and GRADIENT_CHANNELS > 4:
            accumulate_across(units, 2, spread, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += 2
        else:
            accumulate_across(units, 1, spread, rows, x, unit, dy + j, dy_ld, sums + j * LANES, step, fresh)
            j += 1


cdef whole gradient_across_one(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *sums, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    """The same along the channels, of a whole group."""
    gradient_across(False, rows, x, dy, dy_ld, sums, cols, fresh)


cdef whole gradient_across_several(
    Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *sums, const Py_ssize_t *offsets, Py_ssize_t cols, bint fresh
) noexcept nogil:
    """The same of groups that share a vector."""
    gradient_across(True, rows, x, dy, dy_ld, sums, cols, fresh)


cdef inline void gradient_across(
    const bint spread, Py_ssize_t rows, const Left *x, const real *dy, Py_ssize_t dy_ld, real *sums, Py_ssize_t cols, bint fresh
) noexcept nogil:
    cdef Py_ssize_t units = x.runs * ceil_div(x.length[0], LANES), unit = 0
    while unit < units:
        if units - unit >= GRADIENT_TAPS:
            across_columns(GRADIENT_TAPS, spread, rows, x, unit, dy, dy_ld, sums, cols, fresh)
            unit += GRADIENT_TAPS
        else:
            across_columns(1, spread, rows, x, unit, dy, dy_ld, sums, cols, fresh)
            unit += 1


cdef void turn_sums(const Grouped *g, Py_ssize_t groups, const real *sums, const Py_ssize_t *offsets, real *db) noexcept nogil:
    """Write where they belong the sums across channels of a group, or of so many that share a vector."""
    cdef Py_ssize_t vectors = ceil_div(g.p.depth, LANES), lanes = min(g.p.depth, <Py_ssize_t> LANES), tap, v, m, i, j, k
    cdef Py_ssize_t squares = lanes // PART_LANES if lanes % PART_LANES == 0 and g.p.cols % PART_LANES == 0 else 0
    cdef real *to
    for tap in range(grouped_taps(g)):
        for v in range(vectors):
            k = min(v * LANES, g.p.depth - lanes)
            to = db + offsets[tap * g.p.depth + k]
            for m in range(groups):
                for i in range(squares):
                    for j in range(g.p.cols // PART_LANES):
                        transpose_small_square(
                            sums + j * PART_LANES * LANES + i * PART_LANES, LANES, to + i * PART_LANES * g.p.b_k + j * PART_LANES, g.p.b_k
                        )
                for i in range(0 if squares else lanes):
                    for j in range(g.p.cols):
                        to[i * g.p.b_k + j] = sums[j * LANES + i]
                sums += lanes
                to += g.p.cols
            sums += g.p.cols * LANES - groups * lanes
