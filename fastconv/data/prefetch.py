"""An iterator that works ahead in a thread of its own."""

from __future__ import annotations

import _thread
import weakref
from collections.abc import Iterable, Iterator
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterate over `source` on a background thread that is up to `depth` items ahead; the items come in the same order.

    An exception in `source` is raised here, the very object, in the place of the item that it prevented. `close`, the
    end of a ``with`` block or the last item ends the thread and waits for it to end, after the item that it is working
    on; dropping the iterator ends it too.

    >>> with Prefetch(iter("abc"), depth=2) as letters:
    ...     list(letters)
    ['a', 'b', 'c']

    Notes
    -----
    Ctrl-C may come at any moment, also on the way into or out of the methods of `threading.Condition` and of all that is
    made of it, which then leave its lock held: the other thread would wait for ever. So the threads share nothing but
    queues and a lock that the interpreter handles in one step each.
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._shared = shared = _Shared()
        self._over = False
        for _ in range(depth):
            shared.wanted.put(None)
        # the thread must not hold a reference to self: it would keep a dropped iterator alive
        self._end = weakref.finalize(self, _finish, shared)
        shared.running.acquire()
        _thread.start_new_thread(_work, (iter(source), shared))

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        if not self._over:
            # asked for before it is taken: an interruption in between only lets the thread be one more ahead
            self._shared.wanted.put(None)
            more, value = self._shared.ready.get()
            if more:
                return value
            self.close()
            if value is not None:
                raise value
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it; may be called more than once."""
        self._over = True
        self._end()
        if not self._shared.ended:
            with self._shared.running:
                pass

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Shared:
    """What the two threads share."""

    def __init__(self) -> None:
        self.wanted: SimpleQueue[None] = (
            SimpleQueue()
        )  # as many as there may be items, or a last one to wake the thread
        self.ready: SimpleQueue[tuple[bool, Any]] = SimpleQueue()  # (True, item), and at the end (False, error or None)
        self.closed = False  # no further item is wanted
        self.ended = False
        self.running = _thread.allocate_lock()  # held until then


def _work(source: Iterator[Any], shared: _Shared) -> None:
    error: BaseException | None = None
    try:
        for item in source:
            shared.wanted.get()
            if shared.closed:
                break
            shared.ready.put((True, item))
    except BaseException as caught:
        error = caught
    finally:
        shared.ready.put((False, error))
        shared.ended = True
        shared.running.release()


def _finish(shared: _Shared) -> None:
    shared.closed = True
    shared.wanted.put(None)
