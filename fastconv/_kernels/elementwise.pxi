# Activations: y[i] = f(x[i]) and dx[i] = dy[i] * f'(x[i]), each a function of one vector. No intermediate result overflows.
#
# Where a formula multiplies x by what vanishes for large x, x is first brought within a range outside of which it has vanished.


cdef enum:
    RELU
    LEAKY_RELU    # a: slope
    ELU           # a: alpha, b: scale
    GELU
    GELU_TANH
    SILU
    HARD_SWISH
    HARD_SIGMOID
    SIGMOID
    TANH
    SOFTPLUS
    PORTION = 4096  # elements of a task

ACTIVATIONS = {
    "relu": RELU, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "gelu_tanh": GELU_TANH, "silu": SILU,
    "hard_swish": HARD_SWISH, "hard_sigmoid": HARD_SIGMOID, "sigmoid": SIGMOID, "tanh": TANH, "softplus": SOFTPLUS,
}


cdef inline vec at_least(vec x, real low) noexcept nogil:
    return choose(above(broadcast(low), x), broadcast(low), x)


cdef inline vec at_most(vec x, real high) noexcept nogil:
    return choose(above(x, broadcast(high)), broadcast(high), x)


cdef inline vec negative(vec x, vec a, vec b) noexcept nogil:
    """a where x < 0, else b."""
    return choose(above(broadcast(0), x), a, b)


cdef inline vec sigmoid(vec x) noexcept nogil:
    cdef vec power = exp_negative(-magnitude(x))
    return negative(x, power, broadcast(1)) / (power + broadcast(1))


cdef inline vec two_sigmoids(vec x, vec *of_minus_x) noexcept nogil:
    cdef vec power = exp_negative(-magnitude(x)), one = broadcast(1), whole = one / (power + one), part = power * whole
    of_minus_x[0] = negative(x, whole, part)
    return negative(x, part, whole)


cdef inline vec normal_cdf(vec x) noexcept nogil:
    cdef vec tail = normal_tail(magnitude(x))
    return negative(x, tail, broadcast(1) - tail)


cdef inline vec gelu_inner(vec x) noexcept nogil:
    """Twice the argument of the hyperbolic tangent: (1 + tanh(u)) / 2 is sigmoid(2 u)."""
    x = at_most(at_least(x, -100), 100)
    return x * (x * x * <real> 0.044715 + broadcast(1)) * <real> 1.59576912160573071176   # sqrt(8 / pi)


cdef inline vec forward_one(int kind, vec x, real a, real b) noexcept nogil:
    cdef vec part
    if kind == RELU:
        return at_least(x, 0)
    if kind == LEAKY_RELU:
        return choose(above(x, broadcast(0)), x, x * a)
    if kind == ELU:
        return choose(above(x, broadcast(0)), x, expm1_negative(at_most(x, 0)) * a) * b
    if kind == GELU:
        return at_least(x, -100) * normal_cdf(x)
    if kind == GELU_TANH:
        return at_least(x, -100) * sigmoid(gelu_inner(x))
    if kind == SILU:
        return at_least(x, -1000) * sigmoid(x)
    if kind == HARD_SWISH:
        return at_least(x, -3) * (at_most(at_least(x + broadcast(3), 0), 6) / broadcast(6))
    if kind == HARD_SIGMOID:
        return at_most(at_least(x + broadcast(3), 0), 6) / broadcast(6)
    if kind == SIGMOID:
        return sigmoid(x)
    if kind == TANH:
        part = expm1_negative(magnitude(x) * <real> -2)
        part = part / (part + broadcast(2))
        return negative(x, part, broadcast(0) - part)
    part = log1p_unit(exp_negative(-magnitude(x)))
    return at_least(x, 0) + part


cdef inline vec backward_one(int kind, vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec zero = broadcast(0), one = broadcast(1), part, s, rest   # s: sigmoid, rest: 1 - s, with all its digits
    if kind == RELU:
        return choose(above(x, zero), dy, zero)
    if kind == LEAKY_RELU:
        return choose(above(x, zero), dy, dy * a)
    if kind == ELU:
        return choose(above(x, zero), dy, dy * (exp_negative(at_most(x, 0)) * a)) * b
    if kind == GELU:
        x = at_most(at_least(x, -100), 100)
        part = exp_negative(x * x * <real> -0.5) * <real> 0.398942280401432677940   # 1 / sqrt(2 pi)
        return dy * (normal_cdf(x) + x * part)
    if kind == GELU_TANH:
        x = at_most(at_least(x, -100), 100)
        part = (x * x * <real> 0.134145 + one) * <real> 1.59576912160573071176
        s = two_sigmoids(gelu_inner(x), &rest)
        return dy * s * (x * part * rest + one)
    if kind == SILU:
        s = two_sigmoids(x, &rest)
        return dy * s * (at_most(at_least(x, -1000), 1000) * rest + one)
    if kind == HARD_SWISH:
        part = choose(above(broadcast(3), x), x / broadcast(3) + broadcast(<real> 0.5), one)
        return dy * choose(above(x, broadcast(-3)), part, zero)
    if kind == HARD_SIGMOID:
        return choose(above(broadcast(3), magnitude(x)), dy / broadcast(6), zero)
    if kind == SIGMOID:
        return dy * two_sigmoids(x, &rest) * rest
    if kind == TANH:
        s = two_sigmoids(at_most(at_least(x, -1000), 1000) * <real> 2, &rest)
        return dy * s * rest * <real> 4
    return dy * sigmoid(x)


cdef void forward_portion(int kind, const real *x, real *y, Py_ssize_t items, real a, real b) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < items:
        store(y + i, forward_one(kind, load(x + i, x + items), a, b), items - i)
        i += LANES


cdef void backward_portion(
    int kind, const real *dy, const real *x, real *dx, Py_ssize_t items, real a, real b
) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i < items:
        store(dx + i, backward_one(kind, load(dy + i, dy + items), load(x + i, x + items), a, b), items - i)
        i += LANES


def activation_forward(const real[::1] x, real[::1] y, str name, double a, double b, int threads):
    """y[i] = f(x[i]) for the function `name` with parameters a and b."""
    cdef int kind = ACTIVATIONS[name]
    cdef Py_ssize_t block, items = x.shape[0]
    cdef const real *source = &x[0]
    cdef real *to = &y[0]
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        forward_portion(kind, source + block * PORTION, to + block * PORTION, min(items - block * PORTION, <Py_ssize_t> PORTION), a, b)


def activation_backward(const real[::1] dy, const real[::1] x, real[::1] dx, str name, double a, double b, int threads):
    """dx[i] = dy[i] * f'(x[i]) for the function `name` with parameters a and b."""
    cdef int kind = ACTIVATIONS[name]
    cdef Py_ssize_t block, items = x.shape[0]
    cdef const real *source = &x[0]
    cdef const real *gradient = &dy[0]
    cdef real *to = &dx[0]
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        backward_portion(
            kind, gradient + block * PORTION, source + block * PORTION, to + block * PORTION,
            min(items - block * PORTION, <Py_ssize_t> PORTION), a, b,
        )
