# Which boxes stay beside better ones: boxes come from the best on, and each is compared with those that stay until one covers it.


cdef inline bint covers(const double *one, const double *other, double overlap) noexcept nogil:
    """Whether two boxes, each its least and its greatest corner, share more than `overlap` of their union."""
    cdef double height = min(one[2], other[2]) - max(one[0], other[0]), width = min(one[3], other[3]) - max(one[1], other[1])
    cdef double shared = height * width, both
    if height <= 0 or width <= 0:
        return False
    both = (one[2] - one[0]) * (one[3] - one[1]) + (other[2] - other[0]) * (other[3] - other[1]) - shared
    return both > 0 and shared / both > overlap


def keep_boxes(const double[:, ::1] corners, double overlap, int64_t[::1] kept, /):
    """kept[i] = which of `corners` (B, 4), from the best on, share no more than `overlap` of their union with one kept before; how many."""
    cdef Py_ssize_t box, i, count = 0
    with nogil:
        for box in range(corners.shape[0]):
            if count == kept.shape[0]:
                break
            for i in range(count):
                if covers(&corners[box, 0], &corners[kept[i], 0], overlap):
                    break
            else:
                kept[count] = box
                count += 1
    return count
