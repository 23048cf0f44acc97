"""The processes of a stack: start, readiness, revival, end."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from kappawatt.errors import KappawattError
from kappawatt.serving.server.parent import end_with_parent

__all__ = ["LOST_SECONDS", "STOP_SECONDS", "Child", "Stack", "free_port"]

READY_SECONDS = 60.0
STOP_SECONDS = 20.0
LOST_SECONDS = 1.0  # without a bus there is nothing to drain into


@dataclass(slots=True)
class Child:
    """One process of the stack; started again when it dies."""

    name: str
    arguments: list[str]
    ready_url: str
    environment: dict[str, str]
    log: Path
    process: subprocess.Popen[bytes] | None = None
    restarts: int = 0

    def start(self) -> None:
        """Start it in a session of its own, so that Ctrl-C reaches only the parent, which stops it in order."""
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603 (our own command line)
                [sys.executable, "-m", "kappawatt.cli", *self.arguments],
                env={**os.environ, **self.environment},
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
                start_new_session=True,
                preexec_fn=end_with_parent if sys.platform == "linux" else None,
            )

    def is_running(self) -> bool:
        """Whether the process lives."""
        return self.process is not None and self.process.poll() is None

    def is_ready(self) -> bool:
        """Whether its readiness probe answers 200."""
        try:
            with urllib.request.urlopen(self.ready_url, timeout=2) as answer:  # noqa: S310 (localhost)
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    def ask_to_stop(self) -> None:
        """Let it drain."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Let it drain; kill it if it does not end."""
        self.ask_to_stop()
        if self.process is None:
            return
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def last_words(self) -> str:
        """The end of its log."""
        return b"\n".join(self.log.read_bytes().splitlines()[-5:]).decode("utf-8", "replace")


@dataclass(slots=True)
class Stack:
    """All processes, in the order they start."""

    children: list[Child] = field(default_factory=list)
    last: tuple[str, ...] = ("sink",)  # these end when all others have, and land what those still said
    stopped: threading.Event = field(default_factory=threading.Event)

    def start(self, children: list[Child], say: Callable[[str], None]) -> None:
        """Start some more and wait until each is ready; KappawattError with a log's end if one is not."""
        for child in children:
            if self.stopped.is_set():
                return
            child.start()
            self.children.append(child)
        deadline = time.monotonic() + READY_SECONDS
        for child in children:
            while not child.is_ready():
                if self.stopped.wait(0.1):
                    return
                if not child.is_running() or time.monotonic() > deadline:
                    raise KappawattError(f"{child.name} did not get ready; {child.log}:\n{child.last_words()}")
            say(f"  {child.name:24} ready")

    def drop(self, children: list[Child], seconds: float = STOP_SECONDS) -> None:
        """Stop some and forget them."""
        self.children = [child for child in self.children if child not in children]  # first: nobody is to revive them
        for child in children:
            child.ask_to_stop()
        for child in children:
            child.stop(seconds)

    def revive(self, say: Callable[[str], None]) -> None:
        """Start again what has died."""
        for child in list(self.children):
            if child in self.children and not child.is_running():
                child.restarts += 1
                code = child.process.returncode if child.process else None
                say(f"  {child.name} ended with {code}, starting it again (log: {child.log})")
                child.start()

    def stop(self, seconds: float = STOP_SECONDS) -> None:
        """Stop all: at once, but for those that are to hear the others out. Whoever takes longer is killed."""
        self.stopped.set()
        first = [child for child in self.children if child.name not in self.last]
        self.drop(first, seconds)
        self.drop(list(self.children), seconds)


def free_port(wanted: int) -> int:
    """Return the port itself, or any free one if somebody else listens there."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise KappawattError("no free port on 127.0.0.1")
