# Tiles (tile.pxi) of any number of rows and columns, by the panel that is on their right: all rows in turn, the narrowest tile that
# holds its columns, and a buffer where a tile is narrower still.


cdef inline void copy_narrow(real *to, const real *source, Py_ssize_t items) noexcept nogil:
    """Up to TILE_N elements, in vectors or parts the last of which overlaps the one before."""
    cdef Py_ssize_t i
    if items > LANES:
        (<vec *> to)[0] = (<const vec *> source)[0]
        (<vec *> (to + items - LANES))[0] = (<const vec *> (source + items - LANES))[0]
        return
    if items < PART_LANES:
        for i in range(items):
            to[i] = source[i]
        return
    i = 0
    while i + PART_LANES < items:
        (<part *> (to + i))[0] = (<const part *> (source + i))[0]
        i += PART_LANES
    (<part *> (to + items - PART_LANES))[0] = (<const part *> (source + items - PART_LANES))[0]


cdef inline void panel(
    const int form, const int width, Py_ssize_t rows, Py_ssize_t cols, Left *left, Py_ssize_t first, Py_ssize_t depth,
    const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """`accumulate` for any number of rows and for `cols` <= width columns: a narrow tile goes through a buffer."""
    cdef real edge[TILE_TALL * TILE_N]
    cdef Py_ssize_t edge_out[TILE_TALL]
    cdef const Py_ssize_t *at = edge_out
    cdef Py_ssize_t i = 0, r, height
    cdef bint narrow = cols < width
    if narrow:
        for r in range(TILE_TALL):
            edge_out[r] = r * TILE_N
        if not start:
            zero(edge, TILE_TALL * TILE_N)
    while i < rows:
        if narrow and not start:
            for r in range(min(rows - i, <Py_ssize_t> TILE_TALL)):
                copy_narrow(edge + r * TILE_N, y + out[i + r], cols)
        if not narrow:
            at = out + i
        height = accumulate_rows(
            form, width, rows - i, left, first + i, depth, b, b_k, start, NULL if narrow else ending, &edge[0] if narrow else y, at
        )
        if narrow:
            for r in range(height):
                if ending != NULL:
                    end_values(ending, edge + r * TILE_N, out[i + r], cols)
                copy_narrow(y + out[i + r], edge + r * TILE_N, cols)
        i += height


cdef inline Py_ssize_t panel_width(Py_ssize_t cols) noexcept nogil:
    """Columns of a packed panel: whole vectors, of which a tile may leave out half a one."""
    return TILE_N if cols > LANES else LANES


cdef inline void narrowest_panel(
    const int form, const int step, Py_ssize_t rows, Py_ssize_t cols, Left *left, Py_ssize_t first, Py_ssize_t depth,
    const real *b, Py_ssize_t b_k, const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """`panel` with the narrowest tile of a multiple of `step` columns, LANES or half as many."""
    if cols > TILE_N - step:
        panel(form, TILE_N, rows, cols, left, first, depth, b, b_k, start, ending, y, out)
    elif cols > LANES and step < LANES:
        panel(form, LANES + step, rows, cols, left, first, depth, b, b_k, start, ending, y, out)
    elif cols > step or step == LANES:
        panel(form, LANES, rows, cols, left, first, depth, b, b_k, start, ending, y, out)
    else:
        panel(form, step, rows, cols, left, first, depth, b, b_k, start, ending, y, out)


cdef apart packed_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *left, Py_ssize_t first, const real *b, Py_ssize_t depth,
    const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += packed rows from the first on @ b (depth x cols, a packed panel); `ending` as for `accumulate`."""
    narrowest_panel(ROWS_PACKED, TILE_STEP, rows, cols, left, first, depth, b, panel_width(cols), start, ending, y, out)


cdef apart spaced_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *left, Py_ssize_t first, const real *b, Py_ssize_t depth,
    const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """The same for rows that lie left.at_ld apart."""
    narrowest_panel(ROWS_SPACED, TILE_STEP, rows, cols, left, first, depth, b, panel_width(cols), start, ending, y, out)


cdef apart spaced_runs_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *windows, Py_ssize_t first, const real *b, const real *start, const Ending *ending, real *y,
    const Py_ssize_t *out,
) noexcept nogil:
    """The same for rows of several runs, each of which lies windows.at_ld behind that of the row before."""
    narrowest_panel(RUNS_SPACED, TILE_STEP, rows, cols, windows, first, 0, b, panel_width(cols), start, ending, y, out)


cdef inline void rows_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, const real *a, const real *b, Py_ssize_t depth,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += a (rows x depth, packed) @ b (depth x cols, a packed panel)."""
    cdef Left left = left_operand(a, NULL, 0, 0, NULL)
    packed_by_panel(rows, cols, &left, 0, b, depth, start, NULL, y, out)


cdef apart columns_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, const real *a, Py_ssize_t a_ld, const real *b, Py_ssize_t b_k, Py_ssize_t depth,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += a.T @ b: `a` is (depth x rows), its rows a_ld apart, those of b b_k."""
    cdef Left left = left_operand(a, NULL, a_ld, 0, NULL)
    narrowest_panel(COLUMNS_PACKED, LANES, rows, cols, &left, 0, depth, b, b_k, start, NULL, y, out)


cdef apart windows_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *windows, Py_ssize_t first, const real *b, Py_ssize_t b_k,
    const real *start, const Ending *ending, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += windows (by their addresses, from the first) @ b (rows of it b_k apart)."""
    narrowest_panel(ROWS_AT, TILE_STEP, rows, cols, windows, first, 0, b, b_k, start, ending, y, out)


cdef apart spread_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *windows, const real *b, const real *start, const Ending *ending, real *y,
    const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols <= LANES) += windows @ b, where each lane has its own of the elements of a run."""
    panel(ROWS_SPREAD, LANES, rows, cols, windows, 0, 0, b, LANES, start, ending, y, out)


cdef apart pixels_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, Left *windows, Py_ssize_t first, Py_ssize_t depth, const real *b, Py_ssize_t b_k,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += a.T @ b: row k of `a` (depth x rows) is at windows.at[k], from the first on."""
    narrowest_panel(COLUMNS_AT, TILE_STEP, rows, cols, windows, first, depth, b, b_k, start, NULL, y, out)
