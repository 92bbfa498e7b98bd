/* A loop's threads on processors of their own, see cores.pxi; loops of one thread. */
#ifndef FASTCONV_CORES_H
#define FASTCONV_CORES_H

#if defined(FASTCONV_WRAPS_OPENMP)
#include <omp.h>

/* GNU's OpenMP makes a team for each loop, of one thread too, which takes longer than all that a small kernel does. The linker brings the
 * beginnings of loops here (setup.py). Within another's parallel region a loop must ask: what it shares out, it shares with its team. */
void __real_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags);
__attribute__((visibility("hidden"))) void __wrap_GOMP_parallel(void (*body)(void *), void *data, unsigned threads, unsigned flags) {
    if (threads == 1 && !omp_in_parallel()) body(data);
    else __real_GOMP_parallel(body, data, threads, flags);
}
#endif

#if defined(__linux__) && defined(_OPENMP)
#include <omp.h>
#include <sched.h>
#include <time.h>

enum {
    MOST_CORES = 1024,       /* as many threads as there can be */
    BETWEEN_LOOKS = 2000000, /* nanoseconds: a look takes as long as a small loop */
};

/* Whether the calling thread has moved since it last looked after its threads, or has not looked for some time. */
static int may_share(void) {
    static _Thread_local long long next = 0;
    static _Thread_local int before = -1;
    struct timespec now;
    int here = sched_getcpu();
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    long long time = now.tv_sec * 1000000000LL + now.tv_nsec;
    if (here == before && time < next) return 0;
    before = here;
    next = time + BETWEEN_LOOKS;
    return 1;
}

static void without(cpu_set_t *set, const int *at, int threads) {
    for (int i = 0; i < threads; i++)
        if (at[i] >= 0 && at[i] < CPU_SETSIZE) CPU_CLR(at[i], set);
}

/* Keep this thread off the processor `caller`, on which its loops begin, and move it there and then. It may use all others of its
 * own and of the caller's, whose set is `whole`. */
static void keep_off(int caller, const cpu_set_t *whole) {
    cpu_set_t own, others;
    if (sched_getaffinity(0, sizeof own, &own)) return;
    CPU_OR(&others, &own, whole);
    without(&others, &caller, 1);
    if (CPU_COUNT(&others) && !CPU_EQUAL(&others, &own)) sched_setaffinity(0, sizeof others, &others);
}

/* Move this thread to a processor that none of the threads is on, if it may use one. */
static void move_away(const int *at, int threads) {
    cpu_set_t own, others;
    if (sched_getaffinity(0, sizeof own, &own)) return;
    others = own;
    without(&others, at, threads);
    if (CPU_COUNT(&others) && !sched_setaffinity(0, sizeof others, &others)) sched_setaffinity(0, sizeof own, &own);
}

static void move_apart(int threads) {
    int at[MOST_CORES], shares[MOST_CORES], any = 0;
    cpu_set_t whole;
    if (threads > MOST_CORES || omp_get_proc_bind() != omp_proc_bind_false) return;
    if (sched_getaffinity(0, sizeof whole, &whole)) return;
    for (int i = 0; i < threads; i++) at[i] = -1;
    at[0] = sched_getcpu();
    #pragma omp parallel num_threads(threads)
    {
        int mine = omp_get_thread_num();
        if (mine) {
            keep_off(at[0], &whole);
            at[mine] = sched_getcpu();
        }
    }
    for (int i = 0; i < threads; i++) {
        shares[i] = 0;
        for (int j = 1; j < i; j++) shares[i] |= at[i] == at[j] && at[i] >= 0;
        any |= shares[i];
    }
    if (!any) return;
    #pragma omp parallel num_threads(threads)
    if (shares[omp_get_thread_num()]) move_away(at, threads);
}
#else
static int may_share(void) { return 0; }
static void move_apart(int threads) { (void)threads; }
#endif
#endif
