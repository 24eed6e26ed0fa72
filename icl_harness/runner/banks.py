"""Making the bank of reinforced mode: sample a model's attempts at pool problems, keep the
rewarded.

In: a line of an experiment. Out: a bank file in the run folder. A bank in the making is
`….partial`; its attempts are not asked for again. Once finished it never changes, as the shots of
cells come from it.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from pathlib import Path

from icl_harness.draws import draw_order, stable_seed
from icl_harness.errors import ProviderError, SpecError, StoreError
from icl_harness.examples import Example, content_hash
from icl_harness.models.base import Answer, Model, Sampling, spent_tokens
from icl_harness.prompts.modes import Mode, PromptPath, gold_shots
from icl_harness.prompts.tree import Node, Query
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.experiment import Experiment, Line
from icl_harness.store.bank import (  # fmt: skip
    Attempt,
    Bank,
    append_attempts,
    mark_kept,
    read_attempts,
    read_bank,
    recover_attempts,
    write_bank,
)
from icl_harness.tasks.scoring import Score, Scorer
from icl_harness.tasks.task import Task


def bank_name(line: Line) -> str:
    """Return the file name of a line's bank, which depends on a variant's labels alone; a
    `per_draw` task has one for each draw.
    """
    return f"{_stem(line)}--{_plain(line.model)}-{_digest(line.model)}.jsonl"


def solved(folder: Path, task: str, variant: str, model: str) -> tuple[int, int]:
    """Return how many problems of a run's banks for these cells are solved, and how many were
    tried.
    """
    labels = _plain(parse_variant(variant).labels)
    files = folder.glob(f"bank-{_plain(task)}-{labels}-*-{_digest(model)}.jsonl")
    banks = [read_bank(file) for file in sorted(files)]
    return sum(bank.n_solved for bank in banks), sum(bank.n_problems for bank in banks)


def check_banks(experiment: Experiment) -> None:
    """Raise `StoreError` or `DataError` where `--bank` does not fit a line, before anything is
    asked or written.
    """
    for line in experiment.lines():
        if line.needs_bank and experiment.spec.bank:
            _taken_bank(experiment, line)


async def obtain_bank(
    experiment: Experiment, folder: Path, line: Line, model: Model, count: Callable[..., None]
) -> Bank:
    """Return the bank of a line: the run's own, the one that `--bank` names, or a new one of
    `model`'s attempts.

    `count` is told of the asks (`unforeseen`, `queries`, `doing`). Raises `ProviderError` where
    some failed.
    """
    path = folder / bank_name(line)
    bank = known_bank(experiment, folder, line)
    if bank is None:
        return await _make_bank(experiment, line, model, path, count)
    if not path.exists():
        write_bank(path, bank)
    return bank


def known_bank(experiment: Experiment, folder: Path, line: Line) -> Bank | None:
    """Return the bank of a line that need not be made: the run's own, or the one that `--bank`
    names.
    """
    path = folder / bank_name(line)
    if path.exists():
        return read_bank(path)
    return _taken_bank(experiment, line) if experiment.spec.bank else None


def bank_usd(experiment: Experiment, folder: Path) -> float:
    """Return what a run has paid for its banks so far, those in the making too; another run's cost
    it nothing.
    """
    if experiment.spec.bank:
        return 0.0
    made = [attempt for file in folder.glob("bank-*.jsonl") for attempt in read_bank(file).attempts]
    making = [attempt for file in folder.glob("bank-*.partial") for attempt in read_attempts(file)]
    return sum(attempt.cost_usd or 0.0 for attempt in (*made, *making))


def _taken_bank(experiment: Experiment, line: Line) -> Bank:
    source = _find_bank(Path(experiment.spec.bank or ""), line)
    bank = read_bank(source)
    bank.check_problems(experiment.dataset(line.task, line.variant, line.draw).pool, str(source))
    return bank


def _find_bank(source: Path, line: Line) -> Path:
    """Return the bank file: `source` itself, or in a run folder the one of this line; if need be
    another model's.
    """
    if source.is_file():
        return source
    same = source / bank_name(line)
    others = sorted(source.glob(f"{_stem(line)}--*.jsonl"))
    if same.is_file():
        return same
    if len(others) == 1:
        return others[0]
    found = (
        f"it holds {len(others)} banks of other models; name one of the files"
        if others
        else "it holds none"
    )
    raise StoreError(f"--bank {source}: no bank of {line} by {line.model} there: {found}.")


def apply_scorer(task: Task, scorer: Scorer, answer: str, example: Example) -> Score:
    """Return the score of an answer. Raises `SpecError` in the task's name, as a scorer may be a
    user's code.
    """
    try:
        score = scorer(answer, example)
    except Exception as error:
        told = f"{type(error).__name__}, {error}"
        raise SpecError(
            f"task {task.name}: its scorer fails on the answer to {example.id} ({told})."
        ) from error
    if not isinstance(score, Score):
        raise SpecError(
            f"task {task.name}: its scorer returns a {type(score).__name__}, not a Score."
        )
    return score


def _stem(line: Line) -> str:
    parts = [
        "bank",
        _plain(line.task.name),
        _plain(parse_variant(line.variant).labels),
        *([f"draw{line.draw}"] if line.task.per_draw else []),
    ]
    return "-".join(parts)


def _digest(model: str) -> str:
    return hashlib.sha256(model.encode()).hexdigest()[
        :6
    ]  # x/a-b and x/a_b look the same in a file name


def _plain(name: str) -> str:
    return re.sub(r"[^\w.]+", "_", name)


@dataclass(frozen=True, kw_only=True)
class BankAsks:
    """What is asked to make a bank: its problems, behind one node."""

    node: Node
    problems: Sequence[Example]
    queries: Sequence[Query]
    sampling: Sampling


def bank_asks(experiment: Experiment, line: Line, attempts: Sequence[Attempt]) -> BankAsks:
    """Return what is left to ask for the bank of a line beside the attempts that are there."""
    spec, task = experiment.spec, line.task
    order = draw_order(
        experiment.dataset(task, line.variant, line.draw).pool, spec.seed, 0, f"bank {task.name}"
    )
    source, problems = order[: spec.bank_shots], order[spec.bank_shots :]
    variables = experiment.variables(task, line.variant)
    # Zero-shot asks for a rationale, even where the gold answers have none.
    mode: Mode = "supervised" if source else "reinforced"
    prompts = PromptPath(
        experiment.templates[task.name], mode, gold_shots(source, mode), variables,
        format=spec.format, cuts=(len(source),),
    )  # fmt: skip
    done = {(a.id, a.sample) for a in attempts if not a.failed}
    # Whichever draw comes first makes the bank of all.
    seed = stable_seed("bank", spec.seed, task.name, line.draw if task.per_draw else 0)
    asks = [(e, s) for e in problems for s in range(spec.bank_samples) if (e.id, s) not in done]
    return BankAsks(
        node=prompts.node(len(source)),
        problems=problems,
        queries=[prompts.query(example, seed=seed, sample=s) for example, s in asks],
        sampling=replace(
            experiment.sampling(task), temperature=spec.bank_temperature, scoring="generate"
        ),
    )


async def _make_bank(
    experiment: Experiment, line: Line, model: Model, path: Path, count: Callable[..., None]
) -> Bank:
    task, partial = line.task, path.with_suffix(".partial")
    attempts = recover_attempts(partial)
    asked = bank_asks(experiment, line, attempts)
    node, queries, examples = (
        asked.node,
        asked.queries,
        {example.id: example for example in asked.problems},
    )
    count(unforeseen=len(queries), doing=f"{line}: bank of {len(examples)} problems")
    n_failed, error = 0, None
    items = {
        attempt.item for attempt in attempts if attempt.item
    }  # a run that was killed is given them again
    if queries:
        async with aclosing(model.answers(node, queries, asked.sampling)) as stream:
            async for answers in stream:
                new = [
                    a
                    for a in _attempts(answers, examples, task, node, model)
                    if a.item not in items
                ]
                append_attempts(partial, new)
                attempts += new
                n_failed += sum(answer.status == "failed" for answer in answers)
                error = next((a.error for a in answers if a.error), error)
                count(
                    queries=len(answers),
                    tokens=sum(spent_tokens(answer.usage) for answer in answers),
                )
                await asyncio.sleep(0)  # lets Ctrl-C in
    if n_failed:
        raise ProviderError(
            f"{task.name}: {n_failed} of {len(queries)} requests for the bank failed ({error})."
        )
    bank = mark_kept(attempts)
    write_bank(path, bank)
    partial.unlink(missing_ok=True)
    return bank


def _attempts(
    answers: Sequence[Answer], examples: dict[str, Example], task: Task, node: Node, model: Model
) -> list[Attempt]:
    """Score answers. A failed request is asked again, unless that cannot help; it is kept only for
    what it cost.
    """
    reward = task.reward or task.scorer
    made = []
    for answer in answers:
        failed = answer.status == "failed"
        if failed and not answer.usage.cost_usd:
            continue
        example = examples[answer.query_id]
        text = answer.text
        score = (
            Score(parsed=None, value=0.0)
            if text is None
            else apply_scorer(task, reward, text, example)
        )
        made.append(
            Attempt(
                id=answer.query_id,
                sample=answer.sample,
                problem=content_hash([example]),
                answer=answer.text,
                parsed=score.parsed,
                reward=score.value,
                node=node.hash,
                model=model.id,
                error=answer.error,
                prompt_tokens=answer.usage.prompt_tokens,
                completion_tokens=answer.usage.completion_tokens,
                cost_usd=answer.usage.cost_usd,
                failed=failed,
                item="{}-{}".format(*answer.place) if answer.place else None,
            )
        )
    return made
