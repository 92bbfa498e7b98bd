# Vectors that are not whole, and functions of vectors: exp, log, erfc, to the last bit or two of the dtype.
from libc.string cimport memcpy, memmove, memset

cdef extern from "simd.h":
    ctypedef int lane
    ctypedef int mask   # of a vec: every bit of a lane set, or none
    vec choose(mask m, vec a, vec b) nogil
    mask choose_lanes(mask m, mask a, mask b) nogil
    mask broadcast_lane(lane i) nogil
    mask same_lanes(mask a, mask b) nogil
    vec permuted(vec x, mask source) nogil
    vec permuted_pair(vec a, vec b, mask source) nogil
    mask above(vec a, vec b) nogil
    mask beats(vec b, vec a) nogil
    vec where(mask m, vec a) nogil
    vec power_of_two(vec rounded) nogil
    vec magnitude(vec x) nogil
    vec larger_number(vec a, vec b) nogil
    vec smaller_number(vec a, vec b) nogil

cdef extern from *:
    """
    enum {
        EXP_TERMS = sizeof(real) == 4 ? 6 : 13,    /* |x| <= log(2) / 2: the next term is below the last bit */
        LOG_TERMS = sizeof(real) == 4 ? 8 : 17,    /* |x| <= 1/3 */
        SINGLE = sizeof(real) == 4,
    };
    /* 1 / k!, and in float32 the coefficients near them whose largest error for |x| <= log(2) / 2 is least, 4e-9 of exp(x): a term
     * fewer. Fitted by reweighted least squares. */
    static const real EXP[14] = {
        1, 1, SINGLE ? 4.99999934e-1 : 1. / 2, SINGLE ? 1.66665204e-1 : 1. / 6, SINGLE ? 4.16683908e-2 : 1. / 24,
        SINGLE ? 8.36874514e-3 : 1. / 120, SINGLE ? 1.38145401e-3 : 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
        1. / 39916800, 1. / 479001600, 1. / 6227020800,
    };
    /* (Phi(x) - 1/2) / x as a quotient of two polynomials in x^2 for |x| <= NORMAL_END: within 1e-8 there, fitted to the least
     * largest error of Phi by reweighted least squares. */
    #define NORMAL_END ((real)5.6)
    static const real NORMAL_ABOVE[6] = {
        3.989422216e-1, 3.437607715e-2, 4.707257475e-3, 1.738504089e-4, 6.356527167e-6, 2.214532387e-8,
    };
    static const real NORMAL_BELOW[6] = {
        1, 2.528337601e-1, 2.894007029e-2, 1.912976401e-3, 7.510180582e-5, 1.180211948e-6,
    };
    /* tanh(x) / x likewise for |x| <= TANH_END, where float32 has come to 1: within 3e-8 of it. */
    #define TANH_END ((real)9.02)
    static const real TANH_ABOVE[5] = {9.9999997933e-1, 1.3379660637e-1, 3.4939646632e-3, 2.0582280026e-5, 1.3317350283e-8};
    static const real TANH_BELOW[5] = {1, 4.6712976004e-1, 2.5870811763e-2, 3.2829760524e-4, 7.7613249924e-7};
    /* log(erfc(z) / t) + z^2 as a polynomial in s = 2 t - 1, t = 2 / (2 + z): the Chebyshev series over all z >= 0, computed
     * with 50 digits, cut after the terms that double precision needs. */
    static const real ERFC[25] = {
        -0.671794084056692145, 0.672643223977658332, 0.0473433068418635223, -0.0468956102313289175,
        -0.00987268936409922162, 0.00882493856131232504, 0.00175893350740280315, -0.002345812552995894,
        -0.000146246287421284064, 0.000673679135256886311, -0.0000937389476766729489,
        -0.000174304129869259373, 0.0000714181043342230076, 0.0000317469354232723578,
        -0.0000302378405400713708, 1.39893704776110525e-7, 8.66253539747553871e-6, -2.96348423095969912e-6,
        -1.40944599143353104e-6, 1.28339491535619885e-6, -4.14685375466364141e-8, -2.89562656743552424e-7,
        7.74557240875851218e-8, 2.98051336451516771e-8, -1.27760865549686768e-8,
    };
    #define LOG2E ((real)1.44269504088896341)
    /* log 2 in two parts; the first has few enough bits that its products with whole numbers are exact */
    #define LOG2_HIGH ((real)(sizeof(real) == 4 ? 0.693359375 : 6.93147180369123816490e-01))
    #define LOG2_LOW ((real)(sizeof(real) == 4 ? -2.12194440054690583e-4 : 1.90821492927058770002e-10))
    #define LOG_SMALLEST ((real)(sizeof(real) == 4 ? -87.0 : -708.0))
    """
    const int EXP_TERMS
    const int LOG_TERMS
    const bint SINGLE
    const real NORMAL_END
    const real NORMAL_ABOVE[6]
    const real NORMAL_BELOW[6]
    const real TANH_END
    const real TANH_ABOVE[5]
    const real TANH_BELOW[5]
    const real EXP[14]
    const real ERFC[25]
    const real LOG2E
    const real LOG2_HIGH
    const real LOG2_LOW
    const real LOG_SMALLEST
    const real ROUNDER


cdef inline vec load(const real *x, const real *end) noexcept nogil:
    """The vector at x, of which only what is before `end` may be read; the rest is 0."""
    cdef real part[LANES]
    if end - x >= LANES:
        return (<const vec *> x)[0]
    (<vec *> part)[0] = broadcast(0)
    memcpy(part, x, (end - x) * sizeof(real))
    return (<vec *> part)[0]


cdef inline void store(real *y, vec value, Py_ssize_t items) noexcept nogil:
    """Write the first `items` lanes, or all where there are fewer."""
    cdef real part[LANES]
    if items >= LANES:
        (<vec *> y)[0] = value
        return
    (<vec *> part)[0] = value
    memcpy(y, part, items * sizeof(real))


cdef inline vec reduced(vec x, vec *scale) noexcept nogil:
    """expm1(r), where x = n * log(2) + r, |r| <= log(2) / 2, and scale = 2**n; anything for x below LOG_SMALLEST."""
    cdef vec rounded = x * LOG2E + broadcast(ROUNDER), n = rounded - broadcast(ROUNDER)
    cdef vec r = (x - n * LOG2_HIGH) - n * LOG2_LOW, series = broadcast(EXP[EXP_TERMS])
    cdef Py_ssize_t k
    for k in range(EXP_TERMS - 1, 0, -1):
        series = series * r + broadcast(EXP[k])
    scale[0] = power_of_two(rounded)
    return series * r


cdef inline vec exp_negative(vec x) noexcept nogil:
    """exp(x) for x that rounding at most leaves above 0; 0 where the result is not a normal number."""
    cdef vec scale, series = reduced(x, &scale)
    return choose(above(broadcast(LOG_SMALLEST), x), broadcast(0), scale * series + scale)


cdef inline vec expm1_negative(vec x) noexcept nogil:
    """exp(x) - 1 for x <= 0, to the last digits also where x is almost 0."""
    cdef vec scale, series = reduced(x, &scale), one = broadcast(1)
    return choose(above(broadcast(LOG_SMALLEST), x), -one, scale * series + (scale - one))


cdef inline vec log1p_unit(vec x) noexcept nogil:
    """log(1 + x) for x from 0 to 1, as 2 atanh(x / (2 + x))."""
    cdef vec s = x / (x + broadcast(2)), square = s * s, series = broadcast(<real> 1 / (2 * LOG_TERMS + 1))
    cdef Py_ssize_t k
    for k in range(LOG_TERMS - 1, -1, -1):
        series = series * square + broadcast(<real> 1 / (2 * k + 1))
    return series * s * <real> 2


cdef inline vec normal_tail(vec x) noexcept nogil:
    """The probability of more than x >= 0 standard deviations: erfc(x / sqrt(2)) / 2.

    The form is that of Press et al., Numerical Recipes, 3rd edition, section 6.2.2; the coefficients were computed anew.
    """
    cdef vec t = broadcast(2) / (x * <real> 0.707106781186547524401 + broadcast(2)), s = t * <real> 2 - broadcast(1)
    cdef vec series = broadcast(ERFC[24])
    cdef Py_ssize_t k
    for k in range(23, -1, -1):
        series = series * s + broadcast(ERFC[k])
    return t * exp_negative(series - x * x * <real> 0.5) * <real> 0.5


cdef inline vec normal_cdf_single(vec x) noexcept nogil:
    """Phi(x) to 2e-7, 0 before -NORMAL_END."""
    cdef vec end = broadcast(NORMAL_END), inner = choose(above(x, end), end, x), square = inner * inner
    cdef vec over = broadcast(NORMAL_ABOVE[5]), under = broadcast(NORMAL_BELOW[5])
    cdef Py_ssize_t k
    for k in range(4, -1, -1):
        over = over * square + broadcast(NORMAL_ABOVE[k])
        under = under * square + broadcast(NORMAL_BELOW[k])
    return choose(above(-end, x), broadcast(0), inner * over / under + broadcast(<real> 0.5))
