"""How curves look: colours, dashes and markers by model and mode, and the legend for them.

In: the table of `curves`. Out: a `Style` for each (model, mode), and entries of a legend. With one
model a colour stands for a mode; with several, for a model, and dashes and markers for modes.
Reference learners are thin and without band.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import TYPE_CHECKING, Literal

from icl_harness.analysis.curves import unusual_format

if TYPE_CHECKING:
    import pandas as pd

Dashes = Literal["-", ""] | tuple[float, tuple[float, ...]]
Pair = tuple[str, str]  # model, mode

# Okabe & Ito (2008): told apart with any common colour blindness.
PALETTE = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MODES = ("supervised", "reinforced", "unsupervised")
MODE_COLOURS = {"supervised": PALETTE[0], "unsupervised": PALETTE[1], "reinforced": PALETTE[2]}
MODE_DASHES: dict[str, Dashes] = {
    "supervised": "-",
    "unsupervised": (0, (5, 1.6)),
    "reinforced": (0, (5, 1.2, 1, 1.2)),
}
MARKERS = "osD^vP"
OVERLAY_LOOKS: tuple[tuple[str, Dashes, str], ...] = (
    ("#555555", (0, (4, 2)), "x"),
    ("#8a8a8a", (0, (1, 1.5)), "+"),
    ("#555555", (0, (6, 2, 1, 2)), "1"),
    ("#8a8a8a", (0, (6, 3)), "*"),
    ("#555555", (0, (1, 3)), "2"),
    ("#8a8a8a", (0, (3, 1, 1, 1, 1, 1)), "p"),
    ("#555555", (0, (8, 1.5)), "3"),
    ("#8a8a8a", (0, (2, 4)), "h"),
)
INK, MUTED, FAINT = "#222222", "#6b6b6b", "#e4e4e4"

BASELINE = "baseline/"
# They know the task, so they learn from unlabelled shots too.
EXACT = ("baseline/bayes", "baseline/ceiling")
BASELINE_STYLES: dict[str, tuple[str, Dashes]] = {
    "baseline/bayes": (INK, (0, (4, 2))),
    "baseline/ceiling": (INK, (0, (1, 1.5))),
    "baseline/logreg": ("#7a7a7a", (0, (6, 2))),
    "baseline/knn": ("#7a7a7a", (0, (2, 1.5))),
    "baseline/bm25": ("#7a7a7a", (0, (6, 1.5, 1, 1.5))),
    "baseline/majority": ("#a8a8a8", (0, (1, 1.5))),
}


@dataclass(frozen=True, kw_only=True)
class Style:
    """How the curves of one (model, mode) look in every panel."""

    colour: str
    dashes: Dashes
    marker: str = ""  # none: a reference learner, thin and without band

    @property
    def width(self) -> float:
        """Return the width of the line."""
        return 1.9 if self.marker else 1.2


@dataclass(frozen=True)
class Entry:
    """A line of the legend; one without a style is a heading."""

    label: str
    style: Style | None = None


@dataclass(frozen=True)
class Looks:
    """The styles of a picture, models first, and the blocks of its legend. `overlay`: those of
    published values, by label.
    """

    styles: dict[Pair, Style]
    legend: list[list[Entry]]
    modes: list[str]
    overlay: dict[str, Style] = field(default_factory=dict)

    @property
    def overlay_entries(self) -> list[Entry]:
        """Return the block of the legend that names published values; empty without any."""
        entries = [Entry(label, style) for label, style in self.overlay.items()]
        return [Entry("overlay"), *entries] if entries else []


def overlay_styles(labels: Sequence[str]) -> dict[str, Style]:
    """Return how published values look: grey, told apart by dashes and marks."""
    looks = zip(labels, cycle(OVERLAY_LOOKS), strict=False)
    return {
        label: Style(colour=grey, dashes=dashes, marker=mark)
        for label, (grey, dashes, mark) in looks
    }


def without_guesses(curves: pd.DataFrame) -> pd.DataFrame:
    """Drop the learners that need labels where they have none: they guess, and the chance line
    shows that already.
    """
    needs_labels = curves["model"].str.startswith(BASELINE) & ~curves["model"].isin(EXACT)
    guesses = needs_labels & (curves["mode"] == "unsupervised")
    elsewhere = set(curves.loc[needs_labels & ~guesses, "model"])
    return curves[~(guesses & curves["model"].isin(elsewhere))]


def with_formats(curves: pd.DataFrame) -> pd.DataFrame:
    """Return the table with chats and groups of queries named in the model: they are curves of
    their own.
    """
    names = [" · ".join([row["model"], *unusual_format(row)]) for row in curves.to_dict("records")]
    return curves.assign(model=names)


def looks(curves: pd.DataFrame) -> Looks:
    """Return how each (model, mode) looks. Where there are reference learners alone, they are the
    models.
    """
    pairs = sorted(set(zip(curves["model"], curves["mode"], strict=True)), key=_rank)
    everyone = list(dict.fromkeys(model for model, _ in pairs))
    models = [model for model in everyone if not model.startswith(BASELINE)] or everyone
    modes = sorted({mode for _, mode in pairs}, key=_mode_rank)
    styles = {pair: _style(pair, models, modes) for pair in pairs}
    first = {model: _first_mode(pairs, model) for model in everyone}
    names = [
        Entry(_short(model), _sign(styles[model, first[model]], model, models, modes))
        for model in everyone
    ]
    blocks = [names]
    if len(modes) > 1:
        signs = [Entry(mode, _mode_sign(mode, models, modes)) for mode in modes]
        blocks = [[Entry("model"), *names], [Entry("mode"), *signs]]
    return Looks(styles, blocks, modes)


def _style(pair: Pair, models: Sequence[str], modes: Sequence[str]) -> Style:
    model, mode = pair
    if model not in models:
        colour, dashes = BASELINE_STYLES.get(model, (MUTED, (0, (3, 2))))
        if model in EXACT and len(modes) > 1 and len(models) == 1:
            # Beside, or upon, the curve of the mode that it is the reference of.
            colour = _darker(_mode_colour(mode, modes))
        return Style(colour=colour, dashes=dashes)
    marker = MARKERS[modes.index(mode) % len(MARKERS)]
    if len(models) == 1:
        return Style(colour=_mode_colour(mode, modes), dashes="-", marker=marker)
    dashes = MODE_DASHES.get(mode, "-") if len(modes) > 1 else "-"
    return Style(colour=PALETTE[models.index(model) % len(PALETTE)], dashes=dashes, marker=marker)


def _sign(style: Style, model: str, models: Sequence[str], modes: Sequence[str]) -> Style:
    """Return what stands for a model in the legend, whatever the mode."""
    if len(modes) == 1:
        return style
    if model not in models:
        colour, dashes = BASELINE_STYLES.get(model, (MUTED, style.dashes))
        return Style(colour=colour, dashes=dashes)
    colour = INK if len(models) == 1 else style.colour
    return Style(colour=colour, dashes="-", marker=",")


def _mode_sign(mode: str, models: Sequence[str], modes: Sequence[str]) -> Style:
    """Return what stands for a mode in the legend, whatever the model."""
    marker = MARKERS[modes.index(mode) % len(MARKERS)]
    if len(models) == 1:
        return Style(colour=_mode_colour(mode, modes), dashes="-", marker=marker)
    return Style(colour=INK, dashes=MODE_DASHES.get(mode, "-"), marker=marker)


def _mode_colour(mode: str, modes: Sequence[str]) -> str:
    return MODE_COLOURS.get(mode, PALETTE[3 + modes.index(mode) % 3])


def _first_mode(pairs: Sequence[Pair], model: str) -> str:
    return next(mode for other, mode in pairs if other == model)


def _mode_rank(mode: str) -> tuple[int, str]:
    return (MODES.index(mode) if mode in MODES else len(MODES), mode)


def _rank(pair: Pair) -> tuple[int, str, tuple[int, str]]:
    """Return what (model, mode) are sorted by: models by name, then reference learners."""
    model, mode = pair
    order = list(BASELINE_STYLES)
    place = 0
    if model.startswith(BASELINE):
        place = 1 + (order.index(model) if model in order else len(order))
    return place, model, _mode_rank(mode)


def _darker(colour: str) -> str:
    from matplotlib.colors import to_hex, to_rgb

    red, green, blue = to_rgb(colour)
    return to_hex((0.4 * red, 0.4 * green, 0.4 * blue))


def _short(model: str) -> str:
    name, dot, how = model.removeprefix(BASELINE).partition(" · ")
    return (name if len(name) <= 30 else f"…{name[-29:]}") + dot + how
