"""Build the Cython module; everything else is in pyproject.toml."""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastconv

setup(
    ext_modules=cythonize(
        [
            Extension(
                "gated._gate",
                ["src/gated/_gate.pyx"],
                include_dirs=[fastconv.get_include()],
                extra_compile_args=["-O3", "-fno-math-errno"],
            )
        ],
        compiler_directives={"language_level": 3, "boundscheck": False, "wraparound": False, "initializedcheck": False},
    )
)
