"""Fixtures of the model tests."""

import pytest

from tests.models.apis import CLASSES, KEY


@pytest.fixture
def planted_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a key for every provider, and no base URL."""
    for cls in CLASSES.values():
        monkeypatch.delenv(cls.base_url_name, raising=False)
        for name in cls.key_names:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(cls.key_names[0], KEY)
