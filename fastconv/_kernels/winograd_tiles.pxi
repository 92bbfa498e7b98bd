# Winograd's tiles: where they lie, and the transforms of winograd_points.pxi nested along two axes. What is left of the
# convolution is one matrix product for each of the 36 or 81 positions of a tile:
#
#     M[k] (tiles, columns) = V[k] (tiles, depth) @ U[k] (depth, columns)
#
# which the register tile computes. An axis with one tap has one point. The taps along d are further columns of V. Dilation
# interleaves images, each of which has tiles of its own.
#
# A stride makes an image of every so many pixels, and there are as many as strides, the phases: further columns of V again, each
# with the taps that see it. With 3 taps and stride 2:
#
#     pixels 0 2 4 ...  taps t0 t2        pixels 1 3 5 ...  tap t1, and a last one that is zero, as is its value at infinity
#
# So at infinity a product sums over those phases alone that have all taps, the first of them among these.


cdef enum:
    MOST_POSITIONS = 81     # MOST_POINTS * MOST_POINTS
    MOST_TAPS = 49
    MOST_OUTPUTS = 64


cdef struct Winograd:
    Product p
    int out_h, out_w                    # outputs of a tile,
    int taps_h, taps_w                  # taps of a phase
    int points_h, points_w              # and the points of both
    Py_ssize_t step_h, step_w           # outputs from one of a tile to the next: the dilation
    Py_ssize_t in_h, in_w               # pixels likewise: the dilation or the stride
    Py_ssize_t phases_h, phases_w
    Py_ssize_t positions, tiles_h, tiles_w, tiles
    Py_ssize_t cuts, step               # the channels are cut into parts of at most `step`
    Py_ssize_t parts                    # taps along d, times phases, times cuts: what a product sums over
    Py_ssize_t abreast                  # so many positions lie side by side in a row of V
    Py_ssize_t rows, panel              # tiles of a block, columns of a panel
    Py_ssize_t groups, b_group          # of the convolution; how far apart their weights are
    const real *gathered                # the weights in the order in which they are transformed, or NULL


cdef inline Py_ssize_t channel_cut(const Winograd *g, Py_ssize_t i) noexcept nogil:
    """Where part i of the channels begins: whole vectors, at least one, and the last part has what is over."""
    return g.p.depth if i == g.cuts else ceil_div(g.p.depth // LANES * i, g.cuts) * LANES


cdef inline Py_ssize_t part_depth(const Winograd *g, Py_ssize_t part) noexcept nogil:
    return channel_cut(g, part % g.cuts + 1) - channel_cut(g, part % g.cuts)


cdef inline void cut_depth(Winograd *g, Py_ssize_t most) noexcept nogil:
    """Cut the channels into parts of at most `most`."""
    cdef Py_ssize_t i
    g.cuts = ceil_div(g.p.depth, most)
    g.step = 0
    for i in range(g.cuts):
        g.step = max(g.step, round_up(part_depth(g, i), LANES))
    g.parts = g.p.d.taps * g.phases_h * g.phases_w * g.cuts
    g.abreast = DEPTH_LD // g.step


cdef inline Py_ssize_t input_items(const Winograd *g, Py_ssize_t parts) noexcept nogil:
    """The size of V for a block of tiles and some parts of the channels."""
    return own_lines(parts * ceil_div(g.positions, g.abreast) * g.rows * DEPTH_LD)


cdef inline Py_ssize_t tiles_along(const Axis *axis, int outputs) noexcept nogil:
    """The tiles of all the images that a dilation interleaves along an axis; the first rows % dilation have a row more."""
    cdef Py_ssize_t d = axis.dilation if outputs > 1 else 1, longer = axis.rows % d
    return longer * ceil_div(axis.rows // d + 1, outputs) + (d - longer) * ceil_div(axis.rows // d, outputs)


cdef inline Py_ssize_t tile_start(const Axis *axis, int outputs, Py_ssize_t index) noexcept nogil:
    """The first output of a tile along an axis."""
    cdef Py_ssize_t d = axis.dilation if outputs > 1 else 1, longer = axis.rows % d, each = ceil_div(axis.rows // d + 1, outputs)
    if index < longer * each:
        return index // each + index % each * outputs * d
    index -= longer * each
    each = ceil_div(axis.rows // d, outputs)
    return longer + index // each + index % each * outputs * d


cdef Winograd winograd_grid(const Product *p, int out_h, int out_w) noexcept nogil:
    cdef Winograd g
    g.p, g.out_h, g.out_w, g.groups, g.b_group = p[0], out_h, out_w, 1, 0
    g.step_h, g.step_w = p.h.dilation if out_h > 1 else 1, p.w.dilation if out_w > 1 else 1
    g.in_h, g.in_w = g.step_h * p.h.stride, g.step_w * p.w.stride  # one of both is 1
    g.phases_h, g.phases_w = min(p.h.taps, p.h.stride), min(p.w.taps, p.w.stride)
    g.taps_h, g.taps_w = ceil_div(p.h.taps, p.h.stride), ceil_div(p.w.taps, p.w.stride)
    g.points_h, g.points_w = g.taps_h + out_h - 1, g.taps_w + out_w - 1
    g.positions = g.points_h * g.points_w
    g.tiles_h, g.tiles_w = tiles_along(&p.h, out_h), tiles_along(&p.w, out_w)
    g.tiles = p.batch * p.d.rows * g.tiles_h * g.tiles_w
    return g


cdef struct Tap:
    # the first tap of a part along each axis; the others are a stride further each
    Py_ssize_t d, h, w


cdef inline Tap tap_of_part(const Winograd *g, Py_ssize_t part) noexcept nogil:
    part //= g.cuts
    return Tap(part // g.phases_w // g.phases_h, part // g.phases_w % g.phases_h, part % g.phases_w)


cdef inline bint is_zero_at(const Winograd *g, const Tap *first, Py_ssize_t k) noexcept nogil:
    """Whether U of all channels of a part is zero at position k: at infinity is the last tap, which some phases do not have."""
    return (
        k // g.points_w == g.points_h - 1 and first.h + (g.taps_h - 1) * g.p.h.stride >= g.p.h.taps
        or k % g.points_w == g.points_w - 1 and first.w + (g.taps_w - 1) * g.p.w.stride >= g.p.w.taps
    )


cdef inline Py_ssize_t packed_weights(const Winograd *g, Py_ssize_t panel, Py_ssize_t part) noexcept nogil:
    """Where in U one part of the channels of a panel is: as many matrices as positions, panel_items(g.step) apart."""
    return (panel * g.parts + part) * g.positions * panel_items(g.step)


cdef inline Py_ssize_t packed_inputs(const Winograd *g, Py_ssize_t part, Py_ssize_t k) noexcept nogil:
    """Where in V the first row of one part and position is."""
    return (part * ceil_div(g.positions, g.abreast) + k // g.abreast) * g.rows * DEPTH_LD + k % g.abreast * g.step


cdef struct Tile:
    # where a tile's outputs begin, or its pixels
    Py_ssize_t n, d, h, w


cdef inline Tile tile_at(const Winograd *g, Py_ssize_t index) noexcept nogil:
    cdef Tile t
    t.w = tile_start(&g.p.w, g.out_w, index % g.tiles_w)
    t.h = tile_start(&g.p.h, g.out_h, index // g.tiles_w % g.tiles_h)
    t.d = index // g.tiles_w // g.tiles_h % g.p.d.rows
    t.n = index // g.tiles_w // g.tiles_h // g.p.d.rows
    return t


cdef inline void next_tile(const Winograd *g, Tile *t) noexcept nogil:
    t.w += g.out_w * g.step_w
    if t.w < g.p.w.rows:
        return
    t.w = t.w % g.step_w + 1  # the next of the images that the dilation interleaves
    if t.w < min(g.step_w, g.p.w.rows):
        return
    t.w = 0
    t.h += g.out_h * g.step_h
    if t.h < g.p.h.rows:
        return
    t.h = t.h % g.step_h + 1
    if t.h < min(g.step_h, g.p.h.rows):
        return
    t.h = 0
    t.d += 1
    if t.d == g.p.d.rows:
        t.d = 0
        t.n += 1


cdef inline Tile pixel_under(const Winograd *g, const Tile *t, const Tap *tap) noexcept nogil:
    """The first pixel that a tile sees with a tap; it may lie outside of the image."""
    cdef Tile first
    first.n = t.n
    first.d = t.d * g.p.d.stride + g.p.d.origin + tap.d * g.p.d.dilation
    first.h = t.h * g.p.h.stride + g.p.h.origin + tap.h
    first.w = t.w * g.p.w.stride + g.p.w.origin + tap.w
    return first


cdef inline const real *pixel_at(const Winograd *g, const Tile *pixel) noexcept nogil:
    return g.p.a + (((pixel.n * g.p.d.size + pixel.d) * g.p.h.size + pixel.h) * g.p.w.size + pixel.w) * g.p.a_ld


cdef inline Py_ssize_t output_under(const Winograd *g, const Tile *t) noexcept nogil:
    """How far from the first output of all that of a tile is."""
    cdef Py_ssize_t plane = t.n * g.p.out_d + g.p.d.out_first + t.d * g.p.d.out_step
    cdef Py_ssize_t line = plane * g.p.out_h + g.p.h.out_first + t.h * g.p.h.out_step
    return (line * g.p.out_w + g.p.w.out_first + t.w * g.p.w.out_step) * g.p.y_ld


cdef inline Py_ssize_t output_row(const Winograd *g) noexcept nogil:
    """From one output of a tile to the next along h."""
    return g.step_h * g.p.h.out_step * g.p.out_w * g.p.y_ld


cdef inline Py_ssize_t output_col(const Winograd *g) noexcept nogil:
    return g.step_w * g.p.w.out_step * g.p.y_ld
