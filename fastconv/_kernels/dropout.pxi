# Dropout: whether a number stays is a function of a key and of its place, so that the backward pass finds it again and nothing is kept.
from libc.stdint cimport uint32_t, uint64_t


cdef inline uint32_t mixed(uint32_t bits) noexcept nogil:
    """Each number for another one, every bit of which depends on every bit given: the end of MurmurHash3 (Appleby 2011)."""
    bits = (bits ^ (bits >> 16)) * <uint32_t> 0x85EBCA6B
    bits = (bits ^ (bits >> 13)) * <uint32_t> 0xC2B2AE35
    return bits ^ (bits >> 16)


cdef void dropout_portion(
    const real *x, real *y, Py_ssize_t items, uint32_t first, uint32_t key, uint32_t dropped, real factor
) noexcept nogil:
    cdef Py_ssize_t i
    for i in range(items):
        y[i] = x[i] * factor if mixed(mixed(first + <uint32_t> i) ^ key) >= dropped else 0


def dropout(x, y, uint64_t key, double rate, int threads, /):
    """y[i] = 0 with probability `rate`, else x[i] / (1 - rate): at the same places for the same key, in any dtype."""
    cdef Py_ssize_t block, items
    cdef uint64_t place
    cdef const real *source = read_from(x, &items)
    cdef real *to = write_to(y)
    cdef uint32_t dropped = <uint32_t> (rate * 4294967296.0), low = <uint32_t> key, high = <uint32_t> (key >> 32)
    cdef real factor = <real> (1 / (1 - rate))
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        place = <uint64_t> block * PORTION
        dropout_portion(
            source + place, to + place, min(items - block * PORTION, <Py_ssize_t> PORTION), low + <uint32_t> place,
            high ^ mixed(<uint32_t> (place >> 32)), dropped, factor,
        )
