"""Extending a run from Python: `extend(...)` does what `icl extend` does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from icl_harness.cli.execute import execute
from icl_harness.cli.python_objects import GivenModel, GivenTask, named_models, named_tasks
from icl_harness.report.results import write_results
from icl_harness.report.run import Run
from icl_harness.runner.execution import Execution
from icl_harness.runner.extending import larger_spec
from icl_harness.runner.walk import Watch


def extend(
    run: str | Path | Run,
    *,
    model: GivenModel | Sequence[GivenModel] = (),
    tasks: GivenTask | Sequence[GivenTask] = (),
    watch: Watch | None = None,
    **options: Any,
) -> Run:
    """Ask what a larger grid adds to a run, in its folder; its answers stay as they are.

        extend("results/trec", draws=10, queries=500, shots=[128])

    `draws`, `queries` and `samples` are those of the larger grid, `shots`, `modes` and `variants`
    come to those that there are; other options are those of `Execution` (workers, max_cost, …).
    `model` and `tasks` are the functions and objects that the run was given, if it was. The result
    is the run that the larger grid would have been from the start; stopped, the same call goes on.
    """
    earlier = run if isinstance(run, Run) else Run(run)
    how = {name: options.pop(name) for name in Execution.model_fields if name in options}
    spec = larger_spec(earlier.path, earlier.header, options)
    _, opened = named_models(model)
    _, own_tasks = named_tasks(tasks)
    done = execute(
        spec, earlier.path, Execution.model_validate(how), opened, watch, own_tasks, extends=True
    )
    write_results(done, done.curves())
    return done
