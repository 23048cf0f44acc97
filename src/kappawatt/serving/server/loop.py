"""The loop of a serving process: reads requests until they are whole, has them answered, and waits for no client.

In gunicorn's threaded worker a few clients that send half a request keep all threads. Here a thread gets a request that
is all there, and what is not read of its answer is sent by the loop: a slow client costs memory, which is bounded.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

from gunicorn.config import Config

from kappawatt.serving.server.answering import Answering, App, BrokenOff
from kappawatt.serving.server.connection import Connection, Source, State
from kappawatt.serving.server.crowd import Crowd
from kappawatt.serving.server.limits import STOP_SECONDS, Limits
from kappawatt.serving.server.refusals import TooManyWait, TooSlow

__all__ = ["Loop"]

READ, WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE
TICK_SECONDS, LINGER_SECONDS = 0.5, 2.0
ACCEPT_SECONDS = 0.2  # a stopping process takes connections whose handshake is under way
ACCEPTED_ALONE, ACCEPTED_SHARED = 64, 2  # connections taken in one turn of the loop
READ_BYTES = 65_536
AHEAD_BYTES = 65_536  # read while a request is being answered
INLINE_BYTES = 8192  # of a request that is answered in the loop; a larger one takes time
UNSENT_BYTES = 32_768  # of an answer that the kernel takes; it would take megabytes that nobody reads
NOTSENT_LOWAT: int | None = getattr(socket, "TCP_NOTSENT_LOWAT", None)
MOST_FRESH, FRESH_SECONDS = 4, 0.01
PROBES = (b"GET /healthz", b"GET /readyz", b"GET /ping")
NO_FILES = (errno.EMFILE, errno.ENFILE)


class Loop:
    """Serves an app on sockets that listen.

    Parameters
    ----------
    listeners : sequence of socket.socket
        The loop closes them when it ends.
    app : WSGI callable
    limits : Limits
    threads : int
        How many requests are answered at once. Probes have one more of their own.
    is_inline : bool
        Whether small POSTs are answered in the loop: where answers are computed and wait for nothing, the
        hand-over to a thread would be a quarter of their time.
    is_alone : bool
        Whether no other process takes connections from the same sockets: some are left to it otherwise.
    settings : gunicorn.config.Config
        Of gunicorn's parser; its defaults if absent.
    ended : callable
        Is told why a connection was ended.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        app: App,
        limits: Limits,
        *,
        threads: int,
        settings: Any = None,
        is_inline: bool = False,
        is_alone: bool = True,
        ended: Callable[[str], None] = lambda why: None,
    ) -> None:
        self._listeners = list(listeners)
        for listener in listeners:
            listener.setblocking(False)
            if NOTSENT_LOWAT is not None:  # inherited by what is accepted
                with suppress(OSError):
                    listener.setsockopt(socket.IPPROTO_TCP, NOTSENT_LOWAT, UNSENT_BYTES)
        self._limits = limits
        self._is_inline = is_inline
        self._at_once = ACCEPTED_ALONE if is_alone else ACCEPTED_SHARED
        self._ended = ended
        self._crowd = Crowd(limits)
        self._answering = Answering(app, settings or Config(), limits, lambda: self.must_close, ended)
        self._selector = selectors.DefaultSelector()
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="answers")
        self._probe_pool = ThreadPoolExecutor(1, thread_name_prefix="probes")
        self._finished: deque[tuple[Connection, bool | None]] = deque()
        self._queued: deque[tuple[Connection, Source]] = deque()
        self._fresh: dict[Connection, float] = {}  # when they were handed to a thread, first come first
        self._ready: deque[Connection] = deque()  # with another request that is here already
        self._buffer = memoryview(bytearray(READ_BYTES))
        self._woken, self.waking = os.pipe()
        for end in (self._woken, self.waking):
            os.set_blocking(end, False)
        self._accepts = False
        self._is_leaving = False
        self._now = time.monotonic()
        self.must_close = False  # every answer is the last one of its connection

    def run(self, is_wanted: Callable[[], bool], tick: Callable[[], None], grace: float) -> None:
        """Serve while `is_wanted()`, then finish what was begun, for up to `grace` seconds.

        Parameters
        ----------
        tick : callable
            Called twice a second.
        """
        self._selector.register(self._woken, READ, None)
        self._accept_on()
        ticked = 0.0
        until = None
        while until is None or (self._crowd.members and self._now < until):
            if until is None and not is_wanted():
                until = time.monotonic() + grace
                self._leave(tick)
            self._turn()
            if self._now - ticked >= TICK_SECONDS:
                ticked = self._now
                tick()
                self._end_overdue()
        self.give_up()
        for conn in list(self._crowd.members):
            if conn.state is not State.WORKING:  # a thread has that one
                self._close(conn)
        self._selector.close()
        os.close(self._woken)
        os.close(self.waking)

    def close_after_answers(self) -> None:
        """Let every answer from now on be the last one of its connection."""
        self.must_close = True

    def wake(self) -> None:
        """Have the loop look up. Safe in a signal handler and in any thread."""
        with suppress(OSError):  # full: it will look up anyway
            os.write(self.waking, b"\0")

    def give_up(self) -> None:
        """Begin no other answer."""
        for pool in (self._pool, self._probe_pool):
            pool.shutdown(wait=False, cancel_futures=True)

    # --- turns -----------------------------------------------------------------------------------------------

    def _turn(self) -> None:
        patience = FRESH_SECONDS if self._queued else TICK_SECONDS
        events = self._selector.select(0.0 if self._ready else patience)
        self._now = time.monotonic()
        for key, mask in events:
            conn = key.data
            if type(conn) is Connection:
                if mask & READ:
                    self._read(conn)
                elif mask & WRITE and conn.state is State.WRITING:
                    self._send(conn, conn.is_kept)
            elif conn is None:
                self._wake_up()
            else:
                for _ in range(self._at_once):
                    if not self._accept(conn):
                        break
        for _ in range(len(self._ready)):  # one request of each, so that nobody who sends many at once keeps others
            conn = self._ready.popleft()
            if conn.state is State.HEAD:
                self._advance(conn)
        self._start_queued()
        for conn in self._crowd.admitted():
            conn.make_room()
            conn.wait(State.BODY, self._now + self._limits.body_seconds, self._now)
            self._watch(conn, READ)
            self._read(conn)
        if not self._accepts and not self._crowd.is_full:
            self._accept_on()

    def _wake_up(self) -> None:
        with suppress(BlockingIOError):
            os.read(self._woken, READ_BYTES)
        while self._finished:
            conn, is_kept = self._finished.popleft()
            self._after_answer(conn, is_kept)

    # --- coming ----------------------------------------------------------------------------------------------

    def _accept_on(self) -> None:
        for listener in self._listeners:
            self._selector.register(listener, READ, listener)
        self._accepts = True

    def _accept_off(self) -> None:
        if self._accepts:
            for listener in self._listeners:
                self._selector.unregister(listener)
            self._accepts = False

    def _accept(self, listener: socket.socket) -> bool:
        """Take one connection; return whether there was one."""
        if self._crowd.is_full:
            self._make_place()
        if self._crowd.is_full:
            self._accept_off()
            return False
        try:
            client, address = listener.accept()
        except BlockingIOError:
            return False
        except OSError as error:  # the client has gone, or there are no descriptors
            if error.errno in NO_FILES:
                self._make_place()
            return error.errno not in NO_FILES
        client.setblocking(False)
        conn = Connection(client, address, listener.getsockname(), self._limits, self._crowd.answers)
        self._crowd.members.add(conn)
        seconds = min(self._limits.head_seconds, STOP_SECONDS) if self._is_leaving else self._limits.head_seconds
        conn.wait(State.IDLE, self._now + seconds, self._now)
        self._watch(conn, READ)
        return True

    def _make_place(self) -> None:
        """End who has waited longest, as nobody else could come in any more."""
        for conn in self._crowd.longest_waiting():
            if conn.state is State.IDLE:
                self._close(conn)
            else:
                self._ended("no_place")
                self._reset(conn)

    def _read(self, conn: Connection) -> None:
        state = conn.state
        if state is State.CLOSED or state is State.QUEUED:
            return
        try:
            count = conn.receive(self._buffer)
        except BlockingIOError:
            return
        except OSError:
            count = 0
        if not count:
            conn.is_over = True
            self._watch(conn, conn.events & ~READ)
            if state is State.LINGERING or state is State.IDLE:
                self._close(conn)
            elif state is State.HEAD or state is State.BODY:
                self._advance(conn)
            return
        if state is State.LINGERING:
            conn.data.clear()
        elif state is State.WORKING or state is State.WRITING:
            if len(conn.data) > AHEAD_BYTES:
                self._watch(conn, conn.events & ~READ)
        else:
            self._advance(conn)

    def _advance(self, conn: Connection) -> None:
        """Look whether a request is here."""
        framing = conn.framing
        try:
            is_here = conn.is_filled if conn.is_sized else framing.is_whole(conn.data) or framing.is_cut
        except Exception as error:  # whatever will never be a request
            self._refuse(conn, error)
            return
        if is_here or (conn.is_over and framing.has_head):
            self._answer(conn)
        elif conn.is_over:
            self._close(conn)  # a request that its client gave up
        elif not framing.has_head:
            if conn.state is State.IDLE and conn.data != b"\r\n":
                conn.wait(State.HEAD, self._now + self._limits.head_seconds, self._now)
        else:
            self._await_body(conn)

    def _await_body(self, conn: Connection) -> None:
        if conn.state is not State.BODY:
            conn.wait(State.BODY, self._now + self._limits.body_seconds, self._now)
            if conn.framing.expects:
                with suppress(OSError):
                    conn.socket.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        size = self._crowd.needs_room(conn)
        if size and self._crowd.admit(conn, size, self._now):
            conn.make_room()
        elif size:
            conn.wait(State.QUEUED, self._now + self._limits.body_seconds, self._now)
            self._watch(conn, 0)

    # --- answers ---------------------------------------------------------------------------------------------

    def _answer(self, conn: Connection) -> None:
        """Have the request that is here answered."""
        length = conn.framing.length
        is_small = length <= INLINE_BYTES and not conn.framing.is_chunked and conn.data.startswith(b"POST ")
        is_probe = conn.data.startswith(PROBES)
        source = conn.take_request()
        conn.state = State.WORKING
        if self._is_inline and is_small:
            self._after_answer(conn, self._answered(conn, source, may_wait=False))
        elif is_probe:
            self._probe_pool.submit(self._work, conn, source)
        else:
            self._queued.append((conn, source))
            self._start_queued()

    def _start_queued(self) -> None:
        """Hand requests to threads, few at a time: dozens that compute at once would have this loop wait for each.

        One that is not over a moment later waits for something else, and is no longer counted.
        """
        fresh = self._fresh
        while fresh and self._now - next(iter(fresh.values())) > FRESH_SECONDS:
            del fresh[next(iter(fresh))]
        while self._queued and len(fresh) < MOST_FRESH:
            conn, source = self._queued.popleft()
            fresh[conn] = self._now
            self._pool.submit(self._work, conn, source)

    def _work(self, conn: Connection, source: Source) -> None:
        """In a thread."""
        is_kept = self._answered(conn, source, may_wait=True)
        if is_kept is not None:
            with suppress(OSError):  # the loop will see it too
                conn.out.push()
        self._finished.append((conn, is_kept))
        self.wake()

    def _answered(self, conn: Connection, source: Source, *, may_wait: bool) -> bool | None:
        """Return whether the connection can be used again, None if its answer cannot even be finished."""
        try:
            return self._answering.answer(conn, source, may_wait=may_wait)
        except BrokenOff:
            return None

    def _after_answer(self, conn: Connection, is_kept: bool | None) -> None:
        self._fresh.pop(conn, None)
        self._crowd.free(conn)
        if is_kept is None:
            self._reset(conn)
        else:
            self._send(conn, is_kept)

    def _send(self, conn: Connection, is_kept: bool) -> None:
        """Send what the client takes; once that was all, wait for another request or for the client to close."""
        try:
            is_sent = conn.out.push()
        except OSError:
            self._close(conn)
            return
        conn.out.hold()  # if there is no room, it is small: large answers are not finished without
        if not is_sent:
            if conn.state is not State.WRITING:
                conn.is_kept = is_kept
                conn.wait(State.WRITING, 0.0, self._now)
                self._watch(conn, WRITE)
        elif is_kept and (conn.data or not conn.is_over):
            self._await_request(conn)
        else:
            self._linger(conn)

    def _await_request(self, conn: Connection) -> None:
        conn.framing.begin()
        if conn.data:
            conn.wait(State.HEAD, self._now + self._limits.head_seconds, self._now)
            self._ready.append(conn)
        else:
            seconds = STOP_SECONDS if self._is_leaving else self._limits.idle_seconds
            conn.wait(State.IDLE, self._now + seconds, self._now)
        self._watch(conn, 0 if conn.is_over else READ)

    def _refuse(self, conn: Connection, error: BaseException) -> None:
        self._crowd.free(conn)
        self._answering.refuse(conn, error)
        self._send(conn, is_kept=False)

    # --- going -----------------------------------------------------------------------------------------------

    def _linger(self, conn: Connection) -> None:
        """Close our half; the rest when the client has closed the other half, or LINGER_SECONDS later.

        A request that is already on its way would otherwise turn the answer into a reset.
        """
        conn.forget_request()
        try:
            conn.socket.shutdown(socket.SHUT_WR)
        except OSError:
            conn.is_over = True
        if conn.is_over:
            self._close(conn)
            return
        conn.wait(State.LINGERING, self._now + LINGER_SECONDS, self._now)
        self._watch(conn, READ)

    def _end_overdue(self) -> None:
        for conn in self._crowd.overdue(self._now):
            if conn.state is State.HEAD:
                self._refuse(conn, TooSlow.head(self._limits))
            elif conn.state is State.BODY:
                self._refuse(conn, TooSlow.body(self._limits))
            elif conn.state is State.QUEUED:
                self._refuse(conn, TooManyWait("body: other requests leave no room for it; try again"))
            elif conn.state is State.WRITING:
                self._ended("answer_not_read")
                self._reset(conn)
            else:
                self._close(conn)

    def _leave(self, tick: Callable[[], None]) -> None:
        """Take what waits to be accepted, and listen no more."""
        self.must_close = self._is_leaving = True
        until = time.monotonic() + ACCEPT_SECONDS
        while self._accepts and time.monotonic() < until:
            self._turn()
        tick()
        self._accept_off()
        for listener in self._listeners:
            while self._accept(listener):
                pass
            listener.close()
        self._listeners.clear()
        soon = time.monotonic() + STOP_SECONDS
        for conn in self._crowd.members:
            if conn.state in (State.IDLE, State.HEAD):
                conn.deadline = min(conn.deadline, soon)

    def _watch(self, conn: Connection, events: int) -> None:
        """Ask the selector for `events` of a connection."""
        if events == conn.events:
            return
        if not events:
            self._selector.unregister(conn.socket)
        elif conn.events:
            self._selector.modify(conn.socket, events, conn)
        else:
            self._selector.register(conn.socket, events, conn)
        conn.events = events

    def _close(self, conn: Connection) -> None:
        if conn.state is not State.CLOSED:
            self._watch(conn, 0)
            self._crowd.leave(conn)
            conn.close()

    def _reset(self, conn: Connection) -> None:
        if conn.state is not State.CLOSED:
            self._watch(conn, 0)
            self._crowd.leave(conn)
            conn.reset()
