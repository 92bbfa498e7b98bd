# A loop's threads on processors of their own.
#
# The system moves a thread that wakes to an idle processor. In a virtual machine, though, one that sleeps does not count as idle, and
# elsewhere all may be taken: then the thread comes to the processor of the one that woke it, and stays. Each waits, spinning and then
# asleep, while the other runs, so that there never seem to be two that want to. A small loop takes ten times as long.

cdef extern from "cores.h":
    bint may_share() nogil
    void move_apart(int threads) nogil


def keep_apart(int threads, /):
    """Have the other threads of the calling one's loops off its processor, and each on one of its own.

    Nothing is done but every few milliseconds and where the calling thread has moved, nor where OpenMP was told to bind threads.
    """
    if may_share():
        with nogil:
            move_apart(threads)
