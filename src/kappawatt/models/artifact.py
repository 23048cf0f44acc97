"""A trained model on disk: its files and a manifest that says what they are.

    VERSION/
        manifest.json   model, version, data hash, feature names, training range, metrics, library versions,
                        hash of every file, and one example row with its answer
        model.npz       what the service's `load` reads (or model.onnx, ...)

Loading refuses files whose hash differs, other feature names than the code computes, and a model that does
not give its own example answer. Nothing is ever unpickled.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import orjson

from kappawatt.errors import ArtifactInvalid, ModelNotFound, NotStored, storage_reason

__all__ = [
    "FORMAT",
    "Artifact",
    "Manifest",
    "current_version",
    "find_artifact",
    "open_artifact",
    "save_artifact",
    "versions",
    "write_whole",
]

log = logging.getLogger(__name__)

FORMAT = 1
MANIFEST = "manifest.json"
CURRENT = "CURRENT"
SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact says of itself.

    Parameters
    ----------
    model, version : str
    kind : str
        `default`, or `baseline` for the named baseline.
    created : str
        ISO 8601, UTC.
    data : mapping
        `source` (real or synthetic, and from where), `sha256`, `rows`.
    feature_names : tuple of str
        In the order of the model's input columns.
    training_range : mapping of str to (float, float)
        Smallest and largest value of each request field in the training data.
    metrics : mapping
        By protocol: `{"holdout_30": {"mae": ..}, "5x2": {..}}`.
    libraries : mapping of str to str
        Versions the model was made with.
    files : mapping of str to str
        SHA-256 by file name.
    example : mapping
        `request` (one row) and `answer` (response fields).
    """

    model: str
    version: str
    kind: str
    created: str
    data: Mapping[str, Any]
    feature_names: tuple[str, ...]
    training_range: Mapping[str, tuple[float, float]]
    metrics: Mapping[str, Any]
    libraries: Mapping[str, str]
    files: Mapping[str, str]
    example: Mapping[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Return the form that is written to the file and answered at `/params`."""
        return {"format": FORMAT} | {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Artifact:
    """A folder whose manifest was read and whose files have the hashes it names."""

    path: Path
    manifest: Manifest

    def read(self, name: str) -> bytes:
        """Return a file's bytes; ArtifactInvalid if it is not the file the manifest names."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise ArtifactInvalid(f"{self.path}: got no file {name!r}, allowed {sorted(self.manifest.files)}")
        try:
            content = (self.path / name).read_bytes()
        except OSError as error:
            raise ArtifactInvalid(f"{self.path / name}: {error.strerror}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != expected:
            raise ArtifactInvalid(f"{self.path / name}: got sha256 {found[:12]}…, allowed {expected[:12]}…")
        return content


def save_artifact(folder: Path, files: Mapping[str, bytes], manifest: Manifest) -> Artifact:
    """Write `files` and the manifest (its `files` are filled in here) into `folder`.

    Raises
    ------
    NotStored
        One cannot be written. What `folder` held before is as it was, or a part of it new, and without a manifest
        that is half written.
    """
    hashes = {}
    for name, content in files.items():
        write_whole(folder / name, content)
        hashes[name] = hashlib.sha256(content).hexdigest()
    document = manifest.to_json() | {"files": hashes}
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
    write_whole(folder / MANIFEST, orjson.dumps(document, option=options))
    return open_artifact(folder)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it holds what it held or all of `content`; NotStored says `disk full` if that is why."""
    work = path.with_name(f".{path.name}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        work.write_bytes(content)
        work.replace(path)
    except OSError as error:
        with suppress(OSError):
            work.unlink(missing_ok=True)
        raise NotStored(f"{path}: {storage_reason(error, path)}") from error


def open_artifact(folder: Path) -> Artifact:
    """Read the manifest in `folder`.

    Raises
    ------
    ModelNotFound
        There is no manifest.
    ArtifactInvalid
        The manifest cannot be read or is of another format.
    """
    path = folder / MANIFEST
    try:
        document = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise ModelNotFound(f"{folder}: got no {MANIFEST}, allowed a folder written by `kappawatt train`") from None
    except (OSError, orjson.JSONDecodeError) as error:
        raise ArtifactInvalid(f"{path}: {error}") from error
    if not isinstance(document, dict) or document.pop("format", None) != FORMAT:
        raise ArtifactInvalid(f"{path}: allowed format {FORMAT}")
    return Artifact(folder, _manifest(document, path))


def _manifest(document: Mapping[str, Any], path: Path) -> Manifest:
    """The manifest in a document, each field as `Manifest` says; ArtifactInvalid names one that is not."""
    names = Manifest.__slots__
    if document.keys() != set(names):
        missing, unknown = sorted(set(names) - document.keys()), sorted(document.keys() - set(names))
        raise ArtifactInvalid(f"{path}: got no {missing} and unknown {unknown}, allowed {', '.join(names)}")
    for name in names:
        allowed, is_right = FORMS.get(name, OBJECT)
        if not is_right(document[name]):
            raise ArtifactInvalid(f"{path}: {name}: got {str(document[name])[:80]!r}, allowed {allowed}")
    return Manifest(**{**document, "feature_names": tuple(document["feature_names"])})


def _are_texts(values: Any) -> bool:
    return all(isinstance(value, str) and value for value in values)


def _is_hashes(value: Any) -> bool:
    return isinstance(value, dict) and bool(value) and all(SHA256.fullmatch(str(digest)) for digest in value.values())


def _is_ranges(value: Any) -> bool:
    return isinstance(value, dict) and all(
        isinstance(pair, list) and len(pair) == 2 and all(type(limit) in (int, float) for limit in pair)
        for pair in value.values()
    )


TEXT = ("a text", lambda value: isinstance(value, str) and bool(value))
OBJECT = ("an object", lambda value: isinstance(value, dict))
FORMS: Mapping[str, tuple[str, Callable[[Any], bool]]] = {
    **dict.fromkeys(("model", "version", "kind", "created"), TEXT),
    "feature_names": ("a list of names", lambda value: isinstance(value, list) and _are_texts(value)),
    "training_range": ("an object with two numbers each", _is_ranges),
    "libraries": ("an object of texts", lambda value: isinstance(value, dict) and _are_texts(value.values())),
    "files": ("an object of SHA-256, one file or more", _is_hashes),
    "example": (
        "an object with request and answer",
        lambda value: isinstance(value, dict) and all(isinstance(value.get(k), dict) for k in ("request", "answer")),
    ),
}


def versions(root: Path) -> list[str]:
    """Return the versions stored under `root` whose manifests can be read, oldest name first."""
    return [artifact.path.name for artifact in _readable(root)]


def _stored(root: Path) -> list[str]:
    return sorted(path.parent.name for path in root.glob(f"*/{MANIFEST}"))


def _readable(root: Path) -> list[Artifact]:
    found = []
    for name in _stored(root):
        try:
            found.append(open_artifact(root / name))
        except (ArtifactInvalid, ModelNotFound) as error:
            _say_left_out(str(error))
    return found


@lru_cache(maxsize=256)  # once each, not with every request
def _say_left_out(reason: str) -> None:
    log.warning("model version left out", extra={"error": reason})


def current_version(root: Path) -> str:
    """Return the version that `root/CURRENT` names; ModelNotFound if there is none."""
    try:
        return (root / CURRENT).read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        raise ArtifactInvalid(f"{root / CURRENT}: got {error.reason}, allowed the name of a version") from None
    except OSError:
        raise ModelNotFound(f"{root / CURRENT}: no current version; run `kappawatt train`") from None


def find_artifact(root: Path, version: str | None = None) -> Artifact:
    """Return the artifact of `version` under `root`.

    `root` may also be one artifact itself, as a platform mounts it (`/opt/ml/model`).

    Parameters
    ----------
    version : str or None
        A version, or a kind (`baseline`), which is the newest of that kind; None is the current one.

    Raises
    ------
    ModelNotFound
        There is none; the message names those there are, without those that cannot be read.
    ArtifactInvalid
        The version itself is damaged.
    """
    if (root / MANIFEST).exists():
        artifact = open_artifact(root)
        if version in (None, artifact.manifest.version, artifact.manifest.kind):
            return artifact
        raise _not_found(str(version), [artifact])
    wanted = version or current_version(root)
    if wanted in _stored(root):
        return open_artifact(root / wanted)
    found = _readable(root)
    of_kind = [artifact for artifact in found if artifact.manifest.kind == wanted]
    if not of_kind:
        raise _not_found(wanted, found)
    return max(of_kind, key=lambda artifact: (artifact.manifest.created, artifact.manifest.version))


def _not_found(wanted: str, found: list[Artifact]) -> ModelNotFound:
    names = ", ".join(artifact.manifest.version for artifact in found) or "none yet"
    kinds = ", ".join(sorted({artifact.manifest.kind for artifact in found}))
    newest = f", or a kind for the newest of it: {kinds}" if kinds else ""
    return ModelNotFound(f"version: got {wanted[:80]!r}, allowed {names}{newest}")
