/* Where the outputs of fastconv lie: blocks that begin at a cache line, the large ones kept for reuse; see _memory.pyx. */
#ifndef FASTCONV_MEMORY_H
#define FASTCONV_MEMORY_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#define NPY_NO_DEPRECATED_API NPY_1_7_API_VERSION
#define NPY_TARGET_VERSION NPY_1_22_API_VERSION
#include <numpy/arrayobject.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#if defined(__linux__)
#include <sys/mman.h>
#endif
#if defined(__GLIBC__)
#include <malloc.h>
#endif

enum {
    LINE = 64,                /* of a cache, in bytes; before the data comes a header as long */
    PAGE = 4096,
    LARGE = 1 << 18,          /* bytes from which on a block is kept */
    HUGE_PAGE = 1 << 21,      /* processors read ahead up to the end of a page, and small ones are many to look up */
    HUGE = 3 << 19,           /* bytes from which on such pages are asked for, and of a block's last one that it must use */
    MOST_BLOCKS = 128,
    MOST_AXES = 32,
    SHARE = 16,               /* of the machine's memory this part at most is kept, */
};
static const size_t MOST_BYTES = (size_t)1 << 29; /* and no more than that */

typedef struct { void *base; size_t size; } block; /* what to free; bytes of the data behind this header */

/* Blocks that nobody uses, the one that was freed last at the end. Who comes here holds the interpreter's lock. */
static block *kept[MOST_BLOCKS];
static int blocks = 0;
static size_t bytes = 0, most = 0;

static block *header(void *data) { return (block *)((char *)data - LINE); }

static block *take_out(int i) {
    block *found = kept[i];
    memmove(kept + i, kept + i + 1, (size_t)(--blocks - i) * sizeof *kept);
    bytes -= found->size;
    return found;
}

/* The block freed last that is large enough, by an eighth too large at most. */
static block *take(size_t size) {
    for (int i = blocks - 1; i >= 0; i--)
        if (kept[i]->size >= size && kept[i]->size - size <= size / 8) return take_out(i);
    return NULL;
}

static void keep(block *freed) {
    if (freed->size > most) { free(freed->base); return; }
    while (blocks && (blocks == MOST_BLOCKS || bytes + freed->size > most)) free(take_out(0)->base);
    kept[blocks++] = freed;
    bytes += freed->size;
}

/* The bytes to ask for: what goes beyond huge pages gets one too where it fills most of it. */
static size_t whole_pages(size_t size) {
    return size % HUGE_PAGE >= HUGE ? (size / HUGE_PAGE + 1) * HUGE_PAGE : size;
}

/* Large blocks begin at a page, so that a kernel that reads and writes at one pace never reads an address whose last 12 bits are
 * those of what it is just writing: processors take the two for the same until they know better. */
static void *allocate(void *context, size_t size) {
    (void)context;
    block *found = size >= LARGE ? take(size) : NULL;
    if (!found) {
        void *base;
        size_t before = size >= LARGE ? PAGE : LINE;
        if (size > SIZE_MAX - before - HUGE_PAGE) return NULL;
        size_t asked = whole_pages(before + size);
        if (posix_memalign(&base, size >= HUGE ? HUGE_PAGE : before, asked)) return NULL;
#if defined(MADV_HUGEPAGE)
        if (size >= HUGE) madvise(base, asked, MADV_HUGEPAGE);
#endif
        found = header((char *)base + before);
        found->base = base;
        found->size = size;
    }
    return (char *)found + LINE;
}

static void release(void *context, void *data, size_t size) {
    (void)context; (void)size;
    if (!data) return;
    if (header(data)->size >= LARGE) keep(header(data));
    else free(header(data)->base);
}

static void *allocate_zeros(void *context, size_t count, size_t each) {
    if (each && count > SIZE_MAX / each) return NULL;
    void *data = allocate(context, count * each);
    return data ? memset(data, 0, count * each) : NULL;
}

static void *reallocate(void *context, void *data, size_t size) {
    void *moved = allocate(context, size);
    if (moved && data) {
        size_t before = header(data)->size;
        memcpy(moved, data, before < size ? before : size);
        release(context, data, before);
    }
    return moved;
}

static PyDataMem_Handler handler = {"fastconv", 1, {NULL, allocate, allocate_zeros, reallocate, release}};

static int start(void) {
    long pages = sysconf(_SC_PHYS_PAGES), page = sysconf(_SC_PAGESIZE);
    size_t part = pages > 0 && page > 0 ? (size_t)pages / SHARE * (size_t)page : 0;
    most = part && part < MOST_BYTES ? part : MOST_BYTES;
    import_array1(-1);
    return 0;
}

static PyObject *handler_capsule(void) { return PyCapsule_New(&handler, "mem_handler", NULL); }

static PyObject *new_array(PyObject *shape, PyObject *dtype, PyObject *capsule) {
    npy_intp sizes[MOST_AXES + 1];
    Py_ssize_t axes = PyTuple_GET_SIZE(shape);
    if (axes > MOST_AXES) return PyErr_Format(PyExc_ValueError, "shape must have at most %d axes, got %zd", MOST_AXES, axes);
    for (Py_ssize_t i = 0; i < axes; i++) {
        sizes[i] = PyNumber_AsSsize_t(PyTuple_GET_ITEM(shape, i), PyExc_ValueError);
        if (sizes[i] == -1 && PyErr_Occurred()) return NULL;
        if (sizes[i] < 0) return PyErr_Format(PyExc_ValueError, "shape must not be negative, got %R", shape);
    }
    sizes[axes] = PyDataType_ELSIZE((PyArray_Descr *)dtype);
    npy_intp size = PyArray_OverflowMultiplyList(sizes, (int)axes + 1);
    void *data = size < 0 ? NULL : allocate(NULL, (size_t)size);
    if (!data) return PyErr_Format(PyExc_MemoryError, "no memory for an array of shape %R and dtype %S", shape, dtype);
    Py_INCREF(dtype); /* which the array takes */
    PyObject *array = PyArray_NewFromDescr(
        &PyArray_Type, (PyArray_Descr *)dtype, (int)axes, sizes, NULL, data, NPY_ARRAY_CARRAY, NULL);
    if (!array) { release(NULL, data, 0); return NULL; }
    /* it owns its data, and the handler knows how to free them */
    Py_INCREF(capsule);
    ((PyArrayObject_fields *)array)->mem_handler = capsule;
    PyArray_ENABLEFLAGS((PyArrayObject *)array, NPY_ARRAY_OWNDATA);
    return array;
}

static void trim_heap(void) {
#if defined(__GLIBC__)
    malloc_trim(0);
#endif
}

static void release_kept(void) {
    while (blocks) free(take_out(0)->base);
}

#endif
