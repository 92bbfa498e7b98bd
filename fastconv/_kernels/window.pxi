# Windows of an array as rows of a matrix, a block at a time: the matrix itself (im2col) never exists.
#
# Row m is one product row (n, d, h, w), w running fastest; column k is (tap d, tap h, tap w, channel), the channel running
# fastest. Where the taps along w are neighbors in memory, they and the channels are one run. A run inside the image is read
# where it lies, by its address (Dukhan 2019, "The indirect convolution algorithm"); one across its edge is copied between zeros.


cdef enum:
    FAR = 1 << 21       # bytes of an array that no near cache holds
    FAR_BESIDE = FAR >> 3  # and of one that the second-level cache does not hold beside a weight and pixels
    SHORT_RUN = 8       # runs of fewer elements are copied: an address each would cost more
    LINE_ITEMS = 64 // sizeof(real)  # of a cache line
    ALIASING = 4096 // (1 + LOW_TILE)  # bytes between rows of a gradient's operands that share sets of the caches
    MANY_COLUMNS = 192  # a copy is used for so many columns that it costs less than addresses,
    MANY_OF_LOW = 8     # and where tiles are low, for more than so many: but addresses of long runs cost little,
    LONG_OF_LOW = 48    # of so many elements for each panel
    PARTIAL_BYTES = 3 << 20  # of all the partial sums of a weight gradient; one alone is the gradient itself


cdef struct Axis:          # fastconv.geometry.Axis
    Py_ssize_t size, rows, taps, stride, origin, dilation, tap_first, tap_step, out_first, out_step


cdef struct Product:
    # left operand: windows of a (n, d.size, h.size, w.size, a_ld) array, `depth` of its channels
    Axis d, h, w
    const real *a
    Py_ssize_t batch, a_ld, depth
    bint in_place   # read where it lies, not packed
    # right operand: element (tap d, tap h, tap w, channel, column) at strides b_d, b_h, b_w, b_k, b_col
    const real *b
    Py_ssize_t b_d, b_h, b_w, b_k, b_col
    # output: rows of an (n, out_d, out_h, out_w, y_ld) array, `cols` of its channels
    real *y
    const real *bias
    Py_ssize_t out_d, out_h, out_w, y_ld, cols
    Finish finish
    bint adds       # to what y has, instead of to the bias
    # the right operand as the kernel of its algorithm packs it (`pack_weight`), so many elements a group; or NULL
    const real *packed
    Py_ssize_t packed_group
    const real *follows  # packed panels of the product that is computed next, asked for during the last part of this one; or NULL


cdef inline Product bare_product() noexcept nogil:
    """One without a bias, an activation or packed weights; all else is to be filled in."""
    cdef Product p
    p.bias = p.packed = p.follows = NULL
    p.packed_group = 0
    p.adds = False
    p.finish = nothing_more()
    return p


cdef Axis read_axis(const int64_t *record) noexcept nogil:
    return Axis(
        record[0], record[1], record[2], record[3], record[4], record[5], record[6], record[7], record[8], record[9]
    )


cdef inline Py_ssize_t product_rows(const Product *p) noexcept nogil:
    return p.batch * p.d.rows * p.h.rows * p.w.rows


cdef inline bint whole_axis(const Axis *axis) noexcept nogil:
    return axis.taps == 1 and axis.stride == 1 and axis.origin == 0 and axis.rows == axis.size


cdef inline bint is_plain(const Product *p) noexcept nogil:
    """Whether windows are the pixels themselves, one after the other."""
    return whole_axis(&p.d) and whole_axis(&p.h) and whole_axis(&p.w)


cdef inline bint is_line(const Product *p) noexcept nogil:
    """Whether both arrays are nothing but lines of equal pixels."""
    return is_plain(p) and p.w.out_step == 1 and product_rows(p) == p.batch * p.out_d * p.out_h * p.out_w


cdef void join_lines(Product *p) noexcept nogil:
    """Make one line of all pixels where that may be: that much less to ask of each."""
    cdef Py_ssize_t total = product_rows(p)
    if is_line(p):
        p.d.size = p.d.rows = p.h.size = p.h.rows = p.out_d = p.out_h = p.batch = 1
        p.w.size = p.w.rows = p.out_w = total


cdef inline bint is_dense(const Product *p) noexcept nogil:
    """Whether the rows of the output lie one after the other and are only written. Then they may be written in whole vectors: what is
    too much of one, columns and rows that come later put right."""
    return p.cols == p.y_ld and not p.adds and product_rows(p) == p.batch * p.out_d * p.out_h * p.out_w


cdef inline Py_ssize_t rows_in_vectors(Py_ssize_t rows, Py_ssize_t left, Py_ssize_t excess, Py_ssize_t y_ld) noexcept nogil:
    """How many of the next `rows` rows of a dense output, of which `left` are left, may be written with `excess` columns too much."""
    return max(min(rows, left - ceil_div(excess, y_ld)), <Py_ssize_t> 0)


cdef inline bint reads_far(const Product *p) noexcept nogil:
    """Whether no near cache holds the left operand."""
    return p.batch * p.d.size * p.h.size * p.w.size * p.a_ld * sizeof(real) > FAR


cdef inline Py_ssize_t output_bytes(const Product *p) noexcept nogil:
    return p.batch * p.out_d * p.out_h * p.out_w * p.y_ld * <Py_ssize_t> sizeof(real)


cdef inline bint writes_far(const Product *p) noexcept nogil:
    """The same of the output."""
    return output_bytes(p) > FAR


cdef inline bint asks_for_outputs(const Product *p) noexcept nogil:
    """Whether tiles ask for the lines of the output before they write them: each lies in another page, which no processor foresees."""
    return output_bytes(p) > FAR_BESIDE


cdef inline Py_ssize_t taps_of(const Product *p) noexcept nogil:
    return p.d.taps * p.h.taps * p.w.taps


cdef inline Py_ssize_t most_partial(const Product *p, Py_ssize_t groups) noexcept nogil:
    """How many partial sums there may be: as many as are even work for two or four threads."""
    cdef Py_ssize_t weights = taps_of(p) * p.depth * p.cols * groups
    cdef Py_ssize_t most = PARTIAL_BYTES // (weights * <Py_ssize_t> sizeof(real))
    return most // 4 * 4 if most >= 4 else max(most, <Py_ssize_t> 1)


cdef inline Py_ssize_t product_depth(const Product *p) noexcept nogil:
    return taps_of(p) * p.depth


cdef inline void copy(real *to, const real *source, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (to + i))[0] = (<const vec *> (source + i))[0]
        i += LANES
    if 0 < i < items:  # the last vector overlaps the one before
        (<vec *> (to + items - LANES))[0] = (<const vec *> (source + items - LANES))[0]
        return
    while i < items:
        to[i] = source[i]
        i += 1


cdef inline void copy_rows(
    real *to, Py_ssize_t to_ld, const real *source, Py_ssize_t source_ld, Py_ssize_t rows, Py_ssize_t items
) noexcept nogil:
    """Copy `rows` x `items` in vectors and parts of them: up to LANES - 1 elements more of a row are read and written.

    Down the rows first: a loop of three instructions, and no branch for the end of a short row.
    """
    cdef Py_ssize_t i, row
    i = 0
    while i < items:
        if items - i > 2 * PART_LANES:
            for row in range(rows):
                (<vec *> (to + row * to_ld + i))[0] = (<const vec *> (source + row * source_ld + i))[0]
            i += LANES
        else:
            for row in range(rows):
                (<part *> (to + row * to_ld + i))[0] = (<const part *> (source + row * source_ld + i))[0]
            i += PART_LANES


cdef inline void zero(real *to, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(items):
        to[i] = 0


cdef void row_outputs(const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t *out) noexcept nogil:
    """out[i] = where row first + i begins in the output array."""
    cdef Py_ssize_t i = 0, j, end, start, w = first % p.w.rows, line = first // p.w.rows, step = p.w.out_step * p.y_ld
    while i < count:
        start = line // p.h.rows // p.d.rows * p.out_d + p.d.out_first + line // p.h.rows % p.d.rows * p.d.out_step
        start = start * p.out_h + p.h.out_first + line % p.h.rows * p.h.out_step
        start = (start * p.out_w + p.w.out_first) * p.y_ld
        end = min(i + p.w.rows - w, count)
        for j in range(i, end):
            out[j] = start + (w + j - i) * step
        i = end
        w = 0
        line += 1


cdef inline Py_ssize_t window_run(const Product *p) noexcept nogil:
    """Elements of a window that are neighbors in memory."""
    return p.depth * p.w.taps if p.w.dilation == 1 and p.depth == p.a_ld else p.depth


cdef inline bint are_few(const Product *p, Py_ssize_t rows) noexcept nogil:
    """Whether so many rows of a product read its right operand where it lies; a large one twice, which copies take longer."""
    return rows <= FEW or (not LOW_TILE and rows <= 2 * FEW and product_depth(p) * p.cols >= MUCH_WEIGHT)


cdef inline bint spacing_pays(const Product *p) noexcept nogil:
    """Whether the left operand is rows at one distance, at which a low tile reads them where they lie."""
    return SELDOM_USED and LOW_TILE and is_plain(p)


cdef inline bint product_in_place(const Product *p) noexcept nogil:
    """Whether a product reads its windows where they lie; it packs them where runs are too short to be worth an address,
    where so many columns use each row that constant strides save more, and where neighbors alias in the cache."""
    cdef bint aliasing = p.w.stride * p.a_ld * sizeof(real) % SETS == 0, few = p.cols <= MANY_COLUMNS
    cdef Py_ssize_t rows = product_rows(p), run = window_run(p)
    if LOW_TILE:
        few = (p.cols <= MANY_OF_LOW or run >= LONG_OF_LOW * ceil_div(p.cols, TILE_N)) and not spacing_pays(p)
    return run >= SHORT_RUN and ((few or are_few(p, rows)) and not aliasing or rows <= TILE_M // 2)


cdef inline bint gradient_in_place(const Product *p) noexcept nogil:
    """The same for the gradient of the right operand, whose tiles go down many rows."""
    cdef bint aliasing = p.w.stride * p.a_ld * sizeof(real) % ALIASING == 0 and p.depth == product_depth(p) and p.cols > TILE_N
    aliasing &= not turns_windows(p)
    return window_run(p) >= SHORT_RUN and not aliasing


cdef inline Py_ssize_t runs_between(const Product *p, Py_ssize_t k_first, Py_ssize_t k_end) noexcept nogil:
    """In how many runs columns k_first .. k_end - 1 of the windows are."""
    return (k_end - 1) // window_run(p) - k_first // window_run(p) + 1 if p.in_place else 1


cdef inline Py_ssize_t most_runs(const Product *p) noexcept nogil:
    """In how many runs at most DEPTH columns of the windows are."""
    return min(DEPTH // window_run(p) + 2, product_depth(p) // window_run(p)) if p.in_place else 1


cdef inline Py_ssize_t strides(Py_ssize_t pixels, Py_ssize_t stride) noexcept nogil:
    """pixels // stride; a division takes as long as ten other instructions, and most strides are 1."""
    return pixels if stride == 1 else pixels // stride


cdef inline void pack_run(
    const Product *p, const real *line, Py_ssize_t iw, Py_ssize_t into, Py_ssize_t length, real *packed
) noexcept nogil:
    """Elements into .. into + length - 1 of the run that begins at pixel `iw` of an input line; zero outside the line."""
    cdef Py_ssize_t low = min(max(-iw * p.depth - into, <Py_ssize_t> 0), length)
    cdef Py_ssize_t high = max(min((p.w.size - iw) * p.depth - into, length), low)
    zero(packed, low)
    if high > low:
        copy(packed + low, line + iw * p.a_ld + into + low, high - low)
    zero(packed + high, length - high)


cdef void find_windows(
    const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t k_first, Py_ssize_t k_end, const real *zeros, real *packed,
    const real **at, Py_ssize_t at_ld, Py_ssize_t *length,
) noexcept nogil:
    """Columns k_first .. k_end - 1 of `count` windows: at[s * at_ld + i] is run s of the window of row first + i, length[s] long.

    `packed` (DEPTH_LD a row) takes the runs that are copied; `zeros` (DEPTH) stands for those outside the input. Where the
    product does not read in place, all are copied, and `at` may be NULL.
    """
    cdef Py_ssize_t run = window_run(p), steps_w = p.depth * p.w.taps // run
    cdef Py_ssize_t run_first = k_first // run, into_first = k_first - run_first * run
    cdef Py_ssize_t tw_first = run_first % steps_w, th_first = run_first // steps_w % p.h.taps
    cdef Py_ssize_t td_first = run_first // steps_w // p.h.taps
    cdef Py_ssize_t i = 0, j, s, k, tw, th, td, into, size, iz, ih, iw, segment
    cdef Py_ssize_t w = first % p.w.rows, t = first // p.w.rows, h, d, n
    cdef Py_ssize_t pixels = run // p.depth, step = p.w.stride * p.a_ld, low, high, start, number, after
    cdef Py_ssize_t last = p.batch * p.d.size * p.h.size * p.w.size - pixels - ceil_div(LANES, p.a_ld)
    cdef bint within
    cdef const real *line
    cdef const real *source
    cdef real *to
    h = t % p.h.rows
    t //= p.h.rows
    d = t % p.d.rows
    n = t // p.d.rows
    if not p.in_place and at != NULL:
        length[0] = k_end - k_first
        for j in range(count):
            at[j] = packed + j * DEPTH_LD
    while i < count:
        segment = min(p.w.rows - w, count - i)  # windows that lie side by side: they read the same lines
        s, k, into, tw, th, td = 0, k_first, into_first, tw_first, th_first, td_first
        while k < k_end:
            size = min(run - into, k_end - k)
            iz = d * p.d.stride + p.d.origin + td * p.d.dilation
            ih = h * p.h.stride + p.h.origin + th * p.h.dilation
            iw = w * p.w.stride + p.w.origin + tw * p.w.dilation
            to = packed + i * DEPTH_LD + k - k_first
            within = 0 <= iz < p.d.size and 0 <= ih < p.h.size
            low = high = 0  # in windows low .. high - 1 of the segment the run is inside the line
            number = (n * p.d.size + iz) * p.h.size + ih
            line = p.a + number * p.w.size * p.a_ld
            source = line + iw * p.a_ld + into
            if within:
                low = min(strides(max(-iw, <Py_ssize_t> 0) + p.w.stride - 1, p.w.stride), segment)
                if p.w.size - pixels >= iw:
                    high = min(strides(p.w.size - pixels - iw, p.w.stride) + 1, segment)
                high = max(high, low)
            if p.in_place:
                length[s] = size
                for j in range(low, high):
                    at[s * at_ld + i + j] = source + j * step
            else:  # up to pixel `last` others follow: a few elements more may be read
                after = last - number * p.w.size - iw
                after = min(max(after // p.w.stride + 1 if after >= 0 else 0, low), high)
                copy_rows(to + low * DEPTH_LD, DEPTH_LD, source + low * step, step, after - low, size)
                for j in range(after, high):
                    copy(to + j * DEPTH_LD, source + j * step, size)
            j = high if low == 0 else 0
            while j < segment:
                start = iw + j * p.w.stride
                if p.in_place and not (within and start < p.w.size and start + pixels > 0):
                    at[s * at_ld + i + j] = zeros
                elif within:
                    pack_run(p, line, start, into, size, to + j * DEPTH_LD)
                    if p.in_place:
                        at[s * at_ld + i + j] = to + j * DEPTH_LD
                else:
                    zero(to + j * DEPTH_LD, size)
                j += 1
                if j == low:
                    j = high
            s += 1
            k += size
            into = 0
            tw += 1
            if tw == steps_w:
                tw = 0
                th += 1
                if th == p.h.taps:
                    th = 0
                    td += 1
        i += segment
        w = 0
        h += 1
        if h == p.h.rows:
            h = 0
            d += 1
            if d == p.d.rows:
                d = 0
                n += 1


cdef bint windows_reach(const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t k_first, Py_ssize_t k_end) noexcept nogil:
    """Whether columns k_first .. k_end - 1 of `count` windows have anything but padding (or might: strides are not looked at)."""
    cdef Py_ssize_t run = window_run(p), steps_w = p.depth * p.w.taps // run, pixels = run // p.depth
    cdef Py_ssize_t w = first % p.w.rows, line = first // p.w.rows, s, h, d, iz, ih, iw, segment
    while count > 0:
        segment = min(p.w.rows - w, count)
        h, d = line % p.h.rows, line // p.h.rows % p.d.rows
        for s in range(k_first // run, (k_end - 1) // run + 1):
            iz = d * p.d.stride + p.d.origin + s // steps_w // p.h.taps * p.d.dilation
            ih = h * p.h.stride + p.h.origin + s // steps_w % p.h.taps * p.h.dilation
            iw = w * p.w.stride + p.w.origin + s % steps_w * p.w.dilation
            if (
                0 <= iz < p.d.size and 0 <= ih < p.h.size
                and iw < p.w.size and iw + (segment - 1) * p.w.stride + pixels > 0
            ):
                return True
        count -= segment
        w = 0
        line += 1
    return False


cdef void fetch_windows(const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t k_first, Py_ssize_t k_end) noexcept nogil:
    """Have columns k_first .. k_end - 1 of `count` windows brought into the second-level cache."""
    cdef Py_ssize_t run = window_run(p), steps_w = p.depth * p.w.taps // run, step = p.w.stride * p.a_ld
    cdef Py_ssize_t w = first % p.w.rows, t = first // p.w.rows, h, d, n, s, k, size, iz, ih, iw, segment, i, j
    cdef const real *line
    h = t % p.h.rows
    t //= p.h.rows
    d = t % p.d.rows
    n = t // p.d.rows
    while count > 0:
        segment = min(p.w.rows - w, count)
        k = k_first
        while k < k_end:
            s = k // run
            size = min(run - k % run, k_end - k)
            iz = d * p.d.stride + p.d.origin + s // steps_w // p.h.taps * p.d.dilation
            ih = h * p.h.stride + p.h.origin + s // steps_w % p.h.taps * p.h.dilation
            iw = w * p.w.stride + p.w.origin + s % steps_w * p.w.dilation
            if 0 <= iz < p.d.size and 0 <= ih < p.h.size:
                line = p.a + ((n * p.d.size + iz) * p.h.size + ih) * p.w.size * p.a_ld + iw * p.a_ld + k % run
                if step <= size + LINE_ITEMS:
                    fetch_range(line, (segment - 1) * step + size)
                else:
                    for j in range(segment):
                        fetch_range(line + j * step, size)
            k += size
        count -= segment
        w = 0
        h += 1
        if h == p.h.rows:
            h = 0
            d += 1
            if d == p.d.rows:
                d = 0
                n += 1


cdef inline void fetch_range(const real *x, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < items:
        fetch(x + i)
        i += LINE_ITEMS
    fetch(x + items - 1)
