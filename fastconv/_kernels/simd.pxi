# What simd.h tells Cython. `float` stands for whichever dtype the module is compiled for.
from cython.parallel cimport parallel, prange, threadid
from libc.stdint cimport int32_t, int64_t, uint16_t
from libc.stdlib cimport free, malloc

cdef extern from "simd.h":
    ctypedef float real
    ctypedef float vec
    ctypedef float half_vec
    ctypedef float part
    ctypedef void whole "WHOLE"
    ctypedef void apart "APART"
    const int PART_LANES
    const int LANES
    const int TILE_M
    const int TILE_V
    const int TILE_N
    const int LOW_TILE
    const int TILE_TALL
    const int TILE_STEP
    const int MANY_REGISTERS
    const int SELDOM_USED
    const int HAS_OPENMP
    vec broadcast(real x) nogil
    vec in_register(vec x) nogil
    const real *address_after(const real *x, vec y) nogil
    void needed(vec x) nogil
    const real *address(const real *x) nogil
    Py_ssize_t kept(Py_ssize_t x) nogil
    vec held(const real *x) nogil
    void transpose_square(const real *source, Py_ssize_t from_ld, real *to, Py_ssize_t to_ld) nogil
    void transpose_small_square(const real *source, Py_ssize_t from_ld, real *to, Py_ssize_t to_ld) nogil
    void join_planes(const real *x, Py_ssize_t ld, Py_ssize_t cols, real *to) nogil
    vec lane_sums(vec *a) nogil
    vec clamped(vec x, real low, real high) nogil
    half_vec clamped_half(half_vec x, real low, real high) nogil
    real *aligned_in(real *buffer) nogil
    void prefetch(const real *x) nogil
    void fetch(const real *x) nogil
    void touch(const real *x) nogil

cdef enum:
    NEAR = 1 << 23      # bytes of an array that the caches are taken to hold, beside as much of others
    SETS = 4096         # bytes after which addresses share a set of the first-level cache
    NEAREST = 1 << 19   # bytes of an array that the second-level cache is taken to hold


def describe():
    """The compiled variant: bytes of a vector, rows and columns of the tile, whether it has OpenMP and Strassen's algorithm."""
    return {
        "vector_bytes": LANES * sizeof(real),
        "tile": (TILE_M, TILE_N),
        "openmp": bool(HAS_OPENMP),
        "strassen": is_strassen(1, 1),
    }


cdef inline Py_ssize_t ceil_div(Py_ssize_t a, Py_ssize_t b) noexcept nogil:
    return (a + b - 1) // b


cdef inline Py_ssize_t round_up(Py_ssize_t items, Py_ssize_t multiple) noexcept nogil:
    return ceil_div(items, multiple) * multiple


cdef inline Py_ssize_t own_lines(Py_ssize_t items) noexcept nogil:
    """`items` reals rounded up to whole cache lines, so that the scratch of two threads shares none."""
    return round_up(items, 64 // sizeof(real))


cdef void *new_lines(size_t size) noexcept nogil:
    """So many bytes from a cache line on, or NULL where there is no memory; for `free_lines`.

    Not by `aligned_alloc`: the piece that GNU's cuts off in front waits in a list of seven and keeps its neighbors apart, so that
    each of the first calls took new memory, whose pages the system had to clear.
    """
    cdef char *base = <char *> malloc(size + 2 * 64)
    cdef char *first
    if base == NULL:
        return NULL
    first = base + 64 - <size_t> base % 64
    (<void **> first)[-1] = base
    return first


cdef void free_lines(void *first) noexcept nogil:
    if first != NULL:
        free((<void **> first)[-1])


cdef real *new_scratch(Py_ssize_t items, int threads) noexcept nogil:
    """`items` (whole cache lines) for each thread, or NULL where there is no memory; the caller frees the lines."""
    return <real *> new_lines(items * threads * sizeof(real))
