# Locally connected layers: at each position a product of its own, whose rows are the images of the batch.
#
# x (N, D, H, W, C), y (N, D', H', W', O), weight (D' * H' * W', T, R, S, C, O); axes as for a convolution.


cdef inline Axis at_position(Axis axis, Py_ssize_t row) noexcept nogil:
    """The axis with product row `row` as its only one."""
    axis.origin += row * axis.stride
    axis.out_first += row * axis.out_step
    axis.rows = 1
    return axis


cdef inline Axis inside(Axis axis) noexcept nogil:
    """The axis of one position with the taps alone that hit the input."""
    cdef Py_ssize_t skip = max(ceil_div(-axis.origin, axis.dilation), <Py_ssize_t> 0) if axis.origin < 0 else 0
    cdef Py_ssize_t end = (axis.size - 1 - axis.origin) // axis.dilation + 1 if axis.origin < axis.size else 0
    axis.taps = max(min(axis.taps, end) - skip, <Py_ssize_t> 0)
    axis.origin += skip * axis.dilation
    axis.tap_first += skip * axis.tap_step
    return axis


cdef void blocks_of_product(const Product *p, Grid g, real *scratch) noexcept nogil:
    cdef Py_ssize_t block
    for block in range(g.row_blocks * g.col_blocks):
        product_block(p, g, block, scratch)


cdef void local_forward_at(
    Product p, Grid g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t weights, real *scratch
) noexcept nogil:
    p.b += ((d * p.out_h + h) * p.out_w + w) * weights
    p.d, p.h, p.w = at_position(p.d, d), at_position(p.h, h), at_position(p.w, w)
    blocks_of_product(&p, g, scratch)


def local_forward(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, :, ::1] weight, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] axes, int threads, /,
):
    """y[n, p, q, o] = sum_{r, s, c} x[n, p * stride + r - before, ..., c] * weight[p, q, r, s, c, o]."""
    cdef Product p = bare_product()
    cdef Grid g
    cdef Py_ssize_t each, task, positions = y.shape[1] * y.shape[2] * y.shape[3], weights
    cdef real *scratch
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.a, p.batch, p.a_ld, p.depth = &x[0, 0, 0, 0, 0], x.shape[0], x.shape[4], x.shape[4]
    p.b, p.b_k, p.b_col = &weight[0, 0, 0, 0, 0, 0], weight.shape[5], 1
    p.b_w = weight.shape[4] * weight.shape[5]
    p.b_h = p.b_w * weight.shape[3]
    p.b_d = p.b_h * weight.shape[2]
    weights = p.b_d * weight.shape[1]
    p.y, p.out_d, p.out_h, p.out_w, p.y_ld = &y[0, 0, 0, 0, 0], y.shape[1], y.shape[2], y.shape[3], y.shape[4]
    p.cols = y.shape[4]
    p.in_place = product_in_place(&p)
    with nogil:
        g = position_grid(&p)
        each = product_scratch(&p, g)
        scratch = new_scratch(each, threads)
        if scratch != NULL:
            for task in prange(positions, schedule="dynamic", num_threads=threads):
                local_forward_at(
                    p, g, task // p.out_w // p.out_h, task // p.out_w % p.out_h, task % p.out_w, weights,
                    scratch + threadid() * each,
                )
            free_lines(scratch)
    if scratch == NULL:
        raise MemoryError("no memory for the scratch of a locally connected layer")


cdef Grid position_grid(const Product *p) noexcept nogil:
    """All images of one position are one row block."""
    cdef Grid g
    g.rows, g.row_blocks = p.batch, 1
    g.cols = round_up(min(p.cols, <Py_ssize_t> COLUMNS), TILE_N)
    g.col_blocks = ceil_div(p.cols, g.cols)
    return g


cdef void local_input_at(
    Product p, Grid g, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w,
    const Py_ssize_t *tap, real *scratch,
) noexcept nogil:
    # an input pixel is seen by outputs p.d.origin + t * dilation, by each through another weight: both move with the tap t
    cdef Py_ssize_t out_w = tap[3], out_h = tap[4], out_d = tap[5]
    p.d, p.h, p.w = inside(at_position(p.d, d)), inside(at_position(p.h, h)), inside(at_position(p.w, w))
    p.b += p.d.origin * out_d + p.h.origin * out_h + p.w.origin * out_w
    p.b += p.d.tap_first * tap[2] + p.h.tap_first * tap[1] + p.w.tap_first * tap[0]
    p.b_d = p.d.dilation * out_d + p.d.tap_step * tap[2]
    p.b_h = p.h.dilation * out_h + p.h.tap_step * tap[1]
    p.b_w = p.w.dilation * out_w + p.w.tap_step * tap[0]
    blocks_of_product(&p, g, scratch)


def local_backward_input(
    const real[:, :, :, :, ::1] dy, const real[:, :, :, :, :, ::1] weight, real[:, :, :, :, ::1] dx,
    const int64_t[:, ::1] phases_d, const int64_t[:, ::1] phases_h, const int64_t[:, ::1] phases_w, int threads, /,
):
    """dx[n, h, w, c] = sum over the outputs p, q that see h, w through tap r, s: dy[n, p, q, :] . weight[p, q, r, s, c, :]."""
    cdef Product p = bare_product()
    cdef Grid g
    cdef Py_ssize_t tap[6]
    cdef Py_ssize_t each, task, i, j, k
    cdef real *scratch
    tap[0] = weight.shape[4] * weight.shape[5]
    tap[1] = tap[0] * weight.shape[3]
    tap[2] = tap[1] * weight.shape[2]
    tap[3] = tap[2] * weight.shape[1]
    tap[4] = tap[3] * dy.shape[3]
    tap[5] = tap[4] * dy.shape[2]
    p.a, p.batch, p.a_ld, p.depth = &dy[0, 0, 0, 0, 0], dy.shape[0], dy.shape[4], dy.shape[4]
    p.b_k, p.b_col = 1, weight.shape[5]
    p.y, p.out_d, p.out_h, p.out_w, p.y_ld = &dx[0, 0, 0, 0, 0], dx.shape[1], dx.shape[2], dx.shape[3], dx.shape[4]
    p.cols = dx.shape[4]
    p.b = &weight[0, 0, 0, 0, 0, 0]
    # scratch for the phase with the most taps serves them all
    p.d, p.h, p.w = most_taps(phases_d), most_taps(phases_h), most_taps(phases_w)
    p.in_place = product_in_place(&p)
    with nogil:
        g = position_grid(&p)
        each = product_scratch(&p, g)
        scratch = new_scratch(each, threads)
        if scratch != NULL:
            for i in range(phases_d.shape[0]):
                for j in range(phases_h.shape[0]):
                    for k in range(phases_w.shape[0]):
                        p.d, p.h, p.w = read_axis(&phases_d[i, 0]), read_axis(&phases_h[j, 0]), read_axis(&phases_w[k, 0])
                        for task in prange(p.d.rows * p.h.rows * p.w.rows, schedule="dynamic", num_threads=threads):
                            local_input_at(
                                p, g, task // p.w.rows // p.h.rows, task // p.w.rows % p.h.rows, task % p.w.rows,
                                tap, scratch + threadid() * each,
                            )
            free_lines(scratch)
    if scratch == NULL:
        raise MemoryError("no memory for the scratch of a locally connected layer")


cdef Axis most_taps(const int64_t[:, ::1] phases) noexcept nogil:
    cdef Py_ssize_t i, best = 0
    for i in range(phases.shape[0]):
        if phases[i, 2] > phases[best, 2]:
            best = i
    return read_axis(&phases[best, 0])


cdef void local_gradient_at(
    Product p, Py_ssize_t d, Py_ssize_t h, Py_ssize_t w, Py_ssize_t weights, const real *dy, real *db, real *scratch
) noexcept nogil:
    cdef Grid g = gradient_grid(&p)
    cdef Py_ssize_t block
    db += ((d * p.out_h + h) * p.out_w + w) * weights
    p.d, p.h, p.w = at_position(p.d, d), at_position(p.h, h), at_position(p.w, w)
    for block in range(g.row_blocks * g.col_blocks):
        gradient_block(&p, g, block, 0, p.batch, dy, db, scratch)


def local_backward_weight(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] dy, real[:, :, :, :, :, ::1] dweight,
    const int64_t[:, ::1] axes, int threads, /,
):
    """dweight[p, q, r, s, c, o] = sum_n x[n, p * stride + r - before, ..., c] * dy[n, p, q, o]."""
    cdef Product p = bare_product()
    cdef Py_ssize_t each, task, positions = dy.shape[1] * dy.shape[2] * dy.shape[3], weights
    cdef real *scratch
    cdef real *db = &dweight[0, 0, 0, 0, 0, 0]
    cdef const real *dy_first = &dy[0, 0, 0, 0, 0]
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.a, p.batch, p.a_ld, p.depth = &x[0, 0, 0, 0, 0], x.shape[0], x.shape[4], x.shape[4]
    p.b_k, p.b_col = dweight.shape[5], 1
    p.b_w = dweight.shape[4] * dweight.shape[5]
    p.b_h = p.b_w * dweight.shape[3]
    p.b_d = p.b_h * dweight.shape[2]
    weights = p.b_d * dweight.shape[1]
    p.out_d, p.out_h, p.out_w, p.y_ld = dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]
    p.cols = dy.shape[4]
    p.in_place = gradient_in_place(&p)
    with nogil:
        each = gradient_scratch(&p, gradient_grid(&p))
        scratch = new_scratch(each, threads)
        if scratch != NULL:
            for task in prange(positions, schedule="dynamic", num_threads=threads):
                local_gradient_at(
                    p, task // p.out_w // p.out_h, task // p.out_w % p.out_h, task % p.out_w, weights, dy_first, db,
                    scratch + threadid() * each,
                )
            free_lines(scratch)
    if scratch == NULL:
        raise MemoryError("no memory for the scratch of a locally connected layer")
