"""How many threads a model's forwards take."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch

SMALL_MODEL = 20_000_000  # parameters


@contextlib.contextmanager
def few_threads(model: Any) -> Iterator[None]:
    """Hold a small model on the CPU to one thread: where cores are busy, threads wait for each
    other at every layer.
    """
    before = torch.get_num_threads()
    if model.device.type == "cpu" and model.num_parameters() < SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
