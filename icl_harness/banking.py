"""Making the bank of reinforced mode: sample the model's attempts at pool problems, keep what earns the reward (floor 3).

In: a runner, a model, a task. Out: a bank file in the run folder. A bank in the making is `….partial`; its attempts
are not asked for again. Once finished it never changes, as the shots of cells come from it.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from icl_harness.bank import Attempt, Bank, append_attempts, mark_kept, read_bank, recover_attempts, write_bank
from icl_harness.draws import draw_order, stable_seed
from icl_harness.errors import ProviderError, StoreError
from icl_harness.examples import Example
from icl_harness.models.base import Answer, Model
from icl_harness.modes import PromptPath, gold_shots
from icl_harness.prompts import Node
from icl_harness.results import RunStore
from icl_harness.tasks import Task, labels_of

if TYPE_CHECKING:
    from icl_harness.runner import Runner


def bank_name(task: Task, variant: str, model: str, draw: int) -> str:
    """Return the file name of a bank; the episodes of a `per_draw` task have one each."""
    parts = ["bank", task.name, variant, model, *([f"draw{draw}"] if task.per_draw else [])]
    return "-".join(re.sub(r"[^\w.]+", "_", part) for part in parts) + ".jsonl"


async def obtain_bank(
    runner: Runner, store: RunStore, name: str, model: Model, task: Task, variant: str, draw: int
) -> Bank:
    """Return the bank for a path: the run's own, the one that `--bank` names, or a new one."""
    path = store.path / bank_name(task, variant, name, draw)
    if path.exists():
        return read_bank(path)
    if runner.spec.bank:
        part = path.with_suffix(".copy")
        shutil.copyfile(find_bank(Path(runner.spec.bank), task, variant, name, draw), part)
        part.replace(path)
        return read_bank(path)
    return await _make_bank(runner, model, task, variant, draw, path)


def find_bank(source: Path, task: Task, variant: str, model: str, draw: int) -> Path:
    """Return the bank file of an earlier run: `source` is the file, or a run folder with one for this task.

    A bank that another model made serves too, where it is the only one. Raises `StoreError`.
    """
    if source.is_file():
        return source
    same = source / bank_name(task, variant, model, draw)
    any_model = re.escape(bank_name(task, variant, "MODEL", draw)).replace("MODEL", ".+")
    others = [p for p in sorted(source.glob("bank-*.jsonl")) if re.fullmatch(any_model, p.name)]
    if same.is_file():
        return same
    if len(others) == 1:
        return others[0]
    found = f"it holds {len(others)} banks of other models; name one of the files" if others else "it holds none"
    raise StoreError(f"--bank {source}: no bank of {task.name}, variant {variant}, model {model} there: {found}.")


async def _make_bank(runner: Runner, model: Model, task: Task, variant: str, draw: int, path: Path) -> Bank:
    spec, partial = runner.spec, path.with_suffix(".partial")
    pool = runner.dataset(task, draw, variant).pool
    order = draw_order(pool, spec.seed, 0, f"bank {task.name}")
    source, problems = order[: spec.bank_shots], order[spec.bank_shots :]
    variables = {**task.fields, "labels": labels_of(task, variant)}
    prompts = PromptPath(runner.templates[task.name], "supervised", gold_shots(source, "supervised"), variables)
    node = prompts.node(len(source))
    attempts = recover_attempts(partial)
    done = {(a.id, a.sample) for a in attempts}
    seed = stable_seed("bank", spec.seed, task.name, draw)
    asks = [(e, s) for e in problems for s in range(spec.bank_samples) if (e.id, s) not in done]
    queries = [prompts.query(example, seed=seed, sample=s) for example, s in asks]
    runner.advance(more=len(queries), doing=f"{task.name} {model.id} bank of {len(problems)} problems")
    sampling = replace(runner.sampling(task), temperature=spec.bank_temperature, scoring="generate")
    by_id = {example.id: example for example in problems}
    n_failed = 0
    if queries:
        async with aclosing(model.answers(node, queries, sampling)) as stream:  # type: ignore[type-var]
            async for answers in stream:
                new = _attempts(answers, by_id, task, node, model)
                append_attempts(partial, new)
                attempts += new
                n_failed += len(answers) - len(new)
                runner.advance(queries=len(answers))
    if n_failed:
        raise ProviderError(
            f"{task.name}: {n_failed} of {len(queries)} requests for the bank failed. The same command asks them again."
        )
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
