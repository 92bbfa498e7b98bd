# Maxima of normalized and rectified pixels in one pass: what lies between them is never in memory.
#
# Forward looks through the windows of x itself, and keeps with each place what x is there. Back, no gradient gets to other pixels
# of x than these, so that the sums are over them alone; then each pixel gathers, as it does from the places of any maxima.

cdef enum:
    NORM_POOL_TASKS = 64


cdef inline vec gradient_behind(vec g, vec x, const real *tables, Py_ssize_t width) noexcept nogil:
    """What x gets of the gradient of its normalized and rectified self, with the roundings of `map_lines`."""
    cdef vec mean = (<const vec *> (tables + width))[0], share = (<const vec *> (tables + 4 * width))[0]
    cdef vec value = (x - mean) * (<const vec *> (tables + 2 * width))[0] + (<const vec *> (tables + 3 * width))[0]
    return passed(g, x, mean, share, (<const vec *> (tables + 5 * width))[0]) * share + value


cdef inline void normalized_maxima(
    const int vecs, const Pool *p, const Norm *n, const real *tables, const real *x, const Window *d, const Window *h, const Window *w,
    real *y, unsigned char *places, real *sources,
) noexcept nogil:
    """One window, which is not empty: its maxima, their places, and x there. Where all are below 0 any place will do."""
    cdef vec mean[2]
    cdef vec factors[2]
    cdef vec shift[2]
    cdef vec best[2]
    cdef vec source[2]
    cdef mask found[2]
    cdef mask place, here
    cdef vec item, value
    cdef Py_ssize_t i, j, k, v
    cdef const real *at
    for v in range(vecs):
        mean[v] = (<const vec *> (tables + n.width + v * LANES))[0]
        factors[v] = (<const vec *> (tables + 2 * n.width + v * LANES))[0]
        shift[v] = (<const vec *> (tables + 3 * n.width + v * LANES))[0]
        best[v], source[v], found[v] = broadcast(-INFINITY), broadcast(0), broadcast_lane(0)
    for i in range(d.taps):
        for j in range(h.taps):
            at = x + tap(p, d, h, i, j, w.first)
            place = broadcast_lane(<lane> place_of(p, d.skipped + i, h.skipped + j, w.skipped))
            for k in range(w.taps):
                for v in range(vecs):
                    item = (<const vec *> (at + v * LANES))[0]
                    value = (item - mean[v]) * factors[v] + shift[v]
                    here = beats(value, best[v])
                    best[v], source[v] = choose(here, value, best[v]), choose(here, item, source[v])
                    found[v] = choose_lanes(here, place, found[v])
                place = place + broadcast_lane(1)
                at += p.channels
    for v in range(vecs):
        (<vec *> (y + v * LANES))[0] = choose(above(broadcast(n.low), best[v]), broadcast(n.low), best[v])
        (<vec *> (sources + v * LANES))[0] = source[v]
        write_bytes(places + v * LANES, found[v])


cdef apart normalized_maxima_of_lines(
    const Pool *p, const Norm *n, const real *tables, const real *x, real *y, unsigned char *places, real *sources, Py_ssize_t line,
    Py_ssize_t end,
) noexcept nogil:
    """Lines (n, d, h) of windows from one on and before another."""
    cdef Py_ssize_t i, c, at = line * p.w.out * p.channels
    cdef const real *image
    cdef Window d, h, w
    for line in range(line, end):
        d, h = window(p.d, line // p.h.out % p.d.out), window(p.h, line % p.h.out)
        image = x + line // p.h.out // p.d.out * image_items(p)
        for i in range(p.w.out):
            w = window(p.w, i)
            c = 0
            while c + 2 * LANES <= p.channels:
                normalized_maxima(2, p, n, tables + c, image + c, &d, &h, &w, y + at + c, places + at + c, sources + at + c)
                c += 2 * LANES
            while c < p.channels:
                c = min(c, p.channels - LANES)
                normalized_maxima(1, p, n, tables + c, image + c, &d, &h, &w, y + at + c, places + at + c, sources + at + c)
                c += LANES
            at += p.channels


cdef inline double *norm_pool_room(const Norm *n, real **tables, double **dparams) noexcept nogil:
    """Memory for sums, tables and the gradients of scale and bias, which are 0; or NULL."""
    cdef Py_ssize_t sums = SUMS * n.width * n.chunks, after = round_up(sums + TABLES * n.width, 8), c
    cdef double *room = <double *> new_lines(round_up(after + 2 * n.channels, 8) * sizeof(double))
    tables[0], dparams[0] = <real *> (room + sums), room + after
    for c in range(2 * n.channels if room != NULL else 0):
        dparams[0][c] = 0
    return room


cdef int norm_pool(
    const Norm *n, const Pool *p, const real *x, real *y, unsigned char *places, real *sources, Py_ssize_t batch, int threads
) noexcept nogil:
    cdef Py_ssize_t lines = batch * p.d.out * p.h.out, tasks = min(lines, <Py_ssize_t> NORM_POOL_TASKS), task, i
    cdef real *tables
    cdef double *dparams
    cdef double *sums = norm_pool_room(n, &tables, &dparams)
    if sums == NULL:
        return -1
    one_set_tables(n, NULL, x, tables, sums, dparams, threads)
    for task in prange(tasks, num_threads=threads):
        i = last_first(task, tasks, threads)
        normalized_maxima_of_lines(p, n, tables, x, y, places, sources, i * lines // tasks, (i + 1) * lines // tasks)
    free_lines(sums)
    return 0


cdef int norm_pool_back(
    const Norm *n, const Pool *p, const real *dy, const unsigned char *places, const real *sources, const real *x, real *dx,
    real *dscale, real *dbias, Py_ssize_t batch, int threads,
) noexcept nogil:
    cdef Py_ssize_t lines = batch * p.d.size * p.h.size, tasks = min(lines, <Py_ssize_t> NORM_POOL_TASKS), task
    cdef real *tables
    cdef double *dparams
    cdef double *sums = norm_pool_room(n, &tables, &dparams)
    cdef Behind b
    if sums == NULL:
        return -1
    one_set_tables(n, dy, sources, tables, sums, dparams, threads)
    b.x, b.tables, b.width = x, tables, n.width
    for task in prange(tasks * ceil_div(p.w.size, POOL_OUTPUTS), num_threads=threads):
        gather_task(p, dy, places, &b, dx, lines, tasks, task)
    write_parameters(n, dparams, 1, dscale, dbias)
    free_lines(sums)
    return 0


def norm_pool_forward(
    x, scale, bias, y, places, sources, mean, var, bint given, axes, Py_ssize_t batch, double eps, int threads, /,
):
    """y, places = `max_pool_places` of what `norm_forward` with `relu` makes of x, and sources[n, p, c] = x at these places.

    Of at least 16 channels, in windows without gaps of at most 16 taps; a place is a byte.
    """
    cdef Py_ssize_t items, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *factors = read_from(scale, &channels)
    cdef Norm n = normalization(items, channels, 1, channels, eps, False)
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef real *to = write_to(y)
    cdef real *kept = write_to(sources)
    cdef unsigned char *numbers = places_of(places, True, &p.width)
    cdef int failed
    n.given, n.through, n.scale, n.bias, n.low = given, False, factors, read_from(bias), 0
    n.mean, n.var = <real *> read_from(mean), <real *> read_from(var)
    with nogil:
        failed = norm_pool(&n, &p, source, to, numbers, kept, batch, threads)
    if failed:
        raise MemoryError("no memory for the sums of a normalization")


def norm_pool_backward(
    dy, places, sources, x, scale, bias, mean, var, dx, dscale, dbias, bint through, axes, Py_ssize_t batch, double eps,
    int threads, /,
):
    """The gradients of `norm_pool_forward`; `through` says whether `mean` and `var` depend on x."""
    cdef Py_ssize_t items, outputs, channels
    cdef const real *source = read_from(x, &items)
    cdef const real *gradient = read_from(dy, &outputs)
    cdef const real *kept = read_from(sources)
    cdef const real *factors = read_from(scale, &channels)
    cdef Norm n = normalization(outputs, channels, 1, channels, eps, True)
    cdef Pool p = new_pool(records_of(axes), channels)
    cdef const unsigned char *numbers = places_of(places, False, &p.width)
    cdef real *to = write_to(dx)
    cdef real *to_scale = write_to(dscale)
    cdef real *to_bias = write_to(dbias)
    cdef int failed
    n.pixels = items // channels   # of which most get nothing
    n.given, n.through, n.scale, n.bias, n.rectified = True, through, factors, read_from(bias), True
    n.mean, n.var = <real *> read_from(mean), <real *> read_from(var)
    with nogil:
        failed = norm_pool_back(&n, &p, gradient, numbers, kept, source, to, to_scale, to_bias, batch, threads)
    if failed:
        raise MemoryError("no memory for the sums of a normalization")
