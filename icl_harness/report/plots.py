"""The picture of curves: value against shots, one panel a task, a column a variant.

In: the table of `curves`. Out: a matplotlib Figure, or a PNG or SVG file; equal tables give equal
bytes. No global state of matplotlib is read or changed. Left out: anything that can be clicked, and
differences between curves.
"""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import TYPE_CHECKING, Any

from icl_harness.analysis.curves import asked_how
from icl_harness.errors import SpecError
from icl_harness.files import write_atomically

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Okabe & Ito (2008): told apart with any common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODE_COLOURS = {"supervised": PALETTE[0], "unsupervised": PALETTE[1], "reinforced": PALETTE[2]}
MODE_DASHES: dict[str, Any] = {
    "supervised": "-",
    "unsupervised": (0, (5, 1.6)),
    "reinforced": (0, (5, 1.2, 1, 1.2)),
}
Styles = dict[tuple[str, str], "Style"]  # by (model, mode)
MARKERS = "osD^vP"
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"
BASELINE = "baseline/"
EXACT = (
    "baseline/bayes",
    "baseline/ceiling",
)  # they know the task, so they learn from unlabelled shots too
BASELINE_STYLES: dict[str, tuple[str, Any]] = {
    "baseline/bayes": (INK, (0, (4, 2))),
    "baseline/ceiling": (INK, (0, (1, 1.5))),
    "baseline/logreg": ("#7a7a7a", (0, (6, 2))),
    "baseline/knn": ("#7a7a7a", (0, (2, 1.5))),
    "baseline/majority": ("#a8a8a8", (0, (1, 1.5))),
}
RC: Any = {
    "svg.hashsalt": "icl-harness",
    "font.family": "DejaVu Sans",
    "font.size": 10.0,
    "axes.unicode_minus": True,
}
DPI = 150


@dataclass(frozen=True, kw_only=True)
class Style:
    """How one (model, mode) looks in every panel."""

    label: str
    colour: str
    dashes: Any
    marker: str  # empty: a reference learner, thin and without band


def plot(
    curves: pd.DataFrame, chance: Mapping[str, float | None], title: str | None = None
) -> Figure:
    """Return the picture of `curves`; `chance` gives the chance level of each task, where it has
    one.

    Zero-shot stands left of a break in the log-2 axis. Bands are the intervals of the table. Hollow
    points had fewer shots than asked for, as no more fitted. Reference learners are dashed; those
    that need labels are not drawn for unlabelled shots where the picture has them with labels.
    Raises `SpecError` where no cell has a value.
    """
    import matplotlib as mpl

    shown = curves[curves["value"].notna()]
    if shown.empty:
        raise SpecError("no cell has an answer yet: there is nothing to draw.")
    shown = _by_way_of_asking(_without_guesses(shown))
    styles = _styles(shown)
    with mpl.rc_context(RC):
        return _draw(shown, chance, title, styles)


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


def _without_guesses(curves: pd.DataFrame) -> pd.DataFrame:
    """Drop the learners that need labels where they have none: they guess, and the chance line
    shows that already.
    """
    needs_labels = curves["model"].str.startswith(BASELINE) & ~curves["model"].isin(EXACT)
    guesses = needs_labels & (curves["mode"] == "unsupervised")
    elsewhere = set(curves.loc[needs_labels & ~guesses, "model"])
    return curves[~(guesses & curves["model"].isin(elsewhere))]


def _by_way_of_asking(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the table with chats and groups of queries told in the models' names: they are curves
    of their own.
    """
    names = [" · ".join([row["model"], *asked_how(row)]) for row in curves.to_dict("records")]
    return curves.assign(model=names)


def _styles(curves: pd.DataFrame) -> Styles:
    """Return the style of each (model, mode), models before reference learners, which is the
    legend's order.

    One model: a colour a mode. Several: a colour a model, dashes and marker by mode. Where there
    are reference learners alone, they are the models.
    """
    pairs = sorted(
        set(zip(curves["model"], curves["mode"], strict=True)), key=lambda p: (_rank(p[0]), p)
    )
    everyone = list(dict.fromkeys(model for model, _ in pairs))
    models = [model for model in everyone if not model.startswith(BASELINE)] or everyone
    modes = list(dict.fromkeys(mode for _, mode in pairs))
    styles: Styles = {}
    for model, mode in pairs:
        several_modes = sum(m == model for m, _ in pairs) > 1
        with_mode = several_modes or (len(modes) > 1 and model in models)
        label = f"{_short(model)} · {mode}" if with_mode else _short(model)
        mode_colour = MODE_COLOURS.get(mode, PALETTE[3 + modes.index(mode) % 3])
        if model not in models:
            colour, dashes = BASELINE_STYLES.get(model, (MUTED, (0, (3, 2))))
            if model in EXACT and several_modes and len(models) <= 1:
                colour = _darker(
                    mode_colour
                )  # beside the curve that it is the reference of, or upon it
            styles[model, mode] = Style(label=label, colour=colour, dashes=dashes, marker="")
        elif len(models) == 1:
            marker = MARKERS[modes.index(mode) % len(MARKERS)]
            styles[model, mode] = Style(label=label, colour=mode_colour, dashes="-", marker=marker)
        else:
            colour, marker = (
                PALETTE[models.index(model) % len(PALETTE)],
                MARKERS[modes.index(mode) % len(MARKERS)],
            )
            dashes = MODE_DASHES.get(mode, "-") if len(modes) > 1 else "-"
            styles[model, mode] = Style(label=label, colour=colour, dashes=dashes, marker=marker)
    return styles


def _darker(colour: str) -> str:
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(colour)
    return to_hex((0.4 * red, 0.4 * green, 0.4 * blue))


def _rank(model: str) -> int:
    order = list(BASELINE_STYLES)
    return (
        (order.index(model) if model in order else len(order)) + 1
        if model.startswith(BASELINE)
        else 0
    )


def _short(model: str) -> str:
    name, dot, how = model.removeprefix(BASELINE).partition(" · ")
    return (name if len(name) <= 30 else f"…{name[-29:]}") + dot + how


def _draw(
    curves: pd.DataFrame, chance: Mapping[str, float | None], title: str | None, styles: Styles
) -> Figure:
    from matplotlib.figure import Figure

    class Picture(Figure):
        def _repr_png_(self) -> bytes:  # a notebook shows it, whether or not pyplot is loaded
            return _bytes(self, "png")

    rows = list(dict.fromkeys(zip(curves["task"], curves["metric"], strict=True)))
    variants = sorted(set(curves["variant"]), key=lambda name: (name != "default", str(name)))
    panels = [(task, metric, variant) for task, metric in rows for variant in variants]
    n_columns = (
        len(variants) if len(variants) > 1 else min(len(panels), 2 if len(panels) <= 4 else 3)
    )
    n_rows = math.ceil(len(panels) / n_columns)
    beside = (
        len(panels) == 1
    )  # where the legend stands; below several panels it leaves them the width
    size = (
        8.0 if beside else max(8.0, 3.1 * n_columns),
        4.5 if beside else 3.0 * n_rows + 0.2 * len(styles) / 2 + 0.6,
    )
    figure = Picture(figsize=size, dpi=DPI, layout="constrained", facecolor="white")
    axes = figure.subplots(n_rows, n_columns, squeeze=False)
    flat = list(axes.flat)
    for i, (ax, (task, metric, variant)) in enumerate(zip(flat, panels, strict=False)):
        of_task = curves[(curves["task"] == task) & (curves["metric"] == metric)]
        _panel(
            ax,
            of_task[of_task["variant"] == variant],
            of_task,
            chance.get(task),
            styles,
            narrow=not beside,
        )
        name = str(task) + (
            f" · {variant}" if len(variants) > 1 or variant not in ("default", "") else ""
        )
        ax.set_title(name, loc="left", fontsize=11, fontweight="bold", color=INK)
        ax.set_ylabel(f"{metric} (%)" if _is_share(of_task) else str(metric), color=INK)
        if i >= len(panels) - n_columns:
            ax.set_xlabel("shots", color=INK)
    for ax in flat[len(panels) :]:
        ax.set_axis_off()
    _legend(
        figure, styles, beside=beside, hollow=bool((curves["shots_used"] < curves["shots"]).any())
    )
    figure.suptitle(title or "", x=0.01, ha="left", fontsize=13, fontweight="bold", color=INK)
    return figure


def _panel(
    ax: Axes,
    part: pd.DataFrame,
    of_task: pd.DataFrame,
    chance: float | None,
    styles: Styles,
    narrow: bool,
) -> None:
    scale = 100.0 if _is_share(of_task) else 1.0
    place = _places(of_task["shots"])
    span = max(place.values()) - min(place.values()) + 0.7
    step = 0.016 * span  # intervals at zero shots stand side by side
    models = [style for style in styles.values() if style.marker]
    for pair, style in reversed(styles.items()):  # the models last, so that they lie on top
        line = part[(part["model"] == pair[0]) & (part["mode"] == pair[1])].sort_values("shots")
        if len(line):
            aside = step * (models.index(style) - (len(models) - 1) / 2) if style.marker else 0.0
            _line(ax, line, style, place | {0: place.get(0, 0.0) + aside}, scale)
    edge = max(0.35, 0.035 * span)
    ax.set_xlim(
        min(place.values()) - edge - step * (len(models) - 1) / 2, max(place.values()) + edge
    )
    if scale == 100.0:
        ax.set_ylim(-2, 102)
        ax.set_yticks(range(0, 101, 20))
    if isinstance(chance, Real) and math.isfinite(chance):  # a run's header may hold anything
        ax.axhline(scale * chance, color=MUTED, linewidth=0.9, linestyle=(0, (1, 2)), zorder=1)
        ax.text(
            1.01,
            scale * chance,
            "chance",
            transform=ax.get_yaxis_transform(),
            va="center",
            fontsize=8,
            color=MUTED,
        )
    _axis(ax, place, narrow)


def _line(
    ax: Axes, line: pd.DataFrame, style: Style, place: dict[int, float], scale: float
) -> None:
    """Draw one curve; from zero-shot to the first shots it crosses the break of the axis and is
    dotted there.
    """
    x = [place[int(shots)] for shots in line["shots"]]
    y, low, high = ((line[name] * scale).tolist() for name in ("value", "ci_low", "ci_high"))
    look: dict[str, Any] = {"color": style.colour, "linewidth": 1.9 if style.marker else 1.2}
    start = 1 if len(x) > 1 and int(line["shots"].iloc[0]) == 0 else 0
    zorder = 3.0 if style.marker else 3.5  # a thin reference shows on the curve that reaches it
    ax.plot(
        x[start:], y[start:], linestyle=style.dashes, zorder=zorder, solid_capstyle="round", **look
    )
    if start:
        ax.plot(
            x[:2], y[:2], linestyle=(0, (1, 2.2)), linewidth=1.2, color=style.colour, zorder=zorder
        )
    if not style.marker:
        if len(x) == 1 or start:  # a lone point makes no line
            ax.plot(
                x[:1],
                y[:1],
                "_",
                markersize=9,
                markeredgewidth=1.2,
                color=style.colour,
                zorder=zorder,
            )
        return
    ax.fill_between(
        x[start:], low[start:], high[start:], color=style.colour, alpha=0.16, linewidth=0, zorder=1
    )
    if start or len(x) == 1:
        ax.vlines(x[0], low[0], high[0], color=style.colour, alpha=0.35, linewidth=3, zorder=1)
    hollow = (line["shots_used"] < line["shots"]).tolist()
    for points, face in ((False, style.colour), (True, "white")):
        at = [i for i, fewer in enumerate(hollow) if fewer is points]
        ax.plot(
            [x[i] for i in at],
            [y[i] for i in at],
            style.marker,
            color=style.colour,
            markerfacecolor=face,
            markersize=5,
            zorder=4,
        )


def _places(shots: Iterable[Any]) -> dict[int, float]:
    """Return where each shot count stands: log2, with zero a little left of the least positive one."""
    counts = sorted({int(k) for k in shots})
    place = {k: math.log2(k) for k in counts if k > 0}
    if 0 in counts:
        span = max(place.values()) - min(place.values()) if place else 0.0
        place[0] = min(place.values(), default=0.0) - max(1.0, 0.13 * span)
    return dict(sorted(place.items()))


def _axis(ax: Axes, place: dict[int, float], narrow: bool) -> None:
    """Dress the axes: ticks at the shot counts there are, as many as can be read, and the break
    after zero.
    """
    span = max(place.values()) - min(place.values())
    ticks: list[int] = []
    room = span * (0.023 if narrow else 0.012)  # a digit's
    for count in sorted(place, reverse=True):  # from the right: the most shots are always labelled
        needed = room * (len(f"{count}{ticks[-1]}") / 2 + 1) if ticks else 0.0
        if count == 0 or not ticks or place[ticks[-1]] - place[count] >= needed:
            ticks.append(count)
    ax.set_xticks([place[k] for k in ticks], [f"{k}" for k in ticks])
    ax.grid(axis="y", color=FAINT, linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right"]].set_visible(False)
    ax.spines[["left", "bottom"]].set_color("#9a9a9a")
    ax.tick_params(colors=MUTED, labelsize=9, length=3)
    positive = [x for k, x in place.items() if k > 0]
    if 0 in place and positive:
        middle = (place[0] + positive[0]) / 2
        blank: Any = {"transform": ax.get_xaxis_transform(), "clip_on": False}
        ax.plot(
            [middle - 0.01 * span, middle + 0.01 * span],
            [0, 0],
            color="white",
            linewidth=3,
            zorder=5,
            **blank,
        )
        for side in (-0.01 * span, 0.01 * span):
            x = [middle + side - 0.006 * span, middle + side + 0.006 * span]
            ax.plot(x, [-0.018, 0.018], color="#9a9a9a", linewidth=1, zorder=6, **blank)


def _legend(figure: Figure, styles: Styles, *, beside: bool, hollow: bool) -> None:
    """Put one legend for all panels outside of them: at the right of one, below several."""
    from matplotlib.lines import Line2D

    handles, labels = [], []
    for s in styles.values():
        width = 1.9 if s.marker else 1.2
        handles.append(
            Line2D(
                [],
                [],
                color=s.colour,
                linestyle=s.dashes,
                marker=s.marker,
                markersize=5,
                linewidth=width,
            )
        )
        labels.append(s.label)
    if hollow:
        handles.append(
            Line2D(
                [], [], linestyle="", marker="o", markersize=5, color=MUTED, markerfacecolor="white"
            )
        )
        labels.append("fewer shots fitted")
    where: Any = (
        {"loc": "outside right upper"} if beside else {"loc": "outside lower left", "ncols": 3}
    )
    figure.legend(
        handles, labels, frameon=False, fontsize=9, labelcolor=INK, handlelength=2.8, **where
    )


def _is_share(of_task: pd.DataFrame) -> bool:
    """Return whether the metric is a share, drawn in percent from 0 to 100: all its limits lie
    within 0 and 1.
    """
    return bool(of_task["ci_low"].fillna(0).min() >= 0 and of_task["ci_high"].fillna(1).max() <= 1)
