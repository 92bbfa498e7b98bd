# Products with fewer multiplications (Strassen 1969, "Gaussian elimination is not optimal"; in the form of Winograd 1971, "On
# multiplication of 2 x 2 matrices", with 15 additions; Huang et al. 2016, "Strassen's algorithm reloaded", for sums made while
# operands are packed): two matrices of 2 x 2 blocks take seven products of blocks instead of eight. Blocks are cut once more, so
# that quarters of the rows, the depth and the columns take 49 products instead of 64.
#
# Rows are cut block by block, four strips of a tile's height each, and no block has pixels of two images. Sums of the weight
# are made first, by each thread, or once for a frozen model. Then a thread takes blocks of rows, makes their sums, and adds up
# what the second-level cache has of their products with a panel of each quarter of the columns.


cdef enum:
    QUARTERS = 4
    STRASSEN_PRODUCTS = 49
    STRASSEN_SUMS = 4 << 20   # bytes of sums of the weight that a thread makes at a time,
    STRASSEN_NEAR = 5 << 17   # of sums of rows that meet a panel together,
    STRASSEN_BLOCKS = 2       # and of how many blocks at most
    STRASSEN_MANY = 6         # blocks for each thread from which on threads share them, and not the panels
    STRASSEN_STRIP = STRIP * DEPTH_LD + LANES  # elements from the rows of one product to those of the next: they share no set


cdef enum Operand:
    LEFT_OPERAND
    RIGHT_OPERAND
    RESULT


cdef struct Strassen:
    Product p
    Py_ssize_t depth, cols   # of a quarter
    Py_ssize_t panels        # of a quarter of the columns
    Py_ssize_t rows, blocks  # of an image
    Py_ssize_t together      # blocks of an image that meet a panel one after the other


cdef inline bint is_winograd(int tile_h, int tile_w) noexcept nogil:
    """Whether outputs of a tile say so: none stand for the product, one for Strassen's algorithm."""
    return tile_h * tile_w > 1


cdef inline bint is_strassen(int tile_h, int tile_w) noexcept nogil:
    """For float32 with AVX-512: elsewhere sums take what products spare, and the product computes what is asked for so."""
    return SELDOM_USED and MANY_REGISTERS and tile_h * tile_w == 1


cdef Product strassen_part(const Product *p, Py_ssize_t k) noexcept nogil:
    """The product over channels from k on, of which a tile sums over a quarter: a deeper product is the sum of several."""
    cdef Product q = p[0]
    cdef Py_ssize_t step = round_up(ceil_div(p.depth, ceil_div(p.depth, QUARTERS * DEPTH)), QUARTERS)
    q.depth = min(step, p.depth - k)
    q.a += k
    q.b += k * p.b_k
    if k:
        q.bias, q.adds = NULL, True
    if k + q.depth < p.depth:
        q.finish = nothing_more()
    return q


cdef Strassen strassen_of(const Product *p) noexcept nogil:
    cdef Strassen g
    cdef Py_ssize_t near
    g.p = p[0]
    g.p.in_place = True
    g.depth, g.cols = p.depth // QUARTERS, p.cols // QUARTERS
    g.panels = ceil_div(g.cols, TILE_N)
    g.rows = p.d.rows * p.h.rows * p.w.rows
    g.blocks = ceil_div(g.rows, QUARTERS * STRIP)
    near = STRASSEN_NEAR // (STRASSEN_PRODUCTS * STRIP * g.depth * <Py_ssize_t> sizeof(real))
    g.together = min(max(near, <Py_ssize_t> 1), min(g.blocks, <Py_ssize_t> STRASSEN_BLOCKS))
    return g


cdef inline Py_ssize_t strassen_weights(const Strassen *g, Py_ssize_t panel) noexcept nogil:
    """Where the sums of the weight for a panel of each quarter begin; those after the last one are where all end."""
    return panel * STRASSEN_PRODUCTS * panel_items(g.depth)


cdef inline void seven(const int of, const vec *x, vec *s) noexcept nogil:
    """The seven blocks that are multiplied, of the 2 x 2 of an operand; or the 2 x 2 of the result, of the seven products."""
    cdef vec a, b, c
    if of == LEFT_OPERAND:
        a = x[2] + x[3]
        b = a - x[0]
        s[0], s[1], s[2], s[3], s[4], s[5], s[6] = x[0], x[1], x[1] - b, x[3], a, b, x[0] - x[2]
    elif of == RIGHT_OPERAND:
        a = x[1] - x[0]
        b = x[3] - a
        s[0], s[1], s[2], s[3], s[4], s[5], s[6] = x[0], x[2], x[3], b - x[2], a, b, x[3] - x[1]
    else:
        a = x[0] + x[5]
        b, c = a + x[6], a + x[4]
        s[0], s[1], s[2], s[3] = x[0] + x[1], c + x[2], b - x[3], b + x[4]


cdef inline void inner_blocks(const vec *x, Py_ssize_t row, Py_ssize_t col, vec *quarter) noexcept nogil:
    """Of 4 x 4 blocks those at (row, col) of each of the larger 2 x 2."""
    cdef Py_ssize_t i
    for i in range(4):
        quarter[i] = x[((i // 2) * 2 + row) * QUARTERS + i % 2 * 2 + col]


cdef inline void sums_of_operand(const int of, const vec *x, real *to, Py_ssize_t step) noexcept nogil:
    """A vector of each of the 49 blocks that are multiplied, `step` apart, of one of each of 4 x 4."""
    cdef vec outer[7 * 4]
    cdef vec quarter[4]
    cdef vec s[7]
    cdef Py_ssize_t i, j
    for i in range(4):
        inner_blocks(x, i // 2, i % 2, quarter)
        seven(of, quarter, s)
        for j in range(7):
            outer[j * 4 + i] = s[j]
    for i in range(7):
        seven(of, outer + i * 4, s)
        for j in range(7):
            (<vec *> (to + (i * 7 + j) * step))[0] = s[j]


cdef inline void sums_of_products(const real *products, Py_ssize_t step, vec *y) noexcept nogil:
    """A vector of each of the 4 x 4 blocks of the result, of one of each of the 49 products."""
    cdef vec outer[7 * 4]
    cdef vec s[7]
    cdef vec quarter[4]
    cdef Py_ssize_t i, j
    for i in range(7):
        for j in range(7):
            s[j] = (<const vec *> (products + (i * 7 + j) * step))[0]
        seven(RESULT, s, outer + i * 4)
    for i in range(4):
        for j in range(7):
            s[j] = outer[j * 4 + i]
        seven(RESULT, s, quarter)
        for j in range(4):
            y[((j // 2) * 2 + i // 2) * QUARTERS + j % 2 * 2 + i % 2] = quarter[j]


cdef void sum_blocks_of_rows(const Strassen *g, const real **at, Py_ssize_t height, real *v) noexcept nogil:
    """The left operands of all products of a block of rows, at[i] in the four strips after one another."""
    cdef vec x[QUARTERS * QUARTERS]
    cdef Py_ssize_t i, j, k
    for i in range(height):
        k = 0
        while k < g.depth:
            k = min(k, g.depth - LANES)  # the last vector overlaps the one before
            for j in range(QUARTERS * QUARTERS):
                x[j] = (<const vec *> (at[j // QUARTERS * height + i] + j % QUARTERS * g.depth + k))[0]
            sums_of_operand(LEFT_OPERAND, x, v + i * DEPTH_LD + k, STRASSEN_STRIP)
            k += LANES


cdef void sum_weights(const Strassen *g, Py_ssize_t panel, Py_ssize_t k, Py_ssize_t count, real *u) noexcept nogil:
    """Rows k .. k + count - 1, at most LANES, of the right operands of all products for a panel."""
    cdef real blocks[QUARTERS * QUARTERS * (LANES * TILE_N + LANES)]
    cdef Py_ssize_t offsets[LANES]
    cdef vec x[QUARTERS * QUARTERS]
    cdef Py_ssize_t cols = min(g.cols - panel * TILE_N, <Py_ssize_t> TILE_N), width = panel_width(cols), i, j
    cdef const real *b
    for i in range(count):
        offsets[i] = i * g.p.b_k
    for j in range(QUARTERS * QUARTERS):
        b = g.p.b + (j // QUARTERS * g.depth + k) * g.p.b_k + (j % QUARTERS * g.cols + panel * TILE_N) * g.p.b_col
        if g.p.b_col == 1:
            pack_rows(b, offsets, count, cols, blocks + j * (LANES * TILE_N + LANES), 0)
        else:
            pack_columns(b, g.p.b_col, offsets, count, cols, blocks + j * (LANES * TILE_N + LANES), 0)
    i = 0
    while i < count * width:
        for j in range(QUARTERS * QUARTERS):
            x[j] = (<const vec *> (blocks + j * (LANES * TILE_N + LANES) + i))[0]
        sums_of_operand(RIGHT_OPERAND, x, u + k * width + i, panel_items(g.depth))
        i += LANES


cdef void sum_panels(const Strassen *g, Py_ssize_t panel, Py_ssize_t panels, real *u) noexcept nogil:
    """The right operands of all products for `panels` panels from `panel` on."""
    cdef Py_ssize_t i, k
    for i in range(panels):
        k = 0
        while k < g.depth:
            sum_weights(g, panel + i, k, min(g.depth - k, <Py_ssize_t> LANES), u + strassen_weights(g, i))
            k += LANES


cdef Py_ssize_t strassen_items(const Product *p) noexcept nogil:
    """The size of all sums of a weight."""
    cdef Py_ssize_t items = 0, k = 0
    cdef Product q
    cdef Strassen g
    while k < p.depth:
        q = strassen_part(p, k)
        g = strassen_of(&q)
        items += strassen_weights(&g, g.panels)
        k += q.depth
    return items


cdef void pack_strassen(const Product *p, real *packed, int threads) noexcept nogil:
    """Make all sums of a weight."""
    cdef Py_ssize_t k = 0, panel
    cdef Product q
    cdef Strassen g
    while k < p.depth:
        q = strassen_part(p, k)
        g = strassen_of(&q)
        for panel in prange(g.panels, num_threads=threads):
            sum_panels(&g, panel, 1, packed + strassen_weights(&g, panel))
        packed += strassen_weights(&g, g.panels)
        k += q.depth


cdef void write_block(
    const Strassen *g, Py_ssize_t panel, const Py_ssize_t *out, Py_ssize_t rows, Py_ssize_t height, const real *m
) noexcept nogil:
    """Add up the products of a block of rows with a panel of each quarter, and finish the outputs."""
    cdef Py_ssize_t cols = min(g.cols - panel * TILE_N, <Py_ssize_t> TILE_N), i, j, c = 0, col, at
    cdef Ending ending = ending_of(&g.p.finish, 0)
    cdef vec y[QUARTERS * QUARTERS]
    cdef vec start[QUARTERS]
    cdef vec value
    while c < cols:
        for j in range(QUARTERS):
            col = j * g.cols + panel * TILE_N + c
            start[j] = (<const vec *> (g.p.bias + col))[0] if g.p.bias else broadcast(0)
        for i in range(height):
            sums_of_products(m + i * TILE_N + c, STRIP * TILE_N, y)
            for j in range(QUARTERS * QUARTERS):
                if j // QUARTERS * height + i < rows:
                    at = out[j // QUARTERS * height + i] + j % QUARTERS * g.cols + panel * TILE_N + c
                    value = y[j] + start[j % QUARTERS]
                    if g.p.adds:
                        value = value + (<const vec *> (g.p.y + at))[0]
                    if ending.add:
                        value = value + (<const vec *> (ending.add + at))[0]
                    if ending.clamps:
                        value = clamped(value, ending.low, ending.high)
                    (<vec *> (g.p.y + at))[0] = value
        c += LANES
    if not only_clamps(&g.p.finish):
        for j in range(QUARTERS):
            finish_rows(&g.p.finish, g.p.y, out, rows, g.p.y_ld, j * g.cols + panel * TILE_N, cols)


cdef inline void ask_for_block(
    const Strassen *g, Py_ssize_t panel, Py_ssize_t product, const Py_ssize_t *out, Py_ssize_t rows
) noexcept nogil:
    """Have the lines of some outputs fetched while one of the products is computed, so few that no multiply-add waits."""
    cdef Py_ssize_t j, at
    while product < rows:
        for j in range(QUARTERS):
            at = out[product] + j * g.cols + panel * TILE_N
            prefetch(g.p.y + at)
            prefetch(g.p.y + at + LANES)
            if g.p.finish.residual:
                prefetch(g.p.finish.residual + at)
                prefetch(g.p.finish.residual + at + LANES)
        product += STRASSEN_PRODUCTS


cdef void multiply_blocks(
    const Strassen *g, Py_ssize_t first, Py_ssize_t blocks, Py_ssize_t image, Py_ssize_t panel, Py_ssize_t panels,
    const real *u, real *scratch,
) noexcept nogil:
    """`blocks` blocks of an image, from the first on, and `panels` panels of each quarter, of whose sums `u` are the first."""
    cdef const real *at[STRASSEN_BLOCKS * QUARTERS * STRIP]
    cdef const real *following[STRASSEN_BLOCKS * QUARTERS * STRIP]
    cdef Py_ssize_t out[STRASSEN_BLOCKS * QUARTERS * STRIP]
    cdef Py_ssize_t of_tile[STRIP]
    cdef Py_ssize_t length, rows[STRASSEN_BLOCKS], height[STRASSEN_BLOCKS]
    cdef Py_ssize_t block = QUARTERS * STRIP, i, j, k, cols, next_rows, steps, step, asked
    cdef real *zeros = scratch
    cdef real *v = zeros + own_lines(TILE_N)
    cdef real *m = v + own_lines(blocks * STRASSEN_PRODUCTS * STRASSEN_STRIP)
    cdef Left left = left_operand(v, NULL, 0, 0, NULL)
    zero(zeros, TILE_N)
    for i in range(STRIP):
        of_tile[i] = i * TILE_N
    for i in range(blocks):
        rows[i] = min(g.rows - (first + i) * block, block)
        height[i] = ceil_div(rows[i], QUARTERS)
        k = image * g.rows + (first + i) * block
        row_outputs(&g.p, k, rows[i], out + i * block)
        find_windows(&g.p, k, rows[i], 0, g.p.depth, NULL, NULL, at + i * block, block, &length)
        for j in range(rows[i], QUARTERS * height[i]):  # of what is not written
            at[i * block + j] = at[i * block + rows[i] - 1]
        sum_blocks_of_rows(g, at + i * block, height[i], v + i * STRASSEN_PRODUCTS * STRASSEN_STRIP)
    k = image * g.rows + min((first + blocks) * block, g.rows)
    next_rows = min(blocks * block, product_rows(&g.p) - k) if reads_far(&g.p) else 0
    find_windows(&g.p, k, next_rows, 0, g.p.depth, NULL, NULL, &following[0], blocks * block, &length)
    steps, step, asked = panels * STRASSEN_PRODUCTS * blocks, 0, 0
    for j in range(panels):
        cols = min(g.cols - (panel + j) * TILE_N, <Py_ssize_t> TILE_N)
        for k in range(STRASSEN_PRODUCTS):
            ask_for_panels(&left, u + panel_items(g.depth), panel_items(g.depth), blocks * g.depth)
            for i in range(blocks):
                ask_for_block(g, panel + j, k, out + i * block, rows[i])
                step += 1
                while asked < QUARTERS * next_rows * step // steps:
                    fetch_range(following[asked // QUARTERS] + asked % QUARTERS * g.depth, g.depth)
                    asked += 1
                left.a = v + (i * STRASSEN_PRODUCTS + k) * STRASSEN_STRIP
                packed_by_panel(
                    height[i], cols, &left, 0, u, g.depth, zeros, NULL, m + (i * STRASSEN_PRODUCTS + k) * STRIP * TILE_N, of_tile
                )
            u += panel_items(g.depth)
        for i in range(blocks):
            write_block(g, panel + j, out + i * block, rows[i], height[i], m + i * STRASSEN_PRODUCTS * STRIP * TILE_N)


cdef inline Py_ssize_t panels_at_once(const Strassen *g) noexcept nogil:
    """Panels whose sums a thread makes before it meets them with rows; sums made before are all there."""
    cdef Py_ssize_t most = max(STRASSEN_SUMS // (strassen_weights(g, 1) * <Py_ssize_t> sizeof(real)), <Py_ssize_t> 1)
    return g.panels if g.p.packed else ceil_div(g.panels, ceil_div(g.panels, most))


cdef void part_of_strassen(
    const Strassen *g, Py_ssize_t first, Py_ssize_t end, Py_ssize_t panel, Py_ssize_t panel_end, real *scratch
) noexcept nogil:
    """Blocks first .. end - 1 of all images, and so many panels.

    A thread makes the sums of the weight for itself: reading what another has just written takes longer.
    """
    cdef Py_ssize_t some, block, blocks
    cdef real *own = scratch + (0 if g.p.packed else own_lines(strassen_weights(g, panels_at_once(g))))
    cdef const real *u
    while panel < panel_end:
        some = min(panels_at_once(g), panel_end - panel)
        u = g.p.packed + strassen_weights(g, panel) if g.p.packed else scratch
        if not g.p.packed:
            sum_panels(g, panel, some, scratch)
        block = first
        while block < end:
            blocks = min(min(g.together, end - block), g.blocks - block % g.blocks)
            multiply_blocks(g, block % g.blocks, blocks, block // g.blocks, panel, some, u, own)
            block += blocks
        panel += some


cdef int run_part_of_depth(const Product *p, int threads) noexcept nogil:
    cdef Strassen g = strassen_of(p)
    cdef Py_ssize_t each = 2 * own_lines(TILE_N) + g.together * STRASSEN_PRODUCTS * (STRASSEN_STRIP + STRIP * TILE_N)
    cdef Py_ssize_t blocks = p.batch * g.blocks, panels = g.panels, part
    cdef bint by_panels = blocks < STRASSEN_MANY * threads and g.panels >= threads
    cdef real *scratch
    threads = min(threads, g.panels if by_panels else blocks)
    each = own_lines(each + (0 if p.packed else own_lines(strassen_weights(&g, panels_at_once(&g)))))
    scratch = new_scratch(each, threads)
    if scratch == NULL:
        return -1
    for part in prange(threads, num_threads=threads):
        if by_panels:
            part_of_strassen(&g, 0, blocks, panels * part // threads, panels * (part + 1) // threads, scratch + part * each)
        else:
            part_of_strassen(&g, blocks * part // threads, blocks * (part + 1) // threads, 0, panels, scratch + part * each)
    free_lines(scratch)
    return 0


cdef int run_strassen(const Product *p, int threads) noexcept nogil:
    """The product of one tap: a multiple of QUARTERS channels, at least QUARTERS vectors, and columns of a multiple of those."""
    cdef Py_ssize_t k = 0
    cdef int status = 0
    cdef const real *packed = p.packed
    cdef Product q
    while k < p.depth:
        q = strassen_part(p, k)
        if packed:
            q.packed = packed
            packed += strassen_items(&q)
        status |= run_part_of_depth(&q, threads)
        k += q.depth
    return status
