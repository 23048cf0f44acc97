"""A poll is cut into portions that fit the memory."""

from __future__ import annotations

from kappawatt.bus.interface import Records
from kappawatt.messages.portions import portions


def lengths(*values: bytes) -> list[int]:
    """How many messages each portion has."""
    n = len(values)
    polled = Records("t", 0, range(n), [0] * n, [None] * n, values, [()] * n)
    return [sum(map(len, portion)) for portion in portions([polled])]


def test_columns_of_as_many_rows_as_a_body_may_have_come_alone() -> None:
    for name in (b"columns", b"\\u0063olumns"):
        column = b'{"%b":{"net_power":[%b]}}' % (name, b",".join([b"1"] * 250_000))

        assert lengths(column, column, column) == [1, 1, 1]


def test_a_poll_of_small_messages_is_one_portion() -> None:
    assert lengths(*[b'{"columns":{"a":[1,2],"b":[3,4]}}', b'{"a":1,"b":3}'] * 2_500) == [5_000]
