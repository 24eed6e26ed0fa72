"""Defects that were found in the harnesses and scripts of the field: none of them can happen here.

Each test names where the defect was seen. Those of scorers (a corpus score of one hypothesis, a
pattern that drops signs and commas, MATH compared letter by letter) stand in tests/tasks.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Callable
from pathlib import Path

import pytest

import icl_harness
from icl_harness import Example, Prompt, Run, ScriptedModel, Task, label_match
from icl_harness.errors import DataError, IclError, ProviderError
from icl_harness.models.base import Capabilities
from tests.conftest import parity

pytestmark = pytest.mark.usefixtures("toy")

PREAMBLE = "Even or odd?"


def rightly(prompt: Prompt) -> str:
    return f" {parity(int(prompt.query.input.split()[1]))}"


def ask(
    answer: Callable[[Prompt], str] = rightly, out: str = "out", **options: object
) -> tuple[Run, list[Prompt]]:
    prompts: list[Prompt] = []

    def noted(prompt: Prompt) -> str:
        prompts.append(prompt)
        return answer(prompt)

    given = {"shots": [4], "draws": 1, "data": "data", **options}
    return icl_harness.run("toy", ScriptedModel(noted), out=out, **given), prompts


def texts(prompts: list[Prompt]) -> set[str]:
    return {prompt.text for prompt in prompts}


def shot_ids(run: Run) -> dict[int, list[str]]:
    records = run.records(shot_ids=True).drop_duplicates("draw")
    return {draw: list(ids) for draw, ids in zip(records["draw"], records["shot_ids"], strict=True)}


def test_shots_are_the_same_in_every_run() -> None:
    """ManyICL shuffles without a seed at every call; HELMET's shots had none before 2024-10."""
    _, first = ask(out="a", shots=[1, 8], draws=2)
    _, second = ask(out="b", shots=[1, 8], draws=2)
    assert texts(first) == texts(second)


def test_all_queries_of_a_draw_share_one_prefix() -> None:
    """ManyICL shuffles shots at every call, and HELMET maps labels anew for every query: no cache
    can hold such prompts.
    """
    _, prompts = ask(shots=[8])
    prefixes = {prompt.text.removesuffix(f"{prompt.query.input} ->") for prompt in prompts}
    assert len(prompts) == 12
    assert len(prefixes) == 1


def test_what_cannot_be_parsed_stays_in_the_denominator() -> None:
    """ManyICL leaves ambiguous and unparsed answers out of its accuracy."""
    answers = itertools.cycle([" even", " who knows", " even or odd", ""])
    run, _ = ask(lambda prompt: next(answers))
    [point] = run.curves().to_dict("records")
    records = run.records()
    assert point["n_ok"] == 12
    assert point["n_unparsed"] == 9
    assert point["value"] == pytest.approx(records["score"].sum() / 12)


def test_shots_are_not_the_first_rows_of_the_file() -> None:
    """LongICLBench shows the first rows of the file, the same in all its runs."""
    run, _ = ask(shots=[10], draws=3)
    shown = shot_ids(run)
    first = [f"train{i}" for i in range(10)]
    assert len({tuple(ids) for ids in shown.values()}) == 3
    assert all(sorted(ids) != sorted(first) for ids in shown.values())


def test_answers_are_greedy_and_points_have_intervals_unless_told_otherwise() -> None:
    """LongICLBench samples at temperature 1 and shows one run without error bars."""
    run, prompts = ask()
    [point] = run.curves().to_dict("records")
    assert run.header["spec"]["temperature"] == 0
    assert len(prompts) == 12  # one answer each
    assert 0 < point["ci_high"] - point["ci_low"] < 1


def test_a_draw_does_not_depend_on_how_many_draws_are_asked() -> None:
    """lighteval carried its seed on, so that each shuffle depended on those before."""
    few, _ = ask(out="few", draws=2)
    many, _ = ask(out="many", draws=4)
    assert shot_ids(few)[1] == shot_ids(many)[1]


def test_another_seed_is_another_run() -> None:
    """lm-eval left the seed out of its cache's key: old prompts under a new seed's name."""
    _, first = ask(seed=0)
    with pytest.raises(IclError, match="seed"):
        ask(seed=1)
    _, second = ask(seed=1, out="other")
    assert not texts(first) & texts(second)


def test_a_test_row_is_never_its_own_shot(toy: Path) -> None:
    """In lm-eval a document could be among its own shots."""
    file = toy / "data/toy/train.jsonl"
    leak = '{"id": "again", "text": "N  100", "label": "even"}\n'
    file.write_text(file.read_text() + leak)
    with pytest.raises(DataError, match="again"):
        ask()


def test_too_long_a_prompt_loses_whole_shots_and_says_how_many() -> None:
    """lm-eval cuts prompts from the left: the instruction goes first, then half a shot."""
    prompts: list[Prompt] = []

    def noted(prompt: Prompt) -> str:
        prompts.append(prompt)
        return rightly(prompt)

    model = ScriptedModel(noted, context_window=60)
    run = icl_harness.run("toy", model, out="out", data="data", shots=[32], draws=1)
    used = run.records()["shots_used"].unique()
    assert len(used) == 1
    assert 0 < used[0] < 32
    for prompt in prompts:
        assert prompt.text.startswith(PREAMBLE)
        assert len(re.findall(r"^n \d+ -> (?:even|odd)$", prompt.text, re.M)) == used[0]
        assert prompt.text.endswith("->")


def test_the_answers_of_shots_are_the_assistants_in_a_chat() -> None:
    """Under chat templates lm-eval shows the answers of shots within the user's turn."""
    prompts: list[Prompt] = []

    def noted(prompt: Prompt) -> str:
        prompts.append(prompt)
        return rightly(prompt)

    model = ScriptedModel(noted)
    model.capabilities = Capabilities(chat=True)
    icl_harness.run("toy", model, out="out", data="data", shots=[3], draws=1, format="chat")
    for prompt in prompts:
        said: dict[str, list[str]] = {"system": [], "user": [], "assistant": []}
        for edge in prompt.node.path:
            said[edge.role or "system"].append(edge.segment)
        assert re.findall("even|odd", "".join(said["assistant"])) == [
            shot.target for shot in prompt.node.shots
        ]
        assert re.findall("even|odd", "".join(said["user"])) == []


def test_similar_shots_stand_by_rank() -> None:
    """Bertsch et al. retrieve shots and then show them in the order of the training file."""
    pool = [
        Example(id=f"p{i}", input=" ".join(words), target=("a", "b")[i % 2], choices=("a", "b"))
        for i, words in enumerate(
            (["red", "fox"], ["red", "fox", "ran"], ["blue"], ["red"], ["sea"], ["sky"])
        )
    ]
    query = Example(id="q", input="red fox ran home", target="a", choices=("a", "b"))
    for order in (pool, pool[::-1]):
        run = icl_harness.run(
            Task(
                pool=order,
                queries=[query],
                prompts="toy",
                labels=("a", "b"),
                scorer=label_match,
                name="animals",
            ),
            ScriptedModel(lambda prompt: "a"),
            variants=["nearest=BM25"],
            shots=[3],
            draws=1,
        )
        assert list(run.records(shot_ids=True)["shot_ids"].iloc[0]) == ["p3", "p0", "p1"]


def test_what_failed_is_missing_and_not_wrong() -> None:
    """Some cells of Bertsch et al. hold runs that failed, as accuracies near 0."""

    def broken(prompt: Prompt) -> str:
        if prompt.query.id in {"test100", "test101", "test102"}:
            raise ProviderError("the server is down")
        return rightly(prompt)

    run, _ = ask(broken)
    [point] = run.curves().to_dict("records")
    assert (point["n_ok"], point["n_failed"], point["value"]) == (9, 3, 1)


def test_an_interval_counts_the_queries_though_draws_agree() -> None:
    """The bars of ManyICLBench and EuroEval are those of a few repetitions: SD / sqrt(n) of means
    that share their test set is nearly 0 where all draws get the same queries right.
    """

    def answer(prompt: Prompt) -> str:
        number = int(prompt.query.input.split()[1])
        return f" {parity(number if number % 3 else number + 1)}"

    run, _ = ask(answer, draws=5)
    [point] = run.curves().to_dict("records")
    by_draw = run.records().groupby("draw")["score"].mean()
    assert by_draw.std() == 0
    p = point["value"]
    binomial = 2 * 1.96 * math.sqrt(p * (1 - p) / 12)
    assert point["ci_high"] - point["ci_low"] > 0.8 * binomial


def test_a_difference_is_tested_on_pairs() -> None:
    """lm-eval's model_comparator subtracts two means as if their queries were others: its error is
    that of two samples where the same answers differ in none.
    """

    def half(prompt: Prompt) -> str:
        number = int(prompt.query.input.split()[1])
        return f" {parity(number if number % 3 else number + 1)}"

    run, _ = ask(half, shots=[4, 8], draws=3)
    [row] = run.compare(by="shots").to_dict("records")
    assert row["b_minus_a"] == 0
    p = run.records()["score"].mean()
    of_two_samples = 2 * 1.96 * math.sqrt(2 * p * (1 - p) / 12)
    assert row["ci_high"] - row["ci_low"] < 0.6 * of_two_samples
