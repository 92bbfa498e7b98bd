/* What the arguments of a call are, as one key for a table of calls that came before; see _memory.pyx. */
#ifndef FASTCONV_SIGNATURE_H
#define FASTCONV_SIGNATURE_H

#include "memory.h"

enum { MOST_WORDS = 64, NONE = 0, FALSE_, TRUE_, INTEGER, TUPLE, STRING, FLOATS, DOUBLES, KINDS = 8 };

/* Write a kind, and a number with it, as one word. Whether there was room. */
static int add_word(npy_int64 *words, Py_ssize_t *many, int kind, npy_int64 number) {
    const npy_int64 most = NPY_MAX_INT64 / KINDS;
    if (*many == MOST_WORDS || number > most || number < -most) return 0;
    words[(*many)++] = number * KINDS + kind;
    return 1;
}

static int add_array(npy_int64 *words, Py_ssize_t *many, PyArrayObject *array) {
    const int type = PyArray_TYPE(array), axes = PyArray_NDIM(array);
    if ((type != NPY_FLOAT && type != NPY_DOUBLE) || !PyArray_ISCARRAY_RO(array)) return 0;
    if (!add_word(words, many, type == NPY_FLOAT ? FLOATS : DOUBLES, axes) || *many + axes > MOST_WORDS) return 0;
    for (int i = 0; i < axes; i++) words[(*many)++] = PyArray_DIM(array, i);
    return 1;
}

/* Write what `value` is; no two values that a function could tell apart are written alike. Whether it is one of those known here. */
static int add_value(npy_int64 *words, Py_ssize_t *many, PyObject *value) {
    if (Py_TYPE(value) == &PyArray_Type) return add_array(words, many, (PyArrayObject *)value);
    if (value == Py_None || value == Py_False || value == Py_True)
        return add_word(words, many, value == Py_None ? NONE : value == Py_True ? TRUE_ : FALSE_, 0);
    if (PyLong_CheckExact(value)) {
        int overflow;
        const long long number = PyLong_AsLongLongAndOverflow(value, &overflow);
        return !overflow && add_word(words, many, INTEGER, number);
    }
    if (PyTuple_CheckExact(value)) {
        const Py_ssize_t items = PyTuple_GET_SIZE(value);
        if (!add_word(words, many, TUPLE, items)) return 0;
        for (Py_ssize_t i = 0; i < items; i++)
            if (!add_value(words, many, PyTuple_GET_ITEM(value, i))) return 0;
        return 1;
    }
    if (PyUnicode_CheckExact(value) && PyUnicode_IS_COMPACT_ASCII(value)) {
        const Py_ssize_t items = PyUnicode_GET_LENGTH(value), used = (items + 7) / 8;
        if (!add_word(words, many, STRING, items) || used > MOST_WORDS - *many) return 0;
        memset(words + *many, 0, (size_t)used * sizeof *words);
        memcpy(words + *many, PyUnicode_DATA(value), (size_t)items);
        *many += used;
        return 1;
    }
    return 0;
}

static PyObject *signature(PyObject *module, PyObject *const *values, Py_ssize_t items) {
    npy_int64 words[MOST_WORDS];
    Py_ssize_t many = 0;
    (void)module;
    for (Py_ssize_t i = 0; i < items; i++)
        if (!add_value(words, &many, values[i])) Py_RETURN_NONE;
    return PyBytes_FromStringAndSize((const char *)words, many * (Py_ssize_t)sizeof *words);
}

static PyMethodDef signature_method = {"signature", (PyCFunction)(void (*)(void))signature, METH_FASTCALL, NULL};

static PyObject *signature_function(void) { return PyCFunction_New(&signature_method, NULL); }

#endif
