"""What all tests share."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

# A busy machine is slow at times; the tests check promises, never the wall clock.
settings.register_profile("changeover", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("changeover")
