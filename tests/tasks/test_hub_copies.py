"""The hub's copies of more data sets, a few rows of each, in the layouts of their hub pages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from icl_harness.tasks.published_rows import FILES, FOLDER
from tests.loopback_hub import serving
from tests.tasks.test_hub import card, load, parquet

pytestmark = pytest.mark.slow

SUBJECTS = (
    "algebra", "counting_and_probability", "geometry", "intermediate_algebra", "number_theory",
    "prealgebra", "precalculus",
)  # fmt: skip
CONVERTED = "refs/convert/parquet"
Files = dict[tuple[str, str], dict[str, bytes]]


def rows(n: int, **columns: str) -> list[dict[str, Any]]:
    return [{name: text.format(i) for name, text in columns.items()} for i in range(n)]


def split_rows(repo: str, config: str, sides: dict[str, list[dict[str, Any]]]) -> Files:
    """Return a set with a card: one config whose splits are folders of files."""
    files = {f"{config}/{side}-00000.parquet": parquet(some) for side, some in sides.items()}
    splits = {config: {side: f"{config}/{side}-*" for side in sides}}
    return {(repo, "main"): {"README.md": card(splits), **files}}


def converted(repo: str, folder: str, sides: dict[str, bytes]) -> Files:
    """Return a set whose rows are in the branch that the hub's converter makes."""
    files = {f"{folder}/{side}/0000.parquet": content for side, content in sides.items()}
    return {(repo, "main"): {"x.py": b"raise SystemExit\n"}, (repo, CONVERTED): files}


def configs(repo: str, by_config: dict[str, dict[str, list[dict[str, Any]]]]) -> Files:
    """Return a set of several configs."""
    files: dict[str, bytes] = {}
    listed: dict[str, dict[str, str]] = {}
    for config, sides in by_config.items():
        listed[config] = {side: f"{config}/{side}-*" for side in sides}
        for side, some in sides.items():
            files[f"{config}/{side}-00000.parquet"] = parquet(some)
    return {(repo, "main"): {"README.md": card(listed), **files}}


def intents(n: int, column: str) -> bytes:
    names = ["oos", "transfer", "balance"]
    some = [{"text": f"say {n} {i}", column: names[i % 3]} for i in range(n)]
    return parquet(some, {column: names})


def clinc() -> Files:
    sizes = {"train": 9, "test": 5500}
    files = {f"plus/{side}-0.parquet": intents(n, "intent") for side, n in sizes.items()}
    splits = {"plus": {"train": "plus/train-*", "test": "plus/test-*"}}
    return {("clinc/clinc_oos", "main"): {"README.md": card(splits), **files}}


def sentences(language: str, n: int) -> list[dict[str, Any]]:
    return [{"id": str(i), "text": f"{language} sentence {i}"} for i in range(n)]


def gpqa_row(i: int) -> dict[str, Any]:
    wrong = {f"Incorrect Answer {n}": f"{i} no {n}" for n in (1, 2, 3)}
    return {"Question": f"What is {i}?", "Correct Answer": f"{i} yes", **wrong, "Explanation": "So"}


def prompt_text(name: str) -> str:
    pairs = [f"Q: {name} {i}\nA: Let's think step by step.\nIt is. So the answer is No." for i in
             range(3)]  # fmt: skip
    return "A description.\n\n" + "\n\n".join(pairs)


def repositories() -> Files:
    math = {"level": "Level 1", "type": "t", "solution": "It is $\\boxed{{{}}}$."}
    flores = {
        code: {"dev": sentences(code, 4), "devtest": list(reversed(sentences(code, 160)))}
        for code in ("eng_Latn", "bem_Latn")
    }
    prompts = [
        {"dataset_name": name, "chain_of_thought_prompt": prompt_text(name)}
        for name in ("snarks", "navigate")
    ]
    gpqa = {"gpqa_main": range(30), "gpqa_diamond": range(20, 30)}
    sst2 = {s: rows(5, text=s + " {}", label="1", label_text="positive") for s in ("train", "test")}
    nlu = intents(25_715, "label")
    xsum = {s: parquet(rows(200, document=s + " {}", summary="s")) for s in ("validation", "test")}
    asked = rows(9, problem="q {}", solution="$\\boxed{{1}}$", answer="1", unique_id="t/{}.json")
    return {
        **clinc(),
        **split_rows("SetFit/sst2", "default", sst2),
        **converted("xingkunliuxtracta/nlu_evaluation_data", "default", {"train": nlu}),
        **converted("EdinburghNLP/xsum", "default", xsum),
        **converted(
            "csebuetnlp/xlsum", "english", {"test": parquet(rows(9, text="x {}", summary="s"))}
        ),
        **configs("openlanguagedata/flores_plus", flores),
        **configs(
            "EleutherAI/hendrycks_math",
            {s: {"train": rows(2, problem=s + " {}", **math)} for s in SUBJECTS},
        ),
        **split_rows("HuggingFaceH4/MATH-500", "default", {"test": asked}),
        **split_rows(
            "openai/gsm8k", "main", {"test": rows(600, question="g {}", answer="#### {}")}
        ),
        **configs(
            "Idavidrein/gpqa",
            {name: {"train": [gpqa_row(i) for i in some]} for name, some in gpqa.items()},
        ),
        **configs(
            "SaylorTwift/bbh",
            {"navigate": {"test": rows(250, input="n {}\nOptions:\n- Yes\n- No", target="Yes")}},
        ),
        **configs("Joschka/big_bench_hard", {"few_shot_prompts": {"few_shot_prompts": prompts}}),
    }


# task -> pool, queries
SIZES = {
    "clinc150": (9, 5500),
    "nlu": (25_715 - 2572, 2572),
    "sst2": (5, 5),
    "summarization": (200, 150),
    "summarization:xlsum": (200, 9),
    "translation:bemba": (4, 150),
    "math": (14, 9),
    "math:gsm8k": (14, 500),
    "gpqa": (20, 10),
    "bbh:navigate:cot": (153, 100),
}


@pytest.fixture(scope="module")
def from_hub(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    home = tmp_path_factory.mktemp("hf")
    with serving(repositories()) as hub:
        return load(list(SIZES), HF_ENDPOINT=hub.endpoint, HF_HOME=str(home))


@pytest.mark.parametrize("task", SIZES)
def test_the_hub_s_copy_has_its_rows(from_hub: dict[str, Any], task: str) -> None:
    found = from_hub[task]
    assert "error" not in found, found
    assert (len(found["pool"]), len(found["queries"])) == SIZES[task]


def numbers(folder: Path, name: str) -> list[int]:
    return json.loads((folder / FOLDER / f"{FILES[name]}.json").read_text())


def test_bertsch_s_rows_are_taken_by_number(tmp_path: Path, shared_data: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / FOLDER).symlink_to(shared_data / FOLDER)
    with serving(repositories()) as hub:
        names = ["clinc150:bertsch", "nlu:bertsch"]
        found = load(names, cwd=tmp_path, HF_ENDPOINT=hub.endpoint, HF_HOME=str(tmp_path / "hf"))
    clinc, nlu = (found[name] for name in names)
    sizes = [(len(part["pool"]), len(part["queries"])) for part in (clinc, nlu)]
    assert sizes == [(9, 250), (25_715 - 6428, 250)]
    asked = {input for _, input, _, _ in nlu["queries"]}
    assert asked == {f"say 25715 {number}" for number in numbers(shared_data, "nlu")}
    shown = {input for _, input, _, _ in nlu["pool"]}
    assert shown.isdisjoint(f"say 25715 {n}" for n in numbers(shared_data, "nlu_test_split"))
    asked = {input for _, input, _, _ in clinc["queries"]}
    assert asked == {f"say 5500 {number}" for number in numbers(shared_data, "clinc150")}


def test_the_classes_of_clinc150_are_named(from_hub: dict[str, Any]) -> None:
    assert {target for _, _, target, _ in from_hub["clinc150"]["pool"]} == {
        "oos", "transfer", "balance"
    }  # fmt: skip


def test_sentences_of_two_languages_are_joined_by_their_id(from_hub: dict[str, Any]) -> None:
    for _, input, target, _ in from_hub["translation:bemba"]["queries"]:
        assert input.removeprefix("eng_Latn") == target.removeprefix("bem_Latn")
    assert from_hub["translation:bemba"]["queries"][0][1] == "eng_Latn sentence 159"


def test_all_subjects_of_math_are_its_pool(from_hub: dict[str, Any]) -> None:
    pool = from_hub["math"]["pool"]
    assert [input for _, input, _, _ in pool[::2]] == [f"{subject} 0" for subject in SUBJECTS]
    assert {target for _, _, target, _ in pool} == {"0", "1"}
    assert from_hub["math:gsm8k"]["queries"][499][1:3] == ["g 499", "499"]


def test_worked_examples_are_the_row_s_of_the_task(from_hub: dict[str, Any]) -> None:
    worked = [example for example in from_hub["bbh:navigate:cot"]["pool"] if example[3]]
    assert [(input, target) for _, input, target, _ in worked] == [
        (f"navigate {i}", "No") for i in range(3)
    ]


def test_gpqa_s_pool_has_no_diamond_question(from_hub: dict[str, Any]) -> None:
    shown = {int(input.split()[2].rstrip("?")) for _, input, _, _ in from_hub["gpqa"]["pool"]}
    assert shown == set(range(20))


def test_a_set_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with serving({}) as hub:
        found = load(
            ["gpqa", "translation:bemba", "bbh:navigate:cot"],
            HF_ENDPOINT=hub.endpoint,
            HF_HOME=str(tmp_path),
        )
    for task, says in (
        ("gpqa", "Idavidrein/gpqa gpqa_main"),
        ("translation:bemba", "openlanguagedata/flores_plus"),
        ("bbh:navigate:cot", "big_bench_hard"),
    ):
        assert found[task]["code"] == 2
        assert says in found[task]["error"]
        assert "\n" not in found[task]["error"]
