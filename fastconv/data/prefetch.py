"""An iterator that works ahead on a thread of its own."""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Iterate over `source` on a background thread that is up to `depth` items ahead; the items come in the same order.

    An exception in `source` is raised here, the very object, in the place of the item that it prevented. `close`, the
    end of a ``with`` block, the last item, or dropping the iterator ends the thread, after the item that it is working
    on.

    >>> with Prefetch(iter("abc"), depth=2) as letters:
    ...     list(letters)
    ['a', 'b', 'c']
    """

    def __init__(self, source: Iterable[T], depth: int) -> None:
        self._shared: _Shared[T] = _Shared(depth)
        # the thread must not hold a reference to self: it would keep a dropped iterator alive
        thread = threading.Thread(target=_work, args=(iter(source), self._shared), name="fastconv-batches", daemon=True)
        self._end = weakref.finalize(self, _finish, self._shared, thread)
        thread.start()

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        shared = self._shared
        with shared.changed:
            while not shared.items and not shared.done:
                shared.changed.wait()
            if shared.items:
                shared.changed.notify_all()
                return shared.items.popleft()
            error, shared.error = shared.error, None
        self.close()
        if error is not None:
            raise error
        raise StopIteration

    def close(self) -> None:
        """End the thread and wait for it; may be called more than once."""
        self._end()

    def __enter__(self) -> Prefetch[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


class _Shared(Generic[T]):
    """What the two threads share, guarded by `changed`."""

    def __init__(self, depth: int) -> None:
        self.changed = threading.Condition()
        self.depth = depth
        self.items: deque[T] = deque()
        self.done = False  # no further item will come
        self.closed = False  # no further item is wanted
        self.error: BaseException | None = None


def _work(source: Iterator[T], shared: _Shared[T]) -> None:
    error: BaseException | None = None
    try:
        for item in source:
            with shared.changed:
                while len(shared.items) >= shared.depth and not shared.closed:
                    shared.changed.wait()
                if shared.closed:
                    return
                shared.items.append(item)
                shared.changed.notify_all()
    except BaseException as caught:
        error = caught
    finally:
        with shared.changed:
            shared.error, shared.done = error, True
            shared.changed.notify_all()


def _finish(shared: _Shared[T], thread: threading.Thread) -> None:
    with shared.changed:
        shared.closed = shared.done = True
        shared.items.clear()
        shared.changed.notify_all()
    if thread is not threading.current_thread() and thread.ident is not None:
        thread.join()
