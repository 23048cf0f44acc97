"""One client's connection, and the two ends that gunicorn's parser and response see of it: both only memory."""

from __future__ import annotations

import socket
import struct
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import Any

from gunicorn.http.unreader import Unreader

from kappawatt.serving.server.framing import Framing
from kappawatt.serving.server.limits import SCARCE_RATE, SCARCE_SECONDS, Limits, Pace, Room

__all__ = ["Connection", "Outgoing", "Source", "State"]

PIECE_BYTES = 8192
MOST_AT_ONCE = 1 << 20
SIZED_BYTES = 1 << 20  # of a request from which on its memory is asked for at once, not grown and copied
JOINED_BYTES = 65_536  # up to which head and body of an answer leave as one packet
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: close at once, what was not sent is dropped


class State(Enum):
    """What a connection waits for."""

    IDLE = auto()
    """The first byte of a request."""
    HEAD = auto()
    """The rest of its line and headers."""
    BODY = auto()
    """The rest of its body."""
    QUEUED = auto()
    """Room for its body."""
    WORKING = auto()
    """Its answer."""
    WRITING = auto()
    """The client, to read its answer."""
    LINGERING = auto()
    """The client, to close its end."""
    CLOSED = auto()


class Source(Unreader):  # type: ignore[misc]
    """The bytes of one request, which are all here: the parser never waits, and never sees those of the next."""

    def __init__(self, data: bytearray) -> None:
        super().__init__()
        self._data = data
        self._at = 0

    def chunk(self, size_hint: int | None = None) -> bytes:
        """Return the next piece; nothing when the request is over."""
        size = max(PIECE_BYTES, size_hint or 0)
        at, self._at = self._at, self._at + size
        if at == 0 and len(self._data) <= size:
            piece = bytes(self._data)
        else:
            piece = bytes(memoryview(self._data)[at : at + size])
        if self._at >= len(self._data):
            self._data, self._at = bytearray(), 0  # a large body is not kept twice
        return piece

    @property
    def left(self) -> int:
        """Bytes that the parser did not take."""
        ahead: int = self.buf.getbuffer().nbytes
        return max(0, len(self._data) - self._at) + ahead

    @property
    def is_spent(self) -> bool:
        """Whether the parser took all of it."""
        return not self._data and not self.buf.getvalue()


class Outgoing:
    """An answer on its way: what gunicorn writes is kept until it is pushed, and pushing never waits.

    Parameters
    ----------
    inner : socket.socket
    room : Room
        For what the client has not yet read.
    """

    def __init__(self, inner: socket.socket, room: Room) -> None:
        self._inner = inner
        self._room = room
        self._parts: deque[memoryview | bytes] = deque()
        self._held = 0
        self.size = 0  # not yet sent
        self.sent = 0

    def send(self, data: bytes) -> int:
        """Take gunicorn's `100 Continue`, the only thing it sends so: it was said when the head came."""
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Keep what is to be sent."""
        self._parts.append(bytes(data))
        self.size += len(data)

    def push(self) -> bool:
        """Send what the client takes now, and return whether that was all.

        Raises
        ------
        OSError
            The client has gone.
        """
        if self.size <= JOINED_BYTES and len(self._parts) > 1:
            joined = b"".join(self._parts)
            self._parts.clear()
            self._parts.append(joined)
        while self._parts:
            part = self._parts[0]
            try:
                count = self._inner.send(part)
            except BlockingIOError:
                break
            self.size -= count
            self.sent += count
            if count < len(part):
                self._parts[0] = memoryview(part)[count:]
                break
            self._parts.popleft()
        return not self._parts

    def hold(self) -> bool:
        """Have room for what is not yet sent, and return whether there was."""
        if self._held < self.size:
            if not self._room.take(self.size - self._held):
                return False
        elif self._held > self.size:
            self._room.give(self._held - self.size)
        self._held = self.size
        return True

    def drop(self) -> None:
        """Forget what was not sent."""
        self._parts.clear()
        self.size = 0
        self.hold()


class Connection:
    """One client.

    Parameters
    ----------
    client : socket.socket
    address, server : tuple
        The client's address and ours, as the socket says them.
    limits : Limits
    answers : Room
        For what the client has not yet read.

    Attributes
    ----------
    since : float
        When it began to wait for what `state` says; monotonic, as `deadline` is.
    held : int
        Room it has for a body.
    received : int
        Bytes of the request at hand.
    pace, brisk_pace : Pace
        Of a body or of the reading of an answer; the second is asked where others wait for the room.
    events : int
        What the selector is asked for.
    """

    __slots__ = (
        "address", "brisk_pace", "data", "deadline", "events", "framing", "held", "is_kept", "is_over", "is_sized",
        "out", "pace", "received", "server", "since", "socket", "state",
    )  # fmt: skip

    def __init__(self, client: socket.socket, address: Any, server: Any, limits: Limits, answers: Room) -> None:
        self.socket = client
        self.address = address
        self.server = server
        self.framing = Framing(limits.body_bytes)
        self.out = Outgoing(client, answers)
        self.data = bytearray()
        self.state = State.IDLE
        self.since = self.deadline = 0.0
        self.events = self.held = self.received = 0
        self.pace = Pace(limits.slowest_rate, limits.stall_seconds)
        self.brisk_pace = Pace(SCARCE_RATE, SCARCE_SECONDS)
        self.is_kept = False  # for another request, once the answer is sent
        self.is_sized = False  # `data` is as long as the request will be
        self.is_over = False  # the client has closed its end: nothing more will come

    def wait(self, state: State, deadline: float, since: float) -> None:
        """Wait for another thing from now on."""
        self.state = state
        self.deadline = deadline
        self.since = since
        if state is State.BODY or state is State.WRITING:
            self.pace.begin(since, self.transferred)
            self.brisk_pace.begin(since, self.transferred)

    @property
    def transferred(self) -> int:
        """Bytes of what is on its way that are over."""
        return self.out.sent if self.state is State.WRITING else self.received

    def receive(self, buffer: memoryview) -> int:
        """Read what is here, and return how much that was; `buffer` is for what has no place of its own yet.

        Raises
        ------
        OSError
        """
        if self.is_sized:
            with memoryview(self.data) as whole, whole[self.received : self.received + MOST_AT_ONCE] as place:
                count = self.socket.recv_into(place)
        else:
            count = self.socket.recv_into(buffer)
            self.data += buffer[:count]
        self.received += count
        return count

    def make_room(self) -> None:
        """Let the rest of a large body of known length come to where it will be read."""
        if not self.framing.is_chunked and self.framing.length >= SIZED_BYTES:
            whole = bytearray(self.framing.length)  # of zeros that take no memory until they are overwritten
            self.received = len(self.data)
            whole[: self.received] = self.data
            self.data = whole
            self.is_sized = True

    @property
    def is_filled(self) -> bool:
        """Whether all of such a body is here."""
        return self.received >= len(self.data)

    def take_request(self) -> Source:
        """Return the request that is here, and keep what came behind it."""
        length = self.framing.length
        if self.is_sized:
            del self.data[self.received :]  # where the client broke off
        if len(self.data) <= length:
            taken = self.data
            self.forget_request()
        else:
            self.received = 0
            taken = self.data[:length]
            del self.data[:length]
        return Source(taken)

    def forget_request(self) -> None:
        """Let go of what is here of a request."""
        self.data = bytearray()
        self.is_sized = False
        self.received = 0

    def reset(self) -> None:
        """Close so that the kernel forgets what the client did not read."""
        with suppress(OSError):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.close()

    def close(self) -> None:
        """Close."""
        self.state = State.CLOSED
        self.out.drop()
        self.data = bytearray()
        self.socket.close()
