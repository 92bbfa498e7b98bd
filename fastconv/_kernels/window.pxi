# Windows of an array as rows of a matrix, a block at a time: the matrix itself (im2col) never exists.
#
# Row m is one product row (n, d, h, w), w running fastest; column k is (tap d, tap h, tap w, channel), the channel running
# fastest. Where the taps along w are neighbours in memory, they and the channels are one run, copied at once.


cdef struct Axis:          # fastconv.geometry.Axis
    Py_ssize_t size, rows, taps, stride, origin, dilation, tap_first, tap_step, out_first, out_step


cdef struct Product:
    # left operand: windows of a (n, d.size, h.size, w.size, a_ld) array, `depth` of its channels
    Axis d, h, w
    const real *a
    Py_ssize_t batch, a_ld, depth
    # right operand: element (tap d, tap h, tap w, channel, column) at strides b_d, b_h, b_w, b_k, b_col
    const real *b
    Py_ssize_t b_d, b_h, b_w, b_k, b_col
    # output: rows of an (n, out_d, out_h, out_w, y_ld) array, `cols` of its channels
    real *y
    const real *bias
    Py_ssize_t out_d, out_h, out_w, y_ld, cols


cdef Axis read_axis(const int64_t *record) noexcept nogil:
    return Axis(
        record[0], record[1], record[2], record[3], record[4], record[5], record[6], record[7], record[8], record[9]
    )


cdef inline Py_ssize_t product_rows(const Product *p) noexcept nogil:
    return p.batch * p.d.rows * p.h.rows * p.w.rows


cdef inline Py_ssize_t product_depth(const Product *p) noexcept nogil:
    return p.d.taps * p.h.taps * p.w.taps * p.depth


cdef inline void copy(real *to, const real *source, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (to + i))[0] = (<const vec *> (source + i))[0]
        i += LANES
    while i < items:
        to[i] = source[i]
        i += 1


cdef inline void zero(real *to, Py_ssize_t items) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(items):
        to[i] = 0


cdef void row_outputs(const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t *out) noexcept nogil:
    """out[i] = where row first + i begins in the output array."""
    cdef Py_ssize_t i, w = first % p.w.rows, t = first // p.w.rows, h, d, n
    h = t % p.h.rows
    t //= p.h.rows
    d = t % p.d.rows
    n = t // p.d.rows
    for i in range(count):
        out[i] = (((n * p.out_d + p.d.out_first + d * p.d.out_step) * p.out_h
                   + p.h.out_first + h * p.h.out_step) * p.out_w
                  + p.w.out_first + w * p.w.out_step) * p.y_ld
        w += 1
        if w == p.w.rows:
            w = 0
            h += 1
            if h == p.h.rows:
                h = 0
                d += 1
                if d == p.d.rows:
                    d = 0
                    n += 1


cdef inline void pack_line(
    const Product *p, const real *line, Py_ssize_t w, Py_ssize_t count, Py_ssize_t tw, Py_ssize_t into, Py_ssize_t length,
    real *packed,
) noexcept nogil:
    """One run of `count` neighbouring windows of an input line: elements into .. into + length - 1, zero outside the line."""
    cdef Py_ssize_t iw = w * p.w.stride + p.w.origin + tw * p.w.dilation, low, high, i
    cdef const real *source
    for i in range(count):
        source = line + iw * p.a_ld + into
        if iw >= 0 and (p.w.size - iw) * p.depth - into >= length:
            copy(packed, source, length)
        else:
            low = min(max(-iw * p.depth - into, <Py_ssize_t> 0), length)
            high = max(min((p.w.size - iw) * p.depth - into, length), low)
            zero(packed, low)
            if high > low:
                copy(packed + low, source + low, high - low)
            zero(packed + high, length - high)
        iw += p.w.stride
        packed += DEPTH_LD


cdef void pack_windows(
    const Product *p, Py_ssize_t first, Py_ssize_t count, Py_ssize_t k_first, Py_ssize_t k_end, real *packed,
) noexcept nogil:
    """packed[i * DEPTH_LD + k - k_first] = element k of the window of row first + i; zero outside the input."""
    cdef bint merged = p.w.dilation == 1 and p.depth == p.a_ld
    cdef Py_ssize_t run = p.depth * p.w.taps if merged else p.depth
    cdef Py_ssize_t steps_w = 1 if merged else p.w.taps
    cdef Py_ssize_t run_first = k_first // run, into_first = k_first - run_first * run
    cdef Py_ssize_t tw_first = run_first % steps_w, th_first = run_first // steps_w % p.h.taps
    cdef Py_ssize_t td_first = run_first // steps_w // p.h.taps
    cdef Py_ssize_t i = 0, j, k, tw, th, td, into, length, iz, ih, segment
    cdef Py_ssize_t w = first % p.w.rows, t = first // p.w.rows, h, d, n
    cdef real *to
    h = t % p.h.rows
    t //= p.h.rows
    d = t % p.d.rows
    n = t // p.d.rows
    while i < count:
        segment = min(p.w.rows - w, count - i)  # windows that lie side by side: they read the same lines
        k, into, tw, th, td = k_first, into_first, tw_first, th_first, td_first
        while k < k_end:
            length = min(run - into, k_end - k)
            to = packed + i * DEPTH_LD + k - k_first
            iz = d * p.d.stride + p.d.origin + td * p.d.dilation
            ih = h * p.h.stride + p.h.origin + th * p.h.dilation
            if 0 <= iz < p.d.size and 0 <= ih < p.h.size:
                pack_line(
                    p, p.a + ((n * p.d.size + iz) * p.h.size + ih) * p.w.size * p.a_ld, w, segment, tw, into, length, to
                )
            else:
                for j in range(segment):
                    zero(to + j * DEPTH_LD, length)
            k += length
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
