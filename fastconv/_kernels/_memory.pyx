"""What every call needs, sooner than Python has it: memory for its output, and whether its arguments are known.

Memory for outputs: new arrays that begin at a cache line, in large blocks that have been used before.

A large array from the C library is fresh memory: the operating system clears it, page by page, when it is first written,
which takes longer than many a kernel takes to fill it. So the large blocks of arrays made here are kept when the last
reference to them goes, and given out again. NumPy owns and frees such an array like any other, through a handler of its own
(NEP 49).

A signature tells arguments apart by all that decides what is to be checked and computed: of an array its dtype and shape, of
numbers, texts and tuples of them the value and the type.
"""

cdef extern from "memory.h":
    int start() except -1
    object handler_capsule()
    object new_array(object shape, object dtype, object capsule)
    size_t bytes
    void release_kept()
    void trim_heap()

cdef extern from "signature.h":
    object signature_function()

start()
cdef object HANDLER = handler_capsule()

# signature(*values): bytes, or None where one of them is neither a C contiguous array of floats nor None, bool, int, str, tuple
signature = signature_function()


def empty(tuple shape not None, dtype not None):
    """Return a new array of a shape (a tuple) and a `numpy.dtype`, its values whatever was there, aligned to a cache line."""
    return new_array(shape, dtype, HANDLER)


def kept():
    """Return how many bytes are kept for arrays to come."""
    return bytes


def give_back():
    """Keep nothing more."""
    release_kept()


def trim():
    """Let the C library give memory that was freed back to the system, where it can."""
    trim_heap()
