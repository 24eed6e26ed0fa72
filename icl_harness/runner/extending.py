"""What a larger grid of an earlier run is, and whether its new queries fit beside the answers.

In: what run.json says and what is added. Out: the spec of the larger grid, or an error. Left out:
carrying it out, which is a run of that spec.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from shlex import quote
from typing import Any

from icl_harness.errors import SpecError, StoreError
from icl_harness.models.api.access import MASK
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.banks import known_bank
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.line import Line
from icl_harness.runner.lists import parse_names, parse_shots
from icl_harness.runner.overflow import Fitting
from icl_harness.runner.schedule import AnswersAhead
from icl_harness.runner.scopes import cell_of, line_scope
from icl_harness.runner.spec import Spec
from icl_harness.settings import option_name
from icl_harness.store.extension import GROWING, LISTS, NUMBERS
from icl_harness.store.header import refuse_imported
from icl_harness.store.records import RunStore

ELSEWHERE = ("data", "base_url")  # where rows and server are now


def larger_spec(folder: Path, header: Mapping[str, Any], added: Mapping[str, Any]) -> Spec:
    """Return the spec of a run with what is `added`: more draws, queries or samples in all, further
    shots, modes and variants. Raises `SpecError` for less than there is, `StoreError` for a run
    that cannot be extended.
    """
    refuse_imported(folder, header, "nothing can be asked for it")
    for name in added:
        if name not in (*GROWING, *ELSEWHERE):
            raise SpecError(
                f"{option_name(name)} cannot be added to a run: {', '.join(GROWING)} can. Run it "
                f"into a folder of its own; icl curves {quote(str(folder))} OTHER shows both."
            )
    old = Spec.of_run(header, f"{folder}: run.json")
    values = {**old.model_dump(), **added}
    values["shots"] = sorted({*old.shots, *parse_shots(added.get("shots"))})
    for name in LISTS:
        new = parse_names(added.get(name), name)
        if name == "variants":
            new = tuple(str(parse_variant(variant)) for variant in new)
        before = getattr(old, name)
        values[name] = (*before, *(one for one in new if one not in before))
    larger = Spec.from_dict(values, "icl extend")
    for name in NUMBERS:
        _refuse_fewer(folder, name, getattr(old, name), getattr(larger, name))
    if MASK in (larger.base_url or ""):
        raise SpecError(f"{folder}: the key in the server's URL was not stored. Give --base-url.")
    return larger


def _refuse_fewer(folder: Path, name: str, old: int | None, new: int | None) -> None:
    if new is not None and (old is None or new < old):
        there = "all" if old is None else f"{old:,}"
        raise SpecError(
            f"--{name} is {new:,}, and {folder} has {there}: a run is extended, not cut. Ask for "
            f"{'them' if old is None else 'more'}, or run the smaller grid into another folder."
        )


def refuse_shorter(experiment: Experiment, folder: Path) -> None:
    """Raise `StoreError` where new queries leave room for fewer shots than the answers of their
    cell used: all of a cell use the same. What only the provider can tell is not known here.
    """
    store = RunStore.open(folder)
    try:
        for line in experiment.lines():
            bank = known_bank(experiment, folder, line) if line.needs_bank else None
            if bank is not None or not line.needs_bank:
                scope = line_scope(experiment, line, experiment.path(line, bank))
                fitting = Fitting(experiment.model(line), experiment.spec.on_overflow)
                for shots in experiment.spec.shots:
                    cell = cell_of(experiment.spec, line, shots)
                    most = max(store.answers_by_shots(cell), default=0)
                    for bundle in experiment.schedule(line)(scope, shots, AnswersAhead({})):
                        fitted = fitting.shots(bundle, str(line)) if most else 0
                        if fitted is None or fitted < most:
                            raise _longer(folder, line, shots, most)
    finally:
        store.close()


def _longer(folder: Path, line: Line, shots: int, most: int) -> StoreError:
    return StoreError(
        f"{folder}: a new query is longer than those before, so that the {most:,} shots with which "
        f"{line} was answered at {shots:,} shots do not fit beside it. Run the larger grid into "
        "another folder."
    )
