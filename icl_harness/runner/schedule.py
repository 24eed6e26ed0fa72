"""What a cell requests, and in which order: bundles of requests behind one shared node.

In: a scope (prompts, examples, sampling) and a way to read the answers so far. Out: bundles, one
after the other. The run, the plan, the check of `--on-overflow error` and the bank of reinforced
mode all request what a schedule yields. Left out: sending (asking.py), what fits into a context
window (overflow.py).

A schedule is a generator function. Before it yields its next bundle it may read the answers to
those before, of which the failed are missing. The same answers must make it yield the same bundles,
so that a run that was stopped goes on where it was: what has an answer is not sent again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product, starmap

from icl_harness.draws import stable_seed
from icl_harness.examples import Example
from icl_harness.models.base import Sampling
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node, Query
from icl_harness.runner.groups import Key, Request, make_requests
from icl_harness.store.records import Outcome

UNSOLVED = Outcome(status="ok", text="", parsed=None, score=0.0, shots_used=0)
Read = Callable[[], Mapping[Key, Outcome]]  # the answers of the cell so far


@dataclass(frozen=True, kw_only=True)
class Scope:
    """What a schedule makes its bundles of: the same for all shot counts of a line.

    `queries` gives all queries as they stand behind K shots. `samples`: how many answers each is to
    get; `per_request`: how many queries share a request; `sampling` is that of a request.
    """

    path: PromptPath
    examples: Mapping[str, Example]
    queries: Callable[[int], Sequence[Query]]
    sampling: Sampling
    seed: int
    samples: int = 1
    per_request: int = 1
    _made: dict[int, list[Request]] = field(default_factory=dict, repr=False)

    def requests(self, k: int) -> list[Request]:
        """Return the requests for all queries behind `k` shots, the samples of a query together."""
        k = k if self.path.selects else 0
        if k not in self._made:
            self._made.clear()  # own shots are large: those of one count are kept
            pairs = product(self.queries(k), range(self.samples))
            queries = list(starmap(self.sampled, pairs))
            self._made[k] = make_requests(queries, self.per_request)
        return self._made[k]

    def sampled(self, query: Query, sample: int) -> Query:
        """Return a query as its sample of this number is requested, with a seed of its own."""
        seed = stable_seed("query", self.seed, query.id, sample)
        return replace(query, sample=sample, seed=seed)


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """A shared node and the requests behind it.

    `shots`: how many it is to show. Where they do not fit into the context window, `node` and
    `requests` give the same with fewer.
    """

    path: PromptPath
    shots: int
    requests: Callable[[int], Sequence[Request]]
    sampling: Sampling

    def node(self, k: int) -> Node:
        """Return the shared prefix at `k` shots."""
        return self.path.node(k)

    def same(self, requests: Sequence[Request], k: int) -> list[Request]:
        """Return the requests to the same queries, as they stand behind `k` shots."""
        by_key = {request.key: request for request in self.requests(k)}
        return [by_key[request.key] for request in requests]

    @property
    def most_shots(self) -> int:
        """Return how many shots there are for it: a bank may hold fewer than `shots`."""
        return min(self.shots, len(self.path.shots))


class AnswersAhead:
    """The answers of a cell so far, and unsolved ones in the place of those that are still to come:
    so a schedule can be read to its end before anything is sent.
    """

    def __init__(self, done: Mapping[Key, Outcome]) -> None:
        self._done = done
        self._unsolved: dict[Key, Outcome] = {}

    def __call__(self) -> dict[Key, Outcome]:
        """Return what a schedule reads."""
        return {**self._unsolved, **self._done}

    def left(self, requests: Sequence[Request]) -> list[Request]:
        """Return the requests that have no answer; unsolved ones stand in for it from now on."""
        left = []
        for request in requests:
            if any(key not in self._done for key in request.keys):
                left.append(request)
                self._unsolved.update(dict.fromkeys(request.keys, UNSOLVED))
        return left

    def most_shots(self, otherwise: int) -> int:
        """Return the most shots that an answer used."""
        used = [one.shots_used for one in self._done.values() if one.status == "ok"]
        return max(used, default=otherwise)


Schedule = Callable[[Scope, int, Read], Iterator[Bundle]]


def every_query(scope: Scope, shots: int, read: Read) -> Iterator[Bundle]:
    """Yield one bundle: all queries of the scope, independent of each other."""
    yield Bundle(path=scope.path, shots=shots, requests=scope.requests, sampling=scope.sampling)
