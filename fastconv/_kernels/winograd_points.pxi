# Winograd's minimal filtering along one axis (Winograd 1980; Lavin and Gray 2016): a run of `outputs` neighboring outputs of a
# convolution comes from `points` products instead of outputs * taps:
#
#     y = A^T [(G g) * (B^T d)]       d: the inputs, as many as points; g: the taps = points + 1 - outputs
#
# Both sides are polynomials multiplied through their values at points that are exact in binary and keep sums of similar size
# (docs/kernels.md):
#
#     6 points, 0, +-P, +-Q, infinity:                5 outputs of 2 taps, 4 of 3, or 2 of 5
#     9 points, +-NINE_A .. +-NINE_D, infinity:       8 outputs of 2 taps, 7 of 3, 6 of 4, 5 of 5, or 3 of 7
#
# Sizes are constants where that pays. Signs of points come in pairs that share the even and the odd terms.

cdef extern from *:
    """
    enum { MOST_POINTS = 9 };
    #define P_ ((real)0.75)
    #define Q_ ((real)1.5)
    #define P2 (P_ * P_)
    #define Q2 (Q_ * Q_)
    /* one over the product of the distances of a point to the others */
    #define SCALE_0 (1 / (P2 * Q2))
    #define SCALE_P (1 / (2 * P2 * (P2 - Q2)))
    #define SCALE_Q (1 / (2 * Q2 * (Q2 - P2)))
    #define NINE_A ((real)0.25)
    #define NINE_B ((real)0.6875)
    #define NINE_C ((real)1.125)
    #define NINE_D ((real)2.25)
    """
    const int MOST_POINTS
    const real P_
    const real Q_
    const real P2
    const real Q2
    const real SCALE_0
    const real SCALE_P
    const real SCALE_Q
    const real NINE_A
    const real NINE_B
    const real NINE_C
    const real NINE_D


cdef inline vec cubic(const vec *d, const int step, const real a, const real b, const real c) noexcept nogil:
    """The terms of (t - a) (t - b) (t - c) over every second input: t is x squared."""
    return d[6 * step] - (a + b + c) * d[4 * step] + (a * b + a * c + b * c) * d[2 * step] - a * b * c * d[0]


cdef inline void input_pair(
    vec *v, const vec *d, const int step, const real p, const real a, const real b, const real c
) noexcept nogil:
    """The values at p and -p, of which the second has the sign changed, where a, b and c are the squares of the other points."""
    cdef vec even = cubic(d, step, a, b, c), odd = cubic(d + step, step, a, b, c)
    v[0] = p * even + odd
    v[1] = p * even - odd


cdef inline void nine_inputs(vec *v, const vec *d, const int step) noexcept nogil:
    cdef real a = NINE_A * NINE_A, b = NINE_B * NINE_B, c = NINE_C * NINE_C, e = NINE_D * NINE_D
    input_pair(v, d, step, NINE_A, b, c, e)
    input_pair(v + 2, d, step, NINE_B, a, c, e)
    input_pair(v + 4, d, step, NINE_C, a, b, e)
    input_pair(v + 6, d, step, NINE_D, a, b, c)
    v[8] = cubic(d + 2 * step, step, a, b, c) - e * cubic(d, step, a, b, c)


cdef inline void six_inputs(vec *v, const vec *d, const int step) noexcept nogil:
    cdef vec even_p = d[4 * step] - Q2 * d[2 * step], odd_p = d[3 * step] - Q2 * d[step]
    cdef vec even_q = d[4 * step] - P2 * d[2 * step], odd_q = d[3 * step] - P2 * d[step]
    v[0] = d[4 * step] - (P2 + Q2) * d[2 * step] + P2 * Q2 * d[0]
    v[1] = even_p + P_ * odd_p
    v[2] = even_p - P_ * odd_p
    v[3] = even_q + Q_ * odd_q
    v[4] = even_q - Q_ * odd_q
    v[5] = d[5 * step] - (P2 + Q2) * d[3 * step] + P2 * Q2 * d[step]


cdef inline void input_points(const int points, vec *v, const vec *d, const int step) noexcept nogil:
    """v = B^T d, for as many inputs as points, `step` vectors apart: the polynomial's remainders."""
    if points == 1:
        v[0] = d[0]
    elif points == 9:
        nine_inputs(v, d, step)
    else:
        six_inputs(v, d, step)


cdef inline void weight_pair(
    const int taps, vec *u, const vec *g, const int step, const real p, const real a, const real b, const real c
) noexcept nogil:
    cdef real scale = 1 / (2 * p * (p * p - a) * (p * p - b) * (p * p - c)), t = p * p
    cdef vec even = scale * g[0], odd = scale * p * g[step]
    if taps > 2:
        even = even + scale * t * g[2 * step]
    if taps > 3:
        odd = odd + scale * p * t * g[3 * step]
    if taps > 4:
        even = even + scale * t * t * g[4 * step]
    if taps > 5:
        odd = odd + scale * p * t * t * g[5 * step]
    if taps > 6:
        even = even + scale * t * t * t * g[6 * step]
    u[0] = even + odd
    u[1] = even - odd


cdef inline void nine_weights(const int taps, vec *u, const vec *g, const int step) noexcept nogil:
    cdef real a = NINE_A * NINE_A, b = NINE_B * NINE_B, c = NINE_C * NINE_C, e = NINE_D * NINE_D
    weight_pair(taps, u, g, step, NINE_A, b, c, e)
    weight_pair(taps, u + 2, g, step, NINE_B, a, c, e)
    weight_pair(taps, u + 4, g, step, NINE_C, a, b, e)
    weight_pair(taps, u + 6, g, step, NINE_D, a, b, c)
    u[8] = g[(taps - 1) * step]


cdef inline void six_weights(const int taps, vec *u, const vec *g, const int step) noexcept nogil:
    cdef vec even_p = SCALE_P * g[0], odd_p = SCALE_P * P_ * g[step]
    cdef vec even_q = SCALE_Q * g[0], odd_q = SCALE_Q * Q_ * g[step]
    if taps > 2:
        even_p = even_p + SCALE_P * P2 * g[2 * step]
        even_q = even_q + SCALE_Q * Q2 * g[2 * step]
    if taps > 3:
        odd_p = odd_p + SCALE_P * P_ * P2 * g[3 * step]
        odd_q = odd_q + SCALE_Q * Q_ * Q2 * g[3 * step]
    if taps > 4:
        even_p = even_p + SCALE_P * P2 * P2 * g[4 * step]
        even_q = even_q + SCALE_Q * Q2 * Q2 * g[4 * step]
    u[0] = SCALE_0 * g[0]
    u[1] = even_p + odd_p
    u[2] = even_p - odd_p
    u[3] = even_q + odd_q
    u[4] = even_q - odd_q
    u[5] = g[(taps - 1) * step]


cdef inline void weight_points(const int points, const int taps, vec *u, const vec *g, const int step) noexcept nogil:
    """u = G g: the values of the taps' polynomial at the points, over the products of the points' distances."""
    if points == 1:
        u[0] = g[0]
    elif points == 9:
        nine_weights(taps, u, g, step)
    else:
        six_weights(taps, u, g, step)


cdef inline void nine_outputs(const int outputs, vec *y, const vec *m, const int step) noexcept nogil:
    cdef real a = NINE_A, b = NINE_B, c = NINE_C, e = NINE_D
    cdef vec even_a = m[0] + m[step], odd_a = a * (m[0] - m[step])
    cdef vec even_b = m[2 * step] + m[3 * step], odd_b = b * (m[2 * step] - m[3 * step])
    cdef vec even_c = m[4 * step] + m[5 * step], odd_c = c * (m[4 * step] - m[5 * step])
    cdef vec even_e = m[6 * step] + m[7 * step], odd_e = e * (m[6 * step] - m[7 * step])
    y[0] = even_a + even_b + even_c + even_e
    y[1] = odd_a + odd_b + odd_c + odd_e
    y[2] = a * a * even_a + b * b * even_b + c * c * even_c + e * e * even_e
    if outputs > 3:
        y[3] = a * a * odd_a + b * b * odd_b + c * c * odd_c + e * e * odd_e
    if outputs > 4:
        y[4] = a * a * a * a * even_a + b * b * b * b * even_b + c * c * c * c * even_c + e * e * e * e * even_e
    if outputs > 5:
        y[5] = a * a * a * a * odd_a + b * b * b * b * odd_b + c * c * c * c * odd_c + e * e * e * e * odd_e
    if outputs > 6:
        y[6] = a * a * a * a * a * a * even_a + b * b * b * b * b * b * even_b
        y[6] = y[6] + c * c * c * c * c * c * even_c + e * e * e * e * e * e * even_e
    if outputs > 7:
        y[7] = a * a * a * a * a * a * odd_a + b * b * b * b * b * b * odd_b
        y[7] = y[7] + c * c * c * c * c * c * odd_c + e * e * e * e * e * e * odd_e
    y[outputs - 1] = y[outputs - 1] + m[8 * step]


cdef inline void six_outputs(const int outputs, vec *y, const vec *m, const int step) noexcept nogil:
    cdef vec even_p = m[step] + m[2 * step], odd_p = m[step] - m[2 * step]
    cdef vec even_q = m[3 * step] + m[4 * step], odd_q = m[3 * step] - m[4 * step]
    y[0] = m[0] + even_p + even_q
    y[1] = P_ * odd_p + Q_ * odd_q
    if outputs > 2:
        y[2] = P2 * even_p + Q2 * even_q
    if outputs > 3:
        y[3] = P_ * P2 * odd_p + Q_ * Q2 * odd_q
    if outputs > 4:
        y[4] = P2 * P2 * even_p + Q2 * Q2 * even_q
    y[outputs - 1] = y[outputs - 1] + m[5 * step]


cdef inline void outputs_of_points(const int points, const int outputs, vec *y, const vec *m, const int step) noexcept nogil:
    """y = A^T m, for products `step` vectors apart."""
    if points == 1:
        y[0] = m[0]
    elif points == 9:
        nine_outputs(outputs, y, m, step)
    else:
        six_outputs(outputs, y, m, step)
