"""Published values beside one's own curves: which belong into a panel, and how they are drawn."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from icl_harness.errors import SpecError
from icl_harness.report.overlays import load_overlays, overlay_names
from icl_harness.report.plots import plot
from icl_harness.tasks.loading import list_tasks
from icl_harness.tasks.metrics import METRICS
from tests.conftest import ROOT
from tests.report.test_plots import curve, drawn, labels, signs

LEARNED = [0.3, 0.6, 0.8, 0.9, 0.95]
GREYS = {"#555555", "#8a8a8a"}


def own(**columns):
    return pd.DataFrame({"label": "theirs", **columns})


def grey_lines(ax):
    return [line for line in ax.lines if line.get_color() in GREYS]


@pytest.mark.parametrize("name", ["bertsch", "mirbench", "paper"])
def test_shipped_tables_say_where_they_are_from_and_can_be_read(name: str) -> None:
    assert name in overlay_names()
    table = load_overlays(name)
    assert len(table) > 5
    assert table["percent"].all()
    head = (ROOT / f"results/reference/{name}.csv").read_text().split("task,")[0]
    assert head.startswith("# ")
    assert ("Apache-2.0" in head) == (name != "paper")


def test_the_reference_of_linear_classification_is_an_overlay_of_the_preset() -> None:
    table = load_overlays("linear")
    assert set(table["label"]) == {"baseline/knn", "baseline/logreg"}
    assert table["low"].notna().all()
    assert not table["percent"].any()


def test_shipped_values_are_the_published_ones() -> None:
    bertsch = load_overlays("bertsch:Llama-2-7B-80k")
    trec = bertsch[bertsch["task"] == "trec trec:bertsch"].set_index(["variant", "shots"])["value"]
    assert trec.loc[("default", [1, 10, 100, 1000])].round(1).tolist() == [34.7, 76.0, 85.6, 88.6]
    assert trec.loc[("nearest=BM25", [50, 200])].round(1).tolist() == [87.5, 94.3]
    mir = load_overlays("mirbench:Gemini-1.5 Pro-002")
    assert mir[mir["task"] == "mirbench:core"]["value"].tolist()[:3] == [42.03, 46.9, 50.2]
    assert mir["shots"].unique().tolist() == [2**n for n in range(2, 12)]
    paper = load_overlays("paper").set_index("label")["value"]
    assert paper["4-shot Minerva prompt"].tolist() == [55.7, 90.6]
    assert paper["human 3-shot CoT (8 BBH tasks)"] == 72.1


def test_a_line_is_grey_dashed_under_the_models_and_named_in_the_legend() -> None:
    overlay = load_overlays(own(task="dialects", shots=[1, 16, 256], value=[0.2, 0.4, 0.5]))
    figure = plot(curve(LEARNED), {"dialects": 0.25}, None, overlay)
    (ax,) = figure.axes
    (line,) = grey_lines(ax)
    assert line.get_xdata().tolist() == [1, 16, 256]
    assert line.get_ydata().tolist() == pytest.approx([20, 40, 50])
    assert line.get_linestyle() == "--"
    assert line.get_zorder() < 3
    assert labels(figure) == ["demo", "", "overlay", "theirs"]
    assert signs(figure)["theirs"].get_color() == line.get_color()
    assert "256" in [text.get_text() for text in ax.get_xticklabels()]
    assert {30.0, 60.0, 80.0, 90.0, 95.0} <= drawn(ax)  # one's own curve is as it was


@pytest.mark.parametrize("values", [[55.7, 60.0], [0.557, 0.6]], ids=["percent", "shares"])
def test_percent_and_shares_are_drawn_at_the_same_height(values: list[float]) -> None:
    table = own(shots=[4, 16], value=values, low=[values[0] * 0.9, np.nan])
    table["high"] = [values[0] * 1.1, np.nan]
    (ax,) = plot(curve(LEARNED), {}, None, load_overlays(table)).axes
    (line,) = grey_lines(ax)
    assert line.get_ydata().tolist() == pytest.approx([55.7, 60.0])
    bars = [path.vertices[:, 1] for path in ax.collections[0].get_paths()]
    assert bars[0] == pytest.approx([50.13, 61.27])


def test_a_value_alone_is_a_point_and_one_without_shots_a_level() -> None:
    table = own(label=["point", "level"], shots=[4, None], value=[40, 70])
    (ax,) = plot(curve(LEARNED), {}, None, load_overlays(table)).axes
    level, point = sorted(grey_lines(ax), key=lambda line: len(line.get_xdata()), reverse=True)
    assert (point.get_xdata().tolist(), point.get_ydata().tolist()) == ([4], [40])
    assert set(level.get_ydata()) == {70}
    assert list(level.get_xdata()) == [0, 1]  # in parts of the panel's width


def test_rows_go_to_the_panels_of_their_task_variant_and_metric() -> None:
    table = pd.DataFrame(
        [
            ("a b", "", "both", 4, 0.5, ""),
            ("a", "flipped", "one panel", 4, 0.6, ""),
            ("a", "", "another metric", 4, 0.7, "macro_f1"),
            ("other", "", "not drawn", 4, 0.8, ""),
        ],
        columns=["task", "variant", "label", "shots", "value", "metric"],
    )
    shown = [
        curve(LEARNED, task=task, variant=variant)
        for task in ("a", "b", "a:1")
        for variant in ("default", "flipped")
    ]
    figure = plot(pd.concat(shown), {}, None, load_overlays(table))
    found = {
        ax.get_title(loc="left"): [float(line.get_ydata()[0]) for line in grey_lines(ax)]
        for ax in figure.axes
    }
    assert found == {
        "a · default": [50],
        "a · flipped": [50, 60],
        "b · default": [50],
        "b · flipped": [50],
        "a:1 · default": [],
        "a:1 · flipped": [],
    }
    assert labels(figure)[-2:] == ["both", "one panel"] or "one panel" in labels(figure)
    assert not {"another metric", "not drawn"} & set(labels(figure))


def test_a_mean_belongs_to_the_mean_over_exactly_its_tasks() -> None:
    shown = curve(LEARNED, task="mean of 2 tasks", n_tasks=2)
    table = load_overlays(own(task="mean: a b", value=[0.7]))
    figure = plot(shown, {"a": 0.1, "b": 0.2}, None, table)
    assert "theirs" in labels(figure)
    with pytest.raises(SpecError, match="has no value for what is drawn"):
        plot(shown, {"a": 0.1, "c": 0.2}, None, table)


def test_a_csv_of_ones_own_and_a_curves_csv_are_overlays(tmp_path: Path) -> None:
    file = tmp_path / "own.csv"
    file.write_text('# from a thesis\nlabel,shots,value\n"A, 2020",4,0.5\nB,4,0.6\n')
    assert load_overlays(file)["label"].tolist() == ["A, 2020", "B"]
    assert load_overlays(f"{file}:b")["value"].tolist() == [0.6]
    both = load_overlays([str(file), own(shots=[4], value=[71])])
    assert both["percent"].tolist() == [False, False, True]
    curves = load_overlays(ROOT / "results/reference/smollm2.csv")
    assert {"hf/smollm2 · supervised", "hf/smollm2 · unsupervised"} == set(curves["label"])
    assert (curves["low"] <= curves["value"]).all()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("label,shots\na,4\n", "has no column value"),
        ("shots,value\n4,1\n", "has no column label"),
        ("label,shots,value,taks\na,4,1,x\n", r"unknown column 'taks'\. Nearest: task"),
        ("label,shots,value\na,four,1\n", "column shots holds what is no number"),
        ("label,shots,value\na,4,1\nb,4,\n", "row 2 has no value"),
        ("label,shots,value\n,4,1\n", "row 1 has no label"),
        ("label,shots,value\na,-4,1\n", "no whole number of 0 or more"),
        ("label,shots,value\na,4.5,1\n", "no whole number of 0 or more"),
        ("label,shots,value\na,4,inf\n", "column value holds a number that is not finite"),
        ("label,shots,value\n", "has no row"),
        ("", "is no CSV"),
    ],
    ids=[
        "no-value",
        "no-label",
        "misspelt",
        "words",
        "gap",
        "unnamed",
        "below",
        "half",
        "infinite",
        "rows",
        "empty",
    ],
)
def test_a_table_that_is_none_is_refused_in_one_line(
    tmp_path: Path, text: str, message: str
) -> None:
    file = tmp_path / "own.csv"
    file.write_text(text)
    with pytest.raises(SpecError, match=message) as refused:
        load_overlays(file)
    assert "own.csv" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_tasks_of_the_shipped_tables_are_called_as_tasks_are() -> None:
    names = {task.name for task in list_tasks()}
    for table in ("paper", "bertsch", "linear"):
        found = load_overlays(table)
        assert set(found["metric"]) <= set(METRICS)
        for cell in found["task"]:
            assert set(cell.removeprefix("mean:").split()) <= names


def test_what_is_no_table_is_refused() -> None:
    with pytest.raises(SpecError, match=r"a name, the path of a CSV or a DataFrame, not dict\."):
        load_overlays([{"label": "a", "value": 1}])


def test_unknown_names_and_labels_list_those_there_are() -> None:
    with pytest.raises(SpecError, match=r"no overlay 'bertch'.*Nearest: bertsch.*mirbench"):
        load_overlays("bertch")
    with pytest.raises(SpecError, match=r"no label 'GPT-9'.*It has Llama-2-7B-32K"):
        load_overlays("bertsch:GPT-9")
    with pytest.raises(SpecError, match=r"21 labels .* more than the 8 .*NAME:o1-1217"):
        plot(curve(LEARNED, task="mirbench:core"), {}, None, load_overlays("mirbench"))
    with pytest.raises(SpecError, match=r"no value for what is drawn \(dialects\)"):
        plot(curve(LEARNED), {}, None, load_overlays("bertsch"))
