/* What C must say because Cython cannot: the SIMD vector type of the instruction set being compiled, and its tile.
 *
 * `real` is the dtype of the module, `vec` as many of them as a register holds. A vec may lie at any address of a real.
 * TILE_M x (TILE_V vectors) is the register tile: TILE_M * TILE_V accumulators, TILE_V vectors of the right operand.
 */
#ifndef FASTCONV_SIMD_H
#define FASTCONV_SIMD_H

#include <stdint.h>

typedef FASTCONV_REAL real;

#if defined(__AVX512F__)
#define VEC_BYTES 64
enum { TILE_M = 14 }; /* 28 of 32 registers */
#elif defined(__AVX2__)
#define VEC_BYTES 32
enum { TILE_M = 6 }; /* 12 of 16 */
#elif defined(__aarch64__)
#define VEC_BYTES 16
enum { TILE_M = 12 }; /* 24 of 32 */
#else
#define VEC_BYTES 16
enum { TILE_M = 6 }; /* 12 of 16: without FMA each product needs a register of its own */
#endif

typedef real vec __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));

/* The end of a tile whose columns fill no whole vectors: see TILE_STEP. */
typedef real half_vec __attribute__((vector_size(VEC_BYTES / 2), aligned(sizeof(real)), may_alias));

/* Of 16 bytes, whatever the instruction set: what is shorter than a vec is copied by these, which seldom cross a cache line. */
typedef real part __attribute__((vector_size(16), aligned(sizeof(real)), may_alias));
typedef int64_t part_bits __attribute__((vector_size(16), may_alias));

enum {
    PART_LANES = 16 / sizeof(real),
    LANES = VEC_BYTES / sizeof(real),
    TILE_V = 2,
    TILE_N = TILE_V * LANES, /* columns of a tile */
    /* A step of its sums is so short that to reload addresses of rows, for which there are too few registers, takes as long: rows are
     * copied first, whose distances are constants, or are at one distance, a few multiples of which have registers. */
    LOW_TILE = TILE_M < 8,
    MANY_REGISTERS = TILE_M > 12, /* 32 */
    TILE_TALL = LOW_TILE ? 2 * TILE_M : TILE_M, /* rows of a tile of one vector, which would wait for so few sums */
    /* Narrower ones have a multiple of this many. Many processors multiply 64 bytes in two turns, and 32 in one; fewer never in less.
     * (float64 does without: its code would be a twentieth larger.) */
    TILE_STEP = LANES == 16 ? LANES / 2 : LANES,
    /* Whether loops are compiled for what few layers have too: not for float64, nor for processors that next to nobody has. */
    SELDOM_USED = sizeof(real) == 4 && VEC_BYTES > 16,
};

/* One vector with every lane x. The product of a scalar and a vector broadcasts by itself; a sum needs this. */
static inline vec broadcast(real x) { return x - (vec){0}; }

/* x as it is, in a register: used twice, a compiler would rather load and broadcast it twice, and the loads would be the limit. */
static inline vec in_register(vec x) {
#if defined(__AVX512F__)
    __asm__("" : "+v"(x));
#elif defined(__SSE2__)
    __asm__("" : "+x"(x));
#elif defined(__aarch64__)
    __asm__("" : "+w"(x));
#endif
    return x;
}

/* x, but not before y is computed: a tile that needs every register has none for what a compiler loads early. */
static inline const real *address_after(const real *x, vec y) {
#if defined(__AVX512F__)
    __asm__("" : "+r"(x) : "v"(y));
#elif defined(__SSE2__)
    __asm__("" : "+r"(x) : "x"(y));
#elif defined(__aarch64__)
    __asm__("" : "+r"(x) : "w"(y));
#endif
    return x;
}

/* Says that x is needed until here: a compiler gives no sum its register before, which would cost another one in a tile that needs all. */
static inline void needed(vec x) {
#if defined(__AVX512F__)
    __asm__("" : : "v"(x));
#elif defined(__SSE2__)
    __asm__("" : : "x"(x));
#elif defined(__aarch64__)
    __asm__("" : : "w"(x));
#endif
}

/* An address as it is, in a register: of elements at constant distances from it gcc would rather keep each one's distance from the
 * address that it was made of. There are no registers for those of a high tile. */
static inline const real *address(const real *x) {
    if (!LOW_TILE) __asm__("" : "+r"(x));
    return x;
}

/* A distance in a register: gcc would rather make it anew at each use. */
static inline intptr_t kept(intptr_t x) {
    __asm__("" : "+r"(x));
    return x;
}

/* A vector that is read once and kept: gcc would rather read it again for each of its uses, which costs more than a register. */
static inline vec held(const real *x) { return *(const volatile vec *)x; }

/* Ask for the cache line at x ahead of its use, or (`fetch`) have it brought into the second-level cache; any address will do. gcc takes a
 * function that does nothing else for one without effect, and drops its calls: the empty piece of assembly is an effect. */
static inline void prefetch(const real *x) {
    __asm__ volatile("");
    __builtin_prefetch(x);
}

static inline void fetch(const real *x) {
    __asm__ volatile("");
    __builtin_prefetch(x, 0, 2);
}

/* Have the cache line at x brought by reading it: processors read ahead of what is read in order, not of what is asked for. */
static inline void touch(const real *x) { (void)*(const volatile real *)x; }

/* The return type of a function in which everything that it calls is inlined, whatever the compiler thinks of its size. */
#define WHOLE __attribute__((flatten)) void

/* The same, and itself inlined nowhere: it is large, and calling it costs nothing beside what it does. */
#define APART __attribute__((flatten, noinline)) void

/* The outcome of comparing two vectors: every bit of a lane is set, or none. Also as many integers. */
typedef __typeof__(_Generic((real)0, float: (int32_t)0, double: (int64_t)0)) lane;
typedef lane mask __attribute__((vector_size(VEC_BYTES), aligned(sizeof(real)), may_alias));

/* a where m holds, else b. */
static inline vec choose(mask m, vec a, vec b) { return (vec)((m & (mask)a) | (~m & (mask)b)); }

static inline vec magnitude(vec x) { return (vec)((mask)x & (lane)((~(uint64_t)0 >> 1) >> (64 - 8 * sizeof(real)))); }

static inline mask above(vec a, vec b) { return (mask)(a > b); }

/* a where m holds, else 0. */
static inline vec where(mask m, vec a) { return (vec)(m & (mask)a); }

static inline mask same_lanes(mask a, mask b) { return (mask)(a == b); }

static inline mask equal(vec a, vec b) { return (mask)(a == b); }

static inline mask unlike(vec a, vec b) { return (mask)(a != b); }

static inline int any_lane(mask m) {
    part_bits any = {0};
    for (int i = 0; i < VEC_BYTES / 16; i++) any |= ((const part_bits *)&m)[i];
    return (any[0] | any[1]) != 0;
}

/* larger_number, smaller_number: the larger one of a and b, the smaller one; b where they are equal or either is NaN, as the instructions
 * of x86 have it. gcc sees them in such a choice at some places and compares and blends at others. */
#define COMPARED(name, vector, compare)                                                                                                   \
    static inline vector name(vector a, vector b) {                                                                                      \
        __typeof__(a < b) first = a compare b;                                                                                            \
        return (vector)((first & (__typeof__(first))a) | (~first & (__typeof__(first))b));                                                \
    }
#if defined(__x86_64__)
#include <immintrin.h>
#define OF_REAL(single, twice) _Generic((real)0, float: single, double: twice)
#define INSTRUCTION(name, vector, bits, instruction)                                                                                      \
    static inline vector name(vector a, vector b) {                                                                                      \
        typedef __typeof__(OF_REAL((__m##bits){0}, (__m##bits##d){0})) in;                                                                \
        return (vector)OF_REAL(instruction##_ps, instruction##_pd)((in)a, (in)b);                                                         \
    }
#endif
#if VEC_BYTES == 64
INSTRUCTION(larger_number, vec, 512, _mm512_max)
INSTRUCTION(smaller_number, vec, 512, _mm512_min)
INSTRUCTION(larger_half, half_vec, 256, _mm256_max)
INSTRUCTION(smaller_half, half_vec, 256, _mm256_min)
#elif VEC_BYTES == 32
INSTRUCTION(larger_number, vec, 256, _mm256_max)
INSTRUCTION(smaller_number, vec, 256, _mm256_min)
INSTRUCTION(larger_half, half_vec, 128, _mm_max)
INSTRUCTION(smaller_half, half_vec, 128, _mm_min)
#else
#if defined(__x86_64__)
INSTRUCTION(larger_number, vec, 128, _mm_max)
INSTRUCTION(smaller_number, vec, 128, _mm_min)
#else
COMPARED(larger_number, vec, >)
COMPARED(smaller_number, vec, <)
#endif
COMPARED(larger_half, half_vec, >)
COMPARED(smaller_half, half_vec, <)
#endif

/* The same, but NaN where either is. */
static inline vec larger(vec a, vec b) { return choose((mask)(a != a), a, larger_number(a, b)); }

/* a where b, which is a or 0 in every lane, is 0; else 0. */
static inline vec less_taken(vec a, vec b) { return (vec)((mask)a ^ (mask)b); }

/* x, but at least `low` and at most `high`; NaN where it is NaN. */
static inline vec clamped(vec x, real low, real high) { return smaller_number(broadcast(high), larger_number(broadcast(low), x)); }
static inline half_vec clamped_half(half_vec x, real low, real high) {
    return smaller_half(high - (half_vec){0}, larger_half(low - (half_vec){0}, x));
}

/* The first address in a buffer, of a vector more than is needed, where a vector is aligned: one that crosses a cache line is slow to
 * read when it has just been written. */
static inline real *aligned_in(real *buffer) { return (real *)(((uintptr_t)buffer + VEC_BYTES - 1) & -(uintptr_t)VEC_BYTES); }

/* Whether b takes the place of the maximum a: it is larger, or the first NaN. */
static inline mask beats(vec b, vec a) { return (mask)(~(b <= a) & (a == a)); }

/* Whether b is larger than a, or as large and its place before that of a. */
static inline mask comes_first(vec b, mask at_b, vec a, mask at_a) { return (mask)(b > a) | ((mask)(b == a) & (mask)(at_b < at_a)); }

/* `choose` for integers. */
static inline mask choose_lanes(mask m, mask a, mask b) { return (m & a) | (~m & b); }

static inline mask broadcast_lane(lane i) { return i - (mask){0}; }

/* The lanes of a mask as numbers of fewer bytes: half at a time, or gcc would take them one by one. */
#define LANES_OF(type) __attribute__((vector_size(LANES * sizeof(type)), aligned(sizeof(type)), may_alias))
typedef int8_t bytes LANES_OF(int8_t);
typedef int16_t pairs LANES_OF(int16_t);
typedef int32_t words LANES_OF(int32_t);
static inline void write_words(void *to, mask m) { *(words *)to = __builtin_convertvector(m, words); }
static inline void write_pairs(void *to, mask m) { *(pairs *)to = __builtin_convertvector(__builtin_convertvector(m, words), pairs); }
static inline void write_bytes(void *to, mask m) {
    *(bytes *)to = __builtin_convertvector(__builtin_convertvector(__builtin_convertvector(m, words), pairs), bytes);
}

/* Where bytes are this one. */
static inline mask same_bytes(const void *from, intptr_t byte) {
    return __builtin_convertvector((bytes)(*(const bytes *)from == (int8_t)byte), mask);
}

/* Lane i is lane from[i] of x; of two vectors, those of b come behind those of a. */
#if VEC_BYTES == 16 || defined(__clang__)
static inline vec permuted(vec x, mask from) {
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = x[from[i]];
    return y;
}
static inline vec permuted_pair(vec a, vec b, mask from) {
    vec y;
    for (int i = 0; i < LANES; i++) y[i] = from[i] < LANES ? a[from[i]] : b[from[i] - LANES];
    return y;
}
#else
static inline vec permuted(vec x, mask from) { return __builtin_shuffle(x, from); }
static inline vec permuted_pair(vec a, vec b, mask from) { return __builtin_shuffle(a, b, from); }
#endif

/* to[3 * j + i] = x[i * ld + j] for so many columns, whole vectors: the three planes of an image as pixels. */
static void join_planes(const real *x, intptr_t ld, intptr_t cols, real *to) {
    mask from[3], first[3], second[3];
    for (int i = 0; i < 3 * LANES; i++) {
        from[i / LANES][i % LANES] = i / 3;
        first[i / LANES][i % LANES] = -(i % 3 == 0);
        second[i / LANES][i % LANES] = -(i % 3 == 1);
    }
    for (const real *end = x + cols; x < end; x += LANES)
        for (int i = 0; i < 3; i++, to += LANES) {
            vec a = permuted(*(const vec *)x, from[i]), b = permuted(*(const vec *)(x + ld), from[i]);
            vec c = permuted(*(const vec *)(x + 2 * ld), from[i]);
            *(vec *)to = choose(first[i], a, choose(second[i], b, c));
        }
}

/* The lower halves of two vectors, lane by lane in turn; the upper halves. */
#if defined(__clang__)
#define SHUFFLE(indices, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLE(indices, a, b, ...) __builtin_shuffle(a, b, (indices){__VA_ARGS__})
#endif
#define BYTES_OF_float 4
#define BYTES_OF_double 8
#define BYTES_OF(type) BYTES_OF_##type
#define BYTES_OF_REAL(type) BYTES_OF(type)
#if VEC_BYTES / BYTES_OF_REAL(FASTCONV_REAL) == 16
#define LOWER 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define UPPER 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif VEC_BYTES / BYTES_OF_REAL(FASTCONV_REAL) == 8
#define LOWER 0, 8, 1, 9, 2, 10, 3, 11
#define UPPER 4, 12, 5, 13, 6, 14, 7, 15
#elif VEC_BYTES / BYTES_OF_REAL(FASTCONV_REAL) == 4
#define LOWER 0, 4, 1, 5
#define UPPER 2, 6, 3, 7
#else
#define LOWER 0, 2
#define UPPER 1, 3
#endif

#if BYTES_OF_REAL(FASTCONV_REAL) == 4
#define PART_LOWER 0, 4, 1, 5
#define PART_UPPER 2, 6, 3, 7
#else
#define PART_LOWER 0, 2
#define PART_UPPER 1, 3
#endif

/* to[j * to_ld + i] = from[i * from_ld + j] for a square of LANES x LANES, or of PART_LANES x PART_LANES: as often as these can be halved,
 * each vector of the first half is interleaved with its partner of the second. */
#define TRANSPOSITION(name, vector, indices, lanes, lower, upper)                                                                         \
    static inline void name(const real *from, intptr_t from_ld, real *to, intptr_t to_ld) {                                               \
        vector a[lanes], b[lanes];                                                                                                        \
        for (int i = 0; i < lanes; i++) a[i] = *(const vector *)(from + i * from_ld);                                                     \
        for (int round = 1; round < lanes; round *= 2) {                                                                                  \
            for (int i = 0; i < lanes / 2; i++) {                                                                                         \
                b[2 * i] = SHUFFLE(indices, a[i], a[i + lanes / 2], lower);                                                               \
                b[2 * i + 1] = SHUFFLE(indices, a[i], a[i + lanes / 2], upper);                                                           \
            }                                                                                                                             \
            for (int i = 0; i < lanes; i++) a[i] = b[i];                                                                                  \
        }                                                                                                                                 \
        for (int i = 0; i < lanes; i++) *(vector *)(to + i * to_ld) = a[i];                                                               \
    }
typedef lane part_mask __attribute__((vector_size(16)));
TRANSPOSITION(transpose_square, vec, mask, LANES, LOWER, UPPER)
TRANSPOSITION(transpose_small_square, part, part_mask, PART_LANES, PART_LOWER, PART_UPPER)

/* Lane i is the sum of the lanes of a[i], LANES vectors that are lost: each round adds the halves of pairs that it interleaves. */
static inline vec lane_sums(vec *a) {
    for (int parts = 2; parts <= LANES; parts *= 2)
        for (int i = 0; i < LANES / parts; i++)
            a[i] = SHUFFLE(mask, a[i], a[i + LANES / parts], LOWER) + SHUFFLE(mask, a[i], a[i + LANES / parts], UPPER);
    return a[0];
}

/* Adding ROUNDER and taking it away again rounds to whole numbers: it leaves no bits for a fraction. */
#define ROUNDER ((real)(sizeof(real) == 4 ? 0x1.8p23 : 0x1.8p52))

/* 2**n of whole n for which that is a normal number, from n + ROUNDER, whose low bits are n: they become the exponent. */
static inline vec power_of_two(vec rounded) {
    const lane bits = sizeof(real) == 4 ? 23 : 52, bias = sizeof(real) == 4 ? 127 : 1023;
    return (vec)(((mask)rounded << bits) + (bias << bits));
}

#ifdef _OPENMP
#include <omp.h>
enum { HAS_OPENMP = 1 };
#else
enum { HAS_OPENMP = 0 };
#endif

#endif
