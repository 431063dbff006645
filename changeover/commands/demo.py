"""`changeover demo`: the main job, told on one screen."""

from __future__ import annotations

from typing import Annotated

import typer


def demo(
    keep: Annotated[bool, typer.Option("--keep", help="Stay up afterwards and print the addresses.")] = False,
) -> None:
    """Run a scripted day of two real clients on a real tRPC server through the proxy, and prove what came of it.

    Exit code 0 only if everything that it claims on the screen was true.
    """
    from changeover.demo.story import run

    if not run(keep=keep):
        raise typer.Exit(1)
