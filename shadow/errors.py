"""What all errors meant for a user have in common."""

from __future__ import annotations

from typing import ClassVar


class Mendable(Exception):
    """An error whose message is a complete sentence for the person at the keyboard: what, where, what to do.

    `code` is the exit code of a command that ends with it: 1 a negative finding, 3 an error.
    """

    code: ClassVar[int] = 3
