# Vectors that are not whole, and functions of vectors: exp, log, erfc, to the last bit or two of the dtype.
from libc.string cimport memcpy

cdef extern from "simd.h":
    ctypedef int lane
    ctypedef int mask   # of a vec: every bit of a lane set, or none
    vec choose(mask m, vec a, vec b) nogil
    mask choose_lanes(mask m, mask a, mask b) nogil
    mask broadcast_lane(lane i) nogil
    mask above(vec a, vec b) nogil
    mask beats(vec b, vec a) nogil
    vec power_of_two(vec n) nogil

cdef extern from *:
    """
    enum {
        EXP_TERMS = sizeof(real) == 4 ? 7 : 13,    /* |x| <= log(2) / 2: the next term is below the last bit */
        LOG_TERMS = sizeof(real) == 4 ? 8 : 17,    /* |x| <= 1/3 */
        ERFC_TERMS = sizeof(real) == 4 ? 13 : 25,
    };
    /* 1 / k! */
    static const real EXP[14] = {
        1, 1, 1. / 2, 1. / 6, 1. / 24, 1. / 120, 1. / 720, 1. / 5040, 1. / 40320, 1. / 362880, 1. / 3628800,
        1. / 39916800, 1. / 479001600, 1. / 6227020800,
    };
    /* Chebyshev coefficients of log(erfc(z) / t) + z^2 over t = 2 / (2 + z) from 0 to 1, computed with 40 digits. */
    static const real ERFC[25] = {
        -0.651326859890854717, 0.64196979235649026, 0.0194764732041858363, -0.00956151478680863164,
        -0.000946595344482036866, 0.000366839497852761452, 4.25233248069077716e-5, -2.02785781125342432e-5,
        -1.62429000464702551e-6, 1.3036558355805232e-6, 1.56264417220661432e-8, -8.52380959149265425e-8,
        6.5290544390988515e-9, 5.05934349555146894e-9, -9.91364156493033087e-10, -2.27365122293183586e-10,
        9.6467911020155268e-11, 2.39403808303911474e-12, -6.8860275264975534e-12, 8.94487927309072572e-13,
        3.13092139934295808e-13, -1.12708223613672524e-13, 3.81090525518923184e-16, 7.10609761360923701e-15,
        -1.52302820145710432e-15,
    };
    #define LOG2E ((real)1.44269504088896341)
    /* log 2 in two parts; the first has few enough bits that its products with whole numbers are exact */
    #define LOG2_HIGH ((real)(sizeof(real) == 4 ? 0.693359375 : 6.93147180369123816490e-01))
    #define LOG2_LOW ((real)(sizeof(real) == 4 ? -2.12194440054690583e-4 : 1.90821492927058770002e-10))
    #define LOG_SMALLEST ((real)(sizeof(real) == 4 ? -87.0 : -708.0))
    """
    const int EXP_TERMS
    const int LOG_TERMS
    const int ERFC_TERMS
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


cdef inline vec magnitude(vec x) noexcept nogil:
    return choose(above(x, broadcast(0)), x, -x)


cdef inline vec reduced(vec x, vec *scale) noexcept nogil:
    """expm1(r), where x = n * log(2) + r, |r| <= log(2) / 2, and scale = 2**n."""
    cdef vec n = (x * LOG2E + broadcast(ROUNDER)) - broadcast(ROUNDER)
    cdef vec r = (x - n * LOG2_HIGH) - n * LOG2_LOW, series = broadcast(EXP[EXP_TERMS])
    cdef Py_ssize_t k
    for k in range(EXP_TERMS - 1, 0, -1):
        series = series * r + broadcast(EXP[k])
    scale[0] = power_of_two(n)
    return series * r


cdef inline vec exp_negative(vec x) noexcept nogil:
    """exp(x) for x that rounding at most leaves above 0; 0 where the result is not a normal number."""
    cdef mask vanishes = above(broadcast(LOG_SMALLEST), x)
    cdef vec scale, series = reduced(choose(vanishes, broadcast(LOG_SMALLEST), x), &scale)
    return choose(vanishes, broadcast(0), scale * series + scale)


cdef inline vec expm1_negative(vec x) noexcept nogil:
    """exp(x) - 1 for x <= 0, to the last digits also where x is almost 0."""
    cdef vec scale, series = reduced(choose(above(broadcast(LOG_SMALLEST), x), broadcast(LOG_SMALLEST), x), &scale)
    return scale * series + (scale - broadcast(1))


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
    cdef vec z = x * <real> 0.707106781186547524401, t = broadcast(2) / (z + broadcast(2))
    cdef vec s = t * <real> 4 - broadcast(2), series = broadcast(0), last = broadcast(0), next
    cdef Py_ssize_t k
    for k in range(ERFC_TERMS - 1, 0, -1):   # Clenshaw's recurrence
        next = s * series - last + broadcast(ERFC[k])
        last = series
        series = next
    series = s * series * <real> 0.5 - last + broadcast(ERFC[0])
    return t * exp_negative(series - x * x * <real> 0.5) * <real> 0.5
