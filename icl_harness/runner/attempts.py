"""Making the bank of reinforced mode: sample a model's attempts at pool problems, keep the
rewarded.

In: a line of an experiment, whose bank schedule says what is attempted. Out: a bank file in the run
folder. A bank in the making is `….partial`: its attempts are not sampled again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path

from icl_harness.counts import n_of
from icl_harness.errors import ProviderError
from icl_harness.examples import Example, content_hash
from icl_harness.models.base import Answer, Model, spent_tokens
from icl_harness.prompts.modes import PromptPath
from icl_harness.prompts.tree import Node
from icl_harness.runner.cut_answers import score_answer
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.groups import Key
from icl_harness.runner.iterations import iteration_of
from icl_harness.runner.line import Line
from icl_harness.runner.overflow import Fitting
from icl_harness.runner.responses import responses
from icl_harness.runner.schedule import Bundle
from icl_harness.runner.scopes import bank_scope
from icl_harness.runner.spec import Spec
from icl_harness.store.bank import (
    Attempt,
    Bank,
    append_attempts,
    mark_kept,
    partial_file,
    recover_attempts,
    write_bank,
)
from icl_harness.store.records import Outcome
from icl_harness.tasks.scoring import Score


async def make_bank(
    experiment: Experiment,
    line: Line,
    model: Model,
    path: Path,
    count: Callable[..., None],
    check: Callable[[], None] = lambda: None,
) -> Bank:
    """Return the bank of a line, and write it to `path`; `check` is called before each write.
    Raises `ProviderError` where requests failed; what was attempted is kept.
    """
    scope, partial = bank_scope(experiment, line), partial_file(path)
    making = _Making(
        line=line,
        spec=experiment.spec,
        first=scope.path,
        fitting=Fitting(model, "drop"),
        model=model,
        examples=scope.examples,
        file=partial,
        count=count,
        check=check,
        attempts=recover_attempts(partial),
    )
    count(doing=f"{line}: bank of {n_of(len(scope.examples), 'problem')}")
    schedule = experiment.bank_schedule(line)
    for bundle in schedule(scope, len(scope.path.shots), lambda: outcomes(making.attempts)):
        await making.attempt_all(bundle)
    bank = mark_kept(making.attempts, experiment.spec.bank_rules)
    check()
    write_bank(path, bank)
    partial.unlink(missing_ok=True)
    return bank


def outcomes(attempts: Sequence[Attempt]) -> dict[Key, Outcome]:
    """Return what the requests for a bank came to so far, failed ones left out."""
    found = {}
    for attempt in attempts:
        if not attempt.failed:
            status = "ok" if attempt.error is None else "refused"
            found[attempt.id, attempt.sample] = Outcome(
                status=status,
                text=attempt.answer,
                parsed=attempt.parsed,
                score=attempt.reward,
                shots_used=0,
            )
    return found


@dataclass(frozen=True, kw_only=True)
class _Making:
    """A bank in the making: its attempts so far, which are all in `file`. `first`: the prompts of
    its first iteration.
    """

    line: Line
    spec: Spec
    first: PromptPath
    fitting: Fitting
    model: Model
    examples: Mapping[str, Example]
    file: Path
    count: Callable[..., None]
    check: Callable[[], None]
    attempts: list[Attempt] = field(default_factory=list)

    async def attempt_all(self, bundle: Bundle) -> None:
        """Send the requests of a bundle that were not answered yet."""
        shots, done = self._shots(bundle), outcomes(self.attempts)
        node = bundle.node(shots)
        requests = [request for request in bundle.requests(shots) if request.key not in done]
        # answers out of batches that a run which was killed had stored already come once more
        items = {attempt.item for attempt in self.attempts if attempt.item}
        errors: list[str | None] = []
        self.count(unforeseen=len(requests))
        sent = responses(self.model, node, requests, bundle.sampling)
        async with aclosing(sent) as stream:
            async for answered in stream:
                answers = [answer for _, answer in answered]
                self._add(node, answers, items)
                errors += [answer.error for answer in answers if answer.status == "failed"]
                tokens = sum(spent_tokens(answer.usage) for answer in answers)
                self.count(queries=len(answers), tokens=tokens)
        if errors:
            raise ProviderError(
                f"{self.line.task.name}: {len(errors)} of {len(requests)} requests for the bank "
                f"failed ({errors[0]})."
            )

    def _shots(self, bundle: Bundle) -> int:
        """Return how many shots stand before the attempts: of a later iteration's, those that fit
        into the context window.
        """
        if bundle.path is self.first:
            return bundle.most_shots
        return self.fitting.shots(bundle, str(self.line)) or 0

    def _add(self, node: Node, answers: Sequence[Answer], items: set[str]) -> None:
        made = []
        for answer in answers:
            # A failed request is sent again; it is kept only for what it cost.
            if answer.status != "failed" or answer.usage.cost_usd:
                attempt = self._attempt(node, answer)
                if attempt.item not in items:
                    made.append(attempt)
        self.check()
        append_attempts(self.file, made)
        self.attempts.extend(made)

    def _attempt(self, node: Node, answer: Answer) -> Attempt:
        example, task = self.examples[answer.query_id], self.line.task
        iteration = iteration_of(self.spec, answer.sample)
        score = Score(parsed=None, value=0.0)
        if answer.text is not None:
            reward = task.reward or task.scorer
            score = score_answer(task, reward, answer.text, example, is_cut=answer.cut)
        return Attempt(
            id=answer.query_id,
            sample=answer.sample,
            problem=content_hash([example]),
            answer=answer.text,
            parsed=score.parsed,
            reward=score.value,
            node=node.hash,
            model=self.model.id,
            error=answer.error,
            prompt_tokens=answer.usage.prompt_tokens,
            completion_tokens=answer.usage.completion_tokens,
            cost_usd=answer.usage.cost_usd,
            failed=answer.status == "failed",
            item="{}-{}".format(*answer.place) if answer.place else None,
            whole=answer.whole,
            cut=answer.cut,
            iteration=iteration,
            n_shots=node.n_shots if iteration > 1 else 0,
        )
