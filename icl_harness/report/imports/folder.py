"""A run folder of imported results.

In: files and how they are read. Out: a run folder like any other, whose run.json says where its
answers are from; `icl run` does not go on with it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, SpecError
from icl_harness.examples import Example
from icl_harness.report.imports.answers import WHOLE_CELL, Point, Reading, Scored, read_answers
from icl_harness.report.imports.sources import Source, open_source
from icl_harness.report.run import Run
from icl_harness.store.cells import Cell
from icl_harness.store.imported import ImportedAnswer, refuse_taken, write_imported
from icl_harness.tasks.metrics import METRICS, Metric
from icl_harness.tasks.row_files import PlacedRow

LACKS = {"answer": "answers", "parsed": "what was read from them", "target": "gold answers"}


@dataclass
class _Found:
    """What files held."""

    cells: dict[Point, list[Scored]] = field(default_factory=dict)
    n_missing: int = 0
    per: set[str] = field(default_factory=set)
    columns: set[str] = field(default_factory=set)


def import_results(
    files: Sequence[Path],
    out: Path,
    columns: Mapping[str, str],
    given: Mapping[str, Any],
    metric: Metric,
    *,
    percent: bool = False,
) -> Run:
    """Make a run folder of files of results and return the run. Raises `IclError`; then there is no
    folder.
    """
    refuse_taken(out)
    sources = [open_source(path, columns, given) for path in files]
    found = _Found()
    for answer in read_answers(_rows(sources, found, metric, percent=percent)):
        found.cells.setdefault(answer.point, []).append(answer)
        found.n_missing += answer.score is None
    write_imported(
        out, _header(files, sources, found, metric), _cells(found, metric), _queries(found)
    )
    return Run(out)


def _rows(
    sources: Sequence[Source], found: _Found, metric: Metric, *, percent: bool
) -> Iterator[tuple[Reading, PlacedRow]]:
    for source in sources:
        reading = Reading(
            columns=source.columns, constants=source.constants, metric=metric, percent=percent
        )
        _check_metric(reading)
        found.per.add("query" if reading.per_query else "cell")
        found.columns |= set(source.columns)
        for row in source.rows:
            yield reading, row


def _check_metric(reading: Reading) -> None:
    """Refuse a metric that the columns cannot give."""
    metric, named = reading.metric, set(reading.columns)
    if named & {"n", "right"} and metric.name != "accuracy":
        raise SpecError(
            f"--columns: n and right count right answers, and {metric.name} is another metric. "
            "Leave n out: the mean is kept, its interval knows draws alone."
        )
    if not metric.is_mean_score and "target" not in named:
        raise SpecError(
            f"{metric.name} is computed from answers: name parsed=COLUMN and target=COLUMN. A "
            f"published value is imported under another name, as in --metric 'published "
            f"{metric.name}' --range 0,1."
        )


def chosen_metric(name: str | None, limits: str | None) -> Metric:
    """Return the metric of imported scores. Raises `SpecError` for one that is not known and has no
    range.
    """
    if name is None or name in METRICS:
        metric = METRICS[name or "accuracy"]
        if limits is not None and _range(limits) != metric.range:
            raise SpecError(
                f"--range: {metric.name} lies between 0 and 1. Give another metric a name of its "
                "own, as in --metric chrf --range 0,100."
            )
        return metric
    if limits is None:
        raise SpecError(
            f"--metric {name} is none of {', '.join(METRICS)}: give its least and greatest value, "
            "as in --range 0,100, or --range -inf,inf."
        )
    return Metric(name=name, range=_range(limits))


def _range(written: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in written.split(","))
    except ValueError:
        low, high = 1.0, 0.0
    if not low < high:
        raise SpecError(f"--range is {written}; it takes two numbers, the lower first: 0,100.")
    return low, high


def _cells(found: _Found, metric: Metric) -> Iterator[tuple[Cell, list[ImportedAnswer]]]:
    for point, answers in found.cells.items():
        rows = [
            ImportedAnswer(one.query, one.sample, one.score, one.answer, one.parsed, one.input)
            for one in answers
        ]
        yield Cell(**point._asdict(), metric=metric.name), rows


def _queries(found: _Found) -> Iterator[tuple[str, str, list[Example]]]:
    """Yield the queries of which the gold answer is known."""
    known: dict[tuple[str, str], dict[str, Example]] = {}
    for point, answers in found.cells.items():
        of_task = known.setdefault((point.task, point.variant), {})
        for one in answers:
            if one.target is not None and one.query not in of_task:
                of_task[one.query] = Example(
                    id=one.query, input=one.input or "", target=one.target, cluster=one.cluster
                )
    for (task, variant), examples in known.items():
        if examples:
            yield task, variant, list(examples.values())


def _header(
    files: Sequence[Path], sources: Sequence[Source], found: _Found, metric: Metric
) -> dict[str, Any]:
    """Return what run.json says: as of any run, and where it is from."""
    points = list(found.cells)
    if not points:
        raise DataError(f"{files[0]} holds no rows.")
    tasks, data = {}, {}
    for task in sorted({point.task for point in points}):
        ids = _query_ids(found, task)
        per_query = ids != {WHOLE_CELL} and found.per == {"query"}
        pool = "imported" if per_query else "imported cells"
        data[task] = {"pool": pool, "queries": _digest(ids) if per_query else pool}
        counts = {"n_pool": None, "n_queries": len(ids), "n_dropped": 0, "n_repeated": 0}
        tasks[task] = {**metric.describe(), "chance": None, **counts}
    spec: dict[str, Any] = {"tasks": sorted(tasks)}
    for plural, singular in (("models", "model"), ("modes", "mode"), ("variants", "variant")):
        spec[plural] = sorted({getattr(point, singular) for point in points})
    spec["shots"] = sorted({point.shots for point in points})
    spec |= {"draws": len({point.draw for point in points}), "queries": None, "pool": None}
    spec |= {"seed": 0, "model_args": {}}
    return {
        "spec": spec,
        "data": data,
        "weights": {},
        "tasks": tasks,
        "data_dir": None,
        "models": {name: {} for name in spec["models"]},
        "versions": {"icl-harness": version("icl-harness")},
        "imported": _origin(files, sources, found),
    }


def _query_ids(found: _Found, task: str) -> set[str]:
    ids: set[str] = set()
    for point, answers in found.cells.items():
        if point.task == task:
            ids.update(one.query for one in answers)
    return ids


def _origin(files: Sequence[Path], sources: Sequence[Source], found: _Found) -> dict[str, Any]:
    about = []
    for path, source in zip(files, sources, strict=True):
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        constants = {key: source.constants[key] for key in sorted(source.constants)}
        about.append(
            {"file": path.name, "sha256": digest, "columns": source.columns, "all": constants}
        )
    return {
        "files": about,
        "per": sorted(found.per),
        "n_answers": sum(map(len, found.cells.values())),
        "n_missing": found.n_missing,
        "lacks": ["prompts", *(what for key, what in LACKS.items() if key not in found.columns)],
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _digest(ids: set[str]) -> str:
    return hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()
