"""Problem documents (RFC 9457): what was got, what is allowed, which field."""

from __future__ import annotations

from typing import Any

import orjson
from flask import Response, g

from kappawatt.columns.batch import RowsRejected
from kappawatt.columns.budget import LISTED
from kappawatt.columns.strict_json import dump_json

__all__ = ["PROBLEM", "problem", "problem_document", "refused_rows", "rejected"]

PROBLEM = "application/problem+json"
MOST_ERRORS = LISTED  # reasons listed in a problem document; `rejected` is always the whole count


def problem(status: int, title: str, detail: str, **more: Any) -> Response:
    """Return the answer to the request at hand that is a problem document."""
    return Response(problem_document(status, title, detail, g.get("request_id"), **more), status, content_type=PROBLEM)


def problem_document(status: int, title: str, detail: str, request_id: str | None, **more: Any) -> bytes:
    """Return a problem document (RFC 9457)."""
    document = {"type": "about:blank", "title": title, "status": status, "detail": detail, "request_id": request_id}
    return dump_json(document | more, orjson.OPT_SERIALIZE_NUMPY)


def rejected(error: RowsRejected, **more: Any) -> Response:
    """Return the problem document of refused rows; `more` carries what was answered or accepted."""
    return problem(error.status, error.title, str(error), **refused_rows(error), **more)


def refused_rows(error: RowsRejected) -> dict[str, Any]:
    """Return what a problem document says of refused rows: how many, the first reasons, and how many more there are."""
    errors = [r.to_json() for r in error.rejections[:MOST_ERRORS]]
    more = len(error.rejections) - len(errors) + error.unlisted
    return {"rejected": error.rows, "errors": errors} | ({"more_errors": more} if more else {})
