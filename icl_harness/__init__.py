"""icl-harness: accuracy against shot count, with honest intervals, at the least cost.

    import icl_harness

    run = icl_harness.run("dialects", "demo", modes=["supervised"], shots=[0, 4, 16], queries=50)
    run.curves()

A task file needs no more than these names. They are loaded when they are first used: importing this
package loads no torch, pandas, datasets or SDK.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from icl_harness.cli.execute import rescore, run
    from icl_harness.cli.extend import extend
    from icl_harness.errors import IclError
    from icl_harness.examples import Example
    from icl_harness.models import open_model
    from icl_harness.models.base import Answer, Capabilities, Model, Sampling, Usage
    from icl_harness.models.scripted import ScriptedModel
    from icl_harness.prompts.tree import Edge, Node, Prompt, Query, Shot
    from icl_harness.report.power import power
    from icl_harness.report.run import Run
    from icl_harness.report.runs import load
    from icl_harness.tasks import dialect_world, logistics_world
    from icl_harness.tasks.data_folder import data_folder
    from icl_harness.tasks.discovery import task
    from icl_harness.tasks.flores import flores, flores_language
    from icl_harness.tasks.holdout import holdout
    from icl_harness.tasks.logistics_planner import shortest_plan
    from icl_harness.tasks.metrics import (
        Metric,
        ScoredAnswer,
        accuracy,
        chrf,
        macro_f1,
        r2,
        rmse,
        rouge_l,
    )
    from icl_harness.tasks.published_rows import bertsch_rows
    from icl_harness.tasks.rows import Row, hub, rows
    from icl_harness.tasks.scoring import (
        UNPARSED,
        Score,
        exact_match,
        final_answer,
        final_match,
        first_line,
        label_match,
        latex_match,
        number_match,
        parse_number,
    )
    from icl_harness.tasks.scoring.boxed import boxed_answer
    from icl_harness.tasks.scoring.closeness import number_close
    from icl_harness.tasks.scoring.plans import plan_match
    from icl_harness.tasks.scoring.texts import chrf_match, rouge_match
    from icl_harness.tasks.tabular import table
    from icl_harness.tasks.task import Task
    from icl_harness.tasks.worked_examples import bbh_worked

_HOMES = {
    "Answer": "models.base",
    "Capabilities": "models.base",
    "Edge": "prompts.tree",
    "Example": "examples",
    "IclError": "errors",
    "Metric": "tasks.metrics",
    "Model": "models.base",
    "Node": "prompts.tree",
    "Prompt": "prompts.tree",
    "Query": "prompts.tree",
    "Row": "tasks.rows",
    "Run": "report.run",
    "Sampling": "models.base",
    "Score": "tasks.scoring",
    "ScoredAnswer": "tasks.metrics",
    "ScriptedModel": "models.scripted",
    "Shot": "prompts.tree",
    "Task": "tasks.task",
    "UNPARSED": "tasks.scoring",
    "Usage": "models.base",
    "accuracy": "tasks.metrics",
    "bbh_worked": "tasks.worked_examples",
    "bertsch_rows": "tasks.published_rows",
    "boxed_answer": "tasks.scoring.boxed",
    "chrf": "tasks.metrics",
    "chrf_match": "tasks.scoring.texts",
    "data_folder": "tasks.data_folder",
    "extend": "cli.extend",
    "exact_match": "tasks.scoring",
    "final_answer": "tasks.scoring",
    "final_match": "tasks.scoring",
    "first_line": "tasks.scoring",
    "flores": "tasks.flores",
    "flores_language": "tasks.flores",
    "holdout": "tasks.holdout",
    "hub": "tasks.rows",
    "label_match": "tasks.scoring",
    "latex_match": "tasks.scoring",
    "load": "report.runs",
    "macro_f1": "tasks.metrics",
    "number_close": "tasks.scoring.closeness",
    "number_match": "tasks.scoring",
    "open_model": "models",
    "parse_number": "tasks.scoring",
    "plan_match": "tasks.scoring.plans",
    "power": "report.power",
    "r2": "tasks.metrics",
    "rescore": "cli.execute",
    "rmse": "tasks.metrics",
    "rouge_l": "tasks.metrics",
    "rouge_match": "tasks.scoring.texts",
    "rows": "tasks.rows",
    "run": "cli.execute",
    "shortest_plan": "tasks.logistics_planner",
    "table": "tasks.tabular",
    "task": "tasks.discovery",
}
_MODULES = {
    "dialect_world": "tasks.dialect_world",
    "logistics_world": "tasks.logistics_world",
}

__all__ = [
    "UNPARSED",
    "Answer",
    "Capabilities",
    "Edge",
    "Example",
    "IclError",
    "Metric",
    "Model",
    "Node",
    "Prompt",
    "Query",
    "Row",
    "Run",
    "Sampling",
    "Score",
    "ScoredAnswer",
    "ScriptedModel",
    "Shot",
    "Task",
    "Usage",
    "accuracy",
    "bbh_worked",
    "bertsch_rows",
    "boxed_answer",
    "chrf",
    "chrf_match",
    "data_folder",
    "dialect_world",
    "exact_match",
    "extend",
    "final_answer",
    "final_match",
    "first_line",
    "flores",
    "flores_language",
    "holdout",
    "hub",
    "label_match",
    "latex_match",
    "load",
    "logistics_world",
    "macro_f1",
    "number_close",
    "number_match",
    "open_model",
    "parse_number",
    "plan_match",
    "power",
    "r2",
    "rescore",
    "rmse",
    "rouge_l",
    "rouge_match",
    "rows",
    "run",
    "shortest_plan",
    "table",
    "task",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"{__name__}.{_MODULES[name]}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
