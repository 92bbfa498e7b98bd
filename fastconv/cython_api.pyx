"""fastconv's kernels for the C and Cython code of other packages: see ``cython_api.pxd`` beside this file.

The tables of functions are those of the instruction set that was chosen when fastconv was imported, so a package that was
compiled once for plain processors runs on AVX-512 where there is AVX-512.
"""

from cpython.pycapsule cimport PyCapsule_GetPointer

import numpy as np

from fastconv import _kernels, threads
from fastconv.version import __version__

#: The oldest version of the API whose modules still run: since then entries were only added.
OLDEST = 1


cdef int check_version(int compiled, size_t size) except -1:
    if compiled > VERSION or size > sizeof(Kernels):
        raise ImportError(
            f"this module was compiled for version {compiled} of fastconv.cython_api, and this fastconv {__version__} has "
            f"version {VERSION}: upgrade fastconv"
        )
    if compiled < OLDEST:
        raise ImportError(
            f"this module was compiled for version {compiled} of fastconv.cython_api, and this fastconv {__version__} supports "
            f"versions {OLDEST} to {VERSION}: upgrade the package that it comes from, or build it again"
        )
    return 0


def check(int compiled):
    """Raise `ImportError`, saying what to upgrade, unless modules compiled for this version of the API run here."""
    check_version(compiled, sizeof(Kernels))


cdef int threads_for(Py_ssize_t work) except -1:
    return threads.threads_for(work)


cdef int no_memory() except -1 nogil:
    with gil:
        raise MemoryError("no memory for the scratch of a kernel")


def use_tables():
    """Take the tables of the kernels in use; `fastconv._kernels.use` calls it again when it changes them."""
    global float32_kernels, float64_kernels
    float32_kernels = <const Kernels *> PyCapsule_GetPointer(_kernels.modules[np.dtype(np.float32)].api(), "fastconv.kernels")
    float64_kernels = <const Kernels *> PyCapsule_GetPointer(_kernels.modules[np.dtype(np.float64)].api(), "fastconv.kernels")


use_tables()
_kernels.after_use.append(use_tables)
