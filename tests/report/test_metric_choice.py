"""Which metric a stored run's tables are made with."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

import icl_harness
from icl_harness import Metric, ScriptedModel, accuracy, macro_f1
from icl_harness.errors import SpecError
from icl_harness.report.metric_choice import chosen_metrics
from tests.conftest import TOY_TASK

OWN = """
METRIC = Metric(
    name="share right", statistic=lambda a: [a.score, 1], aggregate=lambda m: m[0] / m[1]
)


@task
def toy() -> Task:
"""


def header(**task: Any) -> dict[str, Any]:
    return {"tasks": {"toy": {"metric": "accuracy", **task}}}


def with_own_metric(folder: Path) -> None:
    source = TOY_TASK.replace("import Example,", "import Example, Metric,")
    source = source.replace("\n@task\ndef toy() -> Task:\n", OWN)
    (folder / "tasks/toy.py").write_text(
        source.replace("max_tokens=4", "max_tokens=4, metric=METRIC")
    )


def test_a_run_of_an_earlier_version_has_the_mean_score_under_the_name_it_noted() -> None:
    (metric,) = chosen_metrics([header(metric="chrF++")]).values()
    assert metric == Metric(name="chrF++", range=(-math.inf, math.inf))
    assert chosen_metrics([header()]) == {"toy": accuracy}


def test_a_noted_range_is_that_of_the_metric() -> None:
    noted = Metric(name="points", range=(0, math.inf)).describe()
    assert chosen_metrics([header(**noted)]) == {"toy": Metric(name="points", range=(0, math.inf))}


def test_the_metric_that_is_asked_for_takes_the_place_of_all_tasks_own() -> None:
    headers = [header(), {"tasks": {"other": {"metric": "chrF++"}}}]
    both = {"toy": macro_f1, "other": macro_f1}
    assert chosen_metrics(headers, "macro_f1") == chosen_metrics(headers, macro_f1) == both


def test_a_tasks_own_metric_is_read_from_its_file(toy: Path) -> None:
    with_own_metric(toy)
    run = icl_harness.run(
        "toy", ScriptedModel(lambda text: "even"), out="out", modes=["supervised"], shots=[0],
        draws=1,
    )  # fmt: skip
    assert run.header["tasks"]["toy"]["metric"] == "share right"
    (metric,) = chosen_metrics([run.header]).values()
    assert (metric.name, metric.is_mean_score) == ("share right", False)
    (found,) = run.curves()["value"]
    assert found == run.curves(accuracy)["value"].iloc[0] == 0.5
    (toy / "tasks/toy.py").write_text(TOY_TASK)
    with pytest.raises(
        SpecError, match=r"'share right' in this run and is 'accuracy' in its task f"
    ):
        run.curves()
    (toy / "tasks/toy.py").unlink()
    with pytest.raises(SpecError, match=r"'share right' of toy is defined in its task file, which"):
        run.curves()


def test_a_metric_that_a_task_file_got_since_may_be_asked_for_by_name(toy: Path) -> None:
    with_own_metric(toy)
    assert chosen_metrics([header()], "share right")["toy"].name == "share right"
    with pytest.raises(SpecError, match=r"no metric 'share'\. Nearest: share right\."):
        chosen_metrics([header()], "share")
