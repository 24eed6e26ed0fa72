"""What every back end that scores choices needs: a check for choices, and the likeliest of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from icl_harness.errors import SpecError
from icl_harness.models.base import Sampling
from icl_harness.prompts.tree import Query


def need_choices(queries: Sequence[Query], sampling: Sampling) -> None:
    """Raise `SpecError` where a query has no choices to score."""
    for query in queries:
        if not query.choices or len(query.choices) != len(query.continuations):
            raise SpecError(
                f"scoring {sampling.scoring!r} weighs a query's choices, and query {query.id} "
                "has none. Use scoring 'generate', or a task whose examples have choices."
            )


def likeliest(logprobs: Mapping[str, float]) -> str:
    """Return the likeliest choice, the first of equals."""
    return max(logprobs, key=logprobs.__getitem__)
