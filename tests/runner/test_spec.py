"""The spec: what may be asked, and one line for what may not."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from icl_harness.errors import SpecError
from icl_harness.runner.lists import parse_names, parse_shots
from icl_harness.runner.spec import Spec


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        ("0,1,4,16,64", (0, 1, 4, 16, 64)),
        ("1..1024", (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024)),
        ("0..8", (0, 1, 2, 4, 8)),
        ("3..20", (3, 4, 8, 16, 20)),
        ("0, 8..16 ,5", (0, 5, 8, 16)),
        (7, (7,)),
        ([0, "2..4"], (0, 2, 4)),
    ],
)
def test_shots_are_lists_and_ranges_of_powers_of_two(text: object, counts: tuple[int, ...]) -> None:
    assert parse_shots(text) == counts


@pytest.mark.parametrize("text", ["a", "1.5", "1,,2", "", "1...8", "..8", "8..1", "0x10"])
def test_what_is_no_shot_count_is_refused(text: str) -> None:
    with pytest.raises(SpecError, match="--shots: "):
        parse_shots(text)


@given(st.lists(st.text("abc:/-", min_size=1), min_size=1, max_size=5))
def test_names_may_be_repeated_or_comma_separated(names: list[str]) -> None:
    assert parse_names(",".join(names)) == parse_names(names) == tuple(names)


def spec(**values: object) -> Spec:
    return Spec.from_dict({"tasks": "toy", "models": "demo", **values}, "here")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"modes": "superviced"}, "unknown mode 'superviced'. Nearest: supervised"),
        ({"shots": "-1,4"}, "--shots holds -1; a shot count is 0 or more"),
        ({"shots": [4, 4.5]}, "'4.5' is not a shot count"),
        ({"draws": 0}, "--draws is 0; it takes a whole number from 1 to 10,000"),
        ({"draws": "three"}, "--draws is three; it takes a whole number from 1 to 10,000"),
        ({"draws": True}, "--draws is True"),
        ({"draws": 10_001}, "--draws is 10001; it takes a whole number from 1 to 10,000"),
        ({"draws": None}, "--draws is None"),
        ({"seed": " "}, "--seed is ' '; it takes a whole number of 0 or more"),
        ({"temperature": -1}, "--temperature is -1"),
        ({"temperature": float("nan")}, "--temperature is nan; it takes a number of 0 or more"),
        ({"temperature": "hot"}, "--temperature is hot"),
        ({"temperature": True}, "--temperature is True"),
        ({"worked": 1.5, "modes": "unsupervised"}, "--worked is 1.5"),
        ({"modes": 3}, "unknown mode '3'"),
        ({"modes": None}, "no mode is named"),
        ({"models": None}, "no model is named"),
        ({"variants": []}, "no variant is named"),
        ({"variants": [{"noise": 0.2}]}, "variants: {'noise': 0.2} is not a name"),
        ({"variants": [["sorted"]]}, r"variants: \['sorted'\] is not a name"),
        ({"models": {"a": "b"}}, "models: give a name or a list of names"),
        ({"data": ""}, "--data is empty; leave it out or give a text"),
        ({"data": 7}, "--data is 7; it takes a text"),
        ({"bank": 5, "modes": "reinforced"}, "--bank is 5; it takes a text"),
        ({"scoring": None}, "unknown scoring None"),
        ({"model": "demo"}, "model and models are the same: give one"),
        ({"bank_samples": 2}, "--bank-samples belongs to the reinforced mode"),
        ({"worked": 2}, "--worked belongs to the unsupervised mode"),
        (
            {"models": "baseline/knn", "model_args": {"dtype": "x"}},
            "--model-arg does nothing for reference learners",
        ),
        ({"worked": 5}, "--worked is 5; it takes a whole number from 0 to 4"),
        ({"on_overflow": "truncate"}, "unknown on-overflow 'truncate'.* Known: drop, skip, error"),
        ({"format": "chatty"}, "unknown format 'chatty'. Nearest: chat. Known: text, chat"),
        (
            {"format": "chat", "models": "demo,baseline/knn"},
            "baseline/knn reads no prompts, so --format does nothing",
        ),
        (
            {"queries_per_request": 0},
            "--queries-per-request is 0; it takes a whole number of 1 or more",
        ),
        ({"queries_per_request": 1.5}, "--queries-per-request is 1.5; it takes a whole number"),
        (
            {"queries_per_request": 5, "models": "baseline/knn"},
            "so --queries-per-request does nothing for it",
        ),
        (
            {"queries_per_request": 5, "scoring": "choices"},
            "--queries-per-request needs written answers",
        ),
        ({"batch": True}, "batch does not change what is measured; give it as the option --batch"),
        ({"tasks": "toy,toy"}, "task 'toy' is named twice"),
        ({"models": ""}, "no model is named"),
        ({"shotz": "1"}, "here: unknown key 'shotz'. Nearest: shots"),
        ({"model_args": "a=b"}, "model_args must be a mapping"),
    ],
)
def test_each_fault_is_one_line_that_names_it(values: dict[str, object], message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        spec(**values)
    assert "\n" not in str(caught.value)


def test_a_number_as_text_is_the_number() -> None:
    # A command line gives texts, and a YAML file may.
    assert spec(draws="5", temperature="0.5") == spec(draws=5, temperature=0.5)
    assert spec(temperature=0).as_dict() == spec().as_dict()


def test_a_spec_is_checked_however_it_is_made_and_never_changes() -> None:
    with pytest.raises(SpecError, match="--draws is 0"):
        Spec(tasks=("toy",), models=("demo",), draws=0)
    with pytest.raises(SpecError, match=r"unknown key 'draw'\. Nearest: draws"):
        Spec(tasks=("toy",), models=("demo",), draw=1)
    with pytest.raises(SpecError, match="no model is named"):
        Spec(tasks=("toy",))
    with pytest.raises(ValidationError, match="frozen"):
        spec().draws = 5


def test_yaml_and_arguments_give_the_same_spec_and_arguments_win(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text(
        "task: toy\nmodel: [demo]\nmodes: supervised, unsupervised\nshots: 0..4\n"
        "on-overflow: skip\n"
    )
    assert Spec.load(file, {}) == spec(
        modes=["supervised", "unsupervised"], shots=[0, 1, 2, 4], on_overflow="skip"
    )
    assert Spec.load(file, {"shots": "8"}).shots == (8,)


def test_a_fault_in_a_yaml_file_names_the_file_and_what_stands_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    file.write_text("task: toy\nmodel: demo\ndraws: yes\n")
    with pytest.raises(SpecError, match=r"grid\.yaml: --draws is True; it takes"):
        Spec.load(file, {})
    with pytest.raises(SpecError, match=r"grid\.yaml with --draws, --modes: unknown mode 'x'"):
        Spec.load(file, {"draws": 2, "modes": "x"})


def test_what_a_run_folder_stores_gives_the_spec_again() -> None:
    one = spec(shots="0..64", modes="reinforced", model_args={"dtype": "float32"}, bank_samples=2)
    assert (one.format, one.queries_per_request) == ("text", 1)
    assert Spec.from_dict(one.as_dict(), "stored") == one


def test_a_yaml_file_that_is_none_is_refused_in_one_line(tmp_path: Path) -> None:
    file = tmp_path / "grid.yaml"
    for text, message in (
        ("a: [", "is not YAML"),
        ("- toy\n", "must hold a mapping"),
        ("shots: 3\n", "no task is named"),
    ):
        file.write_text(text)
        with pytest.raises(SpecError, match=message):
            Spec.load(file, {})
