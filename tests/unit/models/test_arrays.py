"""Arrays of an artifact: what their headers say is compared with what is there."""

from __future__ import annotations

import io
import zipfile

import pytest
from numpy.lib import format as npy

from kappawatt.errors import ArtifactInvalid
from kappawatt.models.arrays import read_arrays


def packed(**shapes: tuple[int, ...]) -> bytes:
    """A file of arrays that claim these shapes, with 8 bytes of numbers each."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, shape in shapes.items():
            member = io.BytesIO()
            npy.write_array_header_1_0(member, {"descr": "<f8", "fortran_order": False, "shape": shape})
            archive.writestr(f"{name}.npy", member.getvalue() + bytes(8))
    return out.getvalue()


def test_an_array_of_a_negative_shape_does_not_make_room_for_a_large_one() -> None:
    with pytest.raises(ArtifactInvalid, match="allowed the 136 there are"):
        read_arrays(packed(large=(4 * 10**8,), negative=(-4 * 10**8,)))
    with pytest.raises(ArtifactInvalid, match=r"got the shape \(-1,\), allowed lengths from 0 up"):
        read_arrays(packed(negative=(-1,)))


def test_an_array_does_not_take_the_room_of_another() -> None:
    with pytest.raises(ArtifactInvalid, match=r"large\.npy: got an array of 144 bytes, allowed the 136 there are"):
        read_arrays(packed(small=(1,), large=(18,)))


def test_an_array_that_says_what_it_is_is_read() -> None:
    assert read_arrays(packed(one=(1,)))["one"].tolist() == [0.0]
