"""Published values, to lay beside one's own curves.

In: the name of a table in results/reference/ (`overlay_names` lists them), a CSV file or a
DataFrame. Out: a checked table, and what of it belongs into a panel. Such a table has a row for
each value:

    label          what the legend calls it
    value          as a picture shows it, where one value of the table is above 1 in percent
    shots          empty: one level, drawn across the panel
    task, variant  of the panels that it belongs into; all, where there is no such column or it is
                   empty. A task may be several, between blanks, or the mean over some: "mean: a b"
    low, high      its limits
    mode, runs, source, metric

Lines at its head that begin with # say where it comes from. A curves.csv is one, too.
"""

from __future__ import annotations

import io
from collections.abc import Collection, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from icl_harness.errors import SpecError, nearest
from icl_harness.tasks.discovery import content

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

    from icl_harness.report.styles import Style

Overlay: TypeAlias = "str | PathLike[str] | pd.DataFrame"

FOLDER = "results/reference"
NEEDED = ("label", "value")
NUMBERS = ("shots", "value", "low", "high")
TEXTS = ("task", "variant", "mode", "metric")
KNOWN = ("task", "variant", "mode", "label", "shots", "value", "low", "high", "metric")
PASSED_OVER = ("runs", "source")
MEAN = "mean:"
MOST_LABELS = 8  # greys that can be told apart by their dashes


def overlay_names() -> list[str]:
    """Return the names of the tables in results/reference/."""
    return list(content(FOLDER, ".csv"))


def load_overlays(given: Overlay | Sequence[Overlay]) -> pd.DataFrame:
    """Return one table of several. A name or file may be followed by a colon and the labels that
    are wanted of it, between commas. Raises `SpecError`.
    """
    import pandas as pd

    several: Sequence[Any] = given if isinstance(given, list | tuple) else [given]
    return pd.concat([_load(one) for one in several], ignore_index=True)


def _load(given: Overlay) -> pd.DataFrame:
    if not isinstance(given, str | PathLike):
        if not hasattr(given, "columns"):
            kind = type(given).__name__
            raise SpecError(f"an overlay is a name, the path of a CSV or a DataFrame, not {kind}.")
        return _checked(given, "the overlay")
    text = str(given)
    path, wanted = _split(text)
    found = _checked(_read(path), text if not wanted else str(path))
    return _of_labels(found, wanted, path.stem) if wanted else found


def _split(text: str) -> tuple[Path, list[str]]:
    """Return the file of an overlay, and the labels that are wanted of it."""
    named = content(FOLDER, ".csv")
    for end in [len(text), *(i for i, letter in enumerate(text) if letter == ":")]:
        name, labels = text[:end], text[end + 1 :]
        path = named.get(name, Path(name))
        if name in named or path.is_file():
            return path, [label.strip() for label in labels.split(",") if label.strip()]
    raise SpecError(
        f"there is no overlay {text!r}, and no such file.{nearest(text, named)} In results/"
        f"reference are {', '.join(named)}; a CSV file of your own has columns label, shots and "
        "value."
    )


def _read(path: Path) -> pd.DataFrame:
    import pandas as pd

    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines(keepends=True)
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from error
    while lines and lines[0].startswith("#"):
        del lines[0]
    try:
        return pd.read_csv(io.StringIO("".join(lines)), dtype=str, skipinitialspace=True)
    except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
        raise SpecError(f"{path} is no CSV: {' '.join(str(error).split())}.") from error


def _checked(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a table with all columns, numbers as numbers. Raises `SpecError`."""
    import pandas as pd

    if {"model", "ci_low", "n_draws"} <= set(table.columns):
        table = _of_curves(table)
    _refuse_columns(table, where)
    found = table.reindex(columns=list(KNOWN))
    for name in NUMBERS:
        try:
            found[name] = pd.to_numeric(found[name])
        except (ValueError, TypeError) as error:
            raise SpecError(f"{where}: column {name} holds what is no number: {error}.") from error
    _refuse_gaps(found, where)
    for name in (*TEXTS, "label"):
        found[name] = found[name].astype(object).where(found[name].notna(), "").map(_text)
    return found.assign(percent=bool(found["value"].max() > 1))


def _text(cell: object) -> str:
    return str(cell).strip()


def _refuse_columns(table: pd.DataFrame, where: str) -> None:
    """Refuse columns that mean nothing, which may be misspelt ones, and a lack of others."""
    for name in table.columns:
        if name not in (*KNOWN, *PASSED_OVER):
            close = nearest(str(name), KNOWN)
            raise SpecError(f"{where}: unknown column {name!r}.{close} Known: {', '.join(KNOWN)}.")
    for name in NEEDED:
        if name not in table:
            raise SpecError(f"{where} has no column {name}; an overlay has label, shots and value.")


def _refuse_gaps(found: pd.DataFrame, where: str) -> None:
    """Refuse a table without rows, rows without a label or value, and shots below 0."""
    if found.empty:
        raise SpecError(f"{where} has no row.")
    for name in NEEDED:
        missing = found[name].isna().to_numpy()
        if missing.any():
            row = int(missing.argmax()) + 1
            raise SpecError(f"{where}: row {row} has no {name}. Fill it in, or leave the row out.")
    for name in NUMBERS:
        if np.isinf(found[name].to_numpy(dtype=float)).any():
            raise SpecError(f"{where}: column {name} holds a number that is not finite.")
    shots = found["shots"].dropna()
    if ((shots < 0) | (shots % 1 != 0)).any():
        raise SpecError(f"{where}: column shots holds what is no whole number of 0 or more.")


def _of_curves(table: pd.DataFrame) -> pd.DataFrame:
    """Return a curves.csv as an overlay: points without a value are left out."""
    names = table["model"].astype(str)
    if table["mode"].nunique() > 1:
        names = names + " · " + table["mode"].astype(str)
    found = table.assign(label=names, low=table["ci_low"], high=table["ci_high"])
    return found[found["value"].notna()].drop(columns=["mode"]).reindex(columns=list(KNOWN))


def _of_labels(table: pd.DataFrame, wanted: Sequence[str], where: str) -> pd.DataFrame:
    known = list(dict.fromkeys(table["label"]))
    by_key = {label.casefold(): label for label in known}
    chosen = []
    for label in wanted:
        if label.casefold() not in by_key:
            raise SpecError(
                f"overlay {where} has no label {label!r}.{nearest(label, known)} It has "
                f"{', '.join(known)}."
            )
        chosen.append(by_key[label.casefold()])
    return table[table["label"].isin(chosen)]


def for_panels(
    overlay: pd.DataFrame,
    panels: Iterable[tuple[str, str, str]],
    members: Collection[str],
) -> dict[tuple[str, str, str], pd.DataFrame]:
    """Return the part of an overlay for each panel (task, metric, variant) that it has one for.

    `members` are the tasks of the picture: where it is of their mean, what belongs to that mean is
    taken. Raises `SpecError` where nothing is for any panel, or more than can be told apart.
    """
    found = {}
    shown = list(panels)
    for panel in shown:
        part = _for_panel(overlay, panel, members)
        if len(part):
            found[panel] = part
    if not found:
        drawn = ", ".join(dict.fromkeys(task for task, _, _ in shown))
        theirs = ", ".join(dict.fromkeys(filter(None, overlay["task"])))
        raise SpecError(
            f"the overlay has no value for what is drawn ({drawn}): its values are of {theirs}."
        )
    labels = labels_of(found.values())
    if len(labels) > MOST_LABELS:
        raise SpecError(
            f"the overlay has {len(labels)} labels for what is drawn, more than the {MOST_LABELS} "
            f"that can be told apart. Name some, as in --overlay 'NAME:{labels[0]},{labels[1]}'. "
            f"There are {', '.join(labels)}."
        )
    return found


def labels_of(parts: Iterable[pd.DataFrame]) -> list[str]:
    """Return the labels of the parts of an overlay, each once, in their order."""
    labels: list[str] = []
    for part in parts:
        labels += [label for label in part["label"].unique() if label not in labels]
    return labels


def _for_panel(
    overlay: pd.DataFrame, panel: tuple[str, str, str], members: Collection[str]
) -> pd.DataFrame:
    task, metric, variant = panel
    is_here = np.array([_names(cell, task, members) for cell in overlay["task"]], dtype=bool)
    return overlay[
        is_here & overlay["variant"].isin(["", variant]) & overlay["metric"].isin(["", metric])
    ]


def _names(cell: str, task: str, members: Collection[str]) -> bool:
    """Return whether the cell of a column `task` means a panel's."""
    if cell.startswith(MEAN):
        return task.startswith("mean of ") and set(cell.removeprefix(MEAN).split()) == set(members)
    return not cell or task == cell or task in cell.split()


def lay_over(ax: Axes, part: pd.DataFrame, styles: Mapping[str, Style], *, is_share: bool) -> None:
    """Draw a panel's part of an overlay: a level across the panel where no shots are given, a point
    where a label has one, else a line.
    """
    for label, rows in part.groupby("label", sort=False):
        style = styles[str(label)]
        for _, level in rows[rows["shots"].isna()].iterrows():
            y = _height(level, "value", is_share=is_share)
            ax.axhline(y, color=style.colour, linewidth=1.1, linestyle=style.dashes, zorder=2)
        line = rows[rows["shots"].notna()].sort_values("shots")
        x = line["shots"].to_numpy()
        y, low, high = (_height(line, name, is_share=is_share) for name in ("value", "low", "high"))
        if len(line):
            ax.vlines(x, low, high, color=style.colour, linewidth=1, alpha=0.6, zorder=2)
            ax.plot(
                x, y, style.marker, color=style.colour, linestyle=style.dashes, linewidth=1.1,
                markersize=5, zorder=2.5,
            )  # fmt: skip


def _height(rows: pd.DataFrame | pd.Series, name: str, *, is_share: bool) -> Any:
    """Return values of an overlay as the axis has them: shares in percent."""
    if not is_share:
        return rows[name]
    return rows[name] * np.where(rows["percent"], 1.0, 100.0)
