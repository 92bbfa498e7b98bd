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

    /* How often a thread that waits as OpenMP's do looks in a microsecond: from 20 times, where the pause between two looks is
     * long, to some hundred times. The fastest of a few rounds, since one may be interrupted. */
    #include <time.h>
    static double looks_per_microsecond(void) {
        enum { ROUNDS = 5, LOOKS = 64 };
        static volatile int awaited = 0;
        double least = 1e9;
        for (int round = 0; round < ROUNDS; round++) {
            struct timespec begin, end;
            timespec_get(&begin, TIME_UTC);
            for (int i = 0; i < LOOKS && !awaited; i++) {
    #if defined(__x86_64__) || defined(_M_X64)
                __builtin_ia32_pause();
    #endif
            }
            timespec_get(&end, TIME_UTC);
            double took = (end.tv_sec - begin.tv_sec) * 1e6 + (end.tv_nsec - begin.tv_nsec) * 1e-3;
            if (took > 0 && took < least) least = took;
        }
        return LOOKS / least;
    }
    """
    int has_avx2()
    int has_avx512()
    double looks_per_microsecond()


def spins(double microseconds):
    """Return how often a waiting thread looks in so many microseconds, to the hundred."""
    return 100 * max(1, round(microseconds * looks_per_microsecond() / 100))


def offered_isas():
    """Return the instruction sets that can run here, the plainest first."""
    offered = ["baseline"]
    if has_avx2():
        offered.append("avx2")
    if has_avx512():
        offered.append("avx512")
    return offered
