"""What can be known of an expression's result without evaluating it."""

from __future__ import annotations

from shadow.expressions.compiler import Expression
from shadow.expressions.tree import Call, Const, Mapped, Node


def literal_keys(expression: Expression) -> frozenset[str] | None:
    """Return the keys of the map that the expression writes out; None when it is not written out."""
    root = expression.tree.root
    if not isinstance(root, Mapped) or root.message:
        return None
    keys = [entry.key.value for entry in root.entries if isinstance(entry.key, Const)]
    texts = frozenset(key for key in keys if isinstance(key, str))
    return texts if len(texts) == len(root.entries) else None


def literal_start(expression: Expression) -> str:
    """Return the text with which every result begins, as far as it is written out."""
    return _start(expression.tree.root)


def _start(node: Node) -> str:
    match node:
        case Const(value=str(text)):
            return text
        case Call(function="_+_", args=(first, _)):
            return _start(first)
        case _:
            return ""
