"""Presets: found by name, one grid or several, what the user gives in the place of their values."""

from __future__ import annotations

import csv
import itertools
import os
from pathlib import Path

import pytest

from icl_harness.cli.execute import plan_run
from icl_harness.errors import SpecError
from icl_harness.runner.presets import find_preset, load_grids, preset_files, presets
from icl_harness.runner.spec import Spec
from icl_harness.tasks.loading import find_tasks
from tests.conftest import ROOT

MODEL = {"models": "openai/gpt-5.6-terra"}
NAMES = sorted(preset_files())
FIGURES = [*range(1, 17), "A11", "A12"]
# Rows that are on the hub alone, or that may not be put online.
NOT_HERE = {
    "bertsch/clinc150": "CLINC150 is on the hub alone",
    "bertsch/nlu": "the hub's rows of NLU Evaluation Data are on the hub alone",
}
TAKE_SECONDS = (
    "bertsch/banking77",
    "followups/cot-order",
    "followups/selection",
    "paper/logistics",
    "paper/nll",
    "paper/summary",
    "smollm2/classification",
)
# APIs give no likelihoods.
MODELS = dict.fromkeys(("paper/nll", "paper/verifier", "smollm2/classification"), "demo")


def grid(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "grid.yaml"
    file.write_text(text)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_a_preset_says_what_it_is_and_names_tasks_that_there_are(name: str) -> None:
    (preset,) = [one for one in presets() if one.names[0] == name]
    assert preset.title
    assert preset.path.read_text().startswith("# ")
    for spec in load_grids(preset.path, MODEL):
        assert spec.models[0] == MODEL["models"]
        for task in spec.tasks:
            assert find_tasks(task)


def test_every_figure_of_the_paper_is_found_by_its_number_and_no_name_means_two() -> None:
    names = [name for one in presets() for name in one.names]
    assert len(set(names)) == len(names)
    assert {f"paper/fig{number}" for number in FIGURES} <= set(names)
    assert find_preset("paper/fig11") == find_preset("paper/linear")
    assert find_preset("paper/fig99") is None


def write_gpqa(folder: Path) -> None:
    """A made-up GPQA: 448 questions, of which 198 are diamond ones."""
    answers = ["Correct Answer", *(f"Incorrect Answer {n}" for n in (1, 2, 3))]
    rows = []
    for n in range(448):
        options = {name: f"answer {n + i}" for i, name in enumerate(answers)}
        rows.append({"Question": f"What is {n} more than 0?", **options, "Explanation": "Count."})
    folder.mkdir(parents=True)
    for name, of_file in (("gpqa_main", rows), ("gpqa_diamond", rows[:198])):
        with (folder / f"{name}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(of_file)


def write_solutions(folder: Path) -> None:
    """Made-up solutions, as `icl solutions` writes them: four of a problem, one of them right."""
    folder.mkdir(parents=True)
    for name, first, n in (("train", 0, 80), ("test", 1000, 5)):
        rows = [
            f"What is {first + i} + 1?,{first + i + j},{'Yes' if j == 1 else 'No'}"
            for i, j in itertools.product(range(n), range(4))
        ]
        (folder / f"{name}.csv").write_text("\n".join(["problem,solution,correct", *rows]))


def data_with_made_up_rows(shared: Path, tmp_path: Path) -> Path:
    """The real rows, with a made-up GPQA and made-up solutions among them."""
    folder = tmp_path / "data"
    folder.mkdir()
    for one in shared.iterdir():
        (folder / one.name).symlink_to(one)
    write_gpqa(folder / "gpqa")
    write_solutions(folder / "verifier")
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_every_preset_passes_icl_plan_at_its_fewest_and_most_shots(
    name: str, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in NOT_HERE:
        pytest.skip(NOT_HERE[name])
    if name in TAKE_SECONDS and float(os.environ.get("ICL_TRIES", "0.5")) < 1:
        pytest.skip("takes 5 to 15 seconds: planned where ICL_TRIES is 1")
    data = data_with_made_up_rows(shared_data, tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = MODELS.get(name, MODEL["models"])
    queries = 4 if name == "paper/verifier" else 1  # its solutions stand together
    given = {"models": model, "data": str(data), "draws": 1, "queries": queries}
    n_requests = 0
    for spec in load_grids(preset_files()[name], given):
        if spec.tasks == ("summarization:xlsum",):
            continue  # on the hub alone
        if spec.scoring != "generate" and model != "demo":
            continue  # asks for likelihoods, which APIs do not give
        ends = spec.model_copy(update={"shots": (spec.shots[0], spec.shots[-1])})
        plan = plan_run(ends, tmp_path / "none")
        if model != "demo":  # whose window takes few of these shots
            assert all(row.shots_used == row.shots for row in plan.rows)
        n_requests += sum(row.requests for row in plan.rows)
    assert n_requests


def test_presets_of_the_working_directory_come_first(toy: Path) -> None:
    assert find_preset("paper/linear") == ROOT / "presets/paper/linear.yaml"
    Path("presets/paper").mkdir(parents=True)
    Path("presets/paper/linear.yaml").write_text("title: mine\ntasks: toy\nalso: other/name\n")
    Path("presets/alone.yml").write_text("tasks: toy\n")
    assert find_preset("paper/linear") == Path.cwd() / "presets/paper/linear.yaml"
    assert find_preset("other/name") == find_preset("paper/linear")
    assert find_preset("alone") == Path.cwd() / "presets/alone.yml"


def test_a_header_is_passed_over_and_options_win(tmp_path: Path) -> None:
    file = grid(tmp_path, "title: t\nalso: [a, b]\ntask: toy\nmodel: demo\nshots: 0..4\n")
    assert Spec.load(file, {}) == Spec(tasks=("toy",), models=("demo",), shots=(0, 1, 2, 4))
    (spec,) = load_grids(file, {"models": ["baseline/knn"], "shots": "8"})
    assert (spec.models, spec.shots) == (("baseline/knn",), (8,))


def test_parts_are_grids_of_their_own_that_share_the_rest(tmp_path: Path) -> None:
    file = grid(
        tmp_path,
        "model: demo\ndraws: 2\nparts:\n  - {task: toy, shots: 4}\n  - {tasks: trec, draws: 5}\n",
    )
    first, second = load_grids(file, {"queries": 7})
    assert (first.tasks, first.shots, first.draws, first.queries) == (("toy",), (4,), 2, 7)
    assert (second.tasks, second.draws, second.queries) == (("trec",), 5, 7)
    assert [spec.draws for spec in load_grids(file, {"draws": 1})] == [1, 1]


@pytest.mark.parametrize("parts", ["[]", "trec", "{tasks: trec}", "[trec]", "3"])
def test_parts_that_are_no_list_of_mappings_are_refused(tmp_path: Path, parts: str) -> None:
    with pytest.raises(SpecError, match=r"grid\.yaml: parts is a list of mappings"):
        load_grids(grid(tmp_path, f"model: demo\nparts: {parts}\n"), {})


def test_models_stand_beside_those_of_the_user(tmp_path: Path) -> None:
    text = "tasks: toy\nbeside: [baseline/knn, baseline/logreg]\n"
    file = grid(tmp_path, text)
    assert load_grids(file, {})[0].models == ("baseline/knn", "baseline/logreg")
    (spec,) = load_grids(file, {"models": ["demo", "baseline/knn"]})
    assert spec.models == ("demo", "baseline/knn", "baseline/logreg")
    file = grid(tmp_path, "tasks: toy\nbeside: other/{model}\n")
    (spec,) = load_grids(file, {"models": "hf/a,openai/b,demo"})
    assert spec.models == ("hf/a", "openai/b", "demo", "other/hf/a", "other/demo")
    with pytest.raises(SpecError, match="no model is named"):
        load_grids(file, {})


@pytest.mark.parametrize("given", [{"format": "chat"}, {"samples": 2, "temperature": 0.5}])
def test_learners_that_read_no_prompts_make_way_for_options_about_prompts(
    tmp_path: Path, given: dict[str, object]
) -> None:
    file = grid(tmp_path, "tasks: toy\nbeside: baseline/knn\n")
    assert load_grids(file, {"models": "demo", **given})[0].models == ("demo",)
    assert load_grids(file, {"models": "demo"}, batch=True)[0].models == ("demo",)


def test_what_belongs_to_modes_that_the_user_leaves_out_goes_with_them() -> None:
    file = preset_files()["paper/math"]
    (spec,) = load_grids(file, {**MODEL, "modes": "supervised"})  # whose variant needs the bank
    assert (spec.bank_shots, spec.worked) == (4, 0)
    given = {**MODEL, "modes": "supervised", "variants": "default"}
    (spec,) = load_grids(file, given)
    assert (spec.bank_shots, spec.worked) == (0, 0)
