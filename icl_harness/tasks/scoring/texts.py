"""Free texts of one line, translations and summaries: chrF2++ and ROUGE-L of a line.

What is equal is sacrebleu's and rouge-score's to say (extra `tasks`). In: an answer, of which the
first line counts, behind a cue such as "Summary:". Out: the score of that sentence, 0 to 1. A whole
cell's chrF2++ is no mean of these: `ngram_counts` of all its answers are put together (metrics.py).
"""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Sequence
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError
from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, Scorer, first_line, spoken

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_QUOTES = (("**", "**"), ('"', '"'), ("“", "”"), ("«", "»"))


def chrf_match(cue: str) -> Scorer:
    """Return the scorer of translations that may stand behind the cue, a language's name: chrF2++
    of the sentence. Raises `SpecError` where sacrebleu is not installed.
    """
    _check_installed("sacrebleu")
    return partial(_chrf, cue=cue)


def rouge_match(cue: str) -> Scorer:
    """Return the scorer of texts that may stand behind a cue: the F-measure of ROUGE-L, as
    rouge-score gives it by default (no stemming). Raises `SpecError` where it is not installed.
    """
    _check_installed("rouge_score")
    return partial(_rouge, cue=cue)


def ngram_counts(said: str, target: str) -> list[float]:
    """Return three numbers for each order of n-grams: those of what was said, of the target, and
    those that match.
    """
    # sacrebleu's own counts: only a whole corpus has a public function
    (counts,) = _chrf_metric()._extract_corpus_statistics([said], [[target]])
    return [float(count) for count in counts]


def chrf_of_counts(counts: Sequence[float] | NDArray[np.float64]) -> float:
    """Return chrF2++, 0 to 1, of the counts of one answer, or of the sum or mean of many."""
    return float(_chrf_metric()._compute_f_score(list(counts))) / 100


def _chrf(answer: str, example: Example, *, cue: str) -> Score:
    said = said_line(answer, cue, example.target)
    if not said:
        return UNPARSED
    return Score(said, chrf_of_counts(ngram_counts(said, example.target)))


def _rouge(answer: str, example: Example, *, cue: str) -> Score:
    said = said_line(answer, cue, example.target)
    if not said:
        return UNPARSED
    return Score(said, float(_rouge_scorer().score(example.target, said)["rougeL"].fmeasure))


def said_line(answer: str, cue: str, target: str = "") -> str:
    """Return the first line of an answer, without the cue, and without quotes or stars around the
    whole of it that the target does not have.
    """
    line = first_line(spoken(answer))
    line = re.sub(rf"^\W{{0,4}}{re.escape(cue)}\W{{0,4}}[:：]\W{{0,3}}\s", "", line, flags=re.I)
    for opens, closes in _QUOTES:
        inner = line[len(opens) : -len(closes)]
        is_whole = line.startswith(opens) and line.endswith(closes)
        is_dress = is_whole and not target.startswith(opens)
        if is_dress and inner.strip() and opens not in inner and closes not in inner:
            line = inner.strip()
    return line if re.search(r"\w", line) else ""


@lru_cache(maxsize=1)
def _chrf_metric() -> Any:
    _check_installed("sacrebleu")
    from sacrebleu.metrics.chrf import CHRF

    return CHRF(word_order=2)


@lru_cache(maxsize=1)
def _rouge_scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"])


def _check_installed(module: str) -> None:
    if importlib.util.find_spec(module) is None:
        package = module.replace("_", "-")
        raise SpecError(f"it needs {package}: pip install 'icl-harness[tasks]'.")
