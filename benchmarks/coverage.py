"""How often intervals cover the truth, how wide they are, and how often a family finds what is not.

    python benchmarks/coverage.py [--curves 40] [--only cells] [--csv FILE]

In: answers simulated from a crossed logit-normal model (or a per-draw one), and published per-item
tables resampled. Out: Markdown tables with the goals and how far they are met. The statistics are
the library's; only the mean squares are computed here, of many curves at a time.

The oracle knows the variance of a mean and takes 1.96 times its root to either side. Accuracies
above .5 are left out: the intervals of p and 1 - p mirror each other.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import itertools
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from icl_harness.analysis.intervals import Means, difference_limits, share_limits

Floats = NDArray[np.float64]
PER_ITEM = Path("../shared/reference/bertsch2024_llama2_7b_80k_per_item.csv.gz")
SHOTS = (1, 2, 4, 8, 16, 32, 64, 128)
DRAWS, QUERIES = (1, 2, 3, 5, 10), (50, 250, 1000)
ACCURACIES, DRAW_SDS, QUERY_SDS = (0.02, 0.1, 0.5), (0.0, 0.1, 0.5, 1.0, 2.0), (0.5, 1.0, 2.0)
SHARED_QUERIES = 0.8  # of the variance between queries, the part that all shot counts share
POINTS, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()
Z = 1.96
SEED = 20261128


@dataclass(frozen=True)
class Setting:
    """What curves are simulated from; standard deviations are in logits."""

    n_draws: int
    n_queries: int
    accuracy: float
    draw_sd: float
    query_sd: float
    per_draw: bool = False


def sigmoid(x: Floats) -> Floats:
    found: Floats = 1 / (1 + np.exp(-x))
    return found


@cache
def intercept(accuracy: float, sd: float) -> float:
    """Return the logit whose mean over a normal with this SD is the accuracy."""
    low, high = -60.0, 60.0
    for _ in range(80):
        middle = (low + high) / 2
        below = WEIGHTS @ sigmoid(middle + sd * POINTS) < accuracy
        low, high = (middle, high) if below else (low, middle)
    return low


def oracle_se(one: Setting) -> float:
    """Return the standard error of a mean, from the model."""
    p, both = one.accuracy, float(np.hypot(one.draw_sd, one.query_sd))
    base = intercept(p, both)

    def between(own: float, other: float) -> float:
        inner = sigmoid(base + own * POINTS[:, None] + other * POINTS) @ WEIGHTS
        return float(WEIGHTS @ inner**2 - p * p)

    draw, query = between(one.draw_sd, one.query_sd), between(one.query_sd, one.draw_sd)
    rest = p * (1 - p) - draw - query
    of_queries = query / one.n_queries / (one.n_draws if one.per_draw else 1)
    return float(np.sqrt((draw + rest / one.n_queries) / one.n_draws + of_queries))


def simulate(
    rng: np.random.Generator, one: Setting, n_curves: int, shifts: Sequence[float]
) -> NDArray[np.bool_]:
    """Return right and wrong answers: curves, shot counts, draws, queries. `shifts` are added to
    the logit of each shot count.
    """
    shape = (n_curves, len(shifts), one.n_draws, one.n_queries)
    n_sets = one.n_draws if one.per_draw else 1
    common = rng.standard_normal((n_curves, 1, n_sets, one.n_queries), dtype=np.float32)
    own = rng.standard_normal((*shape[:2], n_sets, one.n_queries), dtype=np.float32)
    query = np.sqrt(SHARED_QUERIES) * common + np.sqrt(1 - SHARED_QUERIES) * own
    draw = rng.standard_normal((*shape[:3], 1), dtype=np.float32)
    base = intercept(one.accuracy, float(np.hypot(one.draw_sd, one.query_sd)))
    logits = base + one.draw_sd * draw + one.query_sd * query
    logits = logits + np.asarray(shifts, dtype=np.float32)[:, None, None]
    found: NDArray[np.bool_] = rng.random(shape, dtype=np.float32) < 1 / (1 + np.exp(-logits))
    return found


def means_of(
    y: NDArray[np.float32], scale: Floats, doublings: Floats, *, per_draw: bool
) -> tuple[Means, Floats]:
    """Return the mean squares of complete tables, and the mean of the squares."""
    n_draws, n_queries = y.shape[-2:]
    by_draw, by_query = y.mean(axis=-1, dtype=float), y.mean(axis=-2, dtype=float)
    mean = by_draw.mean(axis=-1)
    square = np.square(y).mean(axis=(-1, -2), dtype=float)
    between = np.square(by_draw - mean[..., None]).mean(axis=-1)
    of_query = np.square(by_query - mean[..., None]).mean(axis=-1)
    if per_draw:
        left, df, of_query = square - mean**2 - between, n_draws * (n_queries - 1), 0 * of_query
    else:
        left = square - mean**2 - between - of_query
        df = (n_draws - 1) * (n_queries - 1)
    one = np.ones_like(mean)
    means = Means(
        mean=mean,
        draw=between / max(n_draws - 1, 1),
        query=of_query / (n_queries - 1),
        rest=np.maximum(left, 0.0) / max(df, 1) if n_draws > 1 else 0 * left,
        df_draw=one * (n_draws - 1),
        df_query=one * (n_queries - 1),
        per_draw=one / n_draws,
        n_units=one * n_queries * (n_draws if per_draw else 1),
        nested=np.full(mean.shape, per_draw),
        by_draw=by_draw,
        scale=scale,
        doublings=doublings,
    )
    return means, square


def cells(y: NDArray[np.bool_], shots: Sequence[float], *, per_draw: bool) -> tuple[Floats, ...]:
    """Return mean, low and high of each cell of curves."""
    doublings = np.broadcast_to(np.log2(1 + np.asarray(shots))[:, None], (*y.shape[:2], 1))
    scale = np.ones(doublings.shape)
    means, _ = means_of(y.astype(np.float32), scale, doublings, per_draw=per_draw)
    limits = share_limits(means, 0.95)
    return means.mean, limits.low, limits.high


def pairs(
    y: NDArray[np.bool_],
    shots: Sequence[float],
    which: Sequence[tuple[int, int]],
    *,
    per_draw: bool,
) -> tuple[Floats, ...]:
    """Return difference, low, high and p-value of pairs of a curve's cells."""
    a, b = (np.array([pair[side] for pair in which]) for side in (0, 1))
    n = y.shape[-1]
    p = (y.mean(axis=(-1, -2)) * n + 1) / (n + 2)
    worth = np.square(p * (1 - p))
    scale = np.stack([worth[:, a], worth[:, b]], axis=-1)
    doublings = np.log2(1 + np.asarray(shots, dtype=float))
    sides = np.broadcast_to(np.stack([doublings[a], doublings[b]], axis=-1), scale.shape)
    differences = y[:, b].astype(np.float32) - y[:, a]
    means, square = means_of(differences, scale, sides, per_draw=per_draw)
    limits, p_value = difference_limits(means, square, 0.95, is_bounded=True)
    return means.mean, limits.low, limits.high, p_value


@dataclass(frozen=True)
class Found:
    """What was found of a setting: coverage and width over the oracle's."""

    of: Setting
    what: str
    coverage: float
    error: float  # standard error of the coverage, curves being independent
    width: float


def found_of(of: Setting, what: str, is_in: NDArray[np.bool_], width: float) -> Found:
    by_curve = is_in.mean(axis=1)
    error = float(by_curve.std(ddof=1) / np.sqrt(len(by_curve)))
    return Found(of, what, float(is_in.mean()), error, width)


def grid(n_curves: int) -> Iterator[Found]:
    """Yield what is found of each setting: cells, and differences of neighbours."""
    rng = np.random.default_rng(SEED)
    factors = (DRAWS, QUERIES, ACCURACIES, DRAW_SDS, QUERY_SDS, (False, True))
    neighbours = list(itertools.pairwise(range(len(SHOTS))))
    for values in itertools.product(*factors):
        one = Setting(*values)
        if one.n_draws == 1 and one.per_draw:
            continue  # one draw is crossed with its queries
        y = simulate(rng, one, n_curves, [0.0] * len(SHOTS))
        _, low, high = cells(y, SHOTS, per_draw=one.per_draw)
        is_in = (low <= one.accuracy) & (one.accuracy <= high)
        yield found_of(one, "cell", is_in, float((high - low).mean() / (2 * Z * oracle_se(one))))
        mean, low, high, _ = pairs(y, SHOTS, neighbours, per_draw=one.per_draw)
        sd = float(np.sqrt(np.square(mean).mean()))  # the truth is 0
        if sd > 0:
            is_in = (low <= 0) & (high >= 0)
            yield found_of(one, "difference", is_in, float((high - low).mean() / (2 * Z * sd)))


def grid_lines(found: Sequence[Found]) -> Iterator[str]:
    """Yield a table by what, design and draws: settings within 93 to 97 %, and widths."""
    yield (
        "| | draws | settings | 93 to 97 % | within 2 SE of that | under 93 % | over 97 % | "
        "under 90 % | least | width / oracle's |"
    )
    yield "|---|---|---|---|---|---|---|---|---|---|"
    for what, per_draw, n_draws in itertools.product(("cell", "difference"), (False, True), DRAWS):
        some = [
            one
            for one in found
            if (one.what, one.of.per_draw, one.of.n_draws) == (what, per_draw, n_draws)
        ]
        if some:
            design = "per draw" if per_draw else "crossed"
            yield f"| {what}, {design} | {n_draws} | {_row(some)} |"


def _row(some: Sequence[Found]) -> str:
    coverage = np.array([one.coverage for one in some])
    error = np.array([one.error for one in some])
    near = (coverage + 2 * error >= 0.93) & (coverage - 2 * error <= 0.97)
    shares = [
        ((coverage >= 0.93) & (coverage <= 0.97)).mean(),
        near.mean(),
        (coverage < 0.93).mean(),
        (coverage > 0.97).mean(),
        (coverage < 0.9).mean(),
    ]
    width = np.mean([one.width for one in some])
    cells_ = [f"{share:.0%}" for share in shares]
    return " | ".join([str(len(some)), *cells_, f"{coverage.min():.3f}", f"{width:.2f}"])


def factor_lines(found: Sequence[Found], n_draws: int) -> Iterator[str]:
    """Yield mean coverage of cells, the least in brackets, and width by accuracy and draw SD."""
    yield f"| accuracy, {n_draws} draws | " + " | ".join(f"SD {sd:g}" for sd in DRAW_SDS) + " |"
    yield "|---|" + "---|" * len(DRAW_SDS)
    for accuracy in ACCURACIES:
        row = []
        for sd in DRAW_SDS:
            some = [
                one
                for one in found
                if one.what == "cell"
                and (one.of.n_draws, one.of.accuracy, one.of.draw_sd) == (n_draws, accuracy, sd)
            ]
            coverage = [one.coverage for one in some]
            width = np.mean([one.width for one in some])
            row.append(f"{np.mean(coverage):.3f} ({min(coverage):.3f}), {width:.2f}")
        yield f"| {accuracy:g} | " + " | ".join(row) + " |"


def family_lines(n_curves: int) -> Iterator[str]:
    """Yield the family-wise error of Holm's p-values on flat curves, and single small p-values."""
    rng = np.random.default_rng(SEED + 1)
    yield "| family | draws | draw SD | family-wise error | p < .05 | p < .001 | width / oracle's |"
    yield "|---|---|---|---|---|---|---|"
    modes = [(2 * i, 2 * i + 1) for i in range(8)]
    for name, n_cells, which in (
        ("8 (two modes)", 16, modes),
        ("28 (8 shot counts)", 8, list(itertools.combinations(range(8), 2))),
        ("105 (15 shot counts)", 15, list(itertools.combinations(range(15), 2))),
    ):
        is_modes = which is modes
        shots = [2.0 ** (i // 2 if is_modes else i) for i in range(n_cells)]
        for n_draws, sd in itertools.product((3, 5, 10), (0.0, 0.5, 1.0)):
            of = Setting(n_draws, 250, 0.5, sd, 1.0)
            rows = []
            for _ in range(max(1, n_curves // 20)):
                y = simulate(rng, of, 20, [0.0] * n_cells)
                rows.append(pairs(y, shots, which, per_draw=False))
            mean, low, high, p = (np.concatenate(part) for part in zip(*rows, strict=True))
            wrong = (p.min(axis=1) * len(which) < 0.05).mean()
            width = (high - low).mean() / (2 * Z * np.sqrt(np.square(mean).mean()))
            yield (
                f"| {name} | {n_draws} | {sd:g} | {wrong:.3f} | {(p < 0.05).mean():.3f} | "
                f"{(p < 0.001).mean():.4f} | {width:.2f} |"
            )


def many_family_lines(n_curves: int) -> Iterator[str]:
    """Yield the family-wise error where a family is over tasks or models too: each of these is a
    curve, or two, of its own.
    """
    rng = np.random.default_rng(SEED + 4)
    yield "| family | draws | draw SD | family-wise error |"
    yield "|---|---|---|---|"
    all_pairs = list(itertools.combinations(range(8), 2))
    modes = [(2 * i, 2 * i + 1) for i in range(8)]
    for name, n_tasks, which, n_cells in (
        ("8 (2 tasks x two modes x 4 shot counts)", 2, modes[:4], 8),
        ("28 (7 tasks x two modes x 4 shot counts)", 7, modes[:4], 8),
        ("104 (13 tasks x two modes x 8 shot counts)", 13, modes, 16),
        ("112 (4 tasks x pairs of 8 shot counts)", 4, all_pairs, 8),
    ):
        is_modes = which is not all_pairs
        shots = [2.0 ** (i // 2 if is_modes else i) for i in range(n_cells)]
        for n_draws, sd in itertools.product((3, 5, 10), (0.0, 0.5, 1.0)):
            of = Setting(n_draws, 250, 0.5, sd, 1.0)
            least = []
            for _ in range(max(1, n_curves // 20)):
                y = simulate(rng, of, 20 * n_tasks, [0.0] * n_cells)
                p = pairs(y, shots, which, per_draw=False)[3]
                least.append(p.min(axis=1).reshape(20, n_tasks).min(axis=1))
            wrong = (np.concatenate(least) * len(which) * n_tasks < 0.05).mean()
            yield f"| {name} | {n_draws} | {sd:g} | {wrong:.3f} |"


def power_lines(n_curves: int) -> Iterator[str]:
    """Yield how often a true 10-point difference is found, where a normal test that knows the
    variance finds it 9 times of 10: alone, and in Holm's family of 28.
    """
    rng = np.random.default_rng(SEED + 2)
    yield "| draws | draw SD | oracle, alone | p < .05 | oracle, of 28 | p (Holm) < .05 |"
    yield "|---|---|---|---|---|---|"
    which = list(itertools.combinations(range(8), 2))
    place = which.index((3, 4))
    shifts = [0.0] * 4 + [float(np.log(0.6 / 0.4)) * 1.16] * 4  # about .50 and .60
    for n_draws, sd in ((3, 0.0), (3, 0.1), (3, 0.15), (3, 0.2), (5, 0.1), (5, 0.2), (10, 0.3)):
        of = Setting(n_draws, 250, 0.5, sd, 1.0)
        rows = []
        for _ in range(max(1, n_curves // 20)):
            rows.append(pairs(simulate(rng, of, 20, shifts), SHOTS, which, per_draw=False))
        mean, _, _, p = (np.concatenate(part) for part in zip(*rows, strict=True))
        z = np.abs(mean[:, place]) / mean[:, place].std()
        alone, of_28 = (z > 1.96).mean(), (z > 3.12).mean()
        rank = (p < p[:, [place]]).sum(axis=1)  # Holm's factor is that of its rank
        adjusted = p[:, place] * (len(which) - rank)
        yield (
            f"| {n_draws} | {sd:g} | {alone:.2f} | {(p[:, place] < 0.05).mean():.2f} | "
            f"{of_28:.2f} | {(adjusted < 0.05).mean():.2f} |"
        )


def real_lines(n_curves: int) -> Iterator[str]:
    """Yield coverage by shot count of published tables, draws and items resampled; and the family
    error of flat curves made of one cell's draws.
    """
    rng = np.random.default_rng(SEED + 3)
    tables = _published()
    yield "| table | draws | " + "coverage by shots (width / oracle's) | family-wise error |"
    yield "|---|---|---|---|"
    for name, by_shots in tables.items():
        shots = list(by_shots)[:: max(1, len(by_shots) // 8)]
        truth = np.array([by_shots[k].mean() for k in shots])
        for n_draws in (3, 5):
            rows, errors = [], []
            for _ in range(n_curves):
                draws = rng.integers(0, 10, n_draws)
                items = rng.integers(0, 250, 250)
                y = np.stack([by_shots[k][draws][:, items] for k in shots])[None] > 0
                rows.append(cells(y, shots, per_draw=False))
                flat = by_shots[shots[1]][rng.integers(0, 10, (1, 8, n_draws))][..., items] > 0
                which = list(itertools.combinations(range(8), 2))
                p = pairs(flat, SHOTS, which, per_draw=False)[3]
                errors.append(p.min() * len(which) < 0.05)
            mean, low, high = (np.concatenate(part) for part in zip(*rows, strict=True))
            is_in = ((low <= truth) & (truth <= high)).mean(axis=0)
            width = (high - low).mean(axis=0) / (2 * Z * mean.std(axis=0))
            line = ", ".join(
                f"{k}: {c:.2f} ({w:.2f})" for k, c, w in zip(shots, is_in, width, strict=True)
            )
            yield f"| {name} | {n_draws} | {line} | {np.mean(errors):.3f} |"


def _published() -> dict[str, dict[int, Floats]]:
    """Return dataset -> shots -> a table of 10 draws and 250 items."""
    rows = defaultdict(list)
    with gzip.open(PER_ITEM, "rt") as file:
        for row in csv.DictReader(file):
            key = row["dataset"], int(row["shots"])
            rows[key].append((int(row["draw"]), int(row["item"]), int(row["correct"])))
    found: dict[str, dict[int, Floats]] = defaultdict(dict)
    for (name, shots), values in sorted(rows.items()):
        found[name][shots] = np.array(sorted(values))[:, 2].reshape(10, 250).astype(float)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--curves", type=int, default=40, help="simulated curves a setting")
    parser.add_argument("--only", choices=("cells", "families", "power", "real"))
    parser.add_argument("--csv", type=Path, help="every setting's coverage and width")
    args = parser.parse_args()
    start = time.perf_counter()
    if args.only in (None, "families"):
        _show(family_lines(25 * args.curves))
        _show(many_family_lines(25 * args.curves))
    if args.only in (None, "power"):
        _show(power_lines(10 * args.curves))
    if args.only in (None, "real"):
        _show(real_lines(10 * args.curves))
    if args.only in (None, "cells"):
        found = list(grid(args.curves))
        _show(grid_lines(found))
        _show(factor_lines(found, 3))
        _show(factor_lines(found, 5))
        if args.csv:
            _write(found, args.csv)
    print(f"{time.perf_counter() - start:.0f} s")


def _show(lines: Iterator[str]) -> None:
    for line in lines:
        print(line, flush=True)
    print(flush=True)


def _write(found: Sequence[Found], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["what", "draws", "queries", "accuracy", "draw_sd", "query_sd", "per_draw",
                         "coverage", "error", "width"])  # fmt: skip
        for one in found:
            of = one.of
            numbers = (of.n_draws, of.n_queries, of.accuracy, of.draw_sd, of.query_sd, of.per_draw)
            writer.writerow([one.what, *numbers, *(f"{x:.4f}" for x in
                             (one.coverage, one.error, one.width))])  # fmt: skip


if __name__ == "__main__":
    main()
