"""A power curve by the method of bins: the mean power in half metres per second of wind."""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid
from kappawatt.models.arrays import read_arrays

__all__ = ["Curve", "fit", "pack", "unpack"]

Vector = NDArray[np.float64]

BIN = 0.5  # m/s, as IEC 61400-12-1 draws it
LEVEL = 0.9


@dataclass(frozen=True, slots=True)
class Curve:
    """Mean power [kW] over normalised wind speed [m/s], and half the width of its interval."""

    speed: Vector
    power: Vector
    half_width: Vector

    def predict(self, speed: Vector) -> dict[str, Vector]:
        """Return power and its interval [kW] at some speeds."""
        power = np.interp(speed, self.speed, self.power)
        half = np.interp(speed, self.speed, self.half_width)
        return {"power": power, "power_lower": power - half, "power_upper": power + half}


def fit(speed: Vector, power: Vector) -> Curve:
    """Return the curve of bins that hold ten readings or more."""
    place = np.round(speed / BIN).astype(np.intp)
    kept = [i for i in np.unique(place).tolist() if (place == i).sum() >= 10]
    means = np.array([power[place == i].mean() for i in kept])
    spread = [np.quantile(np.abs(power[place == i] - mean), LEVEL) for i, mean in zip(kept, means, strict=True)]
    return Curve(np.array(kept) * BIN, means, np.array(spread))


def pack(curve: Curve) -> bytes:
    """Return the curve as a `.npz`."""
    buffer = io.BytesIO()
    np.savez(buffer, **asdict(curve))
    return buffer.getvalue()


def unpack(content: bytes) -> Curve:
    """Return the curve in a `.npz`; ArtifactInvalid if it holds anything else."""
    arrays = read_arrays(content)
    if set(arrays) != {field.name for field in fields(Curve)} or len({array.shape for array in arrays.values()}) != 1:
        raise ArtifactInvalid(f"model.npz: got {sorted(arrays)}, allowed speed, power, half_width of one length")
    return Curve(**arrays)
