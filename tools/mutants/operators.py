"""Which faults are made: cosmic-ray's operators, without those that others imply, and four of our own.

cosmic-ray replaces each arithmetic operator by eleven others and each comparison by seven, most of which end in a
TypeError at once; what is kept of them are the boundary, the opposite and the nearest neighbour. Statements that are
not run, `min` for `max` and `in` for `not in` are faults it does not know, and of exceptions it replaces plain names
only.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import parso.python.tree
from cosmic_ray.operators.operator import Operator
from cosmic_ray.plugins import get_operator

__all__ = ["WORDS", "operators"]

ARITHMETIC = ("Add_Sub", "Sub_Add", "Mul_Div", "Div_Mul", "FloorDiv_Mul", "Mod_FloorDiv", "Pow_Mul",
              "BitOr_BitAnd", "BitAnd_BitOr", "BitXor_BitOr", "LShift_RShift", "RShift_LShift")  # fmt: skip
COMPARISONS = ("Eq_NotEq", "NotEq_Eq", "Lt_LtE", "Lt_GtE", "LtE_Lt", "LtE_Gt", "Gt_GtE", "Gt_LtE", "GtE_Gt", "GtE_Lt",
               "Is_IsNot", "IsNot_Is")  # fmt: skip
OTHERS = ("ReplaceUnaryOperator_USub_UAdd", "ReplaceUnaryOperator_Delete_Not", "ReplaceUnaryOperator_Delete_Invert",
          "AddNot", "ReplaceTrueWithFalse", "ReplaceFalseWithTrue", "ReplaceAndWithOr", "ReplaceOrWithAnd",
          "ReplaceBreakWithContinue", "ReplaceContinueWithBreak", "NumberReplacer", "RemoveDecorator",
          "ZeroIterationForLoop")  # fmt: skip
OPPOSITE = {"min": "max", "max": "min", "minimum": "maximum", "maximum": "minimum", "any": "all", "all": "any"}
WORDS = ("log.", "logging.", "warnings.")  # a line for people: its words are nobody's behaviour


def operators() -> dict[str, Operator]:
    """Return each operator by name."""
    names = (
        *(f"ReplaceBinaryOperator_{pair}" for pair in ARITHMETIC),
        *(f"ReplaceComparisonOperator_{pair}" for pair in COMPARISONS),
        *OTHERS,
    )
    own = (RemoveStatement(), ReplaceByOpposite(), ReplaceMembership(), ReplaceException())
    return {name: get_operator(f"core/{name}")() for name in names} | {type(o).__name__: o for o in own}


class RemoveStatement(Operator):  # type: ignore[misc]
    """A call, an assignment to a part or of a name by itself, a `raise` or `del` is not run."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.parent is None or node.parent.type != "simple_stmt" or node is not node.parent.children[0]:
            return
        if self._is_effect(node):
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        return parso.python.tree.Keyword("pass", node.start_pos, node.get_first_leaf().prefix)

    @staticmethod
    def _is_effect(node: Any) -> bool:
        if node.type in {"raise_stmt", "del_stmt", "yield_expr"}:
            return True
        if node.type in {"atom_expr", "power"}:
            return not node.get_code(include_prefix=False).startswith(WORDS)
        if node.type != "expr_stmt":
            return False
        target, sign = node.children[0], node.children[1]
        if sign.type == "annassign" or target.type == "testlist_star_expr":
            return False
        if sign.type != "operator" or sign.value != "=" or target.type != "name":
            return True  # an augmented one, or a part of something
        return any(leaf == target.value for leaf in _names(node.children[-1]))

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceByOpposite(Operator):  # type: ignore[misc]
    """`min` for `max`, `any` for `all`, `minimum` for `maximum`, and the other way round."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        following = node.get_next_leaf() if node.type == "name" and node.value in OPPOSITE else None
        if following is not None and following.value == "(":
            yield node.start_pos, node.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.value = OPPOSITE[node.value]
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceMembership(Operator):  # type: ignore[misc]
    """`in` for `not in`, and the other way round, in comparisons."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        for sign in self._signs(node):
            yield sign.start_pos, sign.end_pos

    def mutate(self, node: Any, index: int) -> Any:
        sign = self._signs(node)[index]
        word = "not in" if sign.get_code().strip() == "in" else "in"
        node.children[node.children.index(sign)] = parso.parse(" " + word)
        return node

    @staticmethod
    def _signs(node: Any) -> list[Any]:
        if node.type != "comparison":
            return []
        return [sign for sign in node.children[1::2] if sign.get_code().strip() in {"in", "not in"}]

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


class ReplaceException(Operator):  # type: ignore[misc]
    """Another exception is caught than those that are named."""

    def mutation_positions(self, node: Any) -> Iterator[tuple[Any, Any]]:
        if node.type == "except_clause":
            yield node.children[1].start_pos, node.children[1].end_pos

    def mutate(self, node: Any, index: int) -> Any:
        node.children[1] = parso.python.tree.Name("NotImplementedError", node.children[1].start_pos, " ")
        return node

    @classmethod
    def examples(cls) -> tuple[()]:
        return ()


def _names(node: Any) -> Iterator[str]:
    if node.type == "name":
        yield node.value
    for child in getattr(node, "children", ()):
        yield from _names(child)
