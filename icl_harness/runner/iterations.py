"""Iterations of a bank: what one leaves unsolved the next attempts, with shots of the bank so far.

In: a spec, and a way to make a prompt of shots. Out: the schedule of a bank. The first iteration
attempts every problem. A later one has a few candidate prompts, each of some solved problems in a
random order. All attempt every unsolved problem once; the best, that which solves most of them (of
equals the first), makes the other attempts at what is unsolved still. So the best prompt is chosen
on pool problems alone, and no query has a part in it (Agarwal et al. 2024, section 3.1, go on from
"the best-performing 25-shot prompt", and do not say on which problems it was best).

An attempt is known by problem and sample: S attempts of the first iteration have the samples 0 to
S - 1, each later one takes the next C + S - 1, its C candidates first.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product, starmap

from icl_harness.draws import draw_order
from icl_harness.examples import Example
from icl_harness.prompts.modes import PromptPath, gold_shots
from icl_harness.prompts.tree import Shot
from icl_harness.runner.groups import Key, Request, make_requests
from icl_harness.runner.schedule import UNSOLVED, Bundle, Read, Schedule, Scope, every_query
from icl_harness.runner.spec import Spec
from icl_harness.store.bank import Attempt, Bank, mark_kept
from icl_harness.store.records import Outcome

MakePath = Callable[[Sequence[Shot]], PromptPath]


def iteration_of(spec: Spec, sample: int) -> int:
    """Return the iteration that an attempt's sample belongs to, from 1."""
    if spec.bank_iterations == 1 or sample < spec.bank_samples:
        return 1
    return 2 + (sample - spec.bank_samples) // _samples_of_a_later_one(spec)


def _samples_of_a_later_one(spec: Spec) -> int:
    return spec.bank_prompts + spec.bank_samples - 1


def in_iterations(spec: Spec, name: str, make_path: MakePath, *, weighed: bool) -> Schedule:
    """Return the schedule of a bank of several iterations.

    `name` is that of the task, `weighed`: queries bring the continuations of their choices.
    """

    def schedule(scope: Scope, shots: int, read: Read) -> Iterator[Bundle]:
        yield from every_query(scope, shots, read)
        for iteration in range(2, spec.bank_iterations + 1):
            later = _Later(
                spec=spec, name=name, make_path=make_path, weighed=weighed, scope=scope, read=read
            )
            yield from later.bundles(iteration)

    return schedule


@dataclass(frozen=True, kw_only=True)
class _Later:
    """What the bundles of a later iteration are made of."""

    spec: Spec
    name: str
    make_path: MakePath
    weighed: bool
    scope: Scope
    read: Read

    def bundles(self, iteration: int) -> Iterator[Bundle]:
        """Yield a bundle for each candidate prompt, then one for the best of them."""
        spec, n_tried = self.spec, self.spec.bank_prompts
        first = spec.bank_samples + (iteration - 2) * _samples_of_a_later_one(spec)
        unsolved = self._unsolved(first)
        paths = self._candidates(iteration, first)
        if not paths or not unsolved:
            return
        for number, path in enumerate(paths):
            yield self._bundle(path, unsolved, [first + number])
        answers = self.read()
        n_right = [self._n_right(answers, unsolved, first + number) for number in range(n_tried)]
        best = paths[n_right.index(max(n_right))]
        samples = range(first + n_tried, first + _samples_of_a_later_one(spec))
        yield self._bundle(best, self._unsolved(first + n_tried), samples)

    def _unsolved(self, before: int) -> list[Example]:
        solved = self._bank(before).rationales()
        return [one for one in self.scope.examples.values() if one.id not in solved]

    def _candidates(self, iteration: int, before: int) -> list[PromptPath]:
        """Return the prompts that are tried; none where no problem is solved."""
        found, n_shots = [], self.spec.bank_prompt_shots
        shots = self._shots(before)
        for number in range(self.spec.bank_prompts if shots else 0):
            name = f"prompt of iteration {iteration} {self.name}"
            order = draw_order(shots, self.spec.seed, number, name)
            found.append(self.make_path(order[:n_shots]))
        return found

    def _shots(self, before: int) -> list[Shot]:
        """Return what is solved so far; before anything is attempted, in a plan, the gold answers
        in its place.
        """
        examples = list(self.scope.examples.values())
        shots = self._bank(before).shots(examples)
        is_plan = any(one is UNSOLVED for one in self.read().values())
        return shots or (gold_shots(examples, "reinforced") if is_plan else [])

    def _bundle(
        self, path: PromptPath, problems: Sequence[Example], samples: Sequence[int]
    ) -> Bundle:
        queries = [path.query(problem, weighed=self.weighed) for problem in problems]
        sampled = starmap(self.scope.sampled, product(queries, samples))
        requests = make_requests(list(sampled), 1)

        def at(k: int) -> list[Request]:
            return requests

        n_shots = len(path.shots)
        return Bundle(path=path, shots=n_shots, requests=at, sampling=self.scope.sampling)

    def _n_right(
        self, answers: Mapping[Key, Outcome], problems: Sequence[Example], sample: int
    ) -> int:
        """Return how many problems an attempt of this sample solved."""
        scores = [answers[problem.id, sample].score or 0.0 for problem in problems]
        return sum(score >= self.spec.bank_threshold for score in scores)

    def _bank(self, before: int) -> Bank:
        """Return the bank of the attempts with a sample before this one. Where a run goes on, later
        ones may be there already, and decide nothing that came before them.
        """
        attempts = []
        for (problem, sample), one in self.read().items():
            if sample < before:
                attempt = Attempt(
                    id=problem,
                    sample=sample,
                    problem="",
                    answer=one.text,
                    parsed=one.parsed,
                    reward=one.score or 0.0,
                    node="",
                    model="",
                    iteration=iteration_of(self.spec, sample),
                )
                attempts.append(attempt)
        return mark_kept(attempts, self.spec.bank_rules)
