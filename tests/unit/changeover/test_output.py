"""What a process says about its work never gets in the way of the work."""

from __future__ import annotations

import errno
import io

from changeover.output import BestEffort


class FullDisk(io.StringIO):
    """A stream into a file that cannot grow."""

    def write(self, _: str) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")


def test_what_can_be_written_is_written() -> None:
    kept = io.StringIO()
    print("one", file=BestEffort(kept), flush=True)
    assert kept.getvalue() == "one\n"


def test_a_line_that_cannot_be_written_is_dropped() -> None:
    print("one", file=BestEffort(FullDisk()), flush=True)
