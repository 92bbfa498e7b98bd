# The gradient of a convolution's weight: which kernel sums it, and in how many parts. The arguments are those of conv.pxi.


cdef bint grouped_gradient_pays(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Whether groups are computed together, or one of few columns as if it were several."""
    if groups > 1:
        return grouped_pays(p, groups)
    return p.cols <= LANES and goes_across(p) and not shares_pixels(p, 1)


cdef inline bint shares_pixels(const Product *p, Py_ssize_t groups) noexcept nogil:
    """Whether parts of the pixels are all that threads have to share: the weight is not cut into blocks."""
    return groups == 1 and (few_gradient_pays(p) or gradient_over_lines(p) or flat_gradient_pays(p) or pixel_runs_pay(p))


cdef Py_ssize_t gradient_parts(const Product *p, Py_ssize_t groups, Py_ssize_t enough, int tile_h, int tile_w) noexcept nogil:
    """Into how many parts the pixels are cut: enough blocks in all, depending on the sizes alone.

    No more than a few where threads can share the weight instead: sums of parts are written, and read to be added.
    """
    cdef Grid g
    cdef Py_ssize_t blocks, h, w, scratch, rows = product_rows(p)
    if tile_h:
        return winograd_gradient_grid(p, tile_h, tile_w, groups).chunks
    g = gradient_grid(p)
    blocks = groups * g.row_blocks * g.col_blocks
    if grouped_gradient_pays(p, groups):
        blocks = grouped_gradient_blocks(p, groups, &scratch) * tap_pieces(p, &h, &w)
    elif not shares_pixels(p, groups):
        blocks = groups * most_gradient_blocks(p)
        enough = max(enough, max(min(rows // LONG_PART, FEW_PARTS), rows // LONGEST_PART) * blocks)
    return max(<Py_ssize_t> 1, min(ceil_div(enough, blocks), most_parts(p, groups)))


def conv_backward_weight(
    x, dy, dweight, axes, Py_ssize_t batch, Py_ssize_t channels, Py_ssize_t outputs, Py_ssize_t groups, Py_ssize_t enough,
    int tile_h, int tile_w, int threads, /,
):
    """dweight[r, s, c, o] = sum_m x[n, p * stride + r * dilation - before, ..., c] * dy[n, p, q, o], m = (n, p, q).

    m (or the Winograd tiles) is cut into even parts, so many that there are `enough` blocks; their sums are added in order.
    Scratch: the parts' sums.
    """
    cdef Product p = forward_product(records_of(axes), batch, channels, outputs, groups)
    cdef int status
    cdef Py_ssize_t items = p.b_d * p.d.taps, parts
    cdef real *to = write_to(dweight)
    cdef real *db = to
    cdef const real *gradient = read_from(dy)
    p.a = read_from(x)
    with nogil:
        parts = 1 if tile_h and folds(&p) else gradient_parts(&p, groups, enough, tile_h, tile_w)
        if parts > 1:
            db = new_scratch(own_lines(parts * items), 1)
        if db == NULL:
            status = -1
        elif tile_h and folds(&p):
            status = run_folded_gradient(&p, tile_h, tile_w, gradient, to, threads)
        elif tile_h:
            status = run_winograd_gradient(&p, tile_h, tile_w, groups, gradient, db, items, threads)
        elif grouped_gradient_pays(&p, groups):
            status = run_grouped_gradient(p, groups, gradient, db, items, parts, threads)
        else:
            status = run_gradient(p, groups, gradient, db, items, &parts, threads)
        if db != to:
            if status == 0:
                add_parts(db, parts, items, to, threads)
            free_lines(db)
    if status:
        raise MemoryError("no memory for the scratch of a convolution's weight gradient")


cdef int run_gradient(
    Product p, Py_ssize_t groups, const real *dy, real *db, Py_ssize_t items, Py_ssize_t *parts, int threads
) noexcept nogil:
    """Write `parts` partial gradients, `items` elements apart; one where they are added already. -1: no memory."""
    cdef Py_ssize_t chunks = parts[0]
    if groups == chunks == 1 and is_one_row(&p):
        row_gradient(&p, dy, db, threads)
        return 0
    if groups == 1 and few_gradient_pays(&p):
        return run_few_gradient(&p, dy, db, items, chunks, threads)
    if groups == 1 and gradient_over_lines(&p):
        return run_lines_gradient(&p, dy, db, items, chunks, threads)
    if groups == 1 and flat_gradient_pays(&p):
        return run_flat_gradient(&p, dy, db, items, chunks, threads)
    if groups == 1 and pixel_runs_pay(&p):
        return run_pixel_runs(&p, dy, db, items, chunks, threads)
    cdef Cuts cuts[3]
    cdef Py_ssize_t blocks = 0, each = 0, count = 1, task, chunk, i
    cdef Part *plan
    cdef real *scratch = NULL
    cdef bint in_turn
    if taps_pay(&p, cuts) and finite_items(dy, product_rows(&p) * p.y_ld):
        count = cuts[0].count * cuts[1].count * cuts[2].count
    plan = <Part *> malloc(count * sizeof(Part))
    if plan != NULL:
        p.b = db
        for i in range(count):
            plan[i].p = cell_at(&p, cuts, i) if count > 1 else p
            join_lines(&plan[i].p)
            plan[i].p.in_place = gradient_in_place(&plan[i].p)
            plan[i].g = shared_gradient_grid(&plan[i].p, chunks * groups * count, threads)
            blocks = max(blocks, plan[i].g.row_blocks * plan[i].g.col_blocks)
            each = max(each, gradient_scratch(&plan[i].p, plan[i].g))
        threads = min(threads, chunks * groups * blocks * count)
        # one thread has the sums of a part in its caches when it adds them, if not those of all
        in_turn = threads == 1 and chunks * items * <Py_ssize_t> sizeof(real) > FAR_BESIDE
        scratch = new_scratch(each, threads)
        if scratch != NULL and (chunks * groups * blocks * count == 1 or in_turn):
            for chunk in range(chunks):
                for task in range(groups * blocks * count):
                    i = task // count
                    part_gradient(
                        plan + task % count, i % groups, i // groups, chunk, chunks, dy,
                        db + min(chunk, 1) * items + (plan[task % count].p.b - db), scratch,
                    )
                if chunk:
                    add_to(db, db + items, items)
            parts[0] = 1
        elif scratch != NULL:
            for task in prange(chunks * groups * blocks * count, schedule="dynamic", num_threads=threads):
                i = task // count // blocks
                part_gradient(
                    plan + task % count, i % groups, task // count % blocks, i // groups, chunks, dy,
                    db + i // groups * items + (plan[task % count].p.b - db), scratch + threadid() * each,
                )
    free(plan)
    free_lines(scratch)
    return 0 if scratch != NULL else -1


cdef void part_gradient(
    const Part *part, Py_ssize_t group, Py_ssize_t block, Py_ssize_t chunk, Py_ssize_t chunks, const real *dy, real *db,
    real *scratch,
) noexcept nogil:
    """One block of a group, of one of so many chunks of the rows."""
    cdef Product q = part.p
    cdef Py_ssize_t total = product_rows(&q), rows = ceil_div(total, chunks)
    if block < part.g.row_blocks * part.g.col_blocks:
        q.a += group * q.depth
        gradient_block(
            &q, part.g, block, min(chunk * rows, total), min((chunk + 1) * rows, total), dy + group * q.cols, db + group * q.cols,
            scratch,
        )
