# Where the numbers of an array lie. A memoryview would tell too, and costs as much as all of a small layer: half a microsecond
# each. Kernels that take arrays this way name the sizes they need, or ask for the number of elements.
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer


cdef void *memory_of(object array, Py_ssize_t itemsize, int flags, Py_ssize_t *items) except NULL:
    """The first of `items` elements of a C contiguous array, which its owner keeps where it is as long as the caller has it."""
    cdef Py_buffer view
    cdef void *first
    PyObject_GetBuffer(array, &view, flags)
    first, items[0] = view.buf, view.len // itemsize
    if view.itemsize != itemsize or first == NULL:
        PyBuffer_Release(&view)
        raise TypeError(f"a kernel needs an array of {itemsize} bytes an element, got {array.dtype}")
    PyBuffer_Release(&view)
    return first


cdef const real *read_from(object array, Py_ssize_t *items = NULL) except NULL:
    cdef Py_ssize_t many
    return <const real *> memory_of(array, sizeof(real), PyBUF_SIMPLE, &many if items == NULL else items)


cdef real *write_to(object array) except NULL:
    cdef Py_ssize_t many
    return <real *> memory_of(array, sizeof(real), PyBUF_WRITABLE, &many)
