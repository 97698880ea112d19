"""The mark of the slow ones: `-m "not chaos"` leaves them out."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "chaos: kills real workers and servers of its own; about a minute in all")
