"""Families of comparisons: over what Holm's p-values hold."""

from __future__ import annotations

from itertools import combinations, product

import numpy as np
import pandas as pd
import pytest

from icl_harness.analysis.compare import compare
from icl_harness.analysis.curves import POINT
from icl_harness.analysis.families import FAMILIES, check_family, with_holm
from icl_harness.analysis.stats import holm
from icl_harness.errors import SpecError
from tests.analysis.test_compare import records

GRID = {
    "task": ["trec", "sst2"],
    "model": ["demo", "hf/x", "hf/y"],
    "mode": ["supervised", "unsupervised"],
    "shots": [1, 4, 16, 64],
}
USUAL = {"variant": "default", "format": "text", "queries_per_request": 1}
METRICS = {"trec": "accuracy", "sst2": "chrF++"}


def differences(by):
    """A table as `compare` makes it: every pair of values of `by`, all else equal."""
    rest = [name for name in GRID if name != by]
    rows = [
        {"by": by, "a": a, "b": b, **USUAL, **dict(zip(rest, values, strict=True))}
        for a, b in combinations(GRID[by], 2)
        for values in product(*(GRID[name] for name in rest))
    ]
    table = pd.DataFrame(rows)
    p = np.random.default_rng(1).uniform(size=len(table)) ** 4
    return table.assign(metric=table["task"].map(METRICS), p_value=p)


@pytest.mark.parametrize(
    ("by", "family", "equal", "size"),
    [
        ("mode", "shots", ["task", "model"], 4),
        ("mode", "tasks", ["model"], 8),
        ("mode", "models", ["task"], 12),
        ("mode", "all", [], 24),
        ("model", "shots", ["task", "mode", "a", "b"], 4),
        ("model", "tasks", ["mode", "a", "b"], 8),
        ("model", "models", ["task", "mode"], 12),
        ("model", "all", [], 48),
        ("shots", "shots", ["task", "model", "mode"], 6),
        ("shots", "tasks", ["model", "mode"], 12),
        ("shots", "models", ["task", "mode"], 18),
        ("shots", "all", [], 72),
    ],
)
def test_holm_is_over_the_family_that_is_asked_for(by, family, equal, size):
    table = differences(by).sample(frac=1, random_state=2)  # whatever the order of the rows
    found = with_holm(table, by, family)
    for _, rows in found.groupby(equal) if equal else [((), found)]:
        assert rows["p_holm"].tolist() == pytest.approx(holm(rows["p_value"].tolist()))
        assert rows["n_family"].tolist() == [size] * len(rows)
    assert (found["p_holm"] >= with_holm(table, by, "shots")["p_holm"]).all()
    assert found[table.columns].equals(table)  # a family is no matter of a single comparison


@pytest.mark.parametrize("name", ["variant", "format", "queries_per_request"])
@pytest.mark.parametrize("family", ["shots", "tasks", "models"])
def test_ways_of_asking_are_families_of_their_own_but_in_all(name, family):
    table = differences("mode")
    other = table.assign(**{name: table[name].map({"default": "flipped", "text": "chat", 1: 5})})
    both = pd.concat([table, other], ignore_index=True)
    size = with_holm(table, "mode", family)["n_family"].max()
    assert set(with_holm(both, "mode", family)["n_family"]) == {size}
    assert set(with_holm(both, "mode", "all")["n_family"]) == {len(both)}


def test_comparisons_without_a_p_value_are_in_no_family():
    table = differences("mode")
    unknown = table["task"] == "sst2"
    found = with_holm(table.assign(p_value=table["p_value"].mask(unknown)), "mode", "all")
    assert set(found["n_family"]) == {12}
    assert found.loc[unknown, "p_holm"].isna().all()
    known = found[~unknown]
    assert known["p_holm"].tolist() == pytest.approx(holm(known["p_value"].tolist()))


@pytest.mark.parametrize("family", list(FAMILIES))
def test_a_table_without_rows_has_the_columns_too(family):
    found = with_holm(differences("mode").iloc[:0], "mode", family)
    assert len(found) == 0
    assert {"p_holm", "n_family"} < set(found)


@pytest.mark.parametrize("family", ["task", "", "everything", "Shots"])
def test_an_unknown_family_is_one_line_with_the_choices(family):
    with pytest.raises(SpecError, match=r"choose from shots, tasks, models, all\.") as caught:
        check_family(family)
    assert "\n" not in str(caught.value)


def test_records_are_compared_in_the_family_that_is_asked_for():
    cells = list(product(("trec", "sst2"), ("supervised", "unsupervised"), (1, 4)))
    table = pd.concat(
        records(0.5, task=task, mode=mode, shots=shots, seed=i, n_queries=12)
        for i, (task, mode, shots) in enumerate(cells)
    )
    assert compare(table)["n_family"].tolist() == [2] * 4
    found = compare(table, family="tasks")
    assert found["n_family"].tolist() == [4] * 4
    assert found["p_holm"].tolist() == pytest.approx(holm(found["p_value"].tolist()))
    assert set(POINT) - {"mode"} < set(found)
    with pytest.raises(SpecError, match=r"unknown family 'task'.* Nearest: tasks"):
        compare(table, family="task")
