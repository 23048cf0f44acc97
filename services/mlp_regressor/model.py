"""One hidden layer of rectified linear units. scikit-learn fits it; an .npz file keeps it; NumPy answers.

A row's answer has the same bits alone or in a batch, so no product goes through BLAS, whose sums change order with
the shape of a batch.
"""

from __future__ import annotations

import io
from dataclasses import asdict, dataclass, fields

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid, SettingInvalid
from kappawatt.models.arrays import read_arrays

__all__ = ["HIDDEN_UNITS", "Network", "fit", "pack", "unpack"]

Vector = NDArray[np.float64]

HIDDEN_UNITS = 500
SEED = 2017  # of the weights that fitting starts from
CHUNK = 256  # rows at a time: their hidden layer takes 1 MB and stays in cache
DIGITS = 6  # of an answer; the error is in the third


@dataclass(frozen=True, eq=False)
class Network:
    """y = output_weights . max(0, hidden_weights position + hidden_biases) + output_bias.

    Parameters
    ----------
    hidden_weights, hidden_biases, output_weights : ndarray of shape (HIDDEN_UNITS,)
    output_bias : ndarray of shape ()
    half_width : ndarray of shape ()
        Of the 90 % prediction interval.
    """

    hidden_weights: Vector
    hidden_biases: Vector
    output_weights: Vector
    output_bias: Vector
    half_width: Vector

    def predict(self, position: Vector) -> dict[str, Vector]:
        """Return `y`, `y_lower` and `y_upper`, each of shape (n,), for positions of shape (n, 1)."""
        y = np.empty(len(position))
        for start in range(0, len(position), CHUNK):
            rows = slice(start, start + CHUNK)
            hidden = position[rows] * self.hidden_weights
            hidden += self.hidden_biases
            np.maximum(hidden, 0.0, out=hidden)
            hidden *= self.output_weights
            np.add.reduce(hidden, axis=1, out=y[rows])
        y += self.output_bias
        outputs = {"y": y, "y_lower": y - self.half_width, "y_upper": y + self.half_width}
        return {name: values.round(DIGITS) for name, values in outputs.items()}


def fit(position: Vector, y: Vector) -> Network:
    """Fit a network, its interval still without width. Only this needs scikit-learn; nothing that serves has it.

    L-BFGS, because the points have no noise and fit in memory; Adam, scikit-learn's default, stops far from it.

    Raises
    ------
    SettingInvalid
        scikit-learn is not installed.
    """
    try:
        from sklearn.neural_network import MLPRegressor
    except ImportError:
        raise SettingInvalid(
            "training mlp-regressor needs scikit-learn: pip install 'kappawatt[mlp-regressor-train]'"
        ) from None
    regressor = MLPRegressor(
        hidden_layer_sizes=(HIDDEN_UNITS,),
        activation="relu",
        solver="lbfgs",
        alpha=0.0,  # nothing to smooth away
        max_iter=3000,
        max_fun=50_000,
        tol=1e-9,
        random_state=SEED,
    )
    regressor.fit(position, y)
    (hidden_weights, output_weights), (hidden_biases, output_bias) = regressor.coefs_, regressor.intercepts_
    return Network(
        hidden_weights=hidden_weights[0],
        hidden_biases=hidden_biases,
        output_weights=output_weights[:, 0],
        output_bias=output_bias[0],
        half_width=np.zeros(()),
    )


def pack(network: Network) -> bytes:
    """Return a network as the bytes of an .npz file, the same for the same numbers."""
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **asdict(network))
    return buffer.getvalue()


def unpack(content: bytes) -> Network:
    """Return the network that `pack` made into bytes; ArtifactInvalid if it is none. Nothing is unpickled."""
    arrays = read_arrays(content)
    names = {field.name for field in fields(Network)}
    if set(arrays) != names:
        raise ArtifactInvalid(f"model.npz: got arrays {sorted(arrays)}, allowed {sorted(names)}")
    for name, array in arrays.items():
        shape = () if name in ("output_bias", "half_width") else (HIDDEN_UNITS,)
        if array.dtype != np.float64 or array.shape != shape or not np.isfinite(array).all():
            raise ArtifactInvalid(f"model.npz: {name}: got {array.dtype}{array.shape}, allowed finite float64{shape}")
    return Network(**arrays)
