"""Arrays of an artifact: read from `.npz` once, in one way, and never unpickled."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.errors import ArtifactInvalid

__all__ = ["read_arrays"]


def read_arrays(content: bytes, name: str = "model.npz") -> dict[str, NDArray[Any]]:
    """Return the arrays in a `.npz` file by name.

    Parameters
    ----------
    content : bytes
        The file.
    name : str
        What an error calls it.

    Raises
    ------
    ArtifactInvalid
        It is no such file, or holds objects, which only unpickling could read.
    """
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return dict(file)
    except Exception as error:  # zipfile, zlib, tokenize and NumPy share no base but Exception
        raise ArtifactInvalid(f"{name}: {str(error)[:200]}") from error
