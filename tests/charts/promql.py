"""What a PromQL expression answers at one moment, for the part of the language that the alerts use.

A rate is taken from the samples as it is: a counter's sample is its rate.
"""

from __future__ import annotations

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import promql_parser as promql

AGGREGATES: dict[str, Callable[[Iterable[float]], float]] = {"sum": sum, "max": max, "count": lambda all_: len([*all_])}
COMPARISONS: dict[str, Callable[[float, float], bool]] = {"==": operator.eq, ">": operator.gt, "<": operator.lt}


@dataclass(frozen=True)
class Sample:
    """One series' value at this moment."""

    name: str
    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


def answer(expression: str, samples: Sequence[Sample]) -> list[Sample]:
    """Return the series that the expression has now; those of an alert are what it fires for."""
    return _evaluate(promql.parse(expression), samples)


def selectors(expression: str) -> list[promql.VectorSelector]:
    """Return every place where the expression names series."""
    found: list[promql.VectorSelector] = []

    def note(node: promql.Expr) -> None:
        if isinstance(node, promql.MatrixSelector):
            found.append(node.vector_selector)
        elif isinstance(node, promql.VectorSelector):
            found.append(node)

    promql.walk(promql.parse(expression), note)
    return found


def _evaluate(node: promql.Expr, samples: Sequence[Sample]) -> list[Sample]:
    if isinstance(node, promql.ParenExpr):
        return _evaluate(node.expr, samples)
    if isinstance(node, promql.MatrixSelector):
        return _evaluate(node.vector_selector, samples)
    if isinstance(node, promql.VectorSelector):
        return [
            each for each in samples
            if each.name == node.name and all(_matches(one, each.labels) for one in node.matchers.matchers)
        ]  # fmt: skip
    if isinstance(node, promql.Call):
        assert node.func.name == "rate", f"{node.func.name}: not read here"
        return _evaluate(node.args[0], samples)
    if isinstance(node, promql.AggregateExpr):
        groups = defaultdict(list)
        for each in _evaluate(node.expr, samples):
            groups[_only(each.labels, node.modifier.labels)].append(each.value)
        return [Sample("", AGGREGATES[str(node.op)](values), dict(key)) for key, values in groups.items()]
    assert isinstance(node, promql.BinaryExpr), f"{type(node).__name__}: not read here"
    return _binary(node, _evaluate(node.lhs, samples), samples)


def _binary(node: promql.BinaryExpr, left: list[Sample], samples: Sequence[Sample]) -> list[Sample]:
    name = str(node.op).split()[0]
    if name in COMPARISONS:
        assert isinstance(node.rhs, promql.NumberLiteral), "only comparisons with a number are read here"
        return [each for each in left if COMPARISONS[name](each.value, node.rhs.val)]
    right = _evaluate(node.rhs, samples)
    if name in ("and", "unless"):
        on = node.modifier.matching.labels if node.modifier and node.modifier.matching else None
        there = {_only(each.labels, on) for each in right}
        return [each for each in left if (_only(each.labels, on) in there) == (name == "and")]
    assert name == "/", f"{name}: not read here"
    divisors = {_only(each.labels, None): each.value for each in right}
    return [
        Sample("", each.value / divisors[key], each.labels)
        for each in left
        if (key := _only(each.labels, None)) in divisors
    ]


def _only(labels: Mapping[str, str], names: Sequence[str] | None) -> frozenset[tuple[str, str]]:
    return frozenset((name, value) for name, value in labels.items() if names is None or name in names)


def _matches(matcher: promql.Matcher, labels: Mapping[str, str]) -> bool:
    value, op = labels.get(matcher.name, ""), matcher.op
    if op in (promql.MatchOp.Equal, promql.MatchOp.NotEqual):
        return (value == matcher.value) == (op == promql.MatchOp.Equal)
    return (re.fullmatch(matcher.value, value) is not None) == (op == promql.MatchOp.Re)
