"""What a container does: serve, work on the bus, or train.

KAPPAWATT_SERVICE names the service, which every image sets. Every role listens on port 8080 of every address. The
model is in `/opt/ml/model` if that folder exists (SageMaker's place), else where KAPPAWATT_ARTIFACTS says, else the
one that the image ships. `train` finds data and hyperparameters in `/opt/ml/input` and leaves the reason of a failure
in `/opt/ml/output/failure`. SAGEMAKER_BASE_DIR stands for `/opt/ml`, as in AWS's own toolkits.
"""

from __future__ import annotations

import inspect
import logging
import sys
import traceback
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from kappawatt import logs
from kappawatt.deploy.container.health import PORT
from kappawatt.errors import KappawattError, SettingInvalid
from kappawatt.serving.service import Service, find_service
from kappawatt.settings import Settings

__all__ = ["consume", "serve", "serve_settings", "sink", "train", "worker_settings"]

log = logging.getLogger(__name__)

BASE = "/opt/ml"
FAILURE_CHARACTERS = 1024  # shown as FailureReason; what stands behind them is cut off
LEVELS = {10: "DEBUG", 20: "INFO", 30: "WARNING", 40: "ERROR", 50: "ERROR"}
RESERVED = ("sagemaker_", "_tuning")  # hyperparameters that AWS's own SDK and tuner add
CHANNELS = ("training", "train")  # as AWS's SDK and examples name the only one
YES, NO = ("true", "1", "yes", "on"), ("false", "0", "no", "off")


def serve(environ: Mapping[str, str]) -> int:
    """Serve over HTTP until SIGTERM; 1 if it cannot begin."""

    def run() -> None:
        from kappawatt.serving.server.server import metrics_folder
        from kappawatt.serving.server.server import serve as serve_app

        service = _service(environ)
        settings = serve_settings(environ)
        logs.set_up(settings)
        with metrics_folder(settings.workers):
            from kappawatt.serving.app import create_app

            serve_app(service, settings, lambda: create_app(service, settings))

    return _run(run)


def consume(environ: Mapping[str, str]) -> int:
    """Run the service's loop until SIGTERM; 1 if it cannot begin, or bus or database failed for too long."""

    def run() -> None:
        from kappawatt.serving.consume import consume as run_worker

        service = _service(environ)
        settings = worker_settings(environ)
        logs.set_up(settings)
        _warn_of_own_bus(environ, settings)
        run_worker(service, settings)

    return _run(run)


def sink(environ: Mapping[str, str]) -> int:
    """Do what `consume` does; the role's name of a release before, when the sink was no service."""
    return consume({**environ, "KAPPAWATT_SERVICE": "sink"})


def serve_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a serving container; what SageMaker says stands above KAPPAWATT_*.

    Raises
    ------
    SettingInvalid
        A variable has a value that cannot be used; the message names it.
    """
    if environ.get("SAGEMAKER_MULTI_MODEL", "").lower() == "true":
        raise SettingInvalid("SAGEMAKER_MULTI_MODEL: got 'true', allowed false: one container serves one model")
    settings = _settings(environ, workers=_whole(environ, "SAGEMAKER_MODEL_SERVER_WORKERS", 1, 64))
    return replace(settings, port=_whole(environ, "SAGEMAKER_BIND_TO_PORT", 1, 65535) or settings.port or PORT)


def worker_settings(environ: Mapping[str, str]) -> Settings:
    """Return the settings of a container that reads the bus and answers probes; SettingInvalid as above."""
    settings = _settings(environ)
    is_one_process = bool(environ.get("KAPPAWATT_SERVICE")) and _service(environ).is_one_process
    return replace(settings, probe_port=settings.probe_port or (is_one_process and settings.port) or PORT)


def train(environ: Mapping[str, str]) -> int:
    """Train on the channel's data into `model/`; 1, and the reason in `output/failure`, if that fails."""
    base = _base(environ)
    try:
        service = _service(environ)
        if service.train is None:
            raise SettingInvalid(f"KAPPAWATT_SERVICE: {service.name} has no model to train")
        settings = Settings.read(environ, log_level=_log_level(environ))
        logs.set_up(settings)
        options = _options(service.train, _read_json(base / "input/config/hyperparameters.json"))
        settings = replace(settings, data=_channel(base, settings.data))
        for path in service.train(settings, out=base / "model", **options):
            log.info("written", extra={"path": str(path)})
    except ModuleNotFoundError as error:
        _write_failure(base / "output" / "failure", SettingInvalid(_missing(error)))
        return 1
    except Exception as error:  # whatever it is, the platform shows only what stands in that file
        _write_failure(base / "output" / "failure", error)
        return 1
    return 0


def _run(role: Callable[[], None]) -> int:
    try:
        role()
    except KappawattError as error:
        print(f"kappawatt-container: {error}", file=sys.stderr)
        return 1
    return 0


def _missing(error: ModuleNotFoundError) -> str:
    return f"train: got an image without {error.name}, allowed one built with --extra train (TensorFlow is in none)"


def _base(environ: Mapping[str, str]) -> Path:
    return Path(environ.get("SAGEMAKER_BASE_DIR") or BASE)


def _settings(environ: Mapping[str, str], **given: Any) -> Settings:
    """Return settings of any role: reached from outside, and the model is the one the platform put there, if any."""
    mounted = _base(environ) / "model"
    return Settings.read(
        environ,
        host="0.0.0.0",  # noqa: S104 - the platform's network reaches the container, and nothing else does
        log_level=_log_level(environ),
        artifacts=mounted if mounted.is_dir() else None,
        **given,
    )


def _warn_of_own_bus(environ: Mapping[str, str], settings: Settings) -> None:
    if not environ.get("KAPPAWATT_BUS"):
        log.warning("KAPPAWATT_BUS is not set: this bus is seen by nobody else", extra={"bus": settings.bus})


def _service(environ: Mapping[str, str]) -> Service:
    name = environ.get("KAPPAWATT_SERVICE", "")
    if not name:
        raise SettingInvalid("KAPPAWATT_SERVICE: got nothing, allowed the name of a service, plant-power")
    try:
        service = find_service(name)
    except SettingInvalid as error:
        raise SettingInvalid(f"KAPPAWATT_SERVICE: {error}") from None
    return service


def _whole(environ: Mapping[str, str], name: str, low: int, high: int) -> int | None:
    text = environ.get(name, "")
    if not text:
        return None
    if not text.isdecimal() or not low <= int(text) <= high:
        raise SettingInvalid(f"{name}: got {text!r}, allowed a whole number from {low} to {high}")
    return int(text)


def _log_level(environ: Mapping[str, str]) -> str | None:
    """Return the level by name; AWS's toolkits write it as a number."""
    text = environ.get("SAGEMAKER_CONTAINER_LOG_LEVEL", "")
    if not text:
        return None
    level = LEVELS.get(int(text)) if text.isdecimal() else text.upper() if text.upper() in LEVELS.values() else None
    if level is None:
        allowed = [*map(str, LEVELS), *dict.fromkeys(LEVELS.values())]
        raise SettingInvalid(f"SAGEMAKER_CONTAINER_LOG_LEVEL: got {text!r}, allowed {', '.join(allowed)}")
    return level


def _read_json(path: Path) -> dict[str, Any]:
    """Return the object in a file of the platform; empty if there is no file."""
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (OSError, orjson.JSONDecodeError) as error:
        raise SettingInvalid(f"{path}: {error}") from error
    if not isinstance(document, dict):
        raise SettingInvalid(f"{path}: got {type(document).__name__}, allowed an object")
    return document


def _channel(base: Path, given: Path | None) -> Path:
    """Return the folder of the training data.

    A container never downloads or makes up data in its place: a job without a channel fails, unless KAPPAWATT_DATA
    names a folder in the image.
    """
    path = base / "input/config/inputdataconfig.json"
    channels = _read_json(path)
    names = [name for name in CHANNELS if name in channels] or sorted(channels)
    if not names and given is not None:
        return given
    if not names or (len(names) > 1 and names[0] not in CHANNELS):
        raise SettingInvalid(f"{path}: got channels {', '.join(names) or 'none'}, allowed one, or one named training")
    mode = channels[names[0]].get("TrainingInputMode", "File") if isinstance(channels[names[0]], dict) else "File"
    if mode == "Pipe":
        raise SettingInvalid(f"{path}: TrainingInputMode: got 'Pipe', allowed File, FastFile")
    folder = base / "input/data" / names[0]
    if not folder.is_dir():
        raise SettingInvalid(f"{folder}: got no such folder, allowed the data of channel {names[0]}")
    return folder


def _options(function: Callable[..., Any], hyperparameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return hyperparameters, which all come as strings, as the options of a service's `train`.

    Raises
    ------
    SettingInvalid
        There is no such option, or the text is no value of its type; the message names it.
    """
    known = {
        name: parameter
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY and name not in ("out", "report", "progress")
    }
    options = {}
    for name, text in hyperparameters.items():
        if name.startswith(RESERVED):
            continue
        if name not in known:
            raise SettingInvalid(f"hyperparameter {name}: allowed {', '.join(known) or 'none'}")
        options[name] = _value(name, str(text), str(known[name].annotation))
    return options


def _value(name: str, text: str, annotation: str) -> Any:
    text = text[1:-1] if len(text) > 1 and text[0] == text[-1] == '"' else text  # AWS's SDK writes strings as JSON
    kind = annotation.removeprefix("<class '").removesuffix("'>").split("|", 1)[0].strip()
    try:
        if kind == "bool":
            if text.lower() not in (*YES, *NO):
                raise ValueError
            return text.lower() in YES
        return {"int": int, "float": float, "Path": Path}.get(kind, str)(text)
    except ValueError:
        allowed = {"bool": "true or false", "int": "a whole number", "float": "a number"}[kind]
        raise SettingInvalid(f"hyperparameter {name}: got {text!r}, allowed {allowed}") from None


def _write_failure(path: Path, error: Exception) -> None:
    """Write the error's own sentence first: it is what DescribeTrainingJob shows."""
    trace = "" if isinstance(error, KappawattError) else "\n\n" + "".join(traceback.format_exception(error))
    text = f"{type(error).__name__}: {error}{trace}"
    print(f"kappawatt-container: {text}", file=sys.stderr)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text[:FAILURE_CHARACTERS])
    except OSError as why:
        print(f"kappawatt-container: {path}: {why.strerror}", file=sys.stderr)
