"""Signals that end a process: a handler writes one byte, and a thread that waits for it does the work.

A handler runs between two instructions of whatever the main thread is doing, which may hold any lock. `Event.set()`
takes one, and so do starting a thread, putting into a queue and logging: a handler that does any of them hangs the
process once the code it interrupted, or another handler, is inside the same call. Writing to a pipe takes none.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable
from types import FrameType

__all__ = ["ENDING", "also_on_signal", "stop_on_signals"]

ENDING = (signal.SIGTERM, signal.SIGINT)


def stop_on_signals(stop: Callable[[], object], *, within: float | None = None) -> None:
    """Have `stop()` called once, in a thread of its own, at the first SIGTERM or SIGINT; further ones change nothing.

    Parameters
    ----------
    stop : callable
        May take locks and must return soon.
    within : float, optional
        Seconds from then on after which the process is ended, whatever it still does; never if absent.
    """

    def end(number: int) -> None:
        stop()
        if within is not None:
            threading.Event().wait(within)  # the process is gone by then, and this thread with it
            print(f"not ended {within:g} s after {signal.Signals(number).name}; ending at once", file=sys.stderr)
            os._exit(128 + number)

    write = _woken(end)
    for number in ENDING:
        signal.signal(number, lambda number, frame: _wake(write, number))
    # While the interpreter is taken apart it gives signals their default back, which would change the exit code.
    atexit.register(_ignore)


def also_on_signal(number: signal.Signals, call: Callable[[], object]) -> None:
    """Have `call()` called in a thread of its own at the first `number`, and do what was set up before at every one.

    Nothing changes if nobody handles the signal: then it ends the process.
    """
    before = signal.getsignal(number)
    if not callable(before) or before is signal.default_int_handler:
        return
    write = _woken(lambda number: call())

    def handle(number: int, frame: FrameType | None) -> None:
        _wake(write, number)
        before(number, frame)

    signal.signal(number, handle)


def _woken(call: Callable[[int], object]) -> int:
    """Return the descriptor that wakes a thread, which calls `call(number)` then."""
    read, write = os.pipe()
    os.set_blocking(write, False)

    def wait() -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)  # they are the main thread's, see `_ignore`
        call(os.read(read, 1)[0])

    threading.Thread(target=wait, name="signals", daemon=True).start()
    return write


def _wake(write: int, number: int) -> None:
    with contextlib.suppress(OSError):  # so many signals that the pipe is full: it has been woken
        os.write(write, bytes((number,)))


def _ignore() -> None:
    # One that comes between a handler and the next would be complained of on stderr.
    signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
