"""`changeover`, noting when each event was committed: run in place of `python -m changeover`.

Lines of `event's number, nanoseconds of the monotonic clock` go to the file BENCH_COMMITS. The number is the last word
of the title that the event carries; events without one are not noted.
"""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from typing import Any

from changeover.cli import main
from shadow.log import Log
from shadow.writer import Report


def _noting(path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    report_to_loop = Log._report

    def report(self: Log, waiting: Sequence[Any], report: Report) -> None:
        now = time.monotonic_ns()
        titles = [event.draft.data["title"] for event in report.events if "title" in event.draft.data]
        lines = [f"{title.rpartition(' ')[2]} {now}\n" for title in titles]
        if lines:
            os.write(file, "".join(lines).encode())
        report_to_loop(self, waiting, report)

    Log._report = report  # type: ignore[method-assign]


if __name__ == "__main__":
    _noting(os.environ["BENCH_COMMITS"])
    main()
