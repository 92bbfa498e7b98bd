# The register tile: every multiplication of convolutions, linear layers and their gradients happens in `accumulate`.
#
# Operands are packed (window.pxi, product.pxi). The left one is an array with DEPTH_LD elements a row, a constant, so that
# every row of the tile is at a constant offset from ONE pointer; the right one is a panel of `vecs` vectors a row.


cdef enum:
    DEPTH = 288      # columns of the packed left operand: a strip stays in the first-level cache, panels come from the second
    DEPTH_LD = 304   # elements between its rows: whole cache lines, but no power of two, whose rows would share a set


cdef inline void accumulate(
    const int rows, const int vecs, const Py_ssize_t a_row, const Py_ssize_t a_k,
    const real *a, const real *b, Py_ssize_t depth, const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y[out[i] + j] = (start[j] or y[out[i] + j]) + sum_k a[i * a_row + k * a_k] * b[k * vecs * LANES + j].

    `rows` and `vecs` (at most TILE_M and TILE_V) and both strides are constants where it is called, so that the compiler
    unrolls the tile and keeps it in registers. The order of the sum is that of k, whatever the tile.
    """
    cdef vec acc[TILE_M][TILE_V]
    cdef vec row[TILE_V]
    cdef Py_ssize_t i, j, k
    for i in range(rows):
        for j in range(vecs):
            acc[i][j] = (<const vec *> (start + j * LANES))[0] if start else (<const vec *> (y + out[i] + j * LANES))[0]
    for k in range(depth):
        for j in range(vecs):
            row[j] = (<const vec *> (b + j * LANES))[0]
        for i in range(rows):
            for j in range(vecs):
                acc[i][j] = acc[i][j] + row[j] * a[i * a_row]
        a += a_k
        b += vecs * LANES
    for i in range(rows):
        for j in range(vecs):
            (<vec *> (y + out[i] + j * LANES))[0] = acc[i][j]


cdef inline Py_ssize_t accumulate_rows(
    const int vecs, const Py_ssize_t a_row, const Py_ssize_t a_k,
    Py_ssize_t rows, const real *a, const real *b, Py_ssize_t depth, const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """Run the highest tile that `rows` fills (heights TILE_M, a half, a quarter, 1) and return its height."""
    if rows >= TILE_M:
        accumulate(TILE_M, vecs, a_row, a_k, a, b, depth, start, y, out)
        return TILE_M
    if rows >= TILE_M // 2:
        accumulate(TILE_M // 2, vecs, a_row, a_k, a, b, depth, start, y, out)
        return TILE_M // 2
    if rows >= TILE_M // 4 and TILE_M // 4 > 1:
        accumulate(TILE_M // 4, vecs, a_row, a_k, a, b, depth, start, y, out)
        return TILE_M // 4
    accumulate(1, vecs, a_row, a_k, a, b, depth, start, y, out)
    return 1


cdef inline void panel(
    const int vecs, const Py_ssize_t a_row, const Py_ssize_t a_k,
    Py_ssize_t rows, Py_ssize_t cols, const real *a, const real *b, Py_ssize_t depth,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """`accumulate` for any number of rows and for `cols` <= vecs * LANES columns: a narrow tile goes through a buffer."""
    cdef real edge[TILE_M * TILE_N]
    cdef Py_ssize_t edge_out[TILE_M]
    cdef Py_ssize_t i = 0, j, r, height
    if cols == vecs * LANES:
        while i < rows:
            i += accumulate_rows(vecs, a_row, a_k, rows - i, a + i * a_row, b, depth, start, y, out + i)
        return
    for r in range(TILE_M):
        edge_out[r] = r * TILE_N
    for j in range(TILE_M * TILE_N):
        edge[j] = 0
    while i < rows:
        if not start:
            for r in range(min(rows - i, <Py_ssize_t> TILE_M)):
                for j in range(cols):
                    edge[r * TILE_N + j] = y[out[i + r] + j]
        height = accumulate_rows(vecs, a_row, a_k, rows - i, a + i * a_row, b, depth, start, edge, edge_out)
        for r in range(height):
            for j in range(cols):
                y[out[i + r] + j] = edge[r * TILE_N + j]
        i += height


cdef void rows_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, const real *a, const real *b, Py_ssize_t depth,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += a (rows x depth) @ b (depth x cols, packed)."""
    if cols > LANES:
        panel(TILE_V, DEPTH_LD, 1, rows, cols, a, b, depth, start, y, out)
    else:
        panel(1, DEPTH_LD, 1, rows, cols, a, b, depth, start, y, out)


cdef void columns_by_panel(
    Py_ssize_t rows, Py_ssize_t cols, const real *a, const real *b, Py_ssize_t depth,
    const real *start, real *y, const Py_ssize_t *out,
) noexcept nogil:
    """y (rows x cols) += a.T @ b: `a` is (depth x rows), as the windows are packed for a weight gradient."""
    if cols > LANES:
        panel(TILE_V, 1, DEPTH_LD, rows, cols, a, b, depth, start, y, out)
    else:
        panel(1, 1, DEPTH_LD, rows, cols, a, b, depth, start, y, out)
