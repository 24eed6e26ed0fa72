"""The task verifier from its files to its metrics: what is sent, stored, copied, and measured."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import icl_harness
from icl_harness import Example, Prompt, ScriptedModel
from icl_harness.cli.app import main
from icl_harness.draws import sample_clusters
from icl_harness.errors import DataError, SpecError
from icl_harness.report.run import find_record
from icl_harness.store.records import RunStore
from tests.runner.test_choice_scores import Weighing, hashed_nats

LABELS = ("Yes", "No")
Call = Callable[..., tuple[int, str, str]]


def rows(names: str, n: int = 4) -> list[dict[str, Any]]:
    return [
        {"problem": f"What is {name}?", "solution": f"It is {i}.", "correct": i == ord(name) % 5}
        for name in names
        for i in range(n)
    ]


def write(folder: Path, **splits: list[dict[str, Any]]) -> None:
    (folder / "verifier").mkdir(parents=True, exist_ok=True)
    for split, found in splits.items():
        lines = [json.dumps(row) + "\n" for row in found]
        (folder / f"verifier/{split}.jsonl").write_text("".join(lines))


@pytest.fixture
def icl(tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch) -> Call:
    """Run the command line in an empty folder; return exit code, standard output and error."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capsys.readouterr()
        return int(caught.value.code or 0), out, err

    return call


def judge(scoring: str = "choices", **fields: Any) -> Any:
    spec = {"shots": [0, 2], "draws": 2, "data": "data", "out": f"out-{scoring}", **fields}
    return icl_harness.run("verifier", Weighing(), scoring=scoring, **spec)


def plain(done: Any, shots: int, scoring: str = "choices") -> list[dict[str, Any]]:
    """What the metrics are of, by plain arithmetic from the prompts; a copied answer once."""
    found = {}
    records = done.records()
    for row in records[records["shots"] == shots].to_dict("records"):
        cell = {"shots": shots, "draw": row["draw"]}
        prompt = find_record(done.path, row["query_id"], cell)[0].text
        nats = {label: hashed_nats(prompt, f" {label}") for label in LABELS}
        if scoring == "choices-pmi":
            cue = "Is the solution correct?"
            nats = {label: nats[label] - hashed_nats(cue, f" {label}") for label in LABELS}
        weights = {label: math.exp(one) for label, one in nats.items()}
        p = {label: one / sum(weights.values()) for label, one in weights.items()}
        found[prompt] = {**row, "p": p}
    return list(found.values())


def expected(found: list[dict[str, Any]]) -> dict[str, float]:
    yes = {right: [one["p"]["Yes"] for one in found if one["target"] == right] for right in LABELS}
    by_problem: dict[Any, list[tuple[float, bool]]] = {}
    for one in found:
        key = (one["node_hash"], one["cluster"])
        by_problem.setdefault(key, []).append((one["p"]["Yes"], one["target"] == "Yes"))
    return {
        "confidence": float(np.mean([max(one["p"].values()) for one in found])),
        "brier": float(np.mean([2 * (1 - one["p"][one["target"]]) ** 2 for one in found])),
        "p_yes_gap": float(np.mean(yes["Yes"]) - np.mean(yes["No"])),
        "best_of_n": float(np.mean([max(problem)[1] for problem in by_problem.values()])),
    }


@pytest.mark.parametrize("scoring", ["choices", "choices-pmi"])
def test_the_metrics_are_of_the_scores_by_which_answers_were_chosen(
    icl: Call, scoring: str
) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    done = judge(scoring)
    for shots in (0, 2):
        for name, value in expected(plain(done, shots, scoring)).items():
            table = done.curves(name)
            assert table[table["shots"] == shots]["value"].tolist() == pytest.approx([value])
    again = judge(scoring).curves("brier")  # all is there: nothing is asked
    assert again["value"].tolist() == done.curves("brier")["value"].tolist()
    code, out, err = icl("curves", f"out-{scoring}", "--metric", "best_of_n")
    assert code == 0, err
    assert "5 problems with 4 solutions each; one drawn at random is right in 0.200" in out
    assert "lack" not in out


def test_runs_read_together_and_answers_without_probabilities_are_said(icl: Call) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    done = judge()
    write_verdicts = ScriptedModel(lambda prompt: "Yes" if "It is 3" in prompt.query.text else "No")
    icl_harness.run("verifier", write_verdicts, shots=[0], data="data", out="written")
    code, out, err = icl("curves", str(done.path), "written", "--metric", "brier")
    assert code == 0, err
    assert "scripted: no answer has probabilities of choices, and they are missing here" in out
    code, out, err = icl("curves", "written", "--metric", "best_of_n")
    assert "verdicts count as P(Yes) of 1 or 0, equal ones share" in out
    assert ".200" in out  # of v, w, x, y, z the answer to v alone is 3
    code, _, err = icl("curves", "written", "--metric", "ece")
    assert code == 2
    assert "ece: no answer to verifier has the probabilities of its choices" in err
    assert err.count("\n") == 1


def test_answers_with_the_likelihood_of_some_choices_alone_have_no_probabilities(icl: Call) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    model = Weighing("untold")
    done = icl_harness.run("verifier", model, scoring="choices", shots=[0], data="data", out="some")
    for command in ("curves", "ask"):
        code, out, err = icl(command, str(done.path), "--metric", "brier")
        assert code == 2, out
        assert "brier: no answer to verifier has the probabilities of its choices" in err


def test_a_shot_of_a_problem_that_is_asked_is_refused_though_the_solution_is_another(
    icl: Call,
) -> None:
    other = {"problem": "what is  V", "solution": "It is 9.", "correct": "no"}
    write(Path("data"), train=[*rows("abcde"), other], test=rows("vwxyz"))
    with pytest.raises(DataError, match="train-20 = test-3"):
        judge()
    write(Path("data"), train=[{**other, "correct": "perhaps"}])
    with pytest.raises(DataError, match="correct is 'perhaps'; it must be true or false"):
        judge()


@pytest.mark.parametrize("seed", range(40))
def test_clusters_are_taken_whole_and_more_keep_those_of_fewer(seed: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(1, 7, size=rng.integers(1, 12)).tolist()
    n = int(rng.integers(max(sizes), 40))
    examples = [
        Example(id=f"{c}-{i}", input="?", target="x", cluster=str(c))
        for c, size in enumerate(sizes)
        for i in range(size)
    ]
    some, more = (sample_clusters(examples, m, seed, "queries") for m in (n, n + 1))
    assert len(some) <= n
    assert {e.id for e in some} <= {e.id for e in more}
    for c, size in enumerate(sizes):
        assert sum(e.cluster == str(c) for e in some) in (0, size)
    assert some == [example for example in examples if example in some]


def test_fewer_queries_than_a_problem_has_solutions_are_refused(icl: Call) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    with pytest.raises(SpecError, match="stand together, up to 4 of them"):
        judge(queries=3)
    assert len(judge(queries=9).records().query("shots == 0 and draw == 0")) == 8


def solver(**fields: Any) -> Any:
    """A run of the toy task that is right, wrong or not to be parsed, with a bank."""

    def reply(prompt: Prompt) -> str:
        return ["even", "odd", "who knows"][(prompt.query.seed + prompt.node.n_shots) % 3]

    spec = {"modes": ["reinforced"], "shots": [0, 2], "samples": 3, "temperature": 1.0, **fields}
    return icl_harness.run("toy", ScriptedModel(reply), data="data", bank_samples=2, **spec)


def read(file: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in Path(file).read_text().splitlines()]


@pytest.mark.usefixtures("toy")
def test_a_run_s_bank_and_answers_become_a_verifier_s_files(icl: Call) -> None:
    done = solver(draws=1, out="solver")
    code, _, err = icl("solutions", "solver", "--data", "verify")
    assert code == 2
    assert "solver holds answers of 2 cells: choose one by --shots (0, 2)" in err
    code, out, err = icl("solutions", "solver", "--data", "verify", "--shots", "2")
    assert code == 0, err
    records = done.records().query("shots == 2")
    test = read("verify/verifier/test.jsonl")
    assert [row["correct"] for row in test] == (records["score"] == 1).tolist()
    assert [row["solution"] for row in test] == records["answer"].tolist()
    assert [row["problem"] for row in test] == records["input"].tolist()
    n_right = int((records["score"] == 1).sum())
    assert f"36 solutions of 12 problems, {n_right} right" in out
    train = read("verify/verifier/train.jsonl")
    bank = read(str(next(done.path.glob("banks/*.jsonl"))))
    assert [row["solution"] for row in train] == [attempt["answer"] for attempt in bank]
    assert {row["problem"] for row in train}.isdisjoint({row["problem"] for row in test})
    best = judge(data="verify", shots=[0], draws=1, out="judge").curves("best_of_n")
    assert 0 < best["value"].item() < 1


@pytest.mark.usefixtures("toy")
def test_problems_of_a_bank_can_be_held_out(icl: Call) -> None:
    solver(draws=1, out="solver")
    code, out, err = icl("solutions", "solver", "--data", "v", "--queries", "3")
    assert code == 0, err
    train, test = (read(f"v/verifier/{split}.jsonl") for split in ("train", "test"))
    asked = {row["problem"] for row in test}
    assert len(asked) == 3
    assert asked.isdisjoint({row["problem"] for row in train})
    code, _, err = icl("solutions", "solver", "--data", "v", "--queries", "999")
    assert code == 2
    assert "--queries holds out 999: it takes 1 to" in err
    icl_harness.run("toy", ScriptedModel(lambda _: "even"), data="data", shots=[0], out="plain")
    code, out, err = icl("solutions", "plain", "--data", "w")
    assert code == 0, err
    assert "train.jsonl is not written: plain holds no bank" in out
    code, _, err = icl("solutions", "plain", "--data", "w", "--mode", "reinforced")
    assert code == 2
    assert "plain holds no solutions" in err


def test_a_run_that_an_earlier_version_began_says_which_answers_lack_probabilities(
    icl: Call,
) -> None:
    write(Path("data"), train=rows("abcde"), test=rows("vwxyz"))
    done = judge()
    with contextlib.closing(RunStore.open_for_writing(done.path)) as store, store.writing() as db:
        db.execute("DELETE FROM choice_scores WHERE cell = 1 AND query_id < 'test-12'")
    code, out, err = icl("curves", str(done.path), "--metric", "brier")
    assert code == 0, err
    assert "of 80 answers lack probabilities of choices, and they are missing here" in out
