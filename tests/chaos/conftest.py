"""Failures of the chaos suite show what was compared, wherever the assert stands."""

import pytest

pytest.register_assert_rewrite("tests.chaos.verdict", "tests.chaos.remains")
