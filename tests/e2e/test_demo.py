"""The demo tells the truth, and fits on one screen."""

from __future__ import annotations

from tests.support.proxy import changeover


def test_the_demo_ends_with_success_only_because_everything_it_says_held() -> None:
    done = changeover("demo")

    assert done.returncode == 0, done.stdout + done.stderr
    assert "✗" not in done.stdout
    assert "behind the proxy's back is caught" in done.stdout
    assert len(done.stdout.splitlines()) <= 45
    assert done.stderr == ""
