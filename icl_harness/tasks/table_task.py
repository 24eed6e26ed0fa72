"""A task without a task file: a file of rows, or rows of Python, and the columns to use.

In: rows and `Columns`. Out: a `Task` whose `doc` says in one line what was found out, and whose
`table` is what run.json keeps, from which stored answers can be scored again without the rows.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.examples import Example, content_hash, shown
from icl_harness.tasks.answer_kinds import N_SHOWN, check_kind, kind_of, labels_in_order, said
from icl_harness.tasks.columns import Answers, Columns
from icl_harness.tasks.given_rows import Given, are_rows, given_table
from icl_harness.tasks.metrics import accuracy, r2
from icl_harness.tasks.row_files import SHEETS, about_sheet, file_rows, is_row_file
from icl_harness.tasks.scoring import Scorer, exact_match, label_match, number_match
from icl_harness.tasks.scoring.closeness import number_close
from icl_harness.tasks.scoring.numbers import only_number
from icl_harness.tasks.sides import Sides, held_out_sides, named_sides
from icl_harness.tasks.tables import Chosen, Table, are_numbers, choose, examples_of, texts_of
from icl_harness.tasks.task import Task

SCORERS: Mapping[Answers, Scorer] = {
    "labels": label_match,
    "number": number_match,
    "free": exact_match,
}
TEMPLATES: Mapping[Answers, str] = {"labels": "classify", "number": "answer", "free": "answer"}
LEAST_TOKENS = 16
MARGIN = 8  # tokens beyond those of the longest target, were each of its bytes one


def file_task(path: Path, columns: Columns) -> Task:
    """Return the task that a file of rows makes. Raises `SpecError` or `DataError`."""
    if path.suffix.lower() in SHEETS:
        raise DataError(f"{path}: {about_sheet(path)}")
    if path.is_dir() or not os.path.lexists(path):
        raise DataError(f"{path} {_why_missing(path)}")
    table = Table(path.name, list(file_rows(path)))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return table_task(table, columns, {"sha256": digest})


def _why_missing(path: Path) -> str:
    if path.is_dir():
        return "is a folder. Name a file of rows in it."
    folder = path.parent
    if not folder.is_dir():
        return f"does not exist: there is no folder {folder}."
    files = [file.name for file in sorted(folder.iterdir()) if is_row_file(file.name)]
    alike = [name for name in files if nearest(_stem(path.name), [_stem(name)])]
    return f"does not exist. Nearest: {', '.join(alike[:3])}." if alike else "does not exist."


def _stem(name: str) -> str:
    return name.lower().partition(".")[0]


def task_of_rows(given: Any, columns: Columns, name: str = "") -> Task:
    """Return the task that rows of Python make: a DataFrame, a data set, dicts or `Example`s, or
    the path of a file. Raises `SpecError` or `DataError`.
    """
    if isinstance(given, str | PathLike):
        found = file_task(Path(given), columns)
        return replace(found, name=name or found.name)
    name = name or "task"
    if are_rows(given) and isinstance(given, list | tuple) and isinstance(given[0], Example):
        return _task_of_examples(given, columns, name)
    return table_task(given_table(given, name), columns, {})


def table_task(table: Table, columns: Columns, about: Mapping[str, Any]) -> Task:
    """Return the task that columns of a table make; `about` is noted of the table."""
    chosen = choose(table, columns)
    examples = examples_of(table, chosen)
    about = {"sha256": content_hash(examples), **about}  # a file's own stands before it
    if chosen.split is not None:
        words = texts_of(table, chosen.split)
        sides = named_sides(examples, words, table.name, chosen.split)
    else:
        sides = held_out_sides(examples, table.name, chosen.group)
    asked = _title(chosen.input[0]) if len(chosen.input) == 1 else "Row"
    fields = {
        "instruction": columns.instruction or _instruction(table, chosen),
        "asked": asked,
        "answer": _title(chosen.target),
    }
    noted = {**about, "input": list(chosen.input), "target": chosen.target}
    return _task(table.name, sides, columns, fields, noted)


def _task_of_examples(examples: Sequence[Example], columns: Columns, name: str) -> Task:
    """Return the task of examples; their choices, where all have the same ones, are its labels."""
    named = columns.model_dump(exclude={"answers", "instruction"}, exclude_none=True)
    if named:
        raise SpecError(
            f"{name}: --{next(iter(named))} names a column, and Examples have none. Leave it out."
        )
    if len({example.choices for example in examples}) > 1:
        raise SpecError(
            f"{name}: its examples have different choices. Say in a Task(…) how they are asked."
        )
    if any(example.rationale for example in examples):
        raise SpecError(
            f"{name}: its examples have rationales. Say in a Task(prompts='solve', …) how they are"
            " shown."
        )
    clusters = any(example.cluster is not None for example in examples)
    sides = held_out_sides(examples, name, "cluster" if clusters else None)
    instruction = columns.instruction or "Give the answer for the input."
    fields = {"instruction": instruction, "asked": "Input", "answer": "Answer"}
    return _task(name, sides, columns, fields, {"sha256": content_hash(examples)})


def _task(
    name: str,
    sides: Sides,
    columns: Columns,
    fields: dict[str, Any],
    noted: Mapping[str, Any],
) -> Task:
    examples = [*sides.pool, *sides.queries]
    choices = examples[0].choices
    targets = [*choices, *(example.target for example in examples)]
    column = noted.get("target")
    where = f"{name}, column {column!r}" if column else name
    kind: Answers
    kind = columns.answers or ("labels" if choices else kind_of(targets))
    check_kind(kind, targets, where)
    if kind != "labels":
        fields = {**fields, "reply": _reply(kind, fields["answer"])}
        sides = sides._replace(pool=_in_lines(sides.pool), queries=_in_lines(sides.queries))
    _check_readable(kind, sides, where)
    longest = max(len(target.encode()) for target in targets)
    by_distance = kind == "number" and _are_of_quantities(noted.get("input", ()), examples)
    what = f"column {column!r} holds" if column else "the targets are"
    found = said(kind, targets, len(examples), by_distance=by_distance)
    parts = [
        f"{what} {found}",
        *_about_sides(sides, noted.get("input", ())),
    ]
    if columns.answers is None:
        parts.append(_other(kind, targets))
    table = {
        **noted,
        "answers": kind,
        "metric": r2.name if by_distance else accuracy.name,
        "labels": labels_in_order(targets) if kind == "labels" else (),
        "fields": fields,
        "max_tokens": max(LEAST_TOKENS, longest + MARGIN),
    }
    return _built(name, "; ".join(parts) + ".", table, sides)


def _are_of_quantities(columns: Sequence[str], examples: Sequence[Example]) -> bool:
    """Return whether what is asked is a row of several columns, or numbers: then a number is to be
    predicted, and else it is the answer to a question.
    """
    return len(columns) > 1 or are_numbers([[example.input for example in examples]])


def _about_sides(sides: Sides, asked: Sequence[str]) -> Iterator[str]:
    """Yield by what columns is asked, where there are columns, and which rows are asked."""
    if asked:
        more = ", …" if len(asked) > N_SHOWN else ""
        yield f"asked by {', '.join(asked[:N_SHOWN])}{more}"
    n_pool, n_queries = len(sides.pool), len(sides.queries)
    yield f"{n_pool:,} rows are the pool, {n_queries:,} are queries ({sides.how})"


def _check_readable(kind: Answers, sides: Sides, where: str) -> None:
    """Refuse a target that would be wrong even where it is given word for word: "..." as a free
    answer.
    """
    if kind == "number":  # all are numbers, which is how they are read
        return
    by_target = {example.target: example for example in (*sides.pool, *sides.queries)}
    for target, example in by_target.items():
        choices = tuple(by_target) if kind == "labels" else ()
        asked = replace(example, choices=choices)
        if SCORERS[kind](target, asked).value != 1.0:
            raise DataError(
                f"{where}: {shown(target)} could not be told from no answer. Write another word "
                "for it."
            )


def _other(kind: Answers, targets: Sequence[str]) -> str:
    """Return how the targets might be taken otherwise."""
    if kind != "labels":
        return "--answers labels takes them as labels"
    if all(only_number(target) is not None for target in set(targets)):
        return "--answers number takes them as numbers"
    return "--answers free takes them as free answers"


def remembered_task(name: str, table: Mapping[str, Any]) -> Task:
    """Return the task of a run's table without its rows: what is needed to score its answers."""
    return _built(name, "", table, Sides([], [], ""))


def _built(name: str, doc: str, table: Mapping[str, Any], sides: Sides) -> Task:
    kind: Answers = table["answers"]
    by_distance = table["metric"] == r2.name
    return Task(
        pool=Given(items=tuple(sides.pool), name="pool"),
        queries=Given(items=tuple(sides.queries), name="queries"),
        prompts=TEMPLATES[kind],
        fields=table["fields"],
        labels=tuple(table["labels"]),
        scorer=number_close if by_distance else SCORERS[kind],
        metric=r2 if by_distance else accuracy,
        chance=0.0 if by_distance else None,  # of the mean of all
        max_tokens=table["max_tokens"],
        leaks="drop",
        table=table,
        name=name,
        doc=doc,
    )


def _in_lines(examples: Sequence[Example]) -> list[Example]:
    """Return the examples with gold answers of one line, as a line end is where answers stop."""
    return [_in_a_line(example) for example in examples]


def _in_a_line(example: Example) -> Example:
    target = " ".join(example.target.split())
    return Example(id=example.id, input=example.input, target=target, cluster=example.cluster)


def _title(column: str) -> str:
    """Return a column's name as it stands before a text: "customer_message" is "Customer
    message".
    """
    words = " ".join(column.replace("_", " ").split()).rstrip(":")
    words = "answer" if words.casefold() == "target" else words
    return words[:1].upper() + words[1:] or shown(column)


def _instruction(table: Table, chosen: Chosen) -> str:
    answer = _title(chosen.target)
    answer = answer if answer.isupper() else answer[:1].lower() + answer[1:]
    if len(chosen.input) == 1:
        asked = _title(chosen.input[0])
        asked = asked if asked.isupper() else asked[:1].lower() + asked[1:]
        return f"Give the {answer} for the {asked}."
    rule = f"Give the {answer} for the row."
    if are_numbers([texts_of(table, column) for column in chosen.input]):
        rule += f" A row holds {', '.join(chosen.input)}."
    return rule


def _reply(kind: Answers, answer: str) -> str:
    if kind == "number":
        return "Reply with the number alone."
    return f"Reply with the {answer[:1].lower() + answer[1:]} alone."
