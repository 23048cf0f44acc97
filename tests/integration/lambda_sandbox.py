"""What tests of a packaged function share: the package, and a gate before the S3 server that can be shut."""

from __future__ import annotations

import atexit
import contextlib
import functools
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from threading import Thread
from urllib.parse import urlsplit

import pytest

from kappawatt.serving.service import find_service
from serverless.build import Package, build
from serverless.interpreter import PYTHON, find_python
from serverless.local import unpacked

__all__ = ["Gate", "Way", "built", "needs_runtime", "task"]

needs_runtime = pytest.mark.skipif(find_python() is None, reason=f"python{PYTHON}, the function's runtime, is not here")


@functools.cache
def _package() -> Package:
    folder = tempfile.mkdtemp(prefix="lambda-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return build(find_service("plant-power"), Path(folder))


@pytest.fixture(scope="session")
def built() -> Package:
    """The package of plant-power, built once however many modules ask."""
    return _package()


@pytest.fixture(scope="session")
def task(built: Package) -> Iterator[Path]:
    """Its files, read-only."""
    with unpacked(Path(built.path)) as folder:
        yield folder


class Way(Enum):
    """What a gate does with a connection."""

    OPEN = "open"
    REFUSED = "refused"
    SILENT = "silent"  # taken, and never answered


class Gate:
    """Stands before the S3 server, so that a test can shut it; counts connections and what came back."""

    def __init__(self, target: str) -> None:
        parts = urlsplit(target)
        self._target = (parts.hostname or "127.0.0.1", parts.port or 80)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.way = Way.OPEN
        self.connections = 0
        self.bytes_back = 0
        self._held: list[socket.socket] = []
        self._threads = [Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # closing alone does not wake whoever waits in accept
        self._listener.close()
        for held in self._held:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        for held in self._held:
            held.close()

    def shut(self, way: Way) -> None:
        """Deal with connections this way from now on; those that are open are cut."""
        self.way = way
        for held in self._held:
            with contextlib.suppress(OSError):
                held.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            self._held.append(client)
            if self.way is Way.SILENT:
                continue
            if self.way is Way.REFUSED:
                client.shutdown(socket.SHUT_RDWR)
                continue
            server = socket.create_connection(self._target)
            self._held.append(server)
            for source, sink, counted in ((client, server, False), (server, client, True)):
                thread = Thread(target=self._pump, args=(source, sink, counted), daemon=True)
                self._threads.append(thread)
                thread.start()

    def _pump(self, source: socket.socket, sink: socket.socket, counted: bool) -> None:
        with contextlib.suppress(OSError):
            while part := source.recv(65536):
                self.bytes_back += len(part) if counted else 0
                sink.sendall(part)
        with contextlib.suppress(OSError):
            sink.shutdown(socket.SHUT_WR)


@contextmanager
def gate() -> Iterator[Gate]:
    """A gate before the S3 server that AWS_ENDPOINT_URL_S3 names."""
    found = Gate(os.environ["AWS_ENDPOINT_URL_S3"])
    try:
        yield found
    finally:
        found.close()
