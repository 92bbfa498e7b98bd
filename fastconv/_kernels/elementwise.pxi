# Activations: y[i] = f(x[i]) and dx[i] = dy[i] * f'(x[i]), each a function of one vector. No intermediate result overflows.
#
# Where a formula multiplies x by what vanishes for large x, x is first brought within a range outside of which it has vanished,
# or the product is replaced by 0 there.


cdef enum:
    RELU
    RELU6
    LEAKY_RELU    # a: slope
    ELU           # a: alpha, b: scale
    GELU
    GELU_TANH
    SILU
    HARD_SWISH
    HARD_SIGMOID
    CLIP          # a: low, b: high; forward alone
    MISH          # forward alone
    SIGMOID
    TANH
    SOFTPLUS
    SIGMOID_FROM_OUTPUT   # backward alone, with y in the place of x
    TANH_FROM_OUTPUT
    PORTION = 4096  # elements of a task

ACTIVATIONS = {
    "relu": RELU, "relu6": RELU6, "leaky_relu": LEAKY_RELU, "elu": ELU, "gelu": GELU, "gelu_tanh": GELU_TANH, "silu": SILU,
    "hard_swish": HARD_SWISH, "hard_sigmoid": HARD_SIGMOID, "clip": CLIP, "mish": MISH, "sigmoid": SIGMOID, "tanh": TANH, "softplus": SOFTPLUS,
    "sigmoid_from_output": SIGMOID_FROM_OUTPUT, "tanh_from_output": TANH_FROM_OUTPUT,
}


cdef inline vec at_least(vec x, real low) noexcept nogil:
    return larger_number(broadcast(low), x)


cdef inline vec at_most(vec x, real high) noexcept nogil:
    return smaller_number(broadcast(high), x)


cdef inline vec unless_below(real low, vec x, vec y) noexcept nogil:
    """y, but 0 where x < low: there y has vanished, or is infinity times 0."""
    return choose(above(broadcast(low), x), broadcast(0), y)


cdef inline vec negative(vec x, vec a, vec b) noexcept nogil:
    """a where x < 0, else b."""
    return choose(above(broadcast(0), x), a, b)


cdef inline vec sigmoid(vec x) noexcept nogil:
    cdef vec power = exp_negative(-magnitude(x)), one = broadcast(1)
    return negative(x, power, one) / (power + one)


cdef inline vec two_sigmoids(vec x, vec *of_minus_x) noexcept nogil:
    cdef vec power = exp_negative(-magnitude(x)), one = broadcast(1), whole = one / (power + one), part = power * whole
    of_minus_x[0] = negative(x, whole, part)
    return negative(x, part, whole)


cdef inline vec normal_cdf(vec x) noexcept nogil:
    cdef vec tail
    if SINGLE:
        return normal_cdf_single(x)
    tail = normal_tail(magnitude(x))
    return negative(x, tail, broadcast(1) - tail)


cdef inline vec gelu_inner(vec x) noexcept nogil:
    """Twice the argument of the hyperbolic tangent: (1 + tanh(u)) / 2 is sigmoid(2 u)."""
    x = at_most(at_least(x, -100), 100)
    return x * (x * x * <real> 0.044715 + broadcast(1)) * <real> 1.59576912160573071176   # sqrt(8 / pi)


# Forward and backward of each by name, with its parameters a and b; `rest` is 1 - sigmoid, with all its digits.

cdef inline vec relu_forward(vec x, real a, real b) noexcept nogil:
    return at_least(x, 0)


cdef inline vec relu_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), dy, broadcast(0))


cdef inline vec relu6_forward(vec x, real a, real b) noexcept nogil:
    return at_most(at_least(x, 0), 6)


cdef inline vec relu6_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), choose(above(broadcast(6), x), dy, broadcast(0)), broadcast(0))


cdef inline vec leaky_relu_forward(vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), x, x * a)


cdef inline vec leaky_relu_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), dy, dy * a)


cdef inline vec elu_forward(vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), x, expm1_negative(at_most(x, 0)) * a) * b


cdef inline vec elu_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return choose(above(x, broadcast(0)), dy, dy * (exp_negative(at_most(x, 0)) * a)) * b


cdef inline vec gelu_forward(vec x, real a, real b) noexcept nogil:
    return unless_below(-100, x, x * normal_cdf(x))


cdef inline vec gelu_backward(vec dy, vec x, real a, real b) noexcept nogil:
    x = at_most(at_least(x, -100), 100)
    return dy * (normal_cdf(x) + x * (exp_negative(x * x * <real> -0.5) * <real> 0.398942280401432677940))   # 1 / sqrt(2 pi)


cdef inline vec gelu_tanh_forward(vec x, real a, real b) noexcept nogil:
    return unless_below(-100, x, x * sigmoid(gelu_inner(x)))


cdef inline vec gelu_tanh_backward(vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec rest, inner = at_most(at_least(x, -100), 100), s = two_sigmoids(gelu_inner(inner), &rest)
    cdef vec slope = (inner * inner * <real> 0.134145 + broadcast(1)) * <real> 1.59576912160573071176
    return dy * s * (inner * slope * rest + broadcast(1))


cdef inline vec silu_forward(vec x, real a, real b) noexcept nogil:
    """x / (1 + exp(-x)); where that exponential is no number any more, nothing that matters is left of it."""
    cdef vec scale, kept = at_least(x, LOG_SMALLEST), series = reduced(-at_most(kept, -LOG_SMALLEST), &scale)
    return kept / (scale * series + scale + broadcast(1))


cdef inline vec silu_backward(vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec rest, s = two_sigmoids(x, &rest)
    return dy * s * (at_most(at_least(x, -1000), 1000) * rest + broadcast(1))


cdef inline vec hard_sigmoid_forward(vec x, real a, real b) noexcept nogil:
    return at_most(at_least(x + broadcast(3), 0), 6) * <real> (1 / 6.0)


cdef inline vec hard_sigmoid_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return choose(above(broadcast(3), magnitude(x)), dy * <real> (1 / 6.0), broadcast(0))


cdef inline vec hard_swish_forward(vec x, real a, real b) noexcept nogil:
    x = at_least(x, -3)
    return at_most(x + broadcast(3), 6) * (x * <real> (1 / 6.0))


cdef inline vec hard_swish_backward(vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec slope = choose(above(broadcast(3), x), x * <real> (1 / 3.0) + broadcast(<real> 0.5), broadcast(1))
    return dy * choose(above(x, broadcast(-3)), slope, broadcast(0))


cdef inline vec clip_forward(vec x, real a, real b) noexcept nogil:
    return at_most(at_least(x, a), b)


cdef inline vec mish_forward(vec x, real a, real b) noexcept nogil:
    # tanh(log(1 + e)) = (e^2 + 2 e) / (e^2 + 2 e + 2), where e = exp(x); by its square where that is large
    cdef vec power = exp_negative(-magnitude(x)), two = broadcast(2)
    cdef vec over = negative(x, power * (power + two), power * two + broadcast(1))
    return unless_below(-1000, x, x * (over / (over + negative(x, two, power * power * <real> 2))))


cdef inline vec sigmoid_forward(vec x, real a, real b) noexcept nogil:
    return sigmoid(x)


cdef inline vec sigmoid_backward(vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec rest, s = two_sigmoids(x, &rest)
    return dy * s * rest


cdef inline vec tanh_single(vec x) noexcept nogil:
    cdef vec inner = at_most(at_least(x, -TANH_END), TANH_END), square = inner * inner
    cdef vec over = broadcast(TANH_ABOVE[4]), under = broadcast(TANH_BELOW[4])
    cdef Py_ssize_t k
    for k in range(3, -1, -1):
        over = over * square + broadcast(TANH_ABOVE[k])
        under = under * square + broadcast(TANH_BELOW[k])
    return at_most(at_least(inner * over / under, -1), 1)  # rounding could lead out


cdef inline vec tanh_forward(vec x, real a, real b) noexcept nogil:
    if SINGLE:
        return tanh_single(x)
    cdef vec part = expm1_negative(magnitude(x) * <real> -2), size = part / (part + broadcast(2))
    return negative(x, size, broadcast(0) - size)


cdef inline vec tanh_backward(vec dy, vec x, real a, real b) noexcept nogil:
    cdef vec rest, s = two_sigmoids(at_most(at_least(x, -1000), 1000) * <real> 2, &rest)
    return dy * s * rest * <real> 4


cdef inline vec softplus_forward(vec x, real a, real b) noexcept nogil:
    return at_least(x, 0) + log1p_unit(exp_negative(-magnitude(x)))


cdef inline vec softplus_backward(vec dy, vec x, real a, real b) noexcept nogil:
    return dy * sigmoid(x)


cdef inline vec sigmoid_from_output(vec dy, vec y, real a, real b) noexcept nogil:
    return dy * y * (broadcast(1) - y)


cdef inline vec tanh_from_output(vec dy, vec y, real a, real b) noexcept nogil:
    return dy * (broadcast(1) - y * y)


# The function is a constant of the loop that it is inlined into: with a choice inside, constants would be loaded at every step.
ctypedef vec (*Forward)(vec x, real a, real b) noexcept nogil
ctypedef vec (*Backward)(vec dy, vec x, real a, real b) noexcept nogil


cdef inline void forward_all(
    Forward f, const real *x, real *y, Py_ssize_t rows, Py_ssize_t ld, Py_ssize_t items, real a, real b
) noexcept nogil:
    cdef Py_ssize_t i, row
    for row in range(rows):
        i = row * ld
        while i + LANES <= row * ld + items:
            (<vec *> (y + i))[0] = f((<const vec *> (x + i))[0], a, b)
            i += LANES
        if i < row * ld + items:
            store(y + i, f(load(x + i, x + row * ld + items), a, b), row * ld + items - i)


cdef inline void backward_all(
    Backward f, const real *dy, const real *x, real *dx, Py_ssize_t items, real a, real b
) noexcept nogil:
    cdef Py_ssize_t i = 0
    while i + LANES <= items:
        (<vec *> (dx + i))[0] = f((<const vec *> (dy + i))[0], (<const vec *> (x + i))[0], a, b)
        i += LANES
    if i < items:
        store(dx + i, f(load(dy + i, dy + items), load(x + i, x + items), a, b), items - i)


cdef apart forward_portion(
    int kind, const real *x, real *y, Py_ssize_t rows, Py_ssize_t ld, Py_ssize_t items, real a, real b
) noexcept nogil:
    """`items` numbers of each of some rows that are ld apart in x and y."""
    if kind == RELU: forward_all(relu_forward, x, y, rows, ld, items, a, b)
    elif kind == RELU6: forward_all(relu6_forward, x, y, rows, ld, items, a, b)
    elif kind == LEAKY_RELU: forward_all(leaky_relu_forward, x, y, rows, ld, items, a, b)
    elif kind == ELU: forward_all(elu_forward, x, y, rows, ld, items, a, b)
    elif kind == GELU: forward_all(gelu_forward, x, y, rows, ld, items, a, b)
    elif kind == GELU_TANH: forward_all(gelu_tanh_forward, x, y, rows, ld, items, a, b)
    elif kind == SILU: forward_all(silu_forward, x, y, rows, ld, items, a, b)
    elif kind == HARD_SWISH: forward_all(hard_swish_forward, x, y, rows, ld, items, a, b)
    elif kind == HARD_SIGMOID: forward_all(hard_sigmoid_forward, x, y, rows, ld, items, a, b)
    elif kind == CLIP: forward_all(clip_forward, x, y, rows, ld, items, a, b)
    elif kind == MISH: forward_all(mish_forward, x, y, rows, ld, items, a, b)
    elif kind == SIGMOID: forward_all(sigmoid_forward, x, y, rows, ld, items, a, b)
    elif kind == TANH: forward_all(tanh_forward, x, y, rows, ld, items, a, b)
    elif kind == SOFTPLUS: forward_all(softplus_forward, x, y, rows, ld, items, a, b)


cdef void backward_portion(
    int kind, const real *dy, const real *x, real *dx, Py_ssize_t items, real a, real b
) noexcept nogil:
    if kind == RELU: backward_all(relu_backward, dy, x, dx, items, a, b)
    elif kind == RELU6: backward_all(relu6_backward, dy, x, dx, items, a, b)
    elif kind == LEAKY_RELU: backward_all(leaky_relu_backward, dy, x, dx, items, a, b)
    elif kind == ELU: backward_all(elu_backward, dy, x, dx, items, a, b)
    elif kind == GELU: backward_all(gelu_backward, dy, x, dx, items, a, b)
    elif kind == GELU_TANH: backward_all(gelu_tanh_backward, dy, x, dx, items, a, b)
    elif kind == SILU: backward_all(silu_backward, dy, x, dx, items, a, b)
    elif kind == HARD_SWISH: backward_all(hard_swish_backward, dy, x, dx, items, a, b)
    elif kind == HARD_SIGMOID: backward_all(hard_sigmoid_backward, dy, x, dx, items, a, b)
    elif kind == SIGMOID: backward_all(sigmoid_backward, dy, x, dx, items, a, b)
    elif kind == TANH: backward_all(tanh_backward, dy, x, dx, items, a, b)
    elif kind == SOFTPLUS: backward_all(softplus_backward, dy, x, dx, items, a, b)
    elif kind == SIGMOID_FROM_OUTPUT: backward_all(sigmoid_from_output, dy, x, dx, items, a, b)
    elif kind == TANH_FROM_OUTPUT: backward_all(tanh_from_output, dy, x, dx, items, a, b)


def activation_forward(x, y, str name, double a, double b, int threads, /):
    """y[i] = f(x[i]) for the function `name` with parameters a and b."""
    cdef int kind = ACTIVATIONS[name]
    cdef Py_ssize_t block, items
    cdef const real *source = read_from(x, &items)
    cdef real *to = write_to(y)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        forward_portion(
            kind, source + block * PORTION, to + block * PORTION, 1, 0, min(items - block * PORTION, <Py_ssize_t> PORTION), a, b
        )


def activation_backward(dy, x, dx, str name, double a, double b, int threads, /):
    """dx[i] = dy[i] * f'(x[i]) for the function `name` with parameters a and b."""
    cdef int kind = ACTIVATIONS[name]
    cdef Py_ssize_t block, items
    cdef const real *source = read_from(x, &items)
    cdef const real *gradient = read_from(dy)
    cdef real *to = write_to(dx)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        backward_portion(
            kind, gradient + block * PORTION, source + block * PORTION, to + block * PORTION,
            min(items - block * PORTION, <Py_ssize_t> PORTION), a, b,
        )
