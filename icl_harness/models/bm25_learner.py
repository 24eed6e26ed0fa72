"""The label of the shot that is most like a query by BM25: what words alone tell.

In: the inputs and targets of shots, texts. Out: a target a query. Numbers are words here: only
equal ones are alike. Of equally similar shots the first one counts; where no shot shares a word
with the query, the commonest target does, the first seen of several.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray


class Bm25:
    """A learner that is asked as a scikit-learn pipeline is."""

    def fit(self, inputs: Sequence[str], targets: Sequence[str]) -> None:
        """Learn."""
        from icl_harness.prompts.similarity import fit_bm25

        self._likeness: Callable[[str], NDArray[np.float64]] = fit_bm25(tuple(inputs))
        self._targets = targets
        self._commonest = Counter(targets).most_common(1)[0][0]

    def predict(self, inputs: Sequence[str]) -> list[str]:
        """Return a target per input."""
        return [self._nearest(text) for text in inputs]

    def _nearest(self, text: str) -> str:
        likeness = self._likeness(text)
        best = int(likeness.argmax())
        return self._targets[best] if likeness[best] > 0 else self._commonest
