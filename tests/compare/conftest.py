"""A coarse reference, for what must hold of any."""

from collections.abc import Iterator

import pytest

from losslab.compare import simultaneous


@pytest.fixture
def few_draws(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Simulate less, and forget it."""
    simultaneous.simulate.cache_clear()
    monkeypatch.setattr(simultaneous, "DRAWS", 1000)
    monkeypatch.setattr(simultaneous, "LEAST_DRAWS", 300)
    yield
    simultaneous.simulate.cache_clear()
