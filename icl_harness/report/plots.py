"""The picture of curves: value against shots, one panel a task, a column a variant.

Many variants of one task stand in rows; a thin line in their panels is the default's curve.

In: the table of `curves`. Out: a matplotlib Figure, or a PNG or SVG file; equal tables give equal
bytes. No global state of matplotlib is read or changed. Left out: anything that can be clicked, and
differences between curves.
"""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from dataclasses import replace
from itertools import chain, product
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.bands import left_out, limits_of
from icl_harness.errors import SpecError
from icl_harness.files import write_atomically
from icl_harness.report.overlays import for_panels, labels_of, lay_over
from icl_harness.report.shot_axis import shot_axis
from icl_harness.report.styles import (
    FAINT,
    INK,
    MUTED,
    Entry,
    Looks,
    Style,
    looks,
    overlay_styles,
    with_formats,
    without_guesses,
)
from icl_harness.tasks.metrics import METRICS, with_unit

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

Panel = tuple[str, str, str]  # task, metric, variant
AXIS = "#9a9a9a"
RC: Any = {
    "svg.hashsalt": "icl-harness",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.unicode_minus": True,
}
DPI = 150
ONE_PANEL = (8.0, 4.5)  # inches, with the legend at its right
PANEL = (3.4, 3.0)  # of several, with the legend below them
LEGEND_LINE = 0.2
MOST_COLUMNS = 4  # of one task's variants
USUAL = Style(colour="#9a9a9a", dashes="-")  # the default's curve, beside a variant's


def plot(
    curves: pd.DataFrame,
    chance: Mapping[str, float | None],
    title: str | None = None,
    overlay: pd.DataFrame | None = None,
) -> Figure:
    """Return the picture of `curves`; `chance` gives the chance level of each task, where it has
    one.

    The axis of shots is logarithmic from the least positive count up, and linear from there to
    zero. Bands are those of the table: of whole curves where it has them, else the intervals of its
    points; a line below says which. Hollow points had fewer shots than the axis says, as
    no more fitted. Reference learners that need labels are not drawn for unlabelled shots where the
    picture has them with labels. `overlay` is a table of published values, as `load_overlays` gives
    it: they are grey. Raises `SpecError` where no point has a value, or the overlay has none for
    what is drawn.
    """
    import matplotlib as mpl

    shown = curves[curves["value"].notna()]
    if shown.empty:
        raise SpecError("no cell has an answer yet: there is nothing to draw.")
    shown = with_formats(without_guesses(shown))
    laid = {} if overlay is None else for_panels(overlay, _panels(shown), chance)
    how = replace(looks(shown), overlay=overlay_styles(labels_of(laid.values())))
    if "n_tasks" in shown:
        chance = _mean_chance(shown, chance)
    with mpl.rc_context(RC):
        return _draw(shown, chance, title, how, laid)


def _panels(curves: pd.DataFrame) -> list[Panel]:
    """Return the panels of a picture: a row a task and metric, a column a variant."""
    variants = sorted(set(curves["variant"]), key=lambda name: (name != "default", str(name)))
    rows = list(dict.fromkeys(zip(curves["task"], curves["metric"], strict=True)))
    return [(*row, variant) for row, variant in product(rows, variants)]


def _mean_chance(
    curves: pd.DataFrame, chance: Mapping[str, float | None]
) -> dict[str, float | None]:
    """Return the chance level of a mean over tasks, where each of them has one."""
    levels = [float(level) for level in chance.values() if isinstance(level, int | float)]
    if len(levels) != curves["n_tasks"].max():
        return {}
    return dict.fromkeys(curves["task"], sum(levels) / len(levels))


def save(figure: Figure, path: Path | str) -> None:
    """Write the picture as .png or .svg, whole or not at all. Raises `SpecError`, `StoreError`."""
    path = Path(path)
    form = path.suffix.lower().removeprefix(".")
    if form not in ("png", "svg"):
        raise SpecError(f"{path.name}: a picture is a .png or .svg file; its name must end so.")
    write_atomically(path, _bytes(figure, form))


def _bytes(figure: Figure, form: str) -> bytes:
    import matplotlib as mpl

    buffer = io.BytesIO()
    # The date and the version of matplotlib would make equal pictures differ.
    metadata = {"Date": None, "Creator": "icl-harness"} if form == "svg" else {"Software": None}
    with mpl.rc_context(RC):
        figure.savefig(buffer, format=form, dpi=DPI, metadata=metadata)
    return buffer.getvalue()


def _draw(
    curves: pd.DataFrame,
    chance: Mapping[str, float | None],
    title: str | None,
    how: Looks,
    laid: Mapping[Panel, pd.DataFrame],
) -> Figure:
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:  # a notebook shows it, whether or not pyplot is loaded
            return _bytes(self, "png")

    panels = _panels(curves)
    variants = list(dict.fromkeys(variant for _, _, variant in panels))
    n_columns = _n_columns(len(panels) // len(variants), len(variants))
    n_rows = math.ceil(len(panels) / n_columns)
    is_one = len(panels) == 1
    figure = Picture(
        figsize=ONE_PANEL if is_one else _size(n_rows, n_columns, how),
        dpi=DPI, layout="constrained", facecolor="white",
    )  # fmt: skip
    flat = list(figure.subplots(n_rows, n_columns, squeeze=False).flat)
    for i, (ax, (task, metric, variant)) in enumerate(zip(flat, panels, strict=False)):
        of_task = curves[(curves["task"] == task) & (curves["metric"] == metric)]
        if variant != "default":
            _usual(ax, of_task[of_task["variant"] == "default"], how)
        beside = laid.get((task, metric, variant))
        of_panel = of_task[of_task["variant"] == variant]
        _panel(ax, of_panel, of_task, how, beside, is_narrow=not is_one)
        if str(metric) not in METRICS or METRICS[str(metric)].of == "score":  # chance is of scores
            _mark_chance(ax, chance.get(task), 100.0 if _is_share(of_task) else 1.0)
        name_variant = len(variants) > 1 or variant not in ("default", "")
        name = f"{task} · {variant}" if name_variant else str(task)
        ax.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
        label = f"{metric} (%)" if _is_share(of_task) else with_unit(str(metric))
        ax.set_ylabel(label, color=INK)
        if i >= len(panels) - n_columns:
            ax.set_xlabel(_shots(how), color=INK)
    for ax in flat[len(panels) :]:
        ax.set_axis_off()
    fewer = bool((curves["shots_used"] < curves["shots"]).any())
    _legend(figure, how, beside=is_one, fewer=fewer, usual="default" in variants[:-1])
    _name_bands(figure, _caption(curves, how), beside=is_one)
    figure.suptitle(title or "", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    return figure


def _n_columns(n_rows: int, n_variants: int) -> int:
    """Return how many panels stand in a row."""
    if n_variants == 1:
        return min(n_rows, 3)
    if n_rows > 1 or n_variants <= MOST_COLUMNS:
        return n_variants
    return min(MOST_COLUMNS, math.ceil(math.sqrt(n_variants)))


def _usual(ax: Axes, default: pd.DataFrame, how: Looks) -> None:
    """Draw the models' curves of the default, for comparison."""
    scale = 100.0 if len(default) and _is_share(default) else 1.0
    for (model, mode), style in how.styles.items():
        line = default[(default["model"] == model) & (default["mode"] == mode)]
        if style.marker and len(line):
            line = line.sort_values("shots")
            ax.plot(
                line["shots"], scale * line["value"], color=USUAL.colour, linestyle=style.dashes,
                linewidth=USUAL.width, zorder=2,
            )  # fmt: skip


def _name_bands(figure: Figure, caption: str, *, beside: bool) -> None:
    """Write what the bands are below the picture; where the legend is there, above its entries."""
    if beside:
        figure.supxlabel(caption, x=0.01, ha="left", fontsize=8, color=MUTED)
        return
    legend = figure.legends[0]
    legend.set_title(caption)
    legend.set_alignment("left")
    legend.get_title().set(fontsize=8, color=MUTED)


def _caption(curves: pd.DataFrame, how: Looks) -> str:
    """Return what the bands of a picture are; nothing where it has none."""
    banded = {pair for pair, style in how.styles.items() if style.marker}
    pairs = zip(curves["model"], curves["mode"], strict=True)
    shown = curves[[pair in banded for pair in pairs]]
    low, high = limits_of(curves)
    if not (shown[low] < shown[high]).any():
        return ""
    if low == "ci_low":
        return f"Bands: 95 %{left_out(shown)}, for each point by itself (pointwise)."
    return f"Bands: 95 %{left_out(shown)}, for all points of a curve at once (simultaneous)."


def _size(n_rows: int, n_columns: int, how: Looks) -> tuple[float, float]:
    width, height = PANEL
    lines = max(len(block) for block in [*how.legend, how.overlay_entries]) + 3
    return max(8.0, width * n_columns), height * n_rows + LEGEND_LINE * lines


def _shots(how: Looks) -> str:
    """Return the axis's label, with the mode where a picture has one and its legend names none."""
    return f"shots ({how.modes[0]})" if len(how.modes) == 1 else "shots"


def _panel(
    ax: Axes,
    part: pd.DataFrame,
    of_task: pd.DataFrame,
    how: Looks,
    beside: pd.DataFrame | None,
    *,
    is_narrow: bool,
) -> None:
    is_share = _is_share(of_task)
    counts = {int(shots) for shots in of_task["shots"]}
    if beside is not None:
        lay_over(ax, beside, how.overlay, is_share=is_share)
        counts |= {int(shots) for shots in beside["shots"].dropna()}
    for (model, mode), style in reversed(how.styles.items()):  # models last: they lie on top
        line = part[(part["model"] == model) & (part["mode"] == mode)].sort_values("shots")
        if len(line):
            _line(ax, line, style, 100.0 if is_share else 1.0)
    if is_share:
        ax.set_ylim(-2, 102)
        ax.set_yticks(range(0, 101, 20))
    shot_axis(ax, sorted(counts), is_narrow=is_narrow)
    ax.grid(axis="y", color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color(AXIS)
    ax.tick_params(colors=MUTED, labelsize=9, length=3)


def _mark_chance(ax: Axes, chance: object, scale: float) -> None:
    """Draw the chance level; a run's header may hold anything in its place."""
    if not isinstance(chance, Real) or not math.isfinite(chance):
        return
    level = scale * float(chance)
    ax.axhline(level, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
    ax.text(
        1.01, level, "chance", transform=ax.get_yaxis_transform(), va="center", fontsize=8,
        color=MUTED,
    )  # fmt: skip


def _line(ax: Axes, line: pd.DataFrame, style: Style, scale: float) -> None:
    """Draw one curve, with its band and points where it is a model's."""
    x = line["shots"].to_numpy()
    y, low, high = (line[name].to_numpy() * scale for name in ("value", *limits_of(line)))
    look: dict[str, Any] = {"color": style.colour, "linewidth": style.width}
    over = 3.0 if style.marker else 3.5  # a thin reference shows on the curve that reaches it
    ax.plot(x, y, linestyle=style.dashes, zorder=over, solid_capstyle="round", **look)
    if not style.marker:
        if len(x) == 1:  # a lone point makes no line
            ax.plot(x, y, "_", markersize=9, markeredgewidth=1.2, color=style.colour, zorder=over)
        return
    ax.fill_between(x, low, high, color=style.colour, alpha=0.16, linewidth=0, zorder=1)
    if len(x) == 1:
        ax.vlines(x, low, high, color=style.colour, alpha=0.35, linewidth=3, zorder=1)
    fewer = (line["shots_used"] < line["shots"]).to_numpy()
    for chosen, face in ((~fewer, style.colour), (fewer, "white")):
        if chosen.any():
            ax.plot(
                x[chosen], y[chosen], style.marker, color=style.colour, markerfacecolor=face,
                markersize=5, zorder=4,
            )  # fmt: skip


def _legend(figure: Figure, how: Looks, *, beside: bool, fewer: bool, usual: bool) -> None:
    """Put one legend for all panels outside of them: at the right of one, below several, where each
    block is a column.
    """
    blocks = [list(block) for block in how.legend]
    if fewer:
        blocks[-1].append(Entry("fewer shots fitted", Style(colour=MUTED, dashes="", marker="o")))
    if usual:
        blocks[-1].append(Entry("the default's curve", USUAL))
    if how.overlay:
        blocks.append(how.overlay_entries)
    if beside:
        spaced = [[*block, Entry("")] for block in blocks]
        entries = list(chain.from_iterable(spaced))[:-1]
        where: dict[str, Any] = {"loc": "outside right upper"}
    else:
        longest = max(map(len, blocks))
        padded = [block + [Entry("")] * (longest - len(block)) for block in blocks]
        entries = list(chain.from_iterable(padded))
        where = {"loc": "outside lower left", "ncols": len(blocks)}
    legend = figure.legend(
        [_handle(entry.style) for entry in entries], [entry.label for entry in entries],
        frameon=False, fontsize=9, labelcolor=INK, handlelength=2.8, **where,
    )  # fmt: skip
    for text, entry in zip(legend.get_texts(), entries, strict=True):
        if entry.style is None:
            text.set_color(MUTED)


def _handle(style: Style | None) -> Line2D:
    """Return what stands beside an entry; beside a heading, nothing."""
    from matplotlib.lines import Line2D

    if style is None:
        return Line2D([], [], linestyle="")
    face = style.colour if style.dashes else "white"
    return Line2D(
        [], [], color=style.colour, linestyle=style.dashes or "", linewidth=style.width,
        marker=style.marker, markersize=5, markerfacecolor=face,
    )  # fmt: skip


def _is_share(of_task: pd.DataFrame) -> bool:
    """Return whether the metric is a share, drawn in percent from 0 to 100: all its limits lie
    within 0 and 1, and it is not known to have others.
    """
    known = METRICS.get(str(of_task["metric"].iloc[0]))
    if known is not None and (known.range[1] > 1 or known.range[0] == -1):
        return False
    return bool(of_task["ci_low"].fillna(0).min() >= 0 and of_task["ci_high"].fillna(1).max() <= 1)
