# Convolution: forward, its adjoint (the gradient of the input, and transposed convolution), the gradient of the weight.
#
# x (N, D, H, W, C), y (N, D', H', W', O), weight (T, R, S, C // groups, O); axes (3, 10), the fields of geometry.Axis.
# The functional floor has checked every shape; arrays are C contiguous and y does not overlap the others.


cdef struct Part:
    Product p
    Grid g


cdef int run_groups(
    const Product *parts, Py_ssize_t count, Py_ssize_t groups, Py_ssize_t b_group, int tile_h, int tile_w, int threads
) noexcept nogil:
    """Compute `count` products for each group; the operands of the next group are b_group, depth and cols further on.

    `tile_h` and `tile_w` are the outputs of a Winograd tile, 0 for the direct product. -1: no memory.
    """
    cdef Py_ssize_t group, i
    cdef Product q
    cdef int status = 0
    cdef bint together = tile_h == 0
    for i in range(count):
        together &= grouped_pays(parts + i, groups)
    if tile_h == 0 and not together:
        return run_products(parts, count, groups, b_group, threads)
    for i in range(count):
        if together:
            status |= run_grouped(parts + i, groups, b_group, threads)
        else:
            for group in range(groups):
                q = of_group(parts + i, group, b_group)
                status |= run_winograd(&q, tile_h, tile_w, threads)
    return status


cdef int run_products(const Product *parts, Py_ssize_t count, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """Products of one left operand in turn, a block each: those that follow find it in a cache."""
    cdef Py_ssize_t blocks = 0, each = 0, i, task
    cdef Part *plan = <Part *> malloc(count * sizeof(Part))
    cdef real *scratch = NULL
    if plan != NULL:
        for i in range(count):
            plan[i].p = parts[i]
            plan[i].p.in_place = product_in_place(&plan[i].p)
            plan[i].g = product_grid(&plan[i].p, groups * count, threads)
            blocks = max(blocks, plan[i].g.row_blocks * plan[i].g.col_blocks)
            each = max(each, product_scratch(&plan[i].p, plan[i].g))
        scratch = new_scratch(each, threads)
    if scratch != NULL:
        for task in prange(groups * blocks * count, schedule="dynamic", num_threads=threads):
            group_product(
                plan + task % count, task // count // blocks, b_group, task // count % blocks, scratch + threadid() * each
            )
    free(plan)
    free(scratch)
    return 0 if scratch != NULL else -1


cdef void group_product(const Part *part, Py_ssize_t group, Py_ssize_t b_group, Py_ssize_t block, real *scratch) noexcept nogil:
    cdef Product q
    if block < part.g.row_blocks * part.g.col_blocks:
        q = of_group(&part.p, group, b_group)
        product_block(&q, part.g, block, scratch)


cdef inline Product of_group(const Product *p, Py_ssize_t group, Py_ssize_t b_group) noexcept nogil:
    cdef Product q = p[0]
    q.a += group * p.depth
    q.b += group * b_group
    q.y += group * p.cols
    if p.bias:
        q.bias += group * p.cols
    return q


def conv_forward(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] weight, const real[::1] bias, real[:, :, :, :, ::1] y,
    const int64_t[:, ::1] axes, Py_ssize_t groups, int tile_h, int tile_w, int threads,
):
    """y[n, p, q, o] = bias[o] + sum_{r, s, c} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, c, o].

    Any number of spatial axes up to three. `tile_h` and `tile_w`: outputs of a Winograd tile (0: the direct product).
    """
    cdef Product p
    cdef int status
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.a, p.batch, p.a_ld, p.depth = &x[0, 0, 0, 0, 0], x.shape[0], x.shape[4], weight.shape[3]
    p.b, p.b_k, p.b_col = &weight[0, 0, 0, 0, 0], weight.shape[4], 1
    p.b_w = weight.shape[3] * weight.shape[4]
    p.b_h = p.b_w * weight.shape[2]
    p.b_d = p.b_h * weight.shape[1]
    p.y, p.out_d, p.out_h, p.out_w, p.y_ld = &y[0, 0, 0, 0, 0], y.shape[1], y.shape[2], y.shape[3], y.shape[4]
    p.cols = weight.shape[4] // groups
    p.bias = NULL
    if bias is not None:
        p.bias = &bias[0]
    with nogil:
        status = run_groups(&p, 1, groups, p.cols, tile_h, tile_w, threads)
    if status:
        raise MemoryError("no memory for the scratch of a convolution")


def conv_backward_input(
    const real[:, :, :, :, ::1] dy, const real[:, :, :, :, ::1] weight, const real[::1] bias, real[:, :, :, :, ::1] dx,
    const int64_t[:, ::1] axes, const int64_t[:, ::1] phases_d, const int64_t[:, ::1] phases_h, const int64_t[:, ::1] phases_w,
    Py_ssize_t groups, int tile_h, int tile_w, int threads,
):
    """dx[n, h, w, c] = bias[c] + sum_{r, s, o} dy[n, (h + before - r * dilation) / stride, ..., o] * weight[r, s, c, o].

    Over the taps for which the division leaves no rest: a dense product for each phase of the stride. Few channels are
    scattered (scatter.pxi) instead. `axes` are those of the convolution. Scratch as forward, and 2 MB of packed weights.
    """
    cdef Product p
    cdef Scatter s
    cdef Product *parts
    cdef int status = 0
    cdef Py_ssize_t i, j, tap_w, tap_h, tap_d, count = phases_d.shape[0] * phases_h.shape[0] * phases_w.shape[0]
    s.d, s.h, s.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    if tile_h == 0 and scatter_pays(&s.w, weight, groups):
        s.dy, s.dx, s.inputs, s.outputs = &dy[0, 0, 0, 0, 0], &dx[0, 0, 0, 0, 0], dx.shape[4], dy.shape[4]
        s.bias = NULL
        if bias is not None:
            s.bias = &bias[0]
        with nogil:
            status = run_scatter(s, &weight[0, 0, 0, 0, 0], dx.shape[0] * dx.shape[1], threads)
        if status:
            raise MemoryError("no memory for the scratch of a convolution")
        return
    tap_w = weight.shape[3] * weight.shape[4]
    tap_h = tap_w * weight.shape[2]
    tap_d = tap_h * weight.shape[1]
    p.a, p.batch, p.a_ld, p.depth = &dy[0, 0, 0, 0, 0], dy.shape[0], dy.shape[4], weight.shape[4] // groups
    p.b_k, p.b_col = 1, weight.shape[4]
    p.y, p.out_d, p.out_h, p.out_w, p.y_ld = &dx[0, 0, 0, 0, 0], dx.shape[1], dx.shape[2], dx.shape[3], dx.shape[4]
    p.cols = weight.shape[3]
    p.bias = NULL
    if bias is not None:
        p.bias = &bias[0]
    with nogil:
        parts = <Product *> malloc(count * sizeof(Product))
        status = -1
        if parts != NULL:
            for i in range(count):
                j = i // phases_w.shape[0]
                p.w = read_axis(&phases_w[i % phases_w.shape[0], 0])
                p.h = read_axis(&phases_h[j % phases_h.shape[0], 0])
                p.d = read_axis(&phases_d[j // phases_h.shape[0], 0])
                p.b = &weight[0, 0, 0, 0, 0] + p.d.tap_first * tap_d + p.h.tap_first * tap_h + p.w.tap_first * tap_w
                p.b_d, p.b_h, p.b_w = p.d.tap_step * tap_d, p.h.tap_step * tap_h, p.w.tap_step * tap_w
                parts[i] = p
            status = run_groups(parts, count, groups, p.depth, tile_h, tile_w, threads)
        free(parts)
    if status:
        raise MemoryError("no memory for the scratch of a convolution")


def gradient_chunks(
    const int64_t[:, ::1] axes, Py_ssize_t batch, Py_ssize_t depth, Py_ssize_t outputs, Py_ssize_t groups, int tile_h,
    int tile_w, Py_ssize_t enough,
):
    """How many partial sums `conv_backward_weight` takes: enough blocks in all, depending on the sizes alone."""
    cdef Product p
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.batch, p.depth, p.cols = batch, depth, outputs // groups
    if tile_h:
        return winograd_gradient_grid(&p, tile_h, tile_w, groups).chunks
    cdef Grid g = gradient_grid(&p)
    cdef Py_ssize_t blocks = groups * g.row_blocks * g.col_blocks
    cdef Grouped of_groups
    if grouped_pays(&p, groups):
        of_groups = grouped(&p, groups, 0, LANES)
        blocks = grouped_gradient_grid(&of_groups).col_blocks
    return max(1, min(ceil_div(enough, blocks), ceil_div(product_rows(&p), ROWS)))


def conv_backward_weight(
    const real[:, :, :, :, ::1] x, const real[:, :, :, :, ::1] dy, real[:, :, :, :, :, ::1] partial,
    const int64_t[:, ::1] axes, Py_ssize_t groups, int tile_h, int tile_w, int threads,
):
    """partial[i, r, s, c, o] = sum_m x[n, p * stride + r * dilation - before, ..., c] * dy[n, p, q, o].

    m = (n, p, q) runs over part i of as many even parts as `partial` has; their sum, in order, is the gradient.
    Of Winograd tiles a part has as many. `gradient_chunks` says how many parts.
    """
    cdef Product p
    cdef int status
    cdef Py_ssize_t items
    cdef real *db = &partial[0, 0, 0, 0, 0, 0]
    cdef const real *dy_first = &dy[0, 0, 0, 0, 0]
    p.d, p.h, p.w = read_axis(&axes[0, 0]), read_axis(&axes[1, 0]), read_axis(&axes[2, 0])
    p.a, p.batch, p.a_ld, p.depth = &x[0, 0, 0, 0, 0], x.shape[0], x.shape[4], partial.shape[4]
    p.b_k, p.b_col = partial.shape[5], 1
    p.b_w = partial.shape[4] * partial.shape[5]
    p.b_h = p.b_w * partial.shape[3]
    p.b_d = p.b_h * partial.shape[2]
    p.out_d, p.out_h, p.out_w, p.y_ld = dy.shape[1], dy.shape[2], dy.shape[3], dy.shape[4]
    p.cols = partial.shape[5] // groups
    items = p.b_d * partial.shape[1]
    with nogil:
        if tile_h:
            status = run_winograd_gradient(&p, tile_h, tile_w, groups, dy_first, db, items, threads)
        elif grouped_pays(&p, groups):
            status = run_grouped_gradient(&p, groups, dy_first, db, items, partial.shape[0], threads)
        else:
            status = run_gradient(p, groups, dy_first, db, items, partial.shape[0], threads)
    if status:
        raise MemoryError("no memory for the scratch of a convolution's weight gradient")


cdef int run_gradient(
    Product p, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items, Py_ssize_t chunks, int threads
) noexcept nogil:
    """Write `chunks` partial gradients, `items` elements apart. -1: no memory."""
    p.in_place = window_run(&p) >= SHORT_RUN
    cdef Grid g = gradient_grid(&p)
    cdef Py_ssize_t blocks = g.row_blocks * g.col_blocks, total = product_rows(&p), chunk_rows = ceil_div(total, chunks)
    cdef Py_ssize_t each = gradient_scratch(&p), chunk, task
    cdef real *scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for task in prange(chunks * groups * blocks, schedule="dynamic", num_threads=threads):
        chunk = task // blocks // groups
        group_gradient(
            &p, g, task // blocks % groups, task % blocks, min(chunk * chunk_rows, total), min((chunk + 1) * chunk_rows, total),
            dy, db + chunk * items, scratch + threadid() * each,
        )
    free(scratch)
    return 0


cdef void group_gradient(
    const Product *p, Grid g, Py_ssize_t group, Py_ssize_t block, Py_ssize_t row_first, Py_ssize_t row_end,
    const real *dy, real *db, real *scratch,
) noexcept nogil:
    cdef Product q = p[0]
    q.a += group * p.depth
    gradient_block(&q, g, block, row_first, row_end, dy + group * p.cols, db + group * p.cols, scratch)


def column_sums(const real[:, ::1] x, real[:, ::1] partial, int threads):
    """partial[i, c] = the sum of x[m, c] over part i of as many even parts of the rows as `partial` has."""
    cdef Py_ssize_t chunk, chunks = partial.shape[0], rows = ceil_div(x.shape[0], partial.shape[0])
    cdef Py_ssize_t total = x.shape[0], cols = x.shape[1]
    cdef const real *first = &x[0, 0]
    cdef real *sums = &partial[0, 0]
    for chunk in prange(chunks, nogil=True, num_threads=threads):
        sum_rows(first, min(chunk * rows, total), min((chunk + 1) * rows, total), cols, sums + chunk * cols)


cdef void sum_rows(const real *x, Py_ssize_t row, Py_ssize_t end, Py_ssize_t cols, real *sums) noexcept nogil:
    cdef Py_ssize_t c
    zero(sums, cols)
    while row < end:
        for c in range(cols):
            sums[c] += x[row * cols + c]
        row += 1
