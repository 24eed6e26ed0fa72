"""Fixtures of the model tests."""

from collections.abc import Iterator

import pytest

from tests.models.api.apis import CLASSES, KEY


@pytest.fixture
def planted_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set a key for every provider, and no base URL."""
    for cls in CLASSES.values():
        monkeypatch.delenv(cls.service.base_url_name, raising=False)
        for name in cls.service.key_names:
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(cls.service.key_names[0], KEY)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Hold torch to one thread: with busy cores, more of them wait for each other."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
