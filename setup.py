"""Build the kernels: one Cython source set, compiled once for each instruction set and each dtype.

Everything that differs between the variants is in the two tables below; see ``fastconv/_kernels/__init__.py``.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy
from Cython.Build import cythonize
from Cython.Compiler import Options
from setuptools import Extension, setup
from setuptools.command.build_ext import build_ext

X86 = platform.machine().lower() in ("x86_64", "amd64")

#: For float64, which fewer people use: without the copies that -O3 makes of loops with a choice inside, and without what gcc
#: moves out of loops, which makes a thirtieth more code and 1 to 2% less time. (With -O2 it ran a tenth slower: that unrolls a
#: tile only after it has chosen what is in registers.)
SMALL = [
    *("-fno-split-loops", "-fno-split-paths", "-fno-unswitch-loops"),
    *("-fno-tree-pre", "-fno-gcse", "-fno-ivopts"),
]

#: For the instruction set that next to nobody needs: an eighth less code still.
SMALLEST = ["-O2", "-fpeel-loops", *SMALL]

#: For modules without kernels.
PLAIN = ["-Os"]

#: Instruction set -> compiler flags. The baseline is what every processor of the architecture has (SSE2, NEON).
ISA_FLAGS: dict[str, list[str]] = {"baseline": []}
if X86:
    ISA_FLAGS = {
        "baseline": ["-march=x86-64", *SMALLEST],
        "avx2": ["-march=x86-64-v3"],
        "avx512": ["-march=x86-64-v4", "-mprefer-vector-width=512"],
    }

#: Suffix of the module -> C type of its arrays, compiler flags.
DTYPES: dict[str, tuple[str, list[str]]] = {"f32": ("float", []), "f64": ("double", SMALL)}

#: What is to be unrolled has constant bounds, and gcc does so unasked; more only makes the wheel larger, like tables for
#: exceptions, which C has not, and the guards of stacks that the Python of some distributions asks for.
OPTIMIZE = [
    *("-O3", "-std=gnu11", "-fno-math-errno", "-fno-trapping-math", "-g0"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables", "-fno-stack-protector"),
    "-falign-functions=64",  # where in a cache line a short loop lies is a tenth of its time: not for other code to change
]

#: gcc unrolls and inlines the register tile whole only when it may make large functions; others do not know these.
GCC_ONLY = [
    "-fno-tree-loop-distribute-patterns",  # short copies stay vector moves: a call to memcpy, or `rep movs`, is slower
    "--param=max-completely-peeled-insns=2000",
    "--param=max-completely-peel-times=32",
    "--param=max-inline-insns-single=4000",
    "--param=large-function-growth=2000",
    "--param=inline-unit-growth=400",
    # what -O3 copies beyond that makes a fortieth more code, and none of it faster
    *("-fno-ipa-cp-clone", "-fno-tree-partial-pre", "--param=max-inline-insns-auto=15"),
]

#: Has the linker bring the beginnings of GNU's parallel loops to cores.h, and a program that tells whether it does.
WRAP = "-Wl,--wrap=GOMP_parallel"
WRAPPED = """
void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    __real_GOMP_parallel(body, data, threads, flags);
}
int main(void) {
    int sum = 0;
    #pragma omp parallel reduction(+ : sum)
    sum++;
    return sum < 1;
}
"""

Options.docstrings = False  # of kernels: they are read in the source

KERNELS = Path("fastconv/_kernels")

#: The module of Cython's memoryview type, which each of the kernel modules would otherwise hold again.
MEMORYVIEWS = "fastconv._kernels._memoryviews"

#: The headers that other packages compile with.
INCLUDE = "fastconv/include"


#: What the two C functions get that Cython makes of a kernel. The first takes the arguments apart, once a call: it is to be
#: small (as it comes, an eighth of the module), like what only it calls. The second, the body, is not to become a part of it.
MARKS = {"__pyx_pw_": "cold", "__pyx_pf_": "noinline"}


def compiles(compiler: list[str], flags: list[str], source: str = "int main(void) { return 0; }\n") -> bool:
    """Whether the compiler builds `source` with `flags`, linked, without a warning about them."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "probe.c"
        path.write_text(source)
        try:
            command = [*compiler, "-Werror", *flags, str(path), "-o", str(Path(folder) / "probe")]
            return subprocess.run(command, capture_output=True, check=False).returncode == 0
        except OSError:
            return False


def mark(source: Path) -> None:
    """Give the functions in a C file of Cython's the attributes of `MARKS`."""
    text = marked = source.read_text()
    for prefix, attribute in MARKS.items():
        head = rf"^static PyObject \*(?={prefix})"
        marked = re.sub(head, f"static __attribute__(({attribute})) PyObject *", marked, flags=re.MULTILINE)
    if marked != text:
        source.write_text(marked)


class BuildKernels(build_ext):
    """`build_ext` that asks the compiler what it can do, and says what to install where there is none."""

    def build_extensions(self) -> None:
        compiler = list(getattr(self.compiler, "compiler", None) or ["cc"])
        if not compiles(compiler, []):
            sys.exit(
                f"fastconv needs a C compiler to build its kernels, and {compiler[0]!r} does not work here. "
                "Install one and try again: `apt install gcc libc6-dev python3-dev` (Debian, Ubuntu), "
                "`dnf install gcc python3-devel` (Fedora), `xcode-select --install` (macOS)."
            )
        translate(self.extensions)
        unknown = {flag for flag in (*GCC_ONLY, *SMALL) if not compiles(compiler, [flag])}
        openmp = ["-fopenmp"]
        if not compiles(compiler, openmp, "#include <omp.h>\nint main(void) { return omp_get_max_threads() < 1; }\n"):
            print("fastconv: this compiler has no OpenMP: the kernels will run on one thread (see `fastconv info`)")
            openmp = []
        wrap = [WRAP] if openmp and compiles(compiler, [*openmp, WRAP], WRAPPED) else []
        for extension in self.extensions:
            # what is loaded before the kernels must not bring OpenMP's runtime, which reads its settings when it is loaded
            loops = openmp if extension.define_macros else []
            flags = [*OPTIMIZE, *GCC_ONLY, *extension.extra_compile_args, *loops]
            extension.extra_compile_args = [flag for flag in flags if flag not in unknown]
            extension.extra_link_args = ["-Wl,-s" if sys.platform == "linux" else "-Wl,-S", *loops]
            if extension.define_macros:
                mark(Path(extension.sources[0]))
                extension.extra_link_args += wrap
                extension.define_macros += [("FASTCONV_WRAPS_OPENMP", "1")] if wrap else []
        self.parallel = self.parallel or os.cpu_count()
        super().build_extensions()


def extensions() -> list[Extension]:
    """One extension module for each instruction set and dtype, from stubs that include the same source."""
    return [
        Extension(
            f"fastconv._kernels._{isa}_{suffix}",
            [str(KERNELS / f"_{isa}_{suffix}.pyx")],
            include_dirs=[str(KERNELS), numpy.get_include()],
            define_macros=[("FASTCONV_REAL", ctype)],
            extra_compile_args=[*flags, *more],
            depends=[
                *(str(KERNELS / header) for header in ("simd.h", "cores.h")),
                f"{INCLUDE}/fastconv/api.h",
                *sorted(map(str, KERNELS.glob("*.pxi"))),
            ],
        )
        for isa, flags in ISA_FLAGS.items()
        for suffix, (ctype, more) in DTYPES.items()
    ]


def translate(extensions: list[Extension]) -> None:
    """Have Cython write the C sources of `extensions`, as many at a time as there are processors.

    Only where processes are forked: those that start afresh know nothing of what is set in `Options`.
    """
    forks = sys.platform == "linux"
    if forks:
        multiprocessing.set_start_method("fork", force=True)
    translated = cythonize(
        extensions,
        nthreads=os.cpu_count() if forks else 0,
        shared_utility_qualified_name=MEMORYVIEWS,
        compiler_directives={
            "language_level": 3,
            "boundscheck": False,
            "wraparound": False,
            "cdivision": True,
            "initializedcheck": False,
            "freethreading_compatible": False,
            "binding": False,
        },
    )
    sources = {extension.name: extension.sources for extension in translated}
    for extension in extensions:
        extension.sources = sources[extension.name]


setup(
    ext_modules=[
        *extensions(),
        Extension("fastconv._kernels._cpu", [str(KERNELS / "_cpu.pyx")], extra_compile_args=PLAIN),
        Extension(
            "fastconv._kernels._memory",
            [str(KERNELS / "_memory.pyx")],
            include_dirs=[str(KERNELS), numpy.get_include()],
            depends=[str(KERNELS / "memory.h"), str(KERNELS / "signature.h")],
            extra_compile_args=PLAIN,
        ),
        Extension("fastconv.cython_api", ["fastconv/cython_api.pyx"], include_dirs=[INCLUDE], extra_compile_args=PLAIN),
        Extension(MEMORYVIEWS, [f"{KERNELS}/_memoryviews.c"], extra_compile_args=PLAIN),
    ],
    cmdclass={"build_ext": BuildKernels},
)
