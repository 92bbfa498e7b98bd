# Where the numbers of an array lie. A memoryview would tell too, and costs as much as all of a small layer: half a microsecond
# each; even the buffer protocol takes a tenth. So an array of NumPy's own class is looked into, and only others are asked.
# Kernels that take arrays this way are told the sizes, or ask for the number of elements.
from cpython.buffer cimport PyBUF_SIMPLE, PyBUF_WRITABLE, PyBuffer_Release, PyObject_GetBuffer
from numpy import ndarray as _ndarray

cdef extern from *:
    """
    #define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
    #define NPY_TARGET_VERSION NPY_1_22_API_VERSION
    #include <numpy/ndarraytypes.h>

    enum { REAL = sizeof(real) == sizeof(float) ? NPY_FLOAT : NPY_DOUBLE };

    /* The first of `items` numbers of a C contiguous array of the type `number`, or NULL for any other object's. */
    static inline void *numbers_of(PyObject *object, int number, int writable, Py_ssize_t *items) {
        PyArrayObject *array = (PyArrayObject *)object;
        const int flags = NPY_ARRAY_CARRAY_RO | (writable ? NPY_ARRAY_WRITEABLE : 0);
        Py_ssize_t many = 1;
        if (PyArray_DESCR(array)->type_num != number || (PyArray_FLAGS(array) & flags) != flags) return NULL;
        for (int i = 0; i < PyArray_NDIM(array); i++) many *= PyArray_DIMS(array)[i];
        *items = many;
        return PyArray_DATA(array);
    }
    """
    const int REAL
    const int NPY_DOUBLE
    const int NPY_INT64
    const int NPY_UINT8
    const int NPY_UINT16
    const int NPY_INT32
    void *numbers_of(object array, int number, bint writable, Py_ssize_t *items)

cdef object NDARRAY = _ndarray


cdef void *memory_of(object array, int number, Py_ssize_t itemsize, bint writable, Py_ssize_t *items) except NULL:
    """The first of `items` elements of a C contiguous array, which its owner keeps where it is as long as the caller has it."""
    cdef Py_buffer view
    cdef void *first = numbers_of(array, number, writable, items) if type(array) is NDARRAY else NULL
    if first != NULL:
        return first
    PyObject_GetBuffer(array, &view, PyBUF_WRITABLE if writable else PyBUF_SIMPLE)
    first, items[0] = view.buf, view.len // itemsize
    if view.itemsize != itemsize or first == NULL:
        PyBuffer_Release(&view)
        raise TypeError(f"a kernel needs an array of {itemsize} bytes an element, got {array.dtype}")
    PyBuffer_Release(&view)
    return first


cdef inline const real *read_from(object array, Py_ssize_t *items = NULL) except NULL:
    cdef Py_ssize_t many
    return <const real *> memory_of(array, REAL, sizeof(real), False, &many if items == NULL else items)


cdef inline real *write_to(object array, Py_ssize_t *items = NULL) except NULL:
    cdef Py_ssize_t many
    return <real *> memory_of(array, REAL, sizeof(real), True, &many if items == NULL else items)


cdef inline const int64_t *records_of(object array, Py_ssize_t *items = NULL) except NULL:
    cdef Py_ssize_t many
    return <const int64_t *> memory_of(array, NPY_INT64, sizeof(int64_t), False, &many if items == NULL else items)


cdef inline double *sums_of(object array) except NULL:
    cdef Py_ssize_t many
    return <double *> memory_of(array, NPY_DOUBLE, sizeof(double), True, &many)


cdef inline unsigned char *places_of(object array, bint writable, Py_ssize_t *width) except NULL:
    """The first of an array of uint8, uint16 or int32, and how many bytes each has."""
    cdef Py_ssize_t many, each = array.itemsize
    width[0] = each
    return <unsigned char *> memory_of(
        array, NPY_UINT8 if each == 1 else NPY_UINT16 if each == 2 else NPY_INT32, each, writable, &many
    )
