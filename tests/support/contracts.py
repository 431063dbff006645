"""The example contract, changed as a test needs it."""

from __future__ import annotations

from pathlib import Path

from tests.support.proxy import CONTRACT


def contract_with(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the example contract with pieces of its text replaced; every piece must be there."""
    text = CONTRACT.read_text()
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    folder.mkdir(parents=True, exist_ok=True)
    written = folder / "contract.toml"
    written.write_text(text)
    return written


def impatient(folder: Path, *changes: tuple[str, str]) -> Path:
    """Write the example contract for a legacy in which no request lives longer than a second."""
    return contract_with(folder, ('max_request = "30s"', 'max_request = "1s"'), *changes)
