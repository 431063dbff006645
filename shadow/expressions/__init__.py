"""Expressions of the contract: CEL, checked when they are loaded and evaluated to plain JSON."""

from shadow.expressions.compiler import Expression, Kind, compile_expression
from shadow.expressions.faults import CompileError, EvaluationError, Mistake
from shadow.expressions.literals import literal_keys, literal_start

__all__ = [
    "CompileError",
    "EvaluationError",
    "Expression",
    "Kind",
    "Mistake",
    "compile_expression",
    "literal_keys",
    "literal_start",
]
