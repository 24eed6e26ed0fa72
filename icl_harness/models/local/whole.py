"""Rows of models that do not go on from a cache: each prompt is fed from its first token at every
step.

In: token ids. Out: logits. Nothing is kept, so a token costs its whole prompt: what is exact for
any model, and the last that is tried (ways.py). Rows of a batch are of one length, so that none is
padded.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from icl_harness.models.local.kv import Places, Prefix, Rows, Runner
from icl_harness.models.local.tokens import Ids, Twig


class WholePrefix(Prefix):
    """The ids of one path, and no more."""

    way = "whole"

    def __init__(self, runner: Runner) -> None:
        runner.level = True
        super().__init__(runner)

    def forget(self) -> None:
        """Forget the path."""
        self.ids: Ids = np.zeros(0, np.int32)

    def reach(self, ids: Ids) -> None:
        """Take note of the path."""
        self.ids = ids

    def rows(self, twigs: Sequence[Twig], wanted: Places, room: int = 0) -> Rows:
        """Feed each twig's whole prompt, one row a twig; twigs must be chains of one length."""
        return WholeRows(self, twigs, wanted)


class WholeRows(Rows):
    """Prompts of one length, with all their tokens."""

    def __init__(self, prefix: WholePrefix, twigs: Sequence[Twig], wanted: Places) -> None:
        if not all(twig.is_chain for twig in twigs):
            raise ValueError("a prompt that is fed whole is one chain of tokens")
        self._runner = prefix.runner
        self._tokens = np.array(
            [[*prefix.ids[: twig.n_shared], *twig.own] for twig in twigs], np.int64
        )
        rows, places = wanted
        columns = [twigs[row].n_shared + place for row, place in zip(rows, places, strict=True)]
        self.logits = self._forward((list(rows), columns))

    def step(self, tokens: NDArray[np.int64]) -> torch.Tensor:
        """Feed all anew with one more token to each row; return the next one's logits (rows,
        vocabulary).
        """
        self._tokens = np.concatenate([self._tokens, np.asarray(tokens)[:, None]], axis=1)
        n, length = self._tokens.shape
        return self._forward((range(n), [length - 1] * n))

    def select(self, rows: NDArray[np.int64]) -> None:
        """Go on with `rows` (indices; repeats allowed) only."""
        self._tokens = self._tokens[rows]

    @torch.inference_mode()
    def _forward(self, wanted: Any) -> torch.Tensor:
        positions = np.tile(np.arange(self._tokens.shape[1]), (len(self._tokens), 1))
        return self._runner.forward(self._tokens, None, positions, wanted=wanted)
