"""Keys of messages as text."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kappawatt.messages.keys import key_text

texts_like_digits = st.binary(max_size=8).map(lambda data: b"hex:" + data.hex().encode())
names = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=20)
keys = st.binary(max_size=20) | st.text(max_size=10).map(str.encode) | texts_like_digits


@given(names)
@example("0x00158d0001234567")
def test_a_key_that_is_a_name_is_itself(name: str) -> None:
    assert key_text(name.encode()) == name or name.startswith("hex:")


@given(st.integers(0, 2**31 - 1))
def test_a_number_has_no_character_that_cannot_be_seen(number: int) -> None:
    assert key_text(number.to_bytes(4, "big")).isprintable()


@given(keys, keys)
@example(b"\xff", b"hex:ff")
@example(b"hex:ff", b"hex:6865783a6666")
@example(b"a\0", "a\ufffd".encode())
@example(b"\xff\xfe", b"\xfe\xff")
@example(b"hex:F0", b"hex:f0")
def test_no_two_keys_have_one_text(one: bytes, other: bytes) -> None:
    assert (key_text(one) == key_text(other)) == (one == other)
