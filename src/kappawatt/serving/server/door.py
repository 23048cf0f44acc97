"""Ending a listener so that nobody is turned away who had come in: first no new connections, then no listener.

A connection is there for its client as soon as the kernel has shaken hands, long before a process accepts it. When the
last process closes the socket, the kernel resets what waits to be accepted, and a client that has sent its request
cannot know whether it was received. So a stopping server first has the kernel drop what begins a handshake (its client
asks again a second later, and is refused, or comes to another instance), then accepts what waits, and closes only then.
"""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import struct
import sys
from collections.abc import Iterable
from contextlib import suppress
from types import FrameType
from typing import Any

__all__ = ["close_door", "end", "end_at_sigterm"]

SO_ATTACH_FILTER = 26  # asm-generic/socket.h
# A classic BPF program that sees a TCP header: packets with SYN and without ACK are dropped, all others pass.
NO_HANDSHAKES = (
    (0x30, 0, 0, 13),  # load the byte of flags
    (0x54, 0, 0, 0x12),  # keep SYN and ACK
    (0x15, 0, 1, 0x02),  # if SYN alone
    (0x06, 0, 0, 0),  # drop
    (0x06, 0, 0, 0xFFFFFFFF),  # pass
)


def close_door(listeners: Iterable[socket.socket]) -> None:
    """Have the kernel begin no connection any more on these; outside Linux nothing happens."""
    if sys.platform != "linux":
        return
    code = b"".join(struct.pack("HBBI", *instruction) for instruction in NO_HANDSHAKES)
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HP", len(NO_HANDSHAKES), ctypes.addressof(held))
    for listener in listeners:
        with suppress(OSError):  # a kernel that cannot: the little while until the listener closes stays open
            listener.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, program)


def end(arbiter: Any, frame: FrameType | None) -> None:
    """Have gunicorn's master end its workers; to be called by a signal's handler."""
    if os.getpid() == arbiter.pid:  # a worker that was just forked has this handler too
        close_door(listener.sock for listener in arbiter.LISTENERS)
    arbiter.signal(signal.SIGTERM, frame)


def end_at_sigterm(arbiter: Any) -> None:
    """Have SIGTERM end gunicorn's master so (its hook `when_ready`)."""
    signal.signal(signal.SIGTERM, lambda number, frame: end(arbiter, frame))
