"""The platform's part on this machine: a Runtime API, and a function's process that asks it for events.

The process is what Lambda starts: AWS's own runtime client (`awslambdaric`) under the runtime's Python, with nothing
but the package and that client to import from. The API is the one the client speaks (2018-06-01).

    python -m serverless.local plant-power EVENT.json ...    invoke the package with events, one after the other
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import queue
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib.metadata import version
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any
from uuid import uuid4
from zipfile import BadZipFile, ZipFile

from kappawatt.errors import KappawattError, SettingInvalid
from serverless.interpreter import PYTHON, find_python

__all__ = ["FunctionError", "LocalFunction", "RuntimeApi", "find_client", "main", "unpacked"]

MOST_BYTES = 6_291_556  # of an event and of an answer, as the platform's own message says
PATH = "/2018-06-01/runtime"
ARN = "arn:aws:lambda:us-east-1:123456789012:function:plant-power"
# Root writes to read-only files unless this right is taken from it; setpriv then becomes the process itself.
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


class FunctionError(Exception):
    """The function raised, or ended; `document` is what it reported."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self.document = document
        super().__init__(f"{document.get('errorType')}: {document.get('errorMessage')}")


@dataclass(slots=True)
class _Invocation:
    event: bytes
    deadline: float
    request_id: str = field(default_factory=lambda: str(uuid4()))
    done: Event = field(default_factory=Event)
    answer: bytes = b""
    error: dict[str, Any] | None = None


class RuntimeApi:
    """Hands events to a runtime one by one, and takes its answers."""

    def __init__(self) -> None:
        self._waiting: queue.Queue[_Invocation | None] = queue.Queue()
        self._open: dict[str, _Invocation] = {}
        self._lock = Lock()
        self.asked = Event()  # the runtime has asked for its first event: it is initialised
        self.asked_at = 0.0
        self.init_error: dict[str, Any] | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = Thread(target=self._server.serve_forever, name="runtime-api")
        self._thread.start()

    @property
    def address(self) -> str:
        """What AWS_LAMBDA_RUNTIME_API has to be."""
        return f"127.0.0.1:{self._server.server_port}"

    def offer(self, event: Any, timeout: float) -> _Invocation:
        """Put an event before the runtime."""
        body = json.dumps(event).encode()
        if len(body) > MOST_BYTES:
            raise ValueError(f"event: got {len(body)} bytes, allowed {MOST_BYTES}")
        invocation = _Invocation(body, time.time() + timeout)
        with self._lock:
            self._open[invocation.request_id] = invocation
        self._waiting.put(invocation)
        return invocation

    def close(self) -> None:
        """Stop; a runtime that waits for an event is let go."""
        self._waiting.put(None)
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _next(self) -> _Invocation | None:
        if not self.asked.is_set():
            self.asked_at = time.perf_counter()
            self.asked.set()
        return self._waiting.get()

    def _finish(self, request_id: str, answer: bytes, error: dict[str, Any] | None) -> bool:
        with self._lock:
            invocation = self._open.pop(request_id, None)
        if invocation is None:
            return False
        invocation.answer, invocation.error = answer, error
        invocation.done.set()
        return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1  # head and body in one packet, or the client waits for a delayed acknowledgement
            disable_nagle_algorithm = True

            def handle(self) -> None:
                with contextlib.suppress(ConnectionError):  # a process that is killed hangs up
                    super().handle()

            def do_GET(self) -> None:
                if self.path != f"{PATH}/invocation/next":
                    self._say(404, b"{}")
                    return
                invocation = api._next()
                if invocation is None:
                    self.close_connection = True
                    return
                headers = {
                    "Lambda-Runtime-Aws-Request-Id": invocation.request_id,
                    "Lambda-Runtime-Deadline-Ms": str(int(invocation.deadline * 1000)),
                    "Lambda-Runtime-Invoked-Function-Arn": ARN,
                    "Lambda-Runtime-Trace-Id": "Root=1-5759e988-bd862e3fe1be46a994272793;Sampled=0",
                }
                self._say(200, invocation.event, headers)

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                parts = self.path.removeprefix(PATH).strip("/").split("/")
                if parts == ["init", "error"]:
                    api.init_error = json.loads(body)
                    api.asked.set()
                elif len(parts) == 3 and parts[0] == "invocation" and parts[2] == "response":
                    if len(body) > MOST_BYTES:
                        said = f"Exceeded maximum allowed payload size ({MOST_BYTES} bytes)."
                        error = {"errorType": "Function.ResponseSizeTooLarge", "errorMessage": said}
                        api._finish(parts[1], b"", error)
                        self._say(413, json.dumps(error).encode())
                        return
                    api._finish(parts[1], body, None)
                elif len(parts) == 3 and parts[0] == "invocation" and parts[2] == "error":
                    api._finish(parts[1], b"", json.loads(body))
                else:
                    self._say(404, b"{}")
                    return
                self._say(202, b'{"status":"OK"}')

            def _say(self, status: int, body: bytes, headers: Mapping[str, str] | None = None) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                for name, value in (headers or {}).items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


class LocalFunction:
    """One sandbox: a process that runs the handler of an unpacked package.

    Parameters
    ----------
    task : Path
        The unpacked package, `/var/task` on the platform.
    environment : str
        Variables of the function.
    """

    def __init__(self, task: Path, **environment: str) -> None:
        python, client = find_python(), find_client()
        if python is None:
            raise SettingInvalid(f"python{PYTHON}: got none on this machine, allowed the function's own runtime")
        self._temporary = tempfile.mkdtemp(prefix="function-tmp-")
        self.log = Path(self._temporary) / "log"
        self.api = RuntimeApi()
        own = {
            "AWS_LAMBDA_RUNTIME_API": self.api.address,
            "AWS_LAMBDA_FUNCTION_NAME": "plant-power",
            "AWS_EC2_METADATA_DISABLED": "true",
            "LAMBDA_TASK_ROOT": str(task),
            "PYTHONPATH": f"{task}:{client}",
            "PYTHONDONTWRITEBYTECODE": "1",
            "TMPDIR": self._temporary,
            "HOME": "/nowhere",
            "PATH": "/usr/bin:/bin",
            "OMP_NUM_THREADS": "1",
        }
        bound = AS_OTHERS if os.geteuid() == 0 and shutil.which("setpriv") else []
        self.started_at = time.perf_counter()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: S603
                [*bound, str(python), "-S", "-m", "awslambdaric", "handler.handler"],
                env=own | environment,
                cwd=task,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def __enter__(self) -> LocalFunction:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def wait_ready(self, timeout: float = 60) -> float:
        """Return how many seconds passed from the start of the process until it asked for an event.

        Raises
        ------
        FunctionError
            It reported an error while it started, or did not ask in time.
        """
        until = time.monotonic() + timeout
        while not self.api.asked.wait(0.2) and time.monotonic() < until and self.process.poll() is None:
            pass
        if not self.api.asked_at:
            raise FunctionError(self.api.init_error or {"errorType": "Runtime.ExitError", "errorMessage": self.said()})
        return self.api.asked_at - self.started_at

    def invoke(self, event: Any, timeout: float = 29) -> Any:
        """Return the function's answer to an event.

        Raises
        ------
        FunctionError
            It raised, ended, or did not answer in `timeout` seconds.
        """
        invocation = self.api.offer(event, timeout)
        until = time.monotonic() + timeout + 1
        while not invocation.done.wait(0.2):
            if self.process.poll() is not None or self.api.init_error is not None:
                raise FunctionError(
                    self.api.init_error or {"errorType": "Runtime.ExitError", "errorMessage": self.said()}
                )
            if time.monotonic() > until:
                raise FunctionError({"errorType": "Sandbox.Timedout", "errorMessage": f"no answer in {timeout} s"})
        if invocation.error is not None:
            raise FunctionError(invocation.error)
        return json.loads(invocation.answer)

    def said(self) -> str:
        """Return what the function has logged."""
        return self.log.read_text(errors="replace")

    def temporary_files(self) -> list[str]:
        """Return the names of what the function keeps in its temporary folder."""
        root = Path(self._temporary)
        return sorted(str(p.relative_to(root)) for p in root.rglob("*") if p.is_file() and p != self.log)

    def peak_memory(self) -> int:
        """Return the most memory the process has had [bytes]."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))

    def processor_time(self) -> float:
        """Return how much of a processor the process has used so far [s]."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        """End the process, and remove what it wrote."""
        self.process.kill()
        self.process.wait()
        self.api.close()
        shutil.rmtree(self._temporary, ignore_errors=True)


@contextmanager
def unpacked(package: Path) -> Iterator[Path]:
    """A folder with the package's files, read-only as on the platform."""
    folder = Path(tempfile.mkdtemp(prefix="task-"))
    try:
        with ZipFile(package) as archive:
            archive.extractall(folder)
        for path in (folder, *folder.rglob("*")):
            path.chmod(0o555 if path.is_dir() else 0o444)
        yield folder
    finally:
        for path in (folder, *folder.rglob("*")):
            if path.is_dir():
                path.chmod(0o755)
        shutil.rmtree(folder, ignore_errors=True)


def find_client() -> Path:
    """Return a folder with AWS's runtime client for the function's Python; fetch it the first time.

    Raises
    ------
    SettingInvalid
        It cannot be fetched.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappawatt"
    folder = cache / f"awslambdaric-{version('awslambdaric')}-{PYTHON}"
    if folder.is_dir():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="awslambdaric-", dir=cache) as work:
        command = [sys.executable, "-m", "uv", "pip", "install", "--quiet", "--only-binary", ":all:"]
        command += [
            "--python-version",
            PYTHON,
            "--target",
            f"{work}/client",
            f"awslambdaric=={version('awslambdaric')}",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise SettingInvalid(f"awslambdaric: uv could not install it: {done.stderr.strip()[-300:]}")
        if not folder.is_dir():  # another process may have fetched it meanwhile
            Path(work, "client").rename(folder)
    return folder


def main(arguments: list[str] | None = None) -> int:
    """Invoke a package with the events in files, and print an answer a line."""
    parser = argparse.ArgumentParser(prog="python -m serverless.local", description="Invoke a package on this machine.")
    parser.add_argument("service")
    parser.add_argument("events", nargs="+", type=Path, metavar="EVENT.json")
    parser.add_argument("--package", type=Path, help="[default: dist/lambda/SERVICE.zip]")
    given = parser.parse_args(arguments)
    package = given.package or Path("dist") / "lambda" / f"{given.service}.zip"
    told = {name: value for name, value in os.environ.items() if name.startswith(("KAPPAWATT_", "AWS_"))}
    try:
        events = [json.loads(path.read_bytes()) for path in given.events]
        with unpacked(package) as task, LocalFunction(task, **told | {"KAPPAWATT_SERVICE": given.service}) as function:
            for event in events:
                print(json.dumps(function.invoke(event)), flush=True)
    except (OSError, ValueError, BadZipFile, KappawattError, FunctionError) as error:
        print(f"serverless.local: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
