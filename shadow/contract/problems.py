"""How mistakes in a contract, and values that a contract cannot digest, are told."""

from __future__ import annotations

from dataclasses import dataclass

from shadow.errors import Mendable


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a contract file: where it stands, what it is, and what to write instead."""

    file: str
    key: str
    line: int
    message: str
    hint: str = ""

    def __str__(self) -> str:
        """Return one line, as in `contract.toml:12: mutation."a.b".event: is missing (write …)`."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        return f"{place}: {key}{self.message}" + (f" ({self.hint})" if self.hint else "")


class ContractError(Mendable):
    """A contract that cannot be used, with all of its problems."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems


class ExpressionError(Exception):
    """An expression of the contract failed on a call's values; the message never contains a value.

    `procedure` is the call's, `key` says where in the contract the expression stands.
    """

    def __init__(self, procedure: str, key: str, message: str) -> None:
        super().__init__(f"{procedure}: {key}: {message}")
        self.procedure = procedure
        self.key = key
        self.message = message
