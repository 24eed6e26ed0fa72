"""Presets: the grids of published work, YAML files in presets/ that `icl run NAME` finds by name.

In: a name such as paper/linear, or the path of a YAML file, and what the command line gives. Out:
the grids that the file holds, what was given in the place of its own values. Files are looked for
in the working directory first, then in the project (a wheel carries them in icl_harness/content).

Beside the keys of a grid a file may have:

    title    one line: which figure it is, or what it measures
    also     other names that find it, as in paper/fig11
    beside   models that are asked beside those of the user: reference learners; in sft/{model}
             the braces stand for each of the user's models whose weights are at hand
    parts    several grids, a list of keys that differ; each is a run in a folder of its own
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from icl_harness.errors import SpecError, nearest
from icl_harness.models import is_local
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.lists import parse_names
from icl_harness.runner.spec import Spec, field_of, read_yaml
from icl_harness.tasks.discovery import content_roots

SUFFIXES = (".yaml", ".yml")
BASELINE = "baseline/"
READ_NO_PROMPTS = ("format", "samples", "queries_per_request", "batch")  # refused for BASELINE
OF_MODE = {
    "reinforced": [name for name in Spec.model_fields if name.partition("_")[0] == "bank"],
    "unsupervised": ["worked"],
}


@dataclass(frozen=True, kw_only=True)
class Preset:
    """A preset as a list shows it. `names`: the file's first, then those of `also`."""

    names: tuple[str, ...]
    title: str
    path: Path


def preset_files() -> dict[str, Path]:
    """Return name -> file, by name; the working directory's files hide the project's."""
    files: dict[str, Path] = {}
    for root in content_roots():
        folder = root / "presets"
        for path in folder.rglob("*"):
            if path.suffix in SUFFIXES:
                files[path.relative_to(folder).with_suffix("").as_posix()] = path
    return dict(sorted(files.items()))


def presets_and_faults() -> tuple[list[Preset], list[str]]:
    """Return all presets by name, and a line for each file that gives none."""
    found: list[Preset] = []
    faults: list[str] = []
    for name, path in preset_files().items():
        try:
            found.append(_described(name, path))
        except SpecError as error:
            faults.append(str(error))
    return found, faults


def presets() -> list[Preset]:
    """Return all presets by name, but for files that give none."""
    return presets_and_faults()[0]


def _described(name: str, path: Path) -> Preset:
    values = read_yaml(path)
    names = (name, *parse_names(values.get("also"), "also"))
    return Preset(names=names, title=str(values.get("title") or ""), path=path)


def find_preset(name: str) -> Path | None:
    """Return the file of a preset, by its own name or one of `also`; None where there is none."""
    files = preset_files()
    if name in files:
        return files[name]
    if "/" not in name:
        return None  # most likely a task: no file is read for it
    return next((one.path for one in presets() if name in one.names), None)


def unknown_preset(name: str) -> SpecError:
    """Return the error about a name that no preset has."""
    known: list[str] = []
    for one in presets():
        known += one.names
    return SpecError(f"there is no preset {name!r}.{nearest(name, known)} `icl paper` lists all.")


def presets_ending_in(name: str) -> list[str]:
    """Return the presets that a name without its folder may mean, as fig7 means paper/fig7."""
    found: list[str] = []
    for one in presets():
        found += [known for known in one.names if known.endswith(f"/{name}")]
    return found


def load_grids(path: Path, overrides: Mapping[str, Any], *, batch: bool = False) -> list[Spec]:
    """Return the grids of a YAML file, `overrides` (from the command line) in the place of its
    values. `batch`: requests are handed in as batches. Raises `SpecError`.
    """
    values = read_yaml(path)
    parts = values.get("parts")
    if parts is None:
        parts = [{}]
    if not parts or not isinstance(parts, list) or not all(isinstance(p, dict) for p in parts):
        raise SpecError(f"{path}: parts is a list of mappings, as in '- tasks: trec'.")
    beside = parse_names(values.get("beside"), "beside")
    grids = []
    for part in parts:
        own = {field_of(name): value for name, value in (values | part).items()}
        given = {**{field_of(name): part[name] for name in part}, **overrides}
        given |= _idle(own | given, overrides)
        if beside:
            models = parse_names((own | given).get("models"))
            given["models"] = _with_beside(models, beside, given, batch=batch)
        grids.append(Spec.load(path, given))
    return grids


def _idle(grid: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """Return the defaults of what belongs to modes that the user's --modes leave out: a file's own
    values would be refused as doing nothing.
    """
    modes = parse_names(overrides.get("modes"))
    variants = map(parse_variant, parse_names(grid.get("variants")))
    idle = [mode for mode in OF_MODE if modes and mode not in modes]
    if any(variant.needs_bank for variant in variants):
        idle = [mode for mode in idle if mode != "reinforced"]
    found = {}
    for mode in idle:
        for name in OF_MODE[mode]:
            if name not in overrides:
                found[name] = Spec.model_fields[name].default
    return found


def _with_beside(
    models: tuple[str, ...], beside: tuple[str, ...], given: Mapping[str, Any], *, batch: bool
) -> list[str]:
    """Return the models with those beside them; learners that read no prompts are left out where an
    option is about prompts.
    """
    about_prompts = batch or any(name in given for name in READ_NO_PROMPTS)
    found = list(models)
    for name in beside:
        if name.startswith(BASELINE) and about_prompts and models:
            continue
        if "{model}" in name:
            found += [name.replace("{model}", model) for model in filter(is_local, models)]
        else:
            found.append(name)
    return list(dict.fromkeys(found))
