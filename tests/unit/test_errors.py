"""Errors that may be one field's: they carry its parts, and never read them from their own sentence."""

from __future__ import annotations

import pickle

import pytest

from kappawatt.columns.batch import Rejection
from kappawatt.errors import FieldError, HistoryInsufficient, PayloadInvalid, SettingInvalid

KINDS = (HistoryInsufficient, PayloadInvalid, SettingInvalid)


@pytest.mark.parametrize("kind", KINDS)
def test_the_message_is_made_from_the_parts(kind: type[FieldError]) -> None:
    assert str(kind.of("time_zone", "'Mars'", "a name")) == "time_zone: got 'Mars', allowed a name"


@pytest.mark.parametrize("kind", KINDS)
def test_parts_that_look_like_the_sentence_stay_whole(kind: type[FieldError]) -> None:
    error = kind.of("a: got b", "c, allowed d", "e: got f, allowed g")

    assert (error.field, error.got, error.allowed) == ("a: got b", "c, allowed d", "e: got f, allowed g")


def test_a_message_that_looks_like_parts_is_no_field_s() -> None:
    error = HistoryInsufficient("load: the model failed: got nothing, allowed a number, and there is no other")

    assert (error.field, error.got) == (None, None)
    assert error.allowed == str(error)


def test_parts_survive_a_process_border() -> None:
    error = pickle.loads(pickle.dumps(PayloadInvalid.of("key", "'.'", "a name")))

    assert (str(error), error.field, error.got, error.allowed) == (
        "key: got '.', allowed a name",
        "key",
        "'.'",
        "a name",
    )


def test_a_rejection_and_an_error_say_the_same() -> None:
    error = PayloadInvalid.of("interval", "7 s", "3600 s")

    rejection = Rejection.of(3, "out_of_range", error)

    assert rejection == Rejection(3, "out_of_range", "interval", "7 s", "3600 s")
    assert Rejection(0, "missing_field", "load", None, "a number").error.args == (
        "load: got nothing, allowed a number",
    )
    assert Rejection(0, "malformed", None, 7, "an object").error.args == ("got 7, allowed an object",)
