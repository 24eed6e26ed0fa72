"""Making the bank of reinforced mode: sample a model's attempts at pool problems, keep the rewarded (floor 3).

In: a line of an experiment. Out: a bank file in the run folder. A bank in the making is `….partial`; its attempts
are not asked for again. Once finished it never changes, as the shots of cells come from it.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

from icl_harness.bank import Attempt, Bank, append_attempts, mark_kept, read_bank, recover_attempts, write_bank
from icl_harness.draws import draw_order, stable_seed
from icl_harness.errors import ProviderError, StoreError
from icl_harness.examples import Example
from icl_harness.experiment import Experiment, Line
from icl_harness.models.base import Answer, Model
from icl_harness.modes import Mode, PromptPath, gold_shots
from icl_harness.prompts import Node
from icl_harness.tasks import Task


def bank_name(task: Task, variant: str, model: str, draw: int) -> str:
    """Return the file name of a bank; the episodes of a `per_draw` task have one each."""
    parts = ["bank", task.name, variant, model, *([f"draw{draw}"] if task.per_draw else [])]
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts) + ".jsonl"


async def obtain_bank(experiment: Experiment, folder: Path, line: Line, count: Callable[..., None]) -> Bank:
    """Return the bank of a line: the run's own, the one that `--bank` names, or a new one.

    `count` is told of the asks (`unforeseen`, `queries`, `doing`). Raises `ProviderError` where some failed.
    """
    path = folder / bank_name(line.task, line.variant, line.model, line.draw)
    if path.exists():
        return read_bank(path)
    if experiment.spec.bank:
        write_bank(path, read_bank(find_bank(Path(experiment.spec.bank), line)))
        return read_bank(path)
    return await _make_bank(experiment, line, path, count)


def find_bank(source: Path, line: Line) -> Path:
    """Return the bank file of an earlier run: `source` is the file, or a run folder with one for this task.

    A bank that another model made serves too, where it is the only one. Raises `StoreError`.
    """
    if source.is_file():
        return source
    same = source / bank_name(line.task, line.variant, line.model, line.draw)
    any_model = re.escape(bank_name(line.task, line.variant, "MODEL", line.draw)).replace("MODEL", ".+")
    others = [p for p in sorted(source.glob("bank-*.jsonl")) if re.fullmatch(any_model, p.name)]
    if same.is_file():
        return same
    if len(others) == 1:
        return others[0]
    found = f"it holds {len(others)} banks of other models; name one of the files" if others else "it holds none"
    raise StoreError(f"--bank {source}: no bank of {line} by {line.model} there: {found}.")


async def _make_bank(experiment: Experiment, line: Line, path: Path, count: Callable[..., None]) -> Bank:
    spec, task, partial = experiment.spec, line.task, path.with_suffix(".partial")
    order = draw_order(experiment.dataset(task, line.variant, line.draw).pool, spec.seed, 0, f"bank {task.name}")
    source, problems = order[: spec.bank_shots], order[spec.bank_shots :]
    variables = experiment.variables(task, line.variant)
    # Zero-shot asks for a rationale, even where the gold answers have none.
    mode: Mode = "supervised" if source else "reinforced"
    prompts = PromptPath(experiment.templates[task.name], mode, gold_shots(source, mode), variables)
    node, model = prompts.node(len(source)), experiment.model(line)
    attempts = recover_attempts(partial)
    done = {(a.id, a.sample) for a in attempts}
    seed = stable_seed("bank", spec.seed, task.name, line.draw)
    asks = [(e, s) for e in problems for s in range(spec.bank_samples) if (e.id, s) not in done]
    queries = [prompts.query(example, seed=seed, sample=s) for example, s in asks]
    count(unforeseen=len(queries), doing=f"{line}: bank of {len(problems)} problems")
    sampling = replace(experiment.sampling(task), temperature=spec.bank_temperature, scoring="generate")
    examples = {example.id: example for example in problems}
    n_failed = 0
    if queries:
        async with aclosing(model.answers(node, queries, sampling)) as stream:  # type: ignore[type-var]
            async for answers in stream:
                new = _attempts(answers, examples, task, node, model)
                append_attempts(partial, new)
                attempts += new
                n_failed += len(answers) - len(new)
                count(queries=len(answers))
                await asyncio.sleep(0)  # lets Ctrl-C in
    if n_failed:
        raise ProviderError(f"{task.name}: {n_failed} of {len(queries)} requests for the bank failed.")
    bank = mark_kept(attempts)
    write_bank(path, bank)
    partial.unlink(missing_ok=True)
    return bank


def _attempts(
    answers: Sequence[Answer], examples: dict[str, Example], task: Task, node: Node, model: Model
) -> list[Attempt]:
    reward = task.reward or task.scorer
    made = []
    for answer in answers:
        if answer.text is not None:
            score = reward(answer.text, examples[answer.query_id])
            made.append(
                Attempt(
                    id=answer.query_id,
                    sample=answer.sample,
                    answer=answer.text,
                    parsed=score.parsed,
                    reward=score.value,
                    node=node.hash,
                    model=model.id,
                )
            )
    return made
