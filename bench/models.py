"""The model both sides serve: one scikit-learn estimator, as joblib for MLServer, as ONNX for kappawatt."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.environments import environment
from bench.measure import say
from bench.processes import BenchError

__all__ = ["KINDS", "Trained", "kappawatt_artifact", "trained"]

KINDS = ("linear", "boosting")
TRAIN_SECONDS = 600
SCRIPT = Path(__file__).parent / "peers" / "train_model.py"


@dataclass(frozen=True, slots=True)
class Trained:
    """A trained model's folder and what training.json says of it."""

    folder: Path
    training: dict[str, Any]

    @property
    def joblib(self) -> Path:
        """The estimator as scikit-learn's users keep it."""
        return self.folder / "model.joblib"

    @property
    def onnx(self) -> Path:
        """The same estimator exported."""
        return self.folder / "model.onnx"


def trained(kind: str, cache: Path) -> Trained:
    """Return the model of `kind`, training it the first time; real data where KAPPAWATT_DATA is set."""
    data = os.environ.get("KAPPAWATT_DATA", "")
    folder = cache / f"model-{kind}-{'real' if data else 'synthetic'}"
    description = folder / "training.json"
    if not description.exists():
        say(f"training {kind} on {'real' if data else 'SYNTHETIC (KAPPAWATT_DATA is not set)'} data")
        python = environment("models", cache) / "python"
        command = [str(python), str(SCRIPT), kind, str(folder), *([data] if data else [])]
        done = subprocess.run(command, capture_output=True, text=True, timeout=TRAIN_SECONDS, check=False)
        if done.returncode:
            raise BenchError(f"training {kind}: {done.stderr.strip()[-800:]}")
    return Trained(folder, json.loads(description.read_text()))


def kappawatt_artifact(model: Trained) -> Path:
    """Return a kappawatt artifact around the exported model, for `KAPPAWATT_ARTIFACTS`.

    The plant service reads `model.onnx`, with an output for each response field that is a number; features it
    computes beyond the four conditions are given to the graph, which does not look at them.
    """
    from kappawatt.models.artifact import Manifest, save_artifact
    from kappawatt.serving.service import find_service

    training = model.training
    predictor = find_service("plant-power").predictor
    names = predictor.feature_names if predictor else ()
    if names[: len(training["names"])] != tuple(training["names"]):
        raise BenchError(f"plant-power's features: got {names}, allowed those that start with {training['names']}")
    answer, width = training["answer"], training["half_width"]
    manifest = Manifest(
        model="plant-power",
        version=f"bench-{training['kind']}",
        kind="default",
        created="2000-01-01T00:00:00Z",
        data={"source": training["source"], "sha256": training["sha256"], "rows": training["rows"]},
        feature_names=names,
        training_range={name: (low, high) for name, (low, high) in training["range"].items()},
        metrics={},
        libraries={},
        files={},
        example={
            "request": training["example"],
            "answer": {
                "net_power": answer,
                "net_power_lower": answer - width,
                "net_power_upper": answer + width,
            },
        },
    )
    folder = model.folder / "artifact"
    save_artifact(folder, {"model.onnx": model.onnx.read_bytes()}, manifest)
    return folder
