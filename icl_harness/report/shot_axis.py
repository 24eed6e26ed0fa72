"""The axis of shots: logarithmic but for zero, with as many counts as can be read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def shot_axis(ax: Axes, counts: Sequence[int], *, is_narrow: bool) -> None:
    """Scale the axis, log 2 but for zero, and label as many counts as can be read."""
    least = next((count for count in counts if count), 1)
    octaves = math.log2(max(counts[-1], 1) / least)
    to_zero = max(1.0, 0.13 * octaves)  # how wide the linear part is, in octaves
    ax.set_xscale("symlog", base=2, linthresh=least, linscale=to_zero / 2)
    transform = ax.xaxis.get_transform()
    places = dict(zip(counts, transform.transform(counts), strict=True))
    left, right = places[counts[0]], places[counts[-1]]
    edge = max(0.35 * least, 0.035 * (right - left))
    ax.set_xlim(*transform.inverted().transform([left - edge, right + edge]))
    digit = (right - left) * (0.026 if is_narrow else 0.012)
    ticks = _readable(places, digit)
    ax.set_xticks(ticks, [f"{count}" for count in ticks])
    ax.minorticks_off()


def _readable(places: Mapping[int, float], digit: float) -> list[int]:
    """Return the counts whose labels do not touch, from the right: the most shots are always
    labelled, and so is zero.
    """
    ticks: list[int] = []
    for count in sorted(places, reverse=True):
        needed = digit * (len(f"{count}{ticks[-1]}") / 2 + 1) if ticks else 0.0
        if count == 0 or not ticks or places[ticks[-1]] - places[count] >= needed:
            ticks.append(count)
    return ticks
