"""What the requests of a bundle take of one model: tokens, dollars, seconds, room in its window.

In: a row of a plan, and the requests that it is to stand for. Out: the row with their numbers.
Tokens are counted, and caches and dollars foreseen, by the model. Left out: which requests those
are (asker.py).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from icl_harness.models.api.limiter import Rates
from icl_harness.models.api.usual import SOURCE
from icl_harness.models.base import Model, Sampling
from icl_harness.models.forecast import Count, Counter, Forecast
from icl_harness.plan.estimate import Planned
from icl_harness.runner.groups import Request
from icl_harness.runner.schedule import Bundle
from icl_harness.store.cells import AnswerTokens

ROUNDING = 1e-6  # of a token


@dataclass(frozen=True, kw_only=True)
class Part:
    """A bundle of a cell: the requests that are left of it, and the shots that they get; None
    where it is skipped.
    """

    bundle: Bundle
    shots: int | None
    requests: Sequence[Request]

    def at(self, shots: int) -> Part:
        """Return the same with another shot count."""
        return replace(self, shots=shots, requests=self.bundle.same(self.requests, shots))


@dataclass(frozen=True, kw_only=True)
class Pricing:
    """Counts the tokens of one model's requests and foresees what they cost."""

    model: Model
    counter: Counter
    forecast: Forecast | None
    paced: bool  # whether the account's rates are what takes time; batches take theirs
    measured: Mapping[tuple[str, str], AnswerTokens]  # by task and model: of the run so far

    @classmethod
    def of(
        cls, model: Model, *, paced: bool, measured: Mapping[tuple[str, str], AnswerTokens]
    ) -> Pricing:
        """Return that of a model."""
        counter, forecast = model.counter(), model.forecast()
        return cls(model=model, counter=counter, forecast=forecast, paced=paced, measured=measured)

    def with_empty_caches(self) -> Pricing:
        """Return the same for prompts that share no cache with those before."""
        return replace(self, forecast=self.model.forecast())

    @property
    def is_unpriced(self) -> bool:
        """Whether the model costs money and it is not known how much."""
        return self.model.is_api and self.model.price is None

    async def count(self, part: Part, n: int | None = None) -> Count | None:
        """Return the tokens of a part, or of its first `n` requests."""
        queries = [request.query for request in part.requests[:n]]
        return await self.counter.count(part.bundle.node(part.shots or 0), queries)

    def with_window(self, row: Planned) -> Planned:
        """Return a row with the model's context window, and who says so."""
        window, price = self.model.capabilities.context_window, self.model.price
        if window is not None:
            source = "user" if self.model.is_api else "model"
            return replace(row, window=window, window_source=source)
        if price is not None and price.context_window is not None:
            return replace(row, window=price.context_window, window_source="price table")
        return row

    def fill(self, row: Planned, part: Part, count: Count | None) -> Planned:
        """Return a row with the tokens, dollars and seconds of its requests."""
        room = self.room(part.bundle.sampling)
        row = replace(row, requests=len(part.requests), completion_tokens=len(part.requests) * room)
        if count is None:
            return row
        row = replace(row, longest=count.prefix + max(count.queries) + room, counted=count.how)
        if self.forecast is None:
            prompts = row.requests * count.prefix + sum(count.queries)
            return replace(row, prompt_tokens=prompts)
        foreseen = self.forecast.ask(part.bundle.node(part.shots or 0), count, room)
        row = self._with_usual(replace(row, **vars(foreseen)), part.bundle.sampling)
        if not self.paced:
            return row
        tokens = foreseen.prompt_tokens + row.completion_tokens
        if not self.forecast.paces_cached:
            tokens -= foreseen.cached_tokens
        return replace(row, seconds=_seconds(self.forecast.rates, row.requests, tokens))

    def _with_usual(self, row: Planned, sampling: Sampling) -> Planned:
        """Return a row with the dollars of answers as long as usual: as the run's own so far, else
        as is usual where the model reasons.
        """
        room = self.room(sampling)
        if row.usd_output is None or not room:
            return row
        mean = self.measured.get((row.task, row.model))
        usual = self.model.usual_reasoning()
        if mean is not None:
            low = high = min(mean.tokens, room)
            source = f"the mean of {mean.n:,} answers of this run"
        elif usual is not None:
            low = min(room, usual[0] + 1)  # the answer itself has a token at least
            high = min(room, usual[1] + sampling.max_tokens)
            source = f"usual reasoning of this family, {SOURCE}"
        else:
            return row
        per_token = row.usd_output / room
        return replace(
            row,
            usd_usual_low=low * per_token,
            usd_usual_high=high * per_token,
            usual_low_tokens=low,
            usual_high_tokens=high,
            usual_source=source,
        )

    def fitting(self, part: Part, count: Count, window: int) -> int:
        """Return how many of a part's shots a window takes, reckoned by the tokens of a byte; -1
        where it does not take even the prompt without shots.
        """
        bundle, shots, longest = part.bundle, part.shots or 0, max(count.queries)
        per_byte = count.prefix / max(1, bundle.node(shots).n_bytes)
        own_per_byte = longest / max(1, _longest_bytes(part))

        def tokens(k: int) -> int:
            own = own_per_byte * _longest_bytes(part.at(k)) if bundle.path.selects else longest
            return math.ceil(per_byte * bundle.node(k).n_bytes + own - ROUNDING)

        room = window - self.room(bundle.sampling)
        return bisect_right(range(shots + 1), room, key=tokens) - 1

    def room(self, sampling: Sampling) -> int:
        """Return the tokens that an answer may take."""
        return self.model.limit(sampling) if sampling.scoring == "generate" else 0


def _longest_bytes(part: Part) -> int:
    return max(len(request.query.tail.encode()) for request in part.requests)


def _seconds(rates: Rates, requests: int, tokens: int) -> float | None:
    times = [60 * n / rate for n, rate in ((requests, rates.rpm), (tokens, rates.tpm)) if rate]
    return max(times, default=None)
