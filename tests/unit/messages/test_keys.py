"""Keys of messages as text."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from kappawatt.messages.keys import key_text

texts_like_digits = st.binary(max_size=8).map(lambda data: b"0x" + data.hex().encode())
keys = st.binary(max_size=20) | st.text(max_size=10).map(str.encode) | texts_like_digits


@given(st.text(max_size=20))
def test_a_key_that_is_text_is_itself(text: str) -> None:
    assert key_text(text.encode()) == text or text.startswith("0x")


@given(keys, keys)
@example(b"\xff", b"0xff")
@example(b"0xff", b"0x30786666")
@example(b"\xff\xfe", b"\xfe\xff")
@example(b"0xF0", b"0xf0")
def test_no_two_keys_have_one_text(one: bytes, other: bytes) -> None:
    assert (key_text(one) == key_text(other)) == (one == other)
