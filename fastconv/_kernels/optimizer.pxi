# The optimizers' rules, each a single pass over a parameter, its gradient and its state. Parameters are cut into portions that
# threads share; every number is a matter of its own. The loops are plain, and the compiler makes vectors of them.

cdef extern from *:
    """
    static inline real square_root(real x) { return sizeof(real) == 4 ? __builtin_sqrtf(x) : __builtin_sqrt(x); }

    /* The gradient that a rule sees. */
    typedef struct { real factor, limit, decay; } Preparation;

    static inline real prepared(const Preparation *how, real grad, real param) {
        grad *= how->factor;
        grad = grad > how->limit ? how->limit : grad < -how->limit ? -how->limit : grad;
        return grad + how->decay * param;
    }
    """
    real square_root(real x) nogil
    ctypedef struct Preparation:
        real factor, limit, decay
    real prepared(const Preparation *how, real grad, real param) nogil


cdef Preparation preparation_of(double factor, double limit, double decay) noexcept nogil:
    cdef Preparation how
    how.factor, how.limit, how.decay = factor, limit, decay
    return how


cdef void sgd_portion(
    real *param, const real *grad, real *velocity, Py_ssize_t items, Preparation how, real rate, real momentum, bint nesterov
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g
    if velocity == NULL:
        for i in range(items):
            param[i] -= rate * prepared(&how, grad[i], param[i])
    elif nesterov:
        for i in range(items):
            g = prepared(&how, grad[i], param[i])
            velocity[i] = momentum * velocity[i] + g
            param[i] -= rate * (g + momentum * velocity[i])
    else:
        for i in range(items):
            velocity[i] = momentum * velocity[i] + prepared(&how, grad[i], param[i])
            param[i] -= rate * velocity[i]


cdef void adam_portion(
    real *param, const real *grad, real *mean, real *square, Py_ssize_t items, Preparation how, real keep,
    real rate, real b1, real b2, real eps
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g, p
    for i in range(items):
        p = param[i] * keep
        g = prepared(&how, grad[i], p)
        mean[i] = b1 * mean[i] + g
        square[i] = b2 * square[i] + g * g
        param[i] = p - rate * (mean[i] / (square_root(square[i]) + eps))


cdef void rmsprop_portion(
    real *param, const real *grad, real *square, real *velocity, Py_ssize_t items, Preparation how, real rate, real stay,
    real come, real eps, real momentum
) noexcept nogil:
    cdef Py_ssize_t i
    cdef real g
    if velocity == NULL:
        for i in range(items):
            g = prepared(&how, grad[i], param[i])
            square[i] = stay * square[i] + come * (g * g)
            param[i] -= rate * (g / (square_root(square[i]) + eps))
    else:
        for i in range(items):
            g = prepared(&how, grad[i], param[i])
            square[i] = stay * square[i] + come * (g * g)
            velocity[i] = momentum * velocity[i] + g / (square_root(square[i]) + eps)
            param[i] -= rate * velocity[i]


def sgd_step(
    param, grad, velocity, double factor, double limit, double decay, double rate, double momentum, bint nesterov, int threads
):
    """p -= rate * g; with a velocity v = momentum * v + g and p -= rate * v, or with nesterov rate * (g + momentum * v).

    In all rules g is grad * factor, brought into -limit .. limit, plus decay * p.
    """
    cdef Py_ssize_t block, start, items
    cdef const real *gradient = read_from(grad, &items)
    cdef real *to = write_to(param)
    cdef real *state = NULL if velocity is None else write_to(velocity)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        start = block * PORTION
        sgd_portion(
            to + start, gradient + start, state + start if state != NULL else NULL, min(items - start, <Py_ssize_t> PORTION), how,
            <real> rate, <real> momentum, nesterov,
        )


def adam_step(
    param, grad, mean, square, double factor, double limit, double decay, double keep, double rate, double b1, double b2,
    double eps, int threads,
):
    """p *= keep; m = b1 * m + g; v = b2 * v + g * g; p -= rate * m / (sqrt(v) + eps)."""
    cdef Py_ssize_t block, start, items
    cdef const real *gradient = read_from(grad, &items)
    cdef real *to = write_to(param)
    cdef real *first = write_to(mean)
    cdef real *second = write_to(square)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        start = block * PORTION
        adam_portion(
            to + start, gradient + start, first + start, second + start, min(items - start, <Py_ssize_t> PORTION), how,
            <real> keep, <real> rate, <real> b1, <real> b2, <real> eps,
        )


def rmsprop_step(
    param, grad, square, velocity, double factor, double limit, double decay, double rate, double stay, double eps,
    double momentum, int threads,
):
    """v = stay * v + (1 - stay) * g * g; u = g / (sqrt(v) + eps); p -= rate * u, or b = momentum * b + u and p -= rate * b."""
    cdef Py_ssize_t block, start, items
    cdef const real *gradient = read_from(grad, &items)
    cdef real *to = write_to(param)
    cdef real *second = write_to(square)
    cdef real *state = NULL if velocity is None else write_to(velocity)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for block in prange(ceil_div(items, PORTION), nogil=True, num_threads=threads):
        start = block * PORTION
        rmsprop_portion(
            to + start, gradient + start, second + start, state + start if state != NULL else NULL,
            min(items - start, <Py_ssize_t> PORTION), how, <real> rate, <real> stay, <real> (1 - stay), <real> eps,
            <real> momentum,
        )
