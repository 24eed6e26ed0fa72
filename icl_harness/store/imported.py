"""Writing a run folder of answers that another program has scored.

In: what run.json is to say, the cells and their answers. Out: a run folder that is whole, or none:
it is made under another name and then renamed. Its records have no prompt: all stand behind one
empty node.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from icl_harness.errors import StoreError
from icl_harness.examples import Example
from icl_harness.prompts.tree import Node
from icl_harness.store.cells import Cell, cell_id
from icl_harness.store.database import database_errors
from icl_harness.store.nodes import node_id, text_id
from icl_harness.store.queries import add_queries
from icl_harness.store.records import RunStore

NO_SCORE = "the imported table holds no score"
ADD = (
    "INSERT INTO records (cell, query_id, sample, node, query_text, shots_used, status, answer,"
    " found, parsed, score, error, reused, n_lost, cut) VALUES (?,?,?,?,?,?,?,?,1,?,?,?,0,0,0)"
)


class ImportedAnswer(NamedTuple):
    """One answer of a cell; without a score it is missing."""

    query_id: str
    sample: int
    score: float | None
    answer: str | None
    parsed: str | None
    input: str | None


def write_imported(
    path: Path,
    header: dict[str, Any],
    cells: Iterable[tuple[Cell, list[ImportedAnswer]]],
    queries: Iterable[tuple[str, str, list[Example]]],
) -> None:
    """Write a run folder. `queries`: task, variant and those of which the gold answer is known.
    Raises `StoreError` where the folder is there already or cannot be written.
    """
    refuse_taken(path)
    with _made_beside(path) as folder:
        store = RunStore.create_or_resume(folder, header)
        with contextlib.closing(store), database_errors(path), store.writing() as db:
            for task, variant, examples in queries:
                add_queries(db, task, variant, examples)
            node = node_id(db, Node(""))
            for cell, answers in cells:
                _add(db, cell_id(db, cell), node, cell.shots, answers)


def refuse_taken(path: Path) -> None:
    """Raise `StoreError` where something is at the place of a new run folder."""
    if path.is_dir() and not any(path.iterdir()):
        return
    if path.exists() or path.is_symlink():
        raise StoreError(f"{path} is there already. Choose another --out, or remove it.")


def _add(db: Any, cell: int, node: int, shots: int, answers: list[ImportedAnswer]) -> None:
    inputs = {answer.input or "" for answer in answers}
    texts = {text: text_id(db, text) for text in inputs}
    rows = []
    for one in answers:
        status, error = ("ok", None) if one.score is not None else ("failed", NO_SCORE)
        where = (cell, one.query_id, one.sample, node, texts[one.input or ""], shots)
        rows.append((*where, status, one.answer, one.parsed, one.score, error))
    db.executemany(ADD, rows)


@contextlib.contextmanager
def _made_beside(path: Path) -> Iterator[Path]:
    """Yield a folder that takes the name `path` once it is whole."""
    partial = path.parent / f".icl-{os.getpid()}-{secrets.token_hex(4)}.import"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield partial
        partial.rename(path)
    except OSError as error:
        raise StoreError(
            f"{path} cannot be written: {error.strerror or error}. Choose another --out."
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
