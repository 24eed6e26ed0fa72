"""The picture: what it shows, and that equal tables give equal files."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from icl_harness.errors import SpecError, StoreError
from icl_harness.report.plots import plot, save
from tests.conftest import ROOT


def curve(values, *, shots=(0, 1, 4, 16, 64), width=0.05, **fields):
    """A table as `curves` gives it, of one curve."""
    value = np.array(values, dtype=float)
    usual = {
        "task": "dialects", "model": "demo", "mode": "supervised", "variant": "default",
        "format": "text", "queries_per_request": 1, "metric": "accuracy",
    }  # fmt: skip
    return pd.DataFrame(
        {
            **usual,
            "shots": shots,
            "shots_used": shots,
            "ci_covers": "queries and draws",
            "value": value,
            "ci_low": np.clip(value - width, 0, None),
            "ci_high": np.clip(value + width, None, 1 if value.max() <= 1 else None),
            **fields,
        }
    )


def two_modes(**fields):
    return pd.concat(
        [
            curve([0.3, 0.6, 0.8, 0.9, 0.95], **fields),
            curve([0.3, 0.4, 0.5, 0.7, 0.9], mode="unsupervised", **fields),
            curve([0.3, 0.7, 0.9, 0.98, 1.0], model="baseline/bayes", **fields),
            curve([0.25, 0.3, 0.4, 0.5, 0.6], model="baseline/knn", **fields),
            curve([0.25] * 5, model="baseline/knn", mode="unsupervised", **fields),
        ],
        ignore_index=True,
    )


def labels(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def signs(figure):
    """What stands beside each label of the legend."""
    return dict(zip(labels(figure), figure.legends[0].get_lines(), strict=True))


def drawn(ax):
    return {round(float(y), 6) for line in ax.lines for y in np.atleast_1d(line.get_ydata())}


def test_a_panel_shows_models_reference_learners_bands_and_chance():
    figure = plot(two_modes(), {"dialects": 0.25})
    (ax,) = figure.axes
    modes = ["supervised", "unsupervised"]
    assert labels(figure) == ["model", "demo", "bayes", "knn", "", "mode", *modes]
    assert len(ax.collections) == 2  # a band for each of the two curves of the model
    assert {30.0, 60.0, 95.0, 90.0, 98.0, 25.0} <= drawn(ax)
    assert [text.get_text() for text in ax.texts] == ["chance"]
    assert ax.get_title(loc="left") == "dialects"


def test_the_legend_names_chats_and_groups_of_queries_beside_the_usual_way_of_asking():
    ways = [{}, {"format": "chat"}, {"format": "chat", "queries_per_request": 5}]
    table = pd.concat(
        [curve([0.3, 0.6, 0.8, 0.9, 0.95], model="x" * 40, **way) for way in ways],
        ignore_index=True,
    )
    figure = plot(table, {})
    short = "…" + "x" * 29
    assert labels(figure) == [short, f"{short} · chat", f"{short} · chat · 5 queries a request"]
    colours = {line.get_color() for line in figure.legends[0].get_lines()}
    assert len(colours) == 3


def test_zero_shots_stand_on_the_axis_at_least_an_octave_left_of_the_first() -> None:
    (ax,) = plot(curve([0.3, 0.6, 0.8, 0.9, 0.95]), {}).axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["64", "16", "4", "1", "0"]
    assert ax.get_xticks().tolist() == [64, 16, 4, 1, 0]
    places = ax.transData.transform([(x, 0) for x in (0, 1, 4, 16, 64)])[:, 0]
    to_one, *by_fours = np.diff(places)
    assert by_fours == pytest.approx([by_fours[0]] * 3)
    assert to_one == pytest.approx(by_fours[0] / 2)
    assert ax.transData.inverted().transform((0, 0))[0] < 0  # nothing is cut off


def test_a_curve_from_16_shots_keeps_zero_in_sight() -> None:
    (ax,) = plot(curve([0.3, 0.6, 0.8, 0.9], shots=(0, 16, 64, 256)), {}).axes
    to_16, to_64, _ = np.diff(ax.transData.transform([(x, 0) for x in (0, 16, 64, 256)])[:, 0])
    assert to_16 == pytest.approx(to_64 / 2)


def test_learners_that_need_labels_are_not_drawn_where_they_guess():
    only = two_modes()
    only = only[only["mode"] == "unsupervised"]
    assert labels(plot(only, {})) == ["demo", "knn"]  # nothing else would show it: it stays
    (ax,) = plot(two_modes(), {}).axes
    assert 25.0 not in {round(float(line.get_ydata()[-1]), 6) for line in ax.lines}


def caption(figure):
    return figure.get_supxlabel()


def test_the_picture_says_which_band_it_shows() -> None:
    table = two_modes()
    assert caption(plot(table, {})) == "Bands: 95 %, for each point by itself (pointwise)."
    one_draw = table.assign(ci_covers="queries")
    assert caption(plot(one_draw, {})) == (
        "Bands: 95 % over queries, not draws, for each point by itself (pointwise)."
    )
    wide = table.assign(band_low=table["ci_low"] - 0.1, band_high=table["ci_high"] + 0.1)
    figure = plot(wide, {})
    assert caption(figure) == "Bands: 95 %, for all points of a curve at once (simultaneous)."
    assert caption(plot(wide.assign(ci_covers="queries"), {})) == (
        "Bands: 95 % over queries, not draws, for all points of a curve at once (simultaneous)."
    )
    for shown, by in ((figure, 0.15), (plot(table, {}), 0.05)):
        lowest = [band.get_paths()[0].vertices[:, 1].min() for band in shown.axes[0].collections]
        assert sorted(lowest) == pytest.approx([30 - 100 * by] * 2)


def test_the_band_is_named_above_a_legend_that_lies_below_several_panels() -> None:
    table = pd.concat([two_modes(task=task) for task in "ab"], ignore_index=True)
    figure = plot(table, {})
    assert caption(figure) == ""
    said = figure.legends[0].get_title().get_text()
    assert said == "Bands: 95 %, for each point by itself (pointwise)."


def test_a_picture_without_bands_speaks_of_none() -> None:
    table = two_modes()
    assert caption(plot(table[table["model"] == "baseline/knn"].assign(model="x"), {})) != ""
    flat = table.assign(ci_low=table["value"], ci_high=table["value"])
    assert caption(plot(flat, {})) == ""
    unknown = table.assign(ci_low=np.nan, ci_high=np.nan)
    assert caption(plot(unknown, {})) == ""


def test_a_panel_a_task_and_a_column_a_variant():
    tables = [
        two_modes(task=task, variant=variant)
        for task in ("b", "a")
        for variant in ("flipped", "default")
    ]
    figure = plot(pd.concat(tables), {"a": 0.1, "b": None}, title="Two tasks")
    assert [ax.get_title(loc="left") for ax in figure.axes] == [
        "b · default",
        "b · flipped",
        "a · default",
        "a · flipped",
    ]
    assert [len(ax.texts) for ax in figure.axes] == [0, 0, 1, 1]
    assert figure.get_suptitle() == "Two tasks"


def test_several_models_have_a_colour_each():
    tables = [
        curve([0.3, 0.6, 0.8, 0.9, 0.95], model=f"hf/{i}", mode=m)
        for i in range(3)
        for m in ("supervised", "reinforced")
    ]
    figure = plot(pd.concat(tables), {})
    found = signs(figure)
    assert labels(figure) == [
        *("model", "hf/0", "hf/1", "hf/2", ""),
        *("mode", "supervised", "reinforced"),
    ]
    assert len({found[f"hf/{i}"].get_color() for i in range(3)}) == 3
    modes = [found[mode] for mode in ("supervised", "reinforced")]
    assert len({sign.get_color() for sign in modes}) == 1
    assert len({sign.get_marker() for sign in modes}) == 2


def test_one_mode_stands_at_the_axis_and_in_no_legend() -> None:
    figure = plot(curve([0.3, 0.6, 0.8, 0.9, 0.95], mode="unsupervised"), {})
    assert labels(figure) == ["demo"]
    assert figure.axes[0].get_xlabel() == "shots (unsupervised)"


def grid_of(models):
    """Three modes of several models beside the exact learners, as `make demo` gives them."""
    values = {"supervised": 0.0, "reinforced": 0.03, "unsupervised": 0.2}
    return pd.concat(
        [
            curve(np.array([0.3, 0.6, 0.8, 0.9, 0.95]) - less - 0.1 * i, model=model, mode=mode)
            for i, model in enumerate(models)
            for mode, less in values.items()
        ]
    )


@pytest.mark.parametrize("n_tasks", [1, 2, 3])
def test_no_label_of_a_picture_of_three_modes_and_models_lies_on_another(n_tasks: int) -> None:
    models = ["demo", "baseline/bayes", "baseline/ceiling"]
    tasks = [grid_of(models).assign(task=f"task {i}") for i in range(n_tasks)]
    figure = plot(pd.concat(tasks), {f"task {i}": 0.25 for i in range(n_tasks)})
    figure.draw_without_rendering()
    texts = [*figure.legends[0].get_texts()]
    for ax in figure.axes:
        texts += [ax.title, ax._left_title, ax.xaxis.label, ax.yaxis.label, *ax.texts]
        texts += [*ax.get_xticklabels(), *ax.get_yticklabels()]
    boxes = [text.get_window_extent() for text in texts if text.get_text()]
    legend = figure.legends[0].get_window_extent()
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]
    assert not any(legend.overlaps(ax.get_window_extent()) for ax in figure.axes)
    assert all(figure.bbox.containsx(box.x0) and figure.bbox.containsx(box.x1) for box in boxes)


def test_fewer_shots_than_asked_are_hollow_and_said_so():
    table = curve([0.3, 0.6, 0.8, 0.9, 0.95], shots_used=[0, 1, 4, 16, 40])
    assert "fewer shots fitted" in labels(plot(table, {}))
    assert "fewer shots fitted" not in labels(plot(two_modes(), {}))


def test_other_metrics_keep_their_scale():
    (ax,) = plot(curve([20.0, 35.0, 40.0, 41.0, 42.0], metric="chrF++", width=2.0), {}).axes
    assert ax.get_ylabel() == "chrF++"
    assert ax.get_ylim()[1] < 60


@pytest.mark.slow
def test_nlls_below_1_are_drawn_in_nats_and_without_chance():
    (ax,) = plot(curve([0.9, 0.5, 0.3, 0.2, 0.1], metric="gold_nll"), {"dialects": 0.25}).axes
    assert ax.get_ylabel() == "gold_nll (nats)"
    assert "chance" not in [text.get_text() for text in ax.texts]
    assert ax.get_ylim()[1] < 2


@pytest.mark.parametrize("shots", [[0], [4], [0, 3], [1, 1000]])
def test_few_points_are_drawn_too(shots, tmp_path):
    tables = [
        curve([0.5] * len(shots), shots=shots, model=model) for model in ("demo", "baseline/knn")
    ]
    save(plot(pd.concat(tables), {"dialects": 0.25}), tmp_path / "few.png")


def test_many_shot_counts_keep_their_labels_apart():
    shots = [0, *range(1, 60)]
    figure = plot(curve(np.linspace(0.2, 0.9, 60), shots=shots), {})
    figure.draw_without_rendering()
    boxes = sorted(
        (label.get_window_extent() for label in figure.axes[0].get_xticklabels()),
        key=lambda box: box.x0,
    )
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_cells_without_an_answer_are_left_out():
    (ax,) = plot(curve([0.3, np.nan, 0.8, np.nan, np.nan]), {}).axes
    assert [t.get_text() for t in ax.get_xticklabels()] == ["4", "0"]
    with pytest.raises(SpecError, match="nothing to draw"):
        plot(curve([np.nan] * 5), {})


@pytest.mark.slow
@pytest.mark.parametrize("form", ["png", "svg"])
def test_equal_tables_give_equal_bytes(form, tmp_path):
    for name in ("first", "second"):
        save(
            plot(two_modes(), {"dialects": 0.25}, title="Dialects"),
            tmp_path / "new" / f"{name}.{form}",
        )
    first, second = (
        (tmp_path / "new" / f"{name}.{form}").read_bytes() for name in ("first", "second")
    )
    assert first == second
    assert sorted(p.name for p in (tmp_path / "new").iterdir()) == [
        f"first.{form}",
        f"second.{form}",
    ]


def test_the_png_is_readable_at_900_pixels(tmp_path):
    save(plot(two_modes(), {"dialects": 0.25}), tmp_path / "a.PNG")
    with Image.open(tmp_path / "a.PNG") as image:
        width, height = image.size
    assert 900 <= width <= 1800
    assert (
        9 * 150 / 72 * 900 / width >= 12
    )  # the smallest label of the legend and axes, in pixels at that width
    assert height < width


def test_other_suffixes_and_places_are_refused_in_one_line(tmp_path):
    figure = plot(two_modes(), {})
    with pytest.raises(SpecError, match=r"curves\.pdf: a picture is a \.png or \.svg file"):
        save(figure, tmp_path / "curves.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be written"):
        save(figure, tmp_path / "file" / "curves.png")


def test_a_notebook_shows_the_figure_itself():
    assert plot(two_modes(), {})._repr_png_().startswith(b"\x89PNG")


@pytest.mark.slow
def test_no_global_state_of_matplotlib_is_touched():
    code = (
        "import sys, matplotlib; before = matplotlib.rcParams.copy()\n"
        "from tests.report.test_plots import plot, two_modes\n"
        "plot(two_modes(), {})._repr_png_()\n"
        "assert matplotlib.rcParams.copy() == before and 'matplotlib.pyplot' not in sys.modules"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, cwd=ROOT)


@pytest.mark.parametrize("chance", ["hi", [0.5], float("nan"), float("inf"), {}])
def test_a_chance_level_that_is_no_number_is_not_drawn(chance):
    (ax,) = plot(two_modes(), {"dialects": chance}).axes
    assert list(ax.texts) == []


def test_a_link_to_a_picture_stays_and_a_full_disk_leaves_nothing(tmp_path, monkeypatch):
    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    (tmp_path / "link.png").symlink_to("real.png")
    figure = plot(two_modes(), {})
    save(figure, tmp_path / "link.png")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes().startswith(b"\x89PNG")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match="No space left on device"):
        save(figure, tmp_path / "other.png")
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.png", "real.png"]
