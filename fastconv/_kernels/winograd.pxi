# Convolution by Winograd's algorithm, forward and backward to the input: transformed tiles times transformed
# weights, a panel of columns at a time, whose products are transformed back while the second-level cache has them. Few weights:
# they are transformed first, then each thread takes blocks of tiles that stay in its caches. Many: as many tiles as the cache of
# the last level holds are transformed first, then each thread takes panels, and transforms the weights that it alone needs.
# Many of a stride: one part of the channels after the other is transformed, and sums of all panels are kept. Groups of few weights:
# each thread takes groups. All sum in the same order.


cdef enum:
    CACHE_BYTES = 1 << 20   # a block of transformed tiles, its products and a panel of weights: the second-level cache
    WEIGHT_BYTES = 6 << 20  # transformed weights that all threads share
    FEW_BYTES = 3 << 19     # so much U is transformed by each thread for itself, where tiles are few,
    FEW_TILES = 2 * TILE_M  # and any U where they are so few: reading what another thread has just written takes as long
    TILE_BYTES = 11 << 19   # transformed tiles that all threads share
    PART_BYTES = 7 << 20    # and of one part of the channels, with what their products add up to
    SUM_DEPTH = DEPTH // 2  # channels of a part, and with nine points: sums of a part begin at zero, which keeps them short
    SUM_DEPTH_NINE = 48


cdef inline Py_ssize_t panel_first(const Winograd *g, Py_ssize_t panel) noexcept nogil:
    """The first column of a panel: the last one begins early where it would be narrower than a vector, unless it is alone."""
    return max(min(panel * g.panel, g.p.cols - LANES), <Py_ssize_t> 0)


cdef inline Py_ssize_t panel_cols(const Winograd *g, Py_ssize_t panel) noexcept nogil:
    return min(g.p.cols - panel_first(g, panel), g.panel)


cdef inline Py_ssize_t product_items(const Winograd *g) noexcept nogil:
    """The size of M for a block of tiles and one panel; a vector more for each position, so that they share no set of the cache."""
    return own_lines(g.positions * (g.rows * TILE_N + LANES))


cdef inline void multiply_part(
    const Winograd *g, Py_ssize_t part, Py_ssize_t rows, Py_ssize_t cols, const real *v, const real *u, const real *zeros, real *m,
    const real *following,
) noexcept nogil:
    """M = or += V U over one part of the channels, whose V and U are given, for `rows` tiles and a panel of `cols` columns.

    Positions side by side in a row of V are multiplied in turn, so that one strip of it follows the other in memory.
    `following`: gathered weights that come next, from memory; or NULL.
    """
    cdef Py_ssize_t position = rows * TILE_N + LANES, depth = part_depth(g, part), first = 0, end, some, items, i, k
    cdef Py_ssize_t out[STRIP]
    cdef Left left = left_operand(v, NULL, 0, 0, NULL)
    cdef Tap tap = tap_of_part(g, part)
    cdef Ending ending = no_ending()
    left.far = part > 0
    for i in range(STRIP):
        out[i] = i * TILE_N
    while first < g.positions:
        end = min(first + g.abreast, g.positions)
        if g.p.packed:  # what follows is asked for: they come from memory
            items = (end - first) * panel_items(g.step)
            ask_for_panels(&left, u + end * panel_items(g.step), items, ceil_div(rows, TILE_M) * depth * (end - first))
        i = 0
        while i < rows:
            some = min(rows - i, <Py_ssize_t> STRIP)
            if SELDOM_USED and following != NULL and i == 0:
                items = gathered_taps(g, 0, 1, 0)
                ask_for_panels(
                    &left, following + items * first // g.positions, items * (end - first) // g.positions,
                    ceil_div(some, TILE_M) * depth * (end - first),
                )
            elif not g.p.packed:  # tiles come from the last cache
                items = some * DEPTH_LD
                ask_for_panels(&left, v + packed_inputs(g, 0, first) + i * DEPTH_LD + items, items, items // LINE_ITEMS)
            for k in range(first, end):
                if is_zero_at(g, &tap, k):
                    continue
                left.a = v + packed_inputs(g, 0, k) + i * DEPTH_LD
                ending.add = m + k * position + i * TILE_N
                packed_by_panel(
                    some, round_up(cols, TILE_STEP), &left, 0, u + k * panel_items(g.step), depth, zeros,
                    &ending if part else NULL, m + k * position + i * TILE_N, out,
                )
            i += some
        first = end


cdef void block_of_tiles(
    const Winograd *g, Py_ssize_t first, Py_ssize_t count, Py_ssize_t panel, Py_ssize_t panels, const real *u, const real *zeros,
    real *v,
) noexcept nogil:
    """Some panels of a block of tiles, from U of all panels."""
    cdef real *m = v + input_items(g, g.parts)
    cdef Py_ssize_t i, part
    transform_inputs(g, 0, g.parts, first, count, v)
    for i in range(panel, panel + panels):
        for part in range(g.parts):
            multiply_part(g, part, count, panel_cols(g, i), v + packed_inputs(g, part, 0), u + packed_weights(g, i, part), zeros, m, NULL)
        transform_outputs(g, first, count, panel_first(g, i), panel_cols(g, i), m, count * TILE_N + LANES)


cdef void transform_all_weights(const Winograd *g, Py_ssize_t panels, real *u, int threads) noexcept nogil:
    """U of all panels; where they are few, threads share channels that are fewer than a vector."""
    cdef Py_ssize_t each = LANES, groups, task
    while g.p.b_col == 1 and each > 4 and threads > 1 and panels * g.parts * ceil_div(g.step, each) < 2 * threads:
        each //= 2
    groups = ceil_div(g.step, each)
    for task in prange(panels * g.parts * groups, schedule="dynamic", num_threads=threads):
        transform_weights(
            g, panel_first(g, task // groups // g.parts), panel_cols(g, task // groups // g.parts), task // groups % g.parts,
            task % groups * each, each, u + packed_weights(g, task // groups // g.parts, task // groups % g.parts),
        )


cdef inline Py_ssize_t tiles_at_once(const Winograd *g) noexcept nogil:
    """Tiles of which the second-level cache holds what they become, and a panel of weights."""
    cdef Py_ssize_t each = g.parts * ceil_div(g.positions, g.abreast) * DEPTH_LD + g.positions * TILE_N
    return max((CACHE_BYTES // <Py_ssize_t> sizeof(real) - packed_weights(g, 0, 1)) // each // TILE_M, <Py_ssize_t> 1) * TILE_M


cdef int by_tiles(Winograd *g, Py_ssize_t panels, int threads) noexcept nogil:
    """Few weights: they are transformed for all threads, then each takes blocks of tiles."""
    cdef Py_ssize_t u_items = own_lines(packed_weights(g, panels, 0)), zeros = own_lines(TILE_N), items = sizeof(real)
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef Py_ssize_t blocks, parts, each, task
    cdef real *scratch
    cdef const real *u = g.p.packed
    if g.p.packed:
        u_items = 0
    blocks = tiles_at_once(g)
    blocks = min(round_up(ceil_div(g.tiles, blocks), threads), ceil_div(g.tiles, TILE_M // 2 if panels >= threads else 2))
    g.rows = ceil_div(g.tiles, blocks)
    blocks = ceil_div(g.tiles, g.rows)
    parts = min(ceil_div(threads, blocks), panels)  # of the panels, where tiles are too few for the threads
    each = input_items(g, g.parts) + product_items(g)
    scratch = new_scratch(zeros + u_items + threads * each, 1)
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    if not g.p.packed:
        u = scratch + zeros
        transform_all_weights(g, panels, scratch + zeros, threads)
    memset(taken, 0, sizeof(taken))
    with parallel(num_threads=threads):
        task = take_task(taken, blocks * parts, threads, threadid())
        while task >= 0:
            block_of_tiles(
                g, task // parts * g.rows, min(g.rows, g.tiles - task // parts * g.rows), panels * (task % parts) // parts,
                panels * (task % parts + 1) // parts - panels * (task % parts) // parts, u, scratch,
                scratch + zeros + u_items + threadid() * each,
            )
            task = take_task(taken, blocks * parts, threads, threadid())
    free_lines(scratch)
    return 0


cdef void transform_part(const Winograd *g, Py_ssize_t panel, Py_ssize_t part, real *u) noexcept nogil:
    """U of one part of the channels of a panel, by one thread."""
    cdef Py_ssize_t c = 0
    while c < g.step:
        transform_weights(g, panel_first(g, panel), panel_cols(g, panel), part, c, LANES, u)
        c += LANES


cdef void panel_of_tiles(
    const Winograd *g, Py_ssize_t panel, Py_ssize_t first, Py_ssize_t count, const real *v, real *part_v, const real *zeros, real *u
) noexcept nogil:
    """One panel of tiles: U of one part after the other stays in the second-level cache. V is given, or made for each part too."""
    cdef Py_ssize_t col = panel_first(g, panel), cols = panel_cols(g, panel), part
    cdef real *m = u + (0 if g.p.packed else own_lines(packed_weights(g, 0, 1)))
    cdef const real *of_part
    for part in range(g.parts):
        of_part = u
        if g.p.packed:
            of_part = g.p.packed + packed_weights(g, panel, part)
        else:
            transform_part(g, panel, part, u)
        if part_v != NULL:
            transform_inputs(g, part, 1, first, count, part_v)
        multiply_part(
            g, part, count, cols, v + packed_inputs(g, part, 0) if part_v == NULL else part_v, of_part, zeros, m,
            g.gathered + gathered_taps(g, panel, part + 1, 0) if g.gathered else NULL,
        )
    transform_outputs(g, first, count, col, cols, m, count * TILE_N + LANES)


cdef void panels_of_tiles(
    const Winograd *g, Py_ssize_t panels, Py_ssize_t first, Py_ssize_t count, Py_ssize_t *taken, int threads, int thread,
    const real *v, real *own, const real *zeros, real *u,
) noexcept nogil:
    """What one thread takes of the panels. V is given, or `own` is the memory for one that the thread makes.

    For one panel V is made part by part: less of it is in the cache.
    """
    cdef Py_ssize_t panel = take_task(taken, panels, threads, thread)
    if own != NULL and panel >= 0 and panels > threads:
        transform_inputs(g, 0, g.parts, first, count, own)
        v, own = own, NULL
    while panel >= 0:
        panel_of_tiles(g, panel, first, count, v, own, zeros, u)
        panel = take_task(taken, panels, threads, thread)


cdef int by_panels(Winograd *g, Py_ssize_t panels, int threads) noexcept nogil:
    """Many weights: a range of tiles is transformed, then each thread takes panels and transforms their weights.

    Few tiles each thread transforms for itself, which takes as long as reading what another one has just written.
    """
    cdef Py_ssize_t zeros = own_lines(TILE_N), v_items = input_items(g, g.parts), first = 0, items = sizeof(real), count, each
    cdef Py_ssize_t u_items = (0 if g.p.packed else own_lines(packed_weights(g, 0, 1))) + product_items(g), index, some
    cdef bint own = g.rows >= g.tiles and v_items * items <= CACHE_BYTES
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef real *scratch
    cdef real *v
    each = u_items + (v_items if own else 0)
    scratch = new_scratch(zeros + (0 if own else v_items) + threads * each, 1)
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    v = scratch + zeros + threads * each
    while first < g.tiles:
        count = min(g.rows, g.tiles - first)
        some = min(ceil_div(count, threads), <Py_ssize_t> TILE_M)
        for index in prange(0 if own else ceil_div(count, some), schedule="dynamic", num_threads=threads):
            transform_inputs(
                g, 0, g.parts, first + index * some, min(count - index * some, some), v + index * some * DEPTH_LD
            )
        memset(taken, 0, sizeof(taken))
        with parallel(num_threads=threads):
            panels_of_tiles(
                g, panels, first, count, &taken[0], threads, threadid(), v,
                scratch + zeros + threadid() * each if own else NULL, scratch, scratch + zeros + (threadid() + 1) * each - u_items,
            )
        first += count
    free_lines(scratch)
    return 0


cdef void panels_of_part(
    const Winograd *g, Py_ssize_t panels, Py_ssize_t part, Py_ssize_t first, Py_ssize_t count, Py_ssize_t *taken, int threads,
    int thread, const real *v, const real *zeros, real *all_m, real *u,
) noexcept nogil:
    """What one part of the channels adds to M of the panels that one thread takes; the last one finishes them."""
    cdef Py_ssize_t panel = take_task(taken, panels, threads, thread)
    cdef const real *of_part
    cdef real *m
    while panel >= 0:
        m, of_part = all_m + panel * product_items(g), u
        if g.p.packed:
            of_part = g.p.packed + packed_weights(g, panel, part)
        else:
            transform_part(g, panel, part, u)
        multiply_part(g, part, count, panel_cols(g, panel), v, of_part, zeros, m, NULL)
        if part == g.parts - 1:
            transform_outputs(g, first, count, panel_first(g, panel), panel_cols(g, panel), m, count * TILE_N + LANES)
        panel = take_task(taken, panels, threads, thread)


cdef int by_parts(Winograd *g, Py_ssize_t panels, int threads) noexcept nogil:
    """Many weights of many parts: M of all panels is kept, to which one part after the other adds."""
    cdef Py_ssize_t zeros = own_lines(TILE_N), v_items = input_items(g, 1), u_items = own_lines(packed_weights(g, 0, 1))
    cdef Py_ssize_t first = 0, count, some, part, index
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef real *scratch = new_scratch(zeros + v_items + panels * product_items(g) + threads * u_items, 1)
    cdef real *v = scratch + zeros
    cdef real *m = v + v_items
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    while first < g.tiles:
        count = min(g.rows, g.tiles - first)
        some = min(ceil_div(count, threads), <Py_ssize_t> TILE_M)
        for part in range(g.parts):
            for index in prange(ceil_div(count, some), schedule="dynamic", num_threads=threads):
                transform_inputs(
                    g, part, 1, first + index * some, min(count - index * some, some), v + index * some * DEPTH_LD
                )
            memset(taken, 0, sizeof(taken))
            with parallel(num_threads=threads):
                panels_of_part(
                    g, panels, part, first, count, &taken[0], threads, threadid(), v, scratch, m,
                    m + panels * product_items(g) + threadid() * u_items,
                )
        first += count
    free_lines(scratch)
    return 0


cdef void tiles_of_group(
    const Winograd *g, Py_ssize_t group, Py_ssize_t panels, Py_ssize_t first, Py_ssize_t end, const real *zeros, real *own_u, real *v
) noexcept nogil:
    """A range of the tiles of one group, whose weights this thread transforms for itself."""
    cdef Winograd q = g[0]
    cdef Py_ssize_t panel, part
    cdef const real *u
    q.p = of_group(&g.p, group, g.b_group)
    u = q.p.packed
    if u == NULL:
        for panel in range(panels):
            for part in range(g.parts):
                transform_part(&q, panel, part, own_u + packed_weights(g, panel, part))
        u = own_u
    while first < end:
        block_of_tiles(&q, first, min(g.rows, end - first), 0, panels, u, zeros, v)
        first += g.rows


cdef int by_groups(Winograd *g, Py_ssize_t panels, int threads) noexcept nogil:
    """Groups, at least as many as threads, of few weights: each thread takes whole groups, or long ranges of their tiles."""
    cdef Py_ssize_t zeros = own_lines(TILE_N), u_items = own_lines(packed_weights(g, panels, 0)), blocks, ranges, each, task
    cdef Py_ssize_t taken[MOST_RANGES * RANGE_ITEMS]
    cdef real *scratch
    if g.p.packed:
        u_items = 0
    blocks = ceil_div(g.tiles, tiles_at_once(g))
    ranges = 1 if g.groups % threads == 0 else min(ceil_div(4 * threads, g.groups), blocks)
    g.rows = ceil_div(g.tiles, round_up(blocks, ranges))
    each = u_items + input_items(g, g.parts) + product_items(g)
    scratch = new_scratch(zeros + threads * each, 1)
    if scratch == NULL:
        return -1
    zero(scratch, zeros)
    memset(taken, 0, sizeof(taken))
    with parallel(num_threads=threads):
        task = take_task(taken, g.groups * ranges, threads, threadid())
        while task >= 0:
            tiles_of_group(
                g, task // ranges, panels, g.tiles * (task % ranges) // ranges, g.tiles * (task % ranges + 1) // ranges, scratch,
                scratch + zeros + threadid() * each, scratch + zeros + threadid() * each + u_items,
            )
            task = take_task(taken, g.groups * ranges, threads, threadid())
    free_lines(scratch)
    return 0


cdef bint only_gathers(const Winograd *g, Py_ssize_t groups) noexcept nogil:
    """Whether weights that are packed once are only gathered: U is so large that to read it takes as long as to make it again."""
    return groups * g.phases_h * g.phases_w == 1 and packed_weights(g, ceil_div(g.p.cols, TILE_N), 0) * <Py_ssize_t> sizeof(real) > WEIGHT_BYTES


cdef void gather_weights(const Winograd *g, real *packed) noexcept nogil:
    """Lay the weights in the order in which they are transformed, so that they come from memory in one run."""
    cdef Py_ssize_t panel, part, c, i
    for panel in range(ceil_div(g.p.cols, TILE_N)):
        for part in range(g.parts):
            for i in range(ceil_div(part_depth(g, part), LANES)):
                c = i * LANES
                gather_taps(
                    g, panel_first(g, panel), panel_cols(g, panel), part, c, min(part_depth(g, part) - c, <Py_ssize_t> LANES),
                    packed + gathered_taps(g, panel, part, c),
                )


cdef void ungather_weights(const Winograd *g, const real *packed, real *b) noexcept nogil:
    """Write the weight, from its first element on, as `gather_weights` found it."""
    cdef Py_ssize_t panel, part, c, r, s, first
    cdef Tap tap
    for panel in range(ceil_div(g.p.cols, TILE_N)):
        for part in range(g.parts):
            tap, first = tap_of_part(g, part), channel_cut(g, part % g.cuts)
            for c in range(part_depth(g, part)):
                for r in range(g.taps_h):
                    for s in range(g.taps_w):
                        copy(
                            b + tap.d * g.p.b_d + r * g.p.b_h + s * g.p.b_w + (first + c) * g.p.b_k + panel_first(g, panel),
                            packed + gathered_taps(g, panel, part, c) + (r * g.taps_w + s) * TAP_ITEMS + c % LANES * TILE_N,
                            panel_cols(g, panel),
                        )


cdef inline Winograd winograd_cut(const Product *p, int out_h, int out_w) noexcept nogil:
    cdef Winograd g = winograd_grid(p, out_h, out_w)
    g.panel = TILE_N
    g.gathered = NULL
    cut_depth(&g, SUM_DEPTH_NINE if max(g.points_h, g.points_w) == 9 else SUM_DEPTH)
    return g


cdef int run_winograd(
    const Product *p, Py_ssize_t groups, Py_ssize_t b_group, int out_h, int out_w, int threads
) noexcept nogil:
    """Compute `p` for each group, whose taps along h and w are those of so many outputs a tile. -1: no memory.

    `depth` is at least LANES.
    """
    cdef Winograd g = winograd_cut(p, out_h, out_w)
    cdef Py_ssize_t panels = ceil_div(p.cols, TILE_N), items = sizeof(real), group, u_bytes, most
    cdef Product q = p[0]
    cdef int status = 0
    g.groups, g.b_group = groups, b_group
    if SELDOM_USED and p.packed and only_gathers(&g, groups):
        g.gathered, q.packed = p.packed, NULL
        g.p = q
    u_bytes = packed_weights(&g, panels, 0) * items
    most = min(
        TILE_BYTES // items // (g.parts * ceil_div(g.positions, g.abreast) * DEPTH_LD),
        CACHE_BYTES // items // (g.positions * TILE_N),
    )
    most = max(most // TILE_M * TILE_M, <Py_ssize_t> (TILE_M // 2))
    if groups > 1 and groups >= threads and u_bytes <= FEW_BYTES:
        return by_groups(&g, panels, threads)
    if panels % threads and panels < 2 * threads and g.tiles <= FEW_TILES and ceil_div(p.cols, LANES) >= threads and not p.packed:
        g.panel = LANES
        panels = ceil_div(p.cols, LANES)
    g.rows = min(g.tiles, round_up(ceil_div(g.tiles, ceil_div(g.tiles, most)), TILE_M // 2))
    if g.phases_h * g.phases_w > 1 and u_bytes > WEIGHT_BYTES and panels >= threads:
        most = (PART_BYTES // items - panels * g.positions * LANES) // (
            ceil_div(g.positions, g.abreast) * DEPTH_LD + panels * g.positions * TILE_N
        )
        most = max(most // TILE_M * TILE_M, <Py_ssize_t> TILE_M)
        g.rows = min(g.tiles, round_up(ceil_div(g.tiles, ceil_div(g.tiles, most)), TILE_M // 2))
        for group in range(groups):
            g.p = of_group(&q, group, b_group)
            status |= by_parts(&g, panels, threads)
        return status
    for group in range(groups):
        g.p = of_group(&q, group, b_group)
        if u_bytes > WEIGHT_BYTES or (
            panels >= threads and g.tiles <= most and (u_bytes > FEW_BYTES or g.tiles <= FEW_TILES)
        ):
            status |= by_panels(&g, panels, threads)
        else:
            status |= by_tiles(&g, panels, threads)
    return status
