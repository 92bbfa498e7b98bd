# Convolution: forward, and its adjoint (the gradient of the input, and transposed convolution).
#
# x (N, D, H, W, C), y (N, D', H', W', O), weight (T, R, S, C // groups, O); axes (3, 10), the fields of geometry.Axis, tell all
# sizes but `batch` N, `channels` C, `outputs` O and `groups`. Arrays may come with fewer axes: only their memory counts.
# The functional floor has checked every shape; arrays are C contiguous and y does not overlap the others. Whatever the pass,
# the sizes are those of the convolution. `tile_h` and `tile_w`: outputs of a Winograd tile (0: the direct product,
# 1: Strassen's).


cdef Product forward_product(
    const int64_t *axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups
) noexcept nogil:
    """The product of a convolution, and of the gradient of its weight, but for the arrays."""
    cdef Product p = bare_product()
    p.d, p.h, p.w = read_axis(axes), read_axis(axes + 10), read_axis(axes + 20)
    p.batch, p.a_ld, p.depth = batch, channels, channels // groups
    p.b_k, p.b_col = outputs, 1
    p.b_w = p.depth * outputs
    p.b_h = p.b_w * p.w.taps
    p.b_d = p.b_h * p.h.taps
    p.out_d, p.out_h, p.out_w, p.y_ld, p.cols = p.d.rows, p.h.rows, p.w.rows, outputs, outputs // groups
    return p


cdef struct Part:
    Product p
    Grid g


cdef int run_groups(
    const Product *parts, Py_ssize_t count, Py_ssize_t groups, Py_ssize_t b_group, int tile_h, int tile_w, int threads
) noexcept nogil:
    """Compute `count` products for each group; the operands of the next group are b_group, depth and cols further on.

    `tile_h` and `tile_w` are the outputs of a Winograd tile, 0 for the direct product, 1 for Strassen's. -1: no memory.
    """
    cdef Py_ssize_t i
    cdef int status = 0
    cdef bint winograd = is_winograd(tile_h, tile_w), together = not winograd
    if is_strassen(tile_h, tile_w):
        return run_strassen(parts, threads)
    if winograd and folds(parts):
        return run_folded(parts, tile_h, tile_w, threads)
    if not winograd and count == 1 and pixels_pay(parts, groups):
        return run_pixels(parts, groups, b_group, 1, threads)
    for i in range(count):
        together &= grouped_pays(parts + i, groups)
    if not winograd and not together:
        return run_products(parts, count, groups, b_group, threads)
    for i in range(count):
        if together:
            status |= run_together(parts + i, groups, b_group, threads)
        else:
            status |= run_winograd(parts + i, groups, b_group, tile_h, tile_w, threads)
    return status


cdef int run_phases(
    const Product *parts, Py_ssize_t count, Py_ssize_t groups, Py_ssize_t b_group, Py_ssize_t points_h, Py_ssize_t points_w,
    int threads,
) noexcept nogil:
    """The phases of a stride by Winograd's algorithm, in tiles of as many points: fewer taps, more outputs. One tap is a product."""
    cdef Py_ssize_t i, h, w
    cdef int status = 0
    for i in range(count):
        h, w = parts[i].h.taps, parts[i].w.taps
        if h * w <= 1:
            status |= run_groups(parts + i, 1, groups, b_group, 0, 0, threads)
        else:
            status |= run_winograd(
                parts + i, groups, b_group, points_h + 1 - h if h > 1 else 1, points_w + 1 - w if w > 1 else 1, threads
            )
    return status


cdef int run_together(const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """The product of all groups at once, as dot products if those pay, in cells if these do."""
    cdef Py_ssize_t count = 1, i
    cdef int status = 0
    cdef bint dots = dots_pay(p, groups)
    cdef Product *cells = cells_of(p, groups, b_group, True, threads, &count)
    for i in range(count):
        if dots:
            status |= run_dots(cells + i if cells else p, groups, b_group, threads)
        else:
            status |= run_grouped(cells + i if cells else p, groups, b_group, threads)
    free(cells)
    return status


cdef int run_products(const Product *parts, Py_ssize_t count, Py_ssize_t groups, Py_ssize_t b_group, int threads) noexcept nogil:
    """Products of one left operand in turn, a block each: those that follow find it in a cache."""
    cdef Py_ssize_t blocks = 0, each = 0, i, tasks, task
    cdef Part *plan
    cdef Product unpacked
    cdef Product *cells
    cdef real *scratch = NULL
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    if groups * count == 1 and few_pay(parts):
        return run_few(parts, threads)
    if groups * count == 1 and one_tap(parts) and dots_pay(parts, 1):
        return run_dots(parts, 1, 0, threads)
    if groups * count == 1 and (is_one_row(parts) or are_rows_of_far(parts)):
        run_row(parts, threads)
        return 0
    if groups * count == 1 and are_rows_by_columns(parts):
        return run_columns(parts, threads)
    if groups * count == 1 and across_pays(parts):
        return run_across(parts, threads)
    if MANY_REGISTERS and groups * count == 1 and planar_pays(parts):
        return run_planar(parts, threads)
    if groups * count == 1 and flat_pays(parts):
        return run_flat(parts, threads)
    if groups * count == 1 and over_lines(parts) and (whole_axis(&parts.d) or parts.packed or not mostly_padding(parts)):
        return run_lines(parts, threads)
    if groups * count == 1 and scatters_forward(parts):
        if finite_weight(parts):
            return run_scatter(scatter_of(parts), parts.batch, threads)
        unpacked = parts[0]
        unpacked.packed, parts = NULL, &unpacked
    if groups * count == 1 and dots_pay(parts, 1):
        return run_together(parts, 1, 0, threads)
    if count == 1 and (
        parts.packed == NULL and tap_by_tap(parts, False, False, groups, threads)
        or SELDOM_USED and parts.packed != NULL and packs_taps(parts, groups)
    ):
        return run_taps(parts, groups, b_group, threads)
    cells = cells_of(parts, groups, b_group, False, threads, &count)
    if cells != NULL:
        parts = cells
    plan = <Part *> malloc(count * sizeof(Part))
    if plan != NULL:
        for i in range(count):
            plan[i].p = parts[i]
            join_lines(&plan[i].p)
            plan[i].p.in_place = product_in_place(&plan[i].p)
            plan[i].g = product_grid(&plan[i].p, groups * count, threads)
            blocks = max(blocks, plan[i].g.row_blocks * plan[i].g.col_blocks)
            each = max(each, product_scratch(&plan[i].p, plan[i].g))
        tasks = groups * blocks * count
        threads = min(threads, tasks)
        scratch = new_scratch(each, threads)
        if scratch != NULL and tasks == 1:  # to ask OpenMP takes longer than a small product
            product_block(&plan.p, plan.g, 0, scratch)
        elif scratch != NULL:
            memset(taken, 0, sizeof(taken))
            with parallel(num_threads=threads):
                task = take_task(taken, tasks, threads, threadid())
                while task >= 0:
                    group_product(
                        plan + task % count, task // count // blocks, b_group, task // count % blocks, scratch + threadid() * each
                    )
                    task = take_task(taken, tasks, threads, threadid())
    free(plan)
    free(cells)
    free_lines(scratch)
    return 0 if scratch != NULL else -1


cdef void group_product(const Part *part, Py_ssize_t group, Py_ssize_t b_group, Py_ssize_t block, real *scratch) noexcept nogil:
    cdef Product q
    if block < part.g.row_blocks * part.g.col_blocks:  # all columns of some rows, then those of the next
        q = of_group(&part.p, group, b_group)
        product_block(&q, part.g, block % part.g.col_blocks * part.g.row_blocks + block // part.g.col_blocks, scratch)


cdef inline Product from_column(const Product *p, Py_ssize_t col) noexcept nogil:
    """The output, and what goes with it, from a column on."""
    cdef Product q = p[0]
    q.y += col
    if p.bias:
        q.bias += col
    if p.finish.residual:
        q.finish.residual += col
    if p.finish.slope:
        q.finish.slope += col
    return q


cdef inline Product of_group(const Product *p, Py_ssize_t group, Py_ssize_t b_group) noexcept nogil:
    cdef Product q = from_column(p, group * p.cols)
    q.a += group * p.depth
    q.b += group * b_group
    if p.packed:
        q.packed += group * p.packed_group
    return q


def conv_forward(
    x, weight, bias, y, axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups,
    int tile_h, int tile_w, int threads, /,
):
    """y[n, p, q, o] = bias[o] + sum_{r, s, c} x[n, p * stride + r * dilation - before, ..., c] * weight[r, s, c, o]."""
    cdef Product p = forward_product(records_of(axes), batch, channels, outputs, groups)
    cdef int status
    p.a, p.b, p.y = read_from(x), read_from(weight), write_to(y)
    if bias is not None:
        p.bias = read_from(bias)
    with nogil:
        status = run_groups(&p, 1, groups, p.cols, tile_h, tile_w, threads)
    if status:
        raise MemoryError("no memory for the scratch of a convolution")


def packed_items(
    axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups, int tile_h, int tile_w, /,
):
    """How many elements `pack_weight` writes for a convolution, or 0 where its kernel reads the weight as it is."""
    cdef Product p = forward_product(records_of(axes), batch, channels, outputs, groups)
    return groups * packed_size(&p, groups, tile_h, tile_w)


cdef inline bint packs_taps(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Whether a product that no other kernel takes is done tap by tap with its weight packed."""
    return tap_by_tap(p, True, True, groups, 1) and not over_lines(p)


cdef inline Py_ssize_t worth_reading(Py_ssize_t items) noexcept nogil:
    """So many elements of transformed weights, or 0 where to read them takes as long as to make them again."""
    return items if items * <Py_ssize_t> sizeof(real) <= WEIGHT_BYTES else 0


cdef Py_ssize_t packed_size(const Product *p, Py_ssize_t groups, int tile_h, int tile_w) noexcept nogil:
    """Of one group."""
    cdef Winograd g
    cdef Scatter scattered
    cdef Cuts cuts[3]
    cdef Py_ssize_t panels = ceil_div(p.cols, TILE_N)
    if is_strassen(tile_h, tile_w):
        return worth_reading(strassen_items(p))
    if is_winograd(tile_h, tile_w):
        g = folded_cut(p, tile_h, tile_w)
        if SELDOM_USED and only_gathers(&g, groups):
            return gathered_taps(&g, panels, 0, 0)
        return worth_reading(packed_weights(&g, panels, 0))
    if groups == 1 and few_pay(p) or is_one_row(p) or (grouped_pays(p, groups) and not pixels_pay(p, groups)):
        return 0
    if groups == 1 and (across_pays(p) or MANY_REGISTERS and planar_pays(p)):
        return 0
    if groups == 1 and flat_pays(p):
        return flat_items(p) + 1  # panels are of an even size: who sees the size knows the layout
    if groups == 1 and scatters_forward(p):
        scattered = scatter_of(p)
        return scatter_items(&scattered) + 2
    if groups == 1 and dots_pay(p, 1):
        return 0
    if SELDOM_USED and packs_taps(p, groups):
        return taps_items(p)
    if cells_pay(p, cuts, 0) or tap_by_tap(p, True, False, groups, 1):
        return 0
    return packed_panels(p, ceil_div(product_depth(p), depth_step(product_depth(p))))


def pack_weight(
    weight, packed, bint back, axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups, int tile_h,
    int tile_w, int threads, /,
):
    """Write what `conv_frozen` reads instead of the weight, `packed_items` elements; return whether the weight is no longer read.

    Where it is not, `back` writes the weight from them, the same bits.
    """
    cdef Product q, p = forward_product(records_of(axes), batch, channels, outputs, groups)
    cdef Winograd g
    cdef Scatter scattered
    cdef const real *b = read_from(weight)
    cdef real *to = write_to(packed)
    cdef Py_ssize_t group, each = packed_size(&p, groups, tile_h, tile_w)
    cdef int status = 0
    cdef bint panels = True
    p.b = b
    for group in range(groups):
        q = of_group(&p, group, p.cols)
        panels = False
        if is_strassen(tile_h, tile_w):
            pack_strassen(&q, to, threads)
        elif is_winograd(tile_h, tile_w) and folds(&q):
            status |= pack_folded(&q, tile_h, tile_w, to, threads)
        elif is_winograd(tile_h, tile_w):
            g = winograd_cut(&q, tile_h, tile_w)
            panels = SELDOM_USED and only_gathers(&g, groups)
            if SELDOM_USED and panels and back:
                ungather_weights(&g, to, write_to(weight))
            elif SELDOM_USED and panels:
                gather_weights(&g, to)
            else:
                transform_all_weights(&g, ceil_div(q.cols, TILE_N), to + group * each, threads)
        elif groups == 1 and flat_pays(&q):
            lay_weights(&q, to)
        elif groups == 1 and scatters_forward(&q):
            scattered = scatter_of(&q)
            pack_scatter(&scattered, to)
        elif SELDOM_USED and packs_taps(&q, groups):
            pack_taps_apart(&q, back, to + group * each, write_to(weight) + (q.b - b) if back else NULL)
            panels = True
        elif back:
            unpack_panels(&q, 0, product_depth(&q), to + group * each, write_to(weight) + (q.b - b))
        else:
            pack_panels(&q, 0, product_depth(&q), to + group * each)
            panels = True
    if status:
        raise MemoryError("no memory for the scratch of a convolution's weight")
    return panels


def conv_frozen(
    x, weight, packed, bias, residual, y, Py_ssize_t first, activation, Py_ssize_t parts, axes, Py_ssize_t batch,
    Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups, int tile_h, int tile_w, int threads, /,
):
    """y = f(conv_forward + residual); packed.use() instead of a weight: what `pack_weight` made for the same arguments, and
    the weight, or None where it is not read.

    y may have more channels than outputs, which are written from channel `first` on: so many outputs that no kernel writes
    whole lines (flat.pxi), no residual. Where `parts` is not 1, groups take the channels of as many parts of x in turn, and the
    weight has them in the order of memory: one tap, stride 1, no padding (grouped_pixels.pxi).
    """
    cdef Product p = forward_product(records_of(axes), batch, channels, outputs, groups)
    cdef int status
    cdef Py_ssize_t items
    p.a, p.y = read_from(x), write_to(y, &items) + first
    p.y_ld = items // product_rows(&p)
    p.finish = finish_of(residual, activation)
    if bias is not None:
        p.bias = read_from(bias)
    if packed is not None:
        array, weight = packed.use()
        p.packed = read_from(array)
        p.packed_group = packed_size(&p, groups, tile_h, tile_w)
    if weight is not None:
        p.b = read_from(weight)
    with nogil:
        if parts > 1:
            status = run_pixels(&p, groups, p.cols, parts, threads)
        else:
            status = run_groups(&p, 1, groups, p.cols, tile_h, tile_w, threads)
    if status:
        raise MemoryError("no memory for the scratch of a convolution")


def conv_backward_input(
    dy, weight, bias, dx, Py_ssize_t first, axes, phases_d, phases_h, phases_w, Py_ssize_t batch, Py_ssize_t channels,
    Py_ssize_t outputs, Py_ssize_t groups, int tile_h, int tile_w, int threads, /,
):
    """dx[n, h, w, c] = bias[c] + sum_{r, s, o} dy[n, (h + before - r * dilation) / stride, ..., o] * weight[r, s, c, o].

    Over the taps for which the division leaves no rest: a dense product for each phase of the stride. Few channels are
    scattered (scatter.pxi) instead. `axes` are those of the convolution. Scratch as forward, and 2 MB of packed weights.
    dx may have more channels, which are written from `first` on, and not scattered.
    """
    cdef Product p = bare_product()
    cdef Scatter s
    cdef Product *parts
    cdef Py_ssize_t many_d, many_h, many_w, count, i, j, tap_w, tap_h, tap_d
    cdef const int64_t *record = records_of(axes)
    cdef const int64_t *of_d = records_of(phases_d, &many_d)
    cdef const int64_t *of_h = records_of(phases_h, &many_h)
    cdef const int64_t *of_w = records_of(phases_w, &many_w)
    cdef const real *factors = read_from(weight)
    cdef Py_ssize_t items
    cdef bint scattered
    cdef int status = 0
    s.dy, s.dx, s.inputs, s.outputs, s.bias = read_from(dy), write_to(dx, &items) + first, channels, outputs, NULL
    if bias is not None:
        s.bias = read_from(bias)
    s.d, s.h, s.w = read_axis(record), read_axis(record + 10), read_axis(record + 20)
    s.b, s.b_d, s.reversed = factors, s.h.taps * s.w.taps * channels * outputs, False
    s.packed, s.finish = NULL, nothing_more()
    lay_scatter(&s)
    p.a, p.batch, p.a_ld, p.depth = s.dy, batch, outputs, outputs // groups
    p.b_k, p.b_col = 1, outputs
    p.y, p.out_d, p.out_h, p.out_w, p.y_ld = s.dx, s.d.size, s.h.size, s.w.size, items // (batch * s.d.size * s.h.size * s.w.size)
    p.bias, p.cols = s.bias, channels // groups
    tap_w = p.cols * outputs
    tap_h = tap_w * s.w.taps
    tap_d = tap_h * s.h.taps
    with nogil:
        many_d, many_h, many_w = many_d // 10, many_h // 10, many_w // 10
        count = many_d * many_h * many_w
        parts = <Product *> malloc(count * sizeof(Product))
        if parts != NULL:
            for i in range(count):
                j = i // many_w
                p.d, p.h = read_axis(of_d + j // many_h * 10), read_axis(of_h + j % many_h * 10)
                p.w = read_axis(of_w + i % many_w * 10)
                p.b = factors + p.d.tap_first * tap_d + p.h.tap_first * tap_h + p.w.tap_first * tap_w
                p.b_d, p.b_h, p.b_w = p.d.tap_step * tap_d, p.h.tap_step * tap_h, p.w.tap_step * tap_w
                parts[i] = p
            scattered = not is_winograd(tile_h, tile_w) and p.y_ld == channels and scatter_pays(&s, groups)
            if scattered and count == 1 and (across_pays(parts) or MANY_REGISTERS and planar_pays(parts)):  # they meet the padding
                scattered = not finite_items(factors, s.d.taps * s.b_d)
            if scattered:
                status = run_scatter(s, batch, threads)
            elif is_winograd(tile_h, tile_w):
                status = run_phases(
                    parts, count, groups, p.depth, tile_h + ceil_div(s.h.taps, s.h.stride) - 1,
                    tile_w + ceil_div(s.w.taps, s.w.stride) - 1, threads,
                )
            else:
                status = run_groups(parts, count, groups, p.depth, tile_h, tile_w, threads)
        else:
            status = -1
        free(parts)
    if status:
        raise MemoryError("no memory for the scratch of a convolution")
