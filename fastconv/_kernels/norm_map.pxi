# The map of a normalization, y = (x - mean) * factor + shift, for lines of channels; tables of `width` numbers say what is which.


cdef enum:
    TABLES = 6         # origin, mean, factor, shift, share, bias


cdef inline void map_lines(
    const int lines, const bint added, const bint rectified, const real *add, const real *x, Py_ssize_t width,
    Py_ssize_t first, Py_ssize_t end, const real *tables, real low, real *y,
) noexcept nogil:
    cdef Py_ssize_t j = first, at, r
    cdef vec mean, factor, shift, share = broadcast(0), bias = broadcast(0), value, item
    while j < end:
        at = min(j, width - LANES)
        mean = (<const vec *> (tables + width + at))[0]
        factor = (<const vec *> (tables + 2 * width + at))[0]
        shift = (<const vec *> (tables + 3 * width + at))[0]
        if added:
            share = (<const vec *> (tables + 4 * width + at))[0]
        if rectified:
            bias = (<const vec *> (tables + 5 * width + at))[0]
        for r in range(lines):
            value = ((<const vec *> (x + r * width + at))[0] - mean) * factor + shift
            if added:
                item = (<const vec *> (add + r * width + at))[0]
                if rectified:
                    item = passed(item, (<const vec *> (x + r * width + at))[0], mean, share, bias)
                value = item * share + value
            (<vec *> (y + r * width + at))[0] = larger_number(broadcast(low), value)
        j += LANES


cdef inline void map_block(
    const bint added, const bint rectified, const real *add, const real *x, Py_ssize_t lines, Py_ssize_t width, Order order,
    const real *tables, real low, real *y,
) noexcept nogil:
    cdef Py_ssize_t first = 0, end, i, r
    while first < width:
        end = min(first + order.columns, width)
        r = 0
        while not order.apart and r + FEW_LINES <= lines:
            i = r * width
            map_lines(FEW_LINES, added, rectified, add + i, x + i, width, first, end, tables, low, y + i)
            r += FEW_LINES
        while r < lines:
            i = r * width
            map_lines(1, added, rectified, add + i, x + i, width, first, end, tables, low, y + i)
            r += 1
        first = end


cdef inline void map_numbers(
    const bint added, const bint rectified, const real *add, const real *x, Py_ssize_t items, Py_ssize_t width, Order order,
    const real *tables, real low, real *y,
) noexcept nogil:
    """y = (x - mean) * factor + shift, plus add * share, at least `low`; a gradient to add may have to pass a ReLU."""
    cdef Py_ssize_t i = 0, lines, c
    cdef real value, item
    while items - i >= width:
        lines = min((items - i) // width, <Py_ssize_t> BLOCK_LINES)
        map_block(added, rectified, add + i, x + i, lines, width, order, tables, low, y + i)
        i += lines * width
    for c in range(items - i):
        value = (x[i + c] - tables[width + c]) * tables[2 * width + c] + tables[3 * width + c]
        if added:
            item = add[i + c]
            if rectified:
                item = item if (x[i + c] - tables[width + c]) * tables[4 * width + c] + tables[5 * width + c] > 0 else 0
            value = item * tables[4 * width + c] + value
        y[i + c] = low if low > value else value
