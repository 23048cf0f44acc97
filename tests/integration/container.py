"""A container as SageMaker runs it, without the engine: `serve` or `train`, and a folder that stands for /opt/ml."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tests.conftest import wait_until

# Root writes to read-only files unless this right is taken from it; setpriv then becomes the process itself.
AS_OTHERS = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", "--inh-caps=-dac_override,-dac_read_search"]


@contextmanager
def opt_ml() -> Iterator[Path]:
    """A folder that may hold read-only ones; pytest could not remove those of its own."""
    base = Path(tempfile.mkdtemp(prefix="opt-ml-"))
    try:
        yield base
    finally:
        subprocess.run(["chmod", "-R", "u+w", str(base)], check=False)
        shutil.rmtree(base, ignore_errors=True)


def make_read_only(folder: Path) -> None:
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o555 if path.is_dir() else 0o444)


class Endpoint:
    """What answers on a port of this machine."""

    port: int

    def send(
        self, path: str, body: bytes | None = None, method: str | None = None, **headers: str
    ) -> tuple[int, bytes, float]:
        """Status, body and seconds; status 0 where nobody answers."""
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        begun = time.monotonic()
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read(), time.monotonic() - begun
        except urllib.error.HTTPError as error:
            return error.code, error.read(), time.monotonic() - begun
        except OSError:
            return 0, b"", time.monotonic() - begun

    def send_meanwhile(self, path: str, body: bytes, **headers: str) -> Future[tuple[int, bytes, float]]:
        """Send on a thread of its own."""
        pool = ThreadPoolExecutor(1)
        pending = pool.submit(self.send, path, body, **headers)
        pool.shutdown(wait=False)
        return pending


class Container(Endpoint):
    """One run of the entry point, to which read-only files are read-only even if root runs the tests."""

    def __init__(
        self, base: Path, argument: str, port: int | None, *, as_process_1: bool = False, **environment: str
    ) -> None:
        self.base = base
        self.port = port or 8080
        self.log = Path(tempfile.mkstemp(prefix="container-", suffix=".log")[1])
        env = {"PATH": os.environ["PATH"], "SAGEMAKER_BASE_DIR": str(base), "PYTHONDONTWRITEBYTECODE": "1"}
        env |= {"OMP_NUM_THREADS": "1", "MPLCONFIGDIR": tempfile.gettempdir()}
        if port is not None:
            env["SAGEMAKER_BIND_TO_PORT"] = str(port)
        bound = AS_OTHERS if os.geteuid() == 0 and shutil.which("setpriv") else []
        if as_process_1:  # of a process namespace of its own; `process` is then its parent
            bound = ["unshare", "--fork", "--pid", "--kill-child"]
        self.process = subprocess.Popen(
            [*bound, sys.executable, "-m", "kappawatt.deploy.container.entry", argument],
            env=env | environment,
            cwd="/",
            stdout=self.log.open("ab"),
            stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

    def __enter__(self) -> Container:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(20)
        self.log.unlink()

    def wait_ready(self, seconds: float = 60) -> Container:
        wait_until(lambda: self.send("/ping")[0] == 200 or self.process.poll() is not None, seconds, "ping")
        assert self.process.poll() is None, self.log.read_text()
        return self
