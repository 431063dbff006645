"""Node programs that tests start, wait for and stop by their process id."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITH_NODE = ROOT / "scripts" / "with-node"


class NodeProgramError(AssertionError):
    """A Node program ended before it was ready; the message holds what it wrote to stderr."""


def start_node(script: Path, *args: str, stderr: Path, stdin: bool = False) -> subprocess.Popen[bytes]:
    """Start `script`; its stdout is a pipe, its stderr goes to the file `stderr`."""
    with stderr.open("ab") as errors:
        return subprocess.Popen(
            [str(WITH_NODE), "node", str(script), *args],
            stdin=subprocess.PIPE if stdin else subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=os.environ | {"NODE_NO_WARNINGS": "1"},
        )


def first_line(process: subprocess.Popen[bytes], stderr: Path) -> bytes:
    """Wait for the line that says that the program is ready; raises `NodeProgramError` when it ends without one."""
    assert process.stdout is not None
    line = process.stdout.readline()
    if line:
        return line
    status = process.wait()
    raise NodeProgramError(
        f"node ended with status {status} before it was ready:\n{stderr.read_text(errors='replace')}"
    )


def stop(process: subprocess.Popen[bytes], *, with_signal: signal.Signals = signal.SIGTERM, grace: float = 5.0) -> int:
    """End the process by its id, by force after `grace` seconds; returns its exit status. May be called again."""
    if process.poll() is None:
        process.send_signal(with_signal)
    try:
        return process.wait(timeout=grace)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()
    finally:
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()
