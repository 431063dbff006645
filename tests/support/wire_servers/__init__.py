"""Small real tRPC servers, one for each version, adapter and transformer of the wire matrix."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

from shadow.json import Json
from tests.support.node import first_line, start_node, stop
from tests.support.node_client import Transformer

SCRIPT = Path(__file__).with_name("server.mjs")

Version: TypeAlias = Literal[10, 11]
Adapter: TypeAlias = Literal["standalone", "express", "fetch"]


@dataclass(frozen=True, slots=True)
class Wire:
    """One column of the matrix: how a server speaks."""

    version: Version = 11
    adapter: Adapter = "standalone"
    transformer: Transformer = "none"

    def __str__(self) -> str:
        return f"{self.version}-{self.adapter}-{self.transformer}"


@dataclass(frozen=True, slots=True)
class WireServer:
    """A running server of the matrix; `url` includes the base path, WebSockets are served at the same address."""

    wire: Wire
    url: str
    port: int


ADAPTERS: tuple[tuple[Version, Adapter], ...] = (
    (10, "standalone"),
    (10, "express"),
    (11, "standalone"),
    (11, "express"),
    (11, "fetch"),
)
TRANSFORMERS: tuple[Transformer, ...] = ("none", "superjson", "devalue")
MATRIX = tuple(Wire(version, adapter, transformer) for version, adapter in ADAPTERS for transformer in TRANSFORMERS)
ONE_OF_EACH = tuple(wire for wire in MATRIX if wire.transformer == "none" or wire.adapter == "fetch")
"""Every adapter and every transformer, but not every pair of them."""


@contextmanager
def running_wire_server(wire: Wire, directory: Path, *flags: str) -> Iterator[WireServer]:
    """Start one server of the matrix; its stderr goes to a file in `directory`.

    Flags: `--method-override`, `--no-batching`, `--stack`, `--base-path /path`.
    """
    speaks = ("--version", str(wire.version), "--adapter", wire.adapter, "--transformer", wire.transformer)
    with _running(directory / f"wire-{wire}.log", *speaks, *flags) as servers:
        yield WireServer(wire, **servers[str(wire)])


@contextmanager
def running_wire_matrix(directory: Path, *flags: str) -> Iterator[Mapping[Wire, WireServer]]:
    """Start the whole matrix in one process, each server on a port of its own."""
    with _running(directory / "wire-matrix.log", "--matrix", *flags) as servers:
        yield {wire: WireServer(wire, **servers[str(wire)]) for wire in MATRIX}


@contextmanager
def _running(stderr: Path, *args: str) -> Iterator[Json]:
    process = start_node(SCRIPT, *args, stderr=stderr)
    try:
        yield json.loads(first_line(process, stderr))["servers"]
    finally:
        stop(process)
