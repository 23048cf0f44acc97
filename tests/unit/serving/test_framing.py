"""Where requests end, whatever pieces they arrive in."""

from __future__ import annotations

import pytest
from gunicorn.http.errors import InvalidRequestLine, LimitRequestHeaders, LimitRequestLine
from hypothesis import given, settings
from hypothesis import strategies as st

from kappawatt.errors import PayloadInvalid, PayloadTooLarge
from kappawatt.serving.server.framing import Framing

MOST = 1000
WHOLE = {
    "no body": b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n",
    "no headers": b"GET / HTTP/1.0\r\n\r\n",
    "an empty line before": b"\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
    "a length": b"POST / HTTP/1.1\r\ncontent-LENGTH:  5 \r\nHost: x\r\n\r\nhello",
    "a length at the end": b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
    "chunks": b"POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n00a;x=y\r\n0123456789\r\n0\r\n\r\n",
    "trailers": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nA: b\r\nC: d\r\n\r\n",
    "a body like an end": b"POST / HTTP/1.1\r\nContent-Length: 8\r\n\r\n\r\n\r\n\r\n\r\n",
}


@pytest.mark.parametrize("request_", WHOLE.values(), ids=WHOLE)
def test_a_request_is_whole_with_its_last_byte_and_not_before(request_: bytes) -> None:
    framing = Framing(MOST)

    assert [framing.is_whole(bytearray(request_[:n])) for n in range(1, len(request_))] == [False] * (len(request_) - 1)
    assert framing.is_whole(bytearray(request_))
    assert framing.length == len(request_)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(list(WHOLE.values())), st.binary(max_size=50), st.lists(st.integers(1, 40), max_size=30))
def test_what_follows_a_request_is_not_counted_to_it(request_: bytes, behind: bytes, sizes: list[int]) -> None:
    framing, data, sent = Framing(MOST), bytearray(), request_ + behind
    at = 0
    for size in [*sizes, len(sent)]:
        data += sent[at : at + size]
        at += size
        if framing.is_whole(data):
            break

    assert framing.length == len(request_)


REFUSED = {
    "another protocol": (b"\x16\x03\x01\x02\x00\x01", InvalidRequestLine),
    "words": (b"GARBAGE\r\n", InvalidRequestLine),
    "HTTP/0.9": (b"GET /\r\n", InvalidRequestLine),
    "lines that end with LF": (b"GET / HTTP/1.1\nHost: x\n\n", InvalidRequestLine),
    "a long line": (b"GET /" + b"a" * 9000, LimitRequestLine),
    "endless headers": (b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 6000, LimitRequestHeaders),
    "endless trailers": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + b"A: b\r\n" * 6000,
        LimitRequestHeaders,
    ),
    "chunks over the limit": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + b"64\r\n" + b" " * 100 + b"\r\n3E8\r\n",
        PayloadTooLarge,
    ),
    "a chunk over the limit": (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffff\r\n", PayloadTooLarge),
    "more frame than body": (
        b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n" + (b"1;" + b"x" * 200 + b"\r\na\r\n") * 300,
        PayloadTooLarge,
    ),
}


@pytest.mark.parametrize(("sent", "error"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_become_a_request_is_refused_before_its_end(sent: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        Framing(MOST).is_whole(bytearray(sent))


UNCLEAR = {
    "two lengths of a body": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
    "another coding": b"POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "chunks of HTTP/1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\n",
    "a chunk without a size": b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
}


@pytest.mark.parametrize("sent", UNCLEAR.values(), ids=UNCLEAR)
def test_what_only_the_parser_can_refuse_is_handed_to_it_at_once(sent: bytes) -> None:
    framing = Framing(MOST)

    assert framing.is_whole(bytearray(sent))
    assert framing.length == len(sent)


@pytest.mark.parametrize("length", [b"0" * 18 + b"5", b"1" * 19, b"9" * 5000], ids=["zeros first", "large", "endless"])
def test_a_length_of_more_digits_than_any_body_has_is_refused(length: bytes) -> None:
    with pytest.raises(PayloadInvalid, match=r"content-length: got .* allowed at most 18 digits"):
        Framing(MOST).is_whole(bytearray(b"POST / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\nhello"))


@pytest.mark.parametrize("length", [b"", b"+5", b"5,5", b"5 5", b"\xb2", b"0x5"])
def test_nothing_follows_a_length_that_is_none(length: bytes) -> None:
    framing = Framing(MOST)

    assert framing.is_whole(bytearray(b"POST / HTTP/1.1\r\nContent-Length: " + length + b"\r\n\r\n"))
    assert framing.is_cut


def test_a_body_over_the_limit_is_not_waited_for() -> None:
    framing = Framing(MOST)
    head = b"POST / HTTP/1.1\r\nContent-Length: 1001\r\n\r\n"

    framing.is_whole(bytearray(head))

    assert framing.is_cut
    assert framing.length == len(head)


@pytest.mark.parametrize(("version", "expects"), [(b"1.1", True), (b"1.0", False)])
def test_an_expectation_is_seen(version: bytes, expects: bool) -> None:
    framing = Framing(MOST)
    framing.is_whole(bytearray(b"POST / HTTP/" + version + b"\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"))

    assert framing.expects is expects
