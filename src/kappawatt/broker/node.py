"""One Kafka node: its properties, its start and its end."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import logging
import os
import re
import signal
import socket
import subprocess
import threading
import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from kappawatt.broker.certificates import make_certificates
from kappawatt.broker.jars import KAFKA, find_jars, find_java
from kappawatt.broker.output import HOST, say, tail, write_private
from kappawatt.errors import BusUnreachable, SettingInvalid

__all__ = ["Broker"]

log = logging.getLogger(__name__)

START_SECONDS = 120.0
STOP_SECONDS = 15.0
STARTED = "Kafka Server started"
JVM = (
    # a short-lived node: half the start time of the default collector and compiler
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Djava.awt.headless=true",
)
# Reads until its standard input ends, which is when whoever started it is gone.
WATCHER = 'read -r _; kill "$1" && sleep 10 && kill -9 "$1"'


class Broker:
    """One Kafka node in a data directory.

    Parameters
    ----------
    data_dir : path
        Holds the log, the properties and the certificates; made when it does not exist. What it holds
        survives `stop`, `kill` and a new Broker on the same directory.
    port : int or None
        PLAINTEXT port on 127.0.0.1; None takes a free one and keeps it over restarts.
    sasl_port : int or None
        SASL_SSL port (PLAIN, SCRAM-SHA-256, SCRAM-SHA-512); None takes a free one if there are users.
    users : mapping of str to str
        Password by name. They are written when the directory is first formatted.
    heap : str
        The Java heap, as -Xmx takes it.

    Examples
    --------
    >>> with Broker("/tmp/kafka") as broker:          # doctest: +SKIP
    ...     bus = connect(f"kafka://{broker.bootstrap}")
    """

    def __init__(
        self,
        data_dir: str | os.PathLike[str],
        port: int | None = None,
        sasl_port: int | None = None,
        users: Mapping[str, str] | None = None,
        heap: str = "512m",
    ) -> None:
        self.data_dir = Path(data_dir).expanduser().absolute()
        self.users = dict(users or {})
        self.heap = heap
        self.port = port or 0
        self.sasl_port = sasl_port or 0
        self._controller_port = 0
        self._node: subprocess.Popen[bytes] | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        if sasl_port and not self.users:
            raise SettingInvalid("users: a SASL_SSL listener needs at least one user")
        for name, password in self.users.items():
            if not re.fullmatch(r"[\w.@-]+", name) or not re.fullmatch(r"[^\s\"\\,\[\]=]+", password):
                raise SettingInvalid(
                    f"users: {name!r}: allowed names of letters, digits, . @ - and passwords without"
                    " spaces, quotes, backslashes, commas, brackets and ="
                )

    @property
    def bootstrap(self) -> str:
        """Address of the PLAINTEXT listener."""
        return f"{HOST}:{self.port}"

    @property
    def sasl_bootstrap(self) -> str:
        """Address of the SASL_SSL listener."""
        return f"{HOST}:{self.sasl_port}"

    @property
    def ca_file(self) -> Path:
        """The certificate authority that clients of the SASL_SSL listener must trust."""
        return self.data_dir / "tls" / "ca.pem"

    @property
    def log_file(self) -> Path:
        """What the node itself says."""
        return self.data_dir / "server.log"

    @property
    def pid(self) -> int | None:
        """Process id of the running node."""
        return self._node.pid if self._node is not None and self._node.poll() is None else None

    def start(self, stopped: threading.Event | None = None) -> Self:
        """Start the node and return once it serves.

        Parameters
        ----------
        stopped : Event, optional
            Set by whoever will not wait any more: `start` then returns, and `stop` ends the node.

        Raises
        ------
        SettingInvalid
            A package, Java or openssl is missing, or the directory was made for other users.
        BusUnreachable
            The node ended, or did not serve within two minutes; the message names its log.
        """
        if self.pid is not None:
            return self
        java = find_java()
        jars = find_jars()
        self._claim_ports()
        self.data_dir.mkdir(parents=True, exist_ok=True)
        if self.users:
            make_certificates(self.ca_file.parent)
        properties = self._write_properties()
        command = [java, f"-Xmx{self.heap}", *JVM, "-cp", f"{jars}/*"]
        self._format(command, properties)
        self.log_file.unlink(missing_ok=True)
        said = (self.data_dir / "stdout.log").open("wb")
        with said:
            self._node = subprocess.Popen(  # noqa: S603
                [
                    *command[:-2],
                    f"-Dlog4j2.configurationFile={self.data_dir / 'log4j2.properties'}",
                    *command[-2:],
                    "kafka.Kafka",
                    str(properties),
                ],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._watcher = subprocess.Popen(  # noqa: S603
            ["/bin/sh", "-c", WATCHER, "kafka-watcher", str(self._node.pid)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._await_started(stopped or threading.Event())
        except BaseException:
            self.kill()
            raise
        return self

    def stop(self) -> None:
        """Let the node shut down cleanly and wait for it."""
        self._end_watcher()
        if self.pid is not None and self._node is not None:
            self.resume()
            self._node.terminate()
            try:
                self._node.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.warning("Kafka did not stop within %g s; killed", STOP_SECONDS)
                self._node.kill()
                self._node.wait()
        self._node = None

    def kill(self) -> None:
        """End the node without a chance to write anything, as a power failure would."""
        self._end_watcher()
        if self._node is not None:
            self._node.kill()
            self._node.wait()
        self._node = None

    def pause(self) -> None:
        """Freeze the node: connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a frozen node run on."""
        self._signal(signal.SIGCONT)

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _signal(self, number: signal.Signals) -> None:
        pid = self.pid
        if pid is None:
            raise BusUnreachable(f"Kafka is not running; its log: {self.log_file}")
        os.kill(pid, number)

    def _end_watcher(self) -> None:
        watcher, self._watcher = self._watcher, None
        if watcher is not None:
            watcher.kill()
            watcher.communicate()

    def _claim_ports(self) -> None:
        with contextlib.ExitStack() as held:
            for name in ("port", "_controller_port", *(("sasl_port",) if self.users else ())):
                probe = held.enter_context(socket.socket())
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((HOST, getattr(self, name)))
                except OSError as error:
                    raise SettingInvalid(f"{name.strip('_')}: {getattr(self, name)}: {error}") from error
                setattr(self, name, probe.getsockname()[1])

    def _write_properties(self) -> Path:
        listeners = {"PLAINTEXT": self.port, "CONTROLLER": self._controller_port}
        if self.users:
            listeners["SASL_SSL"] = self.sasl_port
        addresses = {name: f"{name}://{HOST}:{port}" for name, port in listeners.items()}
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{HOST}:{self._controller_port}",
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "PLAINTEXT",
            "listeners": ",".join(addresses.values()),
            "advertised.listeners": ",".join(a for n, a in addresses.items() if n != "CONTROLLER"),
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SASL_SSL:SASL_SSL",
            "log.dirs": str(self.data_dir / "log"),
            "group.initial.rebalance.delay.ms": "0",  # one member need not wait for others
            "group.min.session.timeout.ms": "1000",  # tests lose members quickly
            "log.cleaner.dedupe.buffer.size": str(16 * 1024 * 1024),
            "num.partitions": "4",
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.replication.factor"] = "1"
            properties[f"{topic}.num.partitions"] = "4"
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.min.isr"] = "1"
        if self.users:
            properties |= self._sasl_properties()
        path = self.data_dir / "server.properties"
        write_private(path, "".join(f"{name}={value}\n" for name, value in properties.items()))
        (self.data_dir / "log4j2.properties").write_text(
            "rootLogger.level=INFO\n"
            "rootLogger.appenderRef.file.ref=file\n"
            "appender.file.type=File\n"
            "appender.file.name=file\n"
            f"appender.file.fileName={self.log_file}\n"
            "appender.file.layout.type=PatternLayout\n"
            "appender.file.layout.pattern=%d{ISO8601} %p %m (%c)%n\n",
            encoding="utf-8",
        )
        return path

    def _sasl_properties(self) -> dict[str, str]:
        listener = "listener.name.sasl_ssl"
        modules = "org.apache.kafka.common.security"
        plain = " ".join(f'user_{name}="{password}"' for name, password in self.users.items())
        scram = f"{modules}.scram.ScramLoginModule required;"
        return {
            "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
            f"{listener}.plain.sasl.jaas.config": f"{modules}.plain.PlainLoginModule required {plain};",
            f"{listener}.scram-sha-256.sasl.jaas.config": scram,
            f"{listener}.scram-sha-512.sasl.jaas.config": scram,
            f"{listener}.ssl.keystore.type": "PEM",
            f"{listener}.ssl.keystore.location": str(self.ca_file.parent / "server.pem"),
            f"{listener}.ssl.client.auth": "none",
        }

    def _format(self, command: list[str], properties: Path) -> None:
        """Write an empty log with the users in it, once for each data directory."""
        users = hashlib.sha256(repr(sorted(self.users.items())).encode()).hexdigest()
        formatted_for = self.data_dir / "users.sha256"
        if (self.data_dir / "log" / "meta.properties").exists():
            if not formatted_for.exists() or formatted_for.read_text(encoding="ascii") != users:
                raise SettingInvalid(f"users: {self.data_dir} was formatted for other users; take another directory")
            return
        scram = [
            part
            for name, password in self.users.items()
            for mechanism in ("SCRAM-SHA-256", "SCRAM-SHA-512")
            for part in ("--add-scram", f"{mechanism}=[name={name},password={password}]")
        ]
        cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        cluster = "k" + cluster[1:]  # the tool would take a leading - for an option
        done = subprocess.run(  # noqa: S603
            [*command, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", str(properties), *scram],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise BusUnreachable(f"Kafka could not format {self.data_dir}:\n{tail(done.stdout + done.stderr)}")
        formatted_for.write_text(users, encoding="ascii")

    def why_ended(self) -> str | None:
        """Return None while the node runs, else a line that says how it ended and where its log is."""
        if self._node is None or self._node.poll() is None:
            return None
        return f"Kafka ended with {self._node.returncode}; its log: {self.log_file}"

    def _await_started(self, stopped: threading.Event) -> None:
        begun = time.monotonic()
        say(f"starting Kafka {KAFKA} on {self.bootstrap}")
        while not self._serves():
            if stopped.wait(0.05):
                return
            late = time.monotonic() - begun > START_SECONDS
            if late or self.pid is None:
                what = f"did not serve within {START_SECONDS:g} s" if late else "ended while starting"
                raise BusUnreachable(f"Kafka {what}; its log: {self.log_file}\n{self._last_words()}")
        say(f"Kafka serves on {self.bootstrap} after {time.monotonic() - begun:.1f} s")

    def _serves(self) -> bool:
        try:
            if STARTED not in self.log_file.read_text(encoding="utf-8", errors="replace"):
                return False
            for port in (self.port, *((self.sasl_port,) if self.users else ())):
                socket.create_connection((HOST, port), 1).close()
        except OSError:
            return False
        return True

    def _last_words(self) -> str:
        words = ""
        for path in (self.log_file, self.data_dir / "stdout.log"):
            with contextlib.suppress(OSError):
                words += path.read_text(encoding="utf-8", errors="replace")[-4000:]
        return tail(words)
