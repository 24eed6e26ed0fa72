"""A run in the forms that other programs read: Every-Eval-Ever's JSON, and a CSV for `errorbars`.

In: a run. Out: text, and what is left out of it: neither form has a place for a missing score.

Every-Eval-Ever (schema 0.3) has no field for shots, draws or modes: they stand in the names and in
the details of each result. `errorbars` compares models, so a point of a curve is a model there, and
the draws of a query are its samples.
"""

from __future__ import annotations

import csv
import io
import json
import math
import time
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from icl_harness.errors import SpecError
from icl_harness.models import is_api, is_local
from icl_harness.report.metric_choice import chosen_metrics
from icl_harness.report.run import Run
from icl_harness.tasks.metrics import LESS_IS_BETTER

if TYPE_CHECKING:
    import pandas as pd

    from icl_harness.tasks.metrics import Metric

SCHEMA = "0.3.0"
LEVEL = 0.95


def errorbars_csv(run: Run) -> tuple[str, list[str]]:
    """Return one row per scored answer with the columns that `errorbars` reads, and notes."""
    records = run.records()
    scored = records[(records["status"] == "ok") & records["score"].notna()]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["question_id", "cluster_id", "model", "score", "sample"])
    names = ["task", "query_id", "cluster", "score", "draw", "sample"]
    points = _point_names(scored)
    for point, row in zip(points, scored[names].itertuples(index=False, name=None), strict=True):
        task, query, cluster, score, draw, sample = row
        question = f"{task}-{query}"
        group = f"{task}-{cluster}" if isinstance(cluster, str) else question
        writer.writerow([question, group, point, f"{score:.10g}", f"{draw}-{sample}"])
    return text.getvalue(), _left_out(len(records) - len(scored))


def _point_names(records: pd.DataFrame) -> Iterator[str]:
    """Yield the name of each record's point: its model, and what the prompts showed; of several
    tasks the task, too.
    """
    names = ["task", "model", "mode", "variant", "format", "queries_per_request", "shots"]
    several = records["task"].nunique() > 1
    for row in records[names].itertuples(index=False, name=None):
        task, model, mode, variant, form, n, shots = row
        parts = [task] if several else []
        parts += [model, mode, *([variant] if variant != "default" else [])]
        parts += [form] if form != "text" else []
        parts += [f"{n} queries a request"] if n > 1 else []
        yield f"{' '.join(parts)} {shots} shots"


def _left_out(n: int) -> list[str]:
    return [f"{n:,} records without a score are left out"] if n else []


def every_eval_ever(
    run: Run, model: str | None = None, metric: str | None = None
) -> tuple[str, list[str]]:
    """Return the curves of one model as a document of Every-Eval-Ever, and notes. `metric` takes
    the place of the tasks' own. Raises `SpecError` where the run has several models and none is
    chosen.
    """
    header = run.header
    name = _only_model(run, header, model)
    metrics = chosen_metrics([header], metric)
    table = run.curves(metric)
    table = table[table["model"] == name]
    known = table[table["value"].map(math.isfinite)]
    now = str(int(time.time()))
    document = {
        "schema_version": SCHEMA,
        "evaluation_id": f"{'+'.join(header['tasks'])}/{name.replace('/', '_')}/{now}",
        "retrieved_timestamp": now,
        "source_metadata": {
            "source_name": "icl-harness",
            "source_type": "evaluation_run" if _has_answers(header) else "documentation",
            "source_organization_name": "unknown",
            "evaluator_relationship": "other",
        },
        "eval_library": {"name": "icl-harness", "version": version("icl-harness")},
        "model_info": _model_info(name, header),
        "evaluation_results": [
            _result(row, header, metrics[row["task"]]) for row in known.to_dict("records")
        ],
    }
    n_empty = len(table) - len(known)
    notes = [f"{n_empty:,} points without an answer are left out"] if n_empty else []
    return json.dumps(document, indent=2, ensure_ascii=False) + "\n", notes


def _only_model(run: Run, header: Mapping[str, Any], model: str | None) -> str:
    names = list(header["spec"]["models"])
    if model is None and len(names) == 1:
        return str(names[0])
    if model is None or model not in names:
        which = "holds several models" if model is None else f"holds no model {model!r}"
        raise SpecError(
            f"{run.path} {which}, and a document of Every-Eval-Ever is of one. Name it with "
            f"--model: {', '.join(names)}."
        )
    return model


def _has_answers(header: Mapping[str, Any]) -> bool:
    return "cell" not in header.get("imported", {}).get("per", ())


def _model_info(name: str, header: Mapping[str, Any]) -> dict[str, Any]:
    deployment = "unknown"
    if "imported" not in header:
        deployment = "externally_managed" if is_api(name) else deployment
        deployment = "self_deployed" if is_local(name) else deployment
    details = {"deployment_type": deployment, "model_availability": "unknown"}
    revision = header.get("weights", {}).get(name)
    if revision is not None:
        details["weights"] = str(revision)
    return {"name": name, "id": name, "additional_details": details}


def _result(row: Mapping[Any, Any], header: Mapping[str, Any], metric: Metric) -> dict[str, Any]:
    low, high = metric.range
    names = ("mode", "variant", "format", "queries_per_request", "shots")
    point = {name: str(row[name]) for name in names}
    counts = ("n_draws", "n_queries", "n_ok", "n_failed", "n_refused", "n_unparsed", "n_overflow")
    data = {name: str(value) for name, value in header["data"].get(row["task"], {}).items()}
    return {
        "evaluation_result_id": "/".join([str(row["task"]), *point.values(), metric.name]),
        "evaluation_name": f"{row['task']}, {row['shots']} shots, {row['mode']}, {row['variant']}",
        "source_data": {
            "dataset_name": str(row["task"]), "source_type": "other", "additional_details": data,
        },
        "metric_config": {
            "metric_id": metric.name,
            "metric_name": metric.name,
            "lower_is_better": metric.name in LESS_IS_BETTER,
            "score_type": "continuous",
            "min_score": _limit(low),
            "max_score": _limit(high),
        },
        "score_details": {
            "score": row["value"],
            "details": {**point, **{name: str(int(row[name])) for name in counts}},
            "uncertainty": _uncertainty(row),
        },
        "generation_config": _generation(header, point),
    }  # fmt: skip


def _limit(value: float) -> float | str:
    if math.isfinite(value):
        return value
    return "Infinity" if value > 0 else "-Infinity"


def _uncertainty(row: Mapping[Any, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {"num_samples": int(row["n_ok"])}
    if math.isfinite(row["ci_low"]) and math.isfinite(row["ci_high"]):
        found["confidence_interval"] = {
            "lower": row["ci_low"],
            "upper": row["ci_high"],
            "confidence_level": LEVEL,
            "method": "over queries and draws, crossed",
        }
    return found


def _generation(header: Mapping[str, Any], point: Mapping[str, str]) -> dict[str, Any]:
    spec = header["spec"]
    arguments = {name: spec[name] for name in ("temperature", "max_tokens") if spec.get(name)}
    if spec.get("temperature") == 0:
        arguments["temperature"] = 0.0
    details = {**point, "seed": str(spec.get("seed")), "draws": str(spec.get("draws"))}
    return {"generation_args": arguments, "additional_details": details}


WRITERS = {
    "errorbars": lambda run, model, metric: errorbars_csv(run),
    "every-eval-ever": every_eval_ever,
}
