# The optimizers' rules, each a single pass over the parameters, their gradients and their state. All of a model's are one call,
# cut into portions that threads share; every number is a matter of its own. The loops are plain, and the compiler makes vectors
# of them.

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


cdef struct Portion:
    # so many numbers of a parameter, of its gradient, and of its state: one or two arrays, or NULL
    real *param
    const real *grad
    real *first
    real *second
    Py_ssize_t items


cdef Portion *portions_of(list params, list grads, list first, list second, Py_ssize_t *count) except NULL:
    """All parameters, whose arrays are contiguous and of one length each, in `count` portions; the caller frees them."""
    cdef Py_ssize_t i, start, items, many = 0
    cdef const real *gradient
    cdef real *parameter
    cdef real *one
    cdef real *two
    for param in params:
        read_from(param, &items)
        many += ceil_div(items, PORTION)
    cdef Portion *portions = <Portion *> malloc(max(many, <Py_ssize_t> 1) * sizeof(Portion))
    if portions == NULL:
        raise MemoryError("no memory for a list of parameters")
    many = 0
    try:
        for i in range(len(params)):
            parameter, gradient = write_to(params[i], &items), read_from(grads[i])
            one = two = NULL
            if first is not None:
                one = write_to(first[i])
            if second is not None:
                two = write_to(second[i])
            start = 0
            while start < items:
                portions[many] = Portion(parameter + start, gradient + start, NULL, NULL, min(items - start, <Py_ssize_t> PORTION))
                if one != NULL:
                    portions[many].first = one + start
                if two != NULL:
                    portions[many].second = two + start
                start += PORTION
                many += 1
    except:
        free(portions)
        raise
    count[0] = many
    return portions


cdef void sgd_portion(
    const Portion *p, Preparation how, real rate, real momentum, bint nesterov
) noexcept nogil:
    cdef real *param = p.param
    cdef const real *grad = p.grad
    cdef real *velocity = p.first
    cdef Py_ssize_t i, items = p.items
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
    const Portion *p, Preparation how, real keep, real rate, real b1, real b2, real eps
) noexcept nogil:
    cdef real *param = p.param
    cdef const real *grad = p.grad
    cdef real *mean = p.first
    cdef real *square = p.second
    cdef Py_ssize_t i, items = p.items
    cdef real g, kept
    for i in range(items):
        kept = param[i] * keep
        g = prepared(&how, grad[i], kept)
        mean[i] = b1 * mean[i] + g
        square[i] = b2 * square[i] + g * g
        param[i] = kept - rate * (mean[i] / (square_root(square[i]) + eps))


cdef void rmsprop_portion(
    const Portion *p, Preparation how, real rate, real stay, real come, real eps, real momentum
) noexcept nogil:
    cdef real *param = p.param
    cdef const real *grad = p.grad
    cdef real *square = p.first
    cdef real *velocity = p.second
    cdef Py_ssize_t i, items = p.items
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
    list params, list grads, list velocities, double factor, double limit, double decay, double rate, double momentum,
    bint nesterov, int threads, /,
):
    """p -= rate * g; with a velocity v = momentum * v + g and p -= rate * v, or with nesterov rate * (g + momentum * v).

    In all rules g is grad * factor, brought into -limit .. limit, plus decay * p.
    """
    cdef Py_ssize_t i, count
    cdef Portion *portions = portions_of(params, grads, velocities, None, &count)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for i in prange(count, nogil=True, num_threads=threads):
        sgd_portion(portions + i, how, <real> rate, <real> momentum, nesterov)
    free(portions)


def adam_step(
    list params, list grads, list means, list squares, double factor, double limit, double decay, double keep, double rate,
    double b1, double b2, double eps, int threads, /,
):
    """p *= keep; m = b1 * m + g; v = b2 * v + g * g; p -= rate * m / (sqrt(v) + eps)."""
    cdef Py_ssize_t i, count
    cdef Portion *portions = portions_of(params, grads, means, squares, &count)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for i in prange(count, nogil=True, num_threads=threads):
        adam_portion(portions + i, how, <real> keep, <real> rate, <real> b1, <real> b2, <real> eps)
    free(portions)


def rmsprop_step(
    list params, list grads, list squares, list velocities, double factor, double limit, double decay, double rate, double stay,
    double eps, double momentum, int threads, /,
):
    """v = stay * v + (1 - stay) * g * g; u = g / (sqrt(v) + eps); p -= rate * u, or b = momentum * b + u and p -= rate * b."""
    cdef Py_ssize_t i, count
    cdef Portion *portions = portions_of(params, grads, squares, velocities, &count)
    cdef Preparation how = preparation_of(factor, limit, decay)
    for i in prange(count, nogil=True, num_threads=threads):
        rmsprop_portion(
            portions + i, how, <real> rate, <real> stay, <real> (1 - stay), <real> eps, <real> momentum
        )
    free(portions)
