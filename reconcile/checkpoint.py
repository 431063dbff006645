"""How far a run came, in a file, so that one that was stopped goes on where it was.

What is kept are the entities that single reads proved equal: they are what takes time. Lists are walked again, and
everything that was not proven is compared again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from reconcile.errors import ReconcileError
from shadow import json

SCHEMA: Final = "changeover.reconcile-checkpoint/1"
EVERY: Final = 2.0
"""Seconds between two writes of the file."""


class Checkpoint:
    """The file of one run. `identity` says what is compared with what; `clock` counts seconds."""

    def __init__(self, path: Path, identity: Mapping[str, str], clock: Callable[[], float]) -> None:
        self._path = path
        self._identity = dict(identity)
        self._clock = clock
        self._proven = self._load()
        self._written = clock()

    def proven(self, entity: str) -> set[str]:
        """Return the keys of a kind that were proven equal before; add to it what is proven now."""
        return self._proven.setdefault(entity, set())

    def save(self, *, now: bool = False) -> None:
        """Write the file if it is time to, or `now`; a reader sees the former or the new one, whatever happens."""
        if not now and self._clock() - self._written < EVERY:
            return
        kept = {entity: sorted(keys) for entity, keys in self._proven.items()}
        draft = self._path.with_name(self._path.name + ".new")
        try:
            draft.write_bytes(json.encode({"schema": SCHEMA, "identity": self._identity, "proven": kept}))
            draft.replace(self._path)
        except OSError as error:
            raise ReconcileError(f"cannot write the checkpoint {self._path}: {error.strerror}") from None
        self._written = self._clock()

    def finish(self) -> None:
        """Remove the file: the run came to its end."""
        with suppress(FileNotFoundError):
            self._path.unlink()

    def _load(self) -> dict[str, set[str]]:
        try:
            value = json.decode(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, json.JsonError) as error:
            raise ReconcileError(f"cannot read the checkpoint {self._path}: {error}; remove it to begin anew") from None
        if not isinstance(value, dict) or value.get("schema") != SCHEMA or value.get("identity") != self._identity:
            raise ReconcileError(
                f"the checkpoint {self._path} belongs to another contract, log or API; remove it to begin anew"
            )
        return {entity: set(keys) for entity, keys in value["proven"].items()}
