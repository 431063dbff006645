"""Tests, and what they share in `tests.support`, whose assertions explain themselves as those of a test do."""

import pytest

pytest.register_assert_rewrite("tests.support")
