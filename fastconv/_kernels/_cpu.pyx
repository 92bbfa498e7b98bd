"""What this processor offers: asked at import, before a kernel module is chosen."""

cdef extern from *:
    """
    #if defined(__x86_64__) || defined(_M_X64)
    /* cpuid and xgetbv: the processor has it, and the operating system saves its registers. */
    static int has_avx2(void) {
        __builtin_cpu_init();
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")
            && __builtin_cpu_supports("bmi") && __builtin_cpu_supports("bmi2");
    }
    static int has_avx512(void) {
        return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw")
            && __builtin_cpu_supports("avx512cd") && __builtin_cpu_supports("avx512dq")
            && __builtin_cpu_supports("avx512vl");
    }
    #else
    static int has_avx2(void) { return 0; }
    static int has_avx512(void) { return 0; }
    #endif
    """
    int has_avx2()
    int has_avx512()


def offered_isas():
    """Return the instruction sets that can run here, the plainest first."""
    offered = ["baseline"]
    if has_avx2():
        offered.append("avx2")
    if has_avx512():
        offered.append("avx512")
    return offered
