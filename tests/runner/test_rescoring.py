"""`icl rescore`: stored answers under the scorer of now, all or none, asking no model."""

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness import ScriptedModel
from icl_harness.cli.app import main
from icl_harness.errors import SpecError, StoreError
from icl_harness.runner.rescoring import rescore
from tests.store.old_runs import make_old_run

SEED = int(os.environ.get("ICL_KILL_SEED", "20261128"))  # printed with a failure, to replay it
LENIENT = "scorer=lambda answer, example: Score(answer.strip(), 0.75)"


def go(out: str = "out", reply=lambda prompt: " even", **options: object) -> icl_harness.Run:
    grid: dict[str, object] = {"data": "data", "shots": [0, 2], "draws": 2, **options}
    return icl_harness.run("toy", ScriptedModel(reply), out=out, **grid)


def rewrite(toy: Path, *changes: tuple[str, str]) -> None:
    """Change the task file."""
    text = (toy / "tasks/toy.py").read_text()
    for old, new in (("import Example,", "import Example, Score,"), *changes):
        assert old in text
        text = text.replace(old, new)
    (toy / "tasks/toy.py").write_text(text)


def silent(prompt: object) -> str:
    raise AssertionError("a model was asked")


@pytest.mark.slow
def test_a_new_scorer_scores_stored_answers_and_the_run_goes_on(toy: Path) -> None:
    before = go().records()
    rewrite(toy, ("scorer=label_match", LENIENT))
    found = rescore(Path("out"))
    assert (found.n_scored, found.n_changed) == (48, 48)
    after = icl_harness.Run("out").records()
    assert set(after["score"]) == {0.75}
    unchanged = [name for name in before.columns if name not in ("score", "parsed")]
    pd.testing.assert_frame_equal(after[unchanged], before[unchanged])
    assert len(go(reply=silent).records()) == 48


@pytest.mark.slow
def test_a_changed_comment_is_a_changed_task_file_and_changes_no_score(toy: Path) -> None:
    go()
    rewrite(toy, ("def example", "# a remark\ndef example"))
    with pytest.raises(StoreError, match="Run `icl rescore out`"):
        go(reply=silent)
    assert rescore(Path("out")).n_changed == 0
    go(reply=silent)


@pytest.mark.slow
def test_a_changed_wording_is_named_and_stays_that_of_the_answers(toy: Path) -> None:
    go()
    assert rescore(Path("out")).notes == ()
    template = toy / "prompts/toy.jinja"
    template.write_text(template.read_text().replace("Even or odd?", "Odd or even?"))
    (note,) = rescore(Path("out")).notes
    assert note.startswith("toy: its wording has changed since")
    with pytest.raises(StoreError, match="another wording of toy"):
        go(reply=silent)
    template.unlink()  # scoring needs none
    assert rescore(Path("out")).notes == (note,)


@pytest.mark.slow
def test_the_old_scores_are_noted_by_their_hash_and_by_what_scored_them(toy: Path) -> None:
    scoring = go().header["scoring"]
    assert rescore(Path("out")).n_changed == 0
    rewrite(toy, ("scorer=label_match", LENIENT))
    rescore(Path("out"))
    rescore(Path("out"))
    same, changed = icl_harness.Run("out").header["rescored"]
    assert (same["n_changed"], changed["n_changed"]) == (0, 48)
    assert changed["scoring_before"] == scoring
    assert same["scores_before_sha256"] == changed["scores_before_sha256"]


def test_a_new_metric_is_that_of_the_curves(toy: Path) -> None:
    go()
    rewrite(toy, ("max_tokens=4", "max_tokens=4, metric='macro_f1'"))
    rescore(Path("out"))
    run = icl_harness.Run("out")
    assert set(run.records()["metric"]) == set(run.curves()["metric"]) == {"macro_f1"}
    assert run.header["tasks"]["toy"]["metric"] == "macro_f1"


def test_it_needs_no_data(toy: Path) -> None:
    go()
    shutil.rmtree("data")
    rewrite(toy, ("scorer=label_match", LENIENT))
    assert rescore(Path("out")).n_changed == 48


@pytest.mark.slow
def test_the_command_writes_the_curves_anew(toy: Path, monkeypatch, capsys) -> None:
    go()
    rewrite(toy, ("scorer=label_match", LENIENT))
    monkeypatch.setattr(sys, "argv", ["icl", "rescore", "out"])
    with pytest.raises(SystemExit) as ended:
        main()
    out = capsys.readouterr().out
    assert ended.value.code == 0
    assert "48 answers scored again, 48 scores changed" in out
    assert set(pd.read_csv("out/curves.csv")["value"]) == {0.75}
    assert Path("out/curves.png").exists()


def test_a_scorer_that_fails_changes_nothing(toy: Path) -> None:
    before = go().records()
    header = Path("out/run.json").read_bytes()
    rewrite(toy, ("scorer=label_match", "scorer=lambda a, e: Score(a, 1.0 / (e.id != 'test105'))"))
    with pytest.raises(SpecError, match="its scorer fails on the answer to test105"):
        rescore(Path("out"))
    pd.testing.assert_frame_equal(icl_harness.Run("out").records(), before)
    assert Path("out/run.json").read_bytes() == header


@pytest.mark.slow
def test_a_group_answer_that_was_not_found_stays_wrong(toy: Path) -> None:
    go(reply=lambda prompt: "1: even\n3: odd", queries_per_request=3, draws=1)
    rewrite(toy, ("scorer=label_match", LENIENT))
    rescore(Path("out"))
    records = icl_harness.Run("out").records()
    assert sorted(records["score"].unique()) == [0.0, 0.75]
    assert (records["score"] == 0).sum() == 2 * 4, "the second of each group of three"


@pytest.mark.slow
def test_banks_keep_their_rewards_and_those_that_would_change_are_named(toy: Path) -> None:
    run = go(modes=["reinforced"], shots=[2], draws=1)
    [bank] = run.path.glob("banks/*.jsonl")
    before = bank.read_bytes()
    rewrite(toy, ("scorer=label_match", "scorer=lambda a, e: Score(a, 0.0)"))
    notes = rescore(Path("out")).notes
    assert bank.read_bytes() == before
    assert "stay as they were" in notes[0]
    assert "80 attempts would earn another reward now" in notes[1]


@pytest.mark.slow
def test_a_version_0_1_run_is_adopted_with_its_gold_answers_and_goes_on(tmp_path: Path) -> None:
    path = make_old_run(2, tmp_path / "run")
    grid = {
        "model": "baseline/majority", "modes": ["supervised", "unsupervised"], "shots": [0, 2, 3],
        "draws": 2, "queries": 3, "out": path,
    }  # fmt: skip
    with pytest.raises(StoreError, match=r"was made by version 0\.1.*Run `icl rescore"):
        icl_harness.run("dialects", **grid)
    assert rescore(path).n_changed == 0
    before = icl_harness.Run(path).records()
    assert before["target"].notna().all()
    pd.testing.assert_frame_equal(icl_harness.run("dialects", **grid).records(), before)


def test_a_version_0_1_run_whose_prompts_have_changed_is_scored_but_not_gone_on_with(
    tmp_path: Path,
) -> None:
    path = make_old_run(2, tmp_path / "run")
    with sqlite3.connect(path / "records.db") as db:
        db.execute("UPDATE nodes SET hash = 'another' WHERE id = 3")
    rescore(path)
    with pytest.raises(StoreError, match="another wording of dialects"):
        icl_harness.run(
            "dialects", "baseline/majority", modes=["supervised", "unsupervised"], shots=[0, 2, 3],
            draws=2, queries=3, out=path,
        )  # fmt: skip


RESCORE = """
import sys
from pathlib import Path
from icl_harness.runner.rescoring import rescore
print("ready", flush=True)
rescore(Path(sys.argv[1]))
"""


@pytest.mark.slow
def test_a_rescoring_killed_at_any_instant_leaves_old_scores_or_new(toy: Path) -> None:
    rng = random.Random(SEED)
    go()
    rewrite(toy, ("scorer=label_match", LENIENT))
    for i in range(6):
        out = Path(f"out{i}")
        shutil.copytree("out", out)
        worker = subprocess.Popen(
            [sys.executable, "-c", RESCORE, str(out)], stdout=subprocess.PIPE, text=True
        )
        assert worker.stdout is not None
        worker.stdout.readline()
        time.sleep(rng.uniform(0, 0.08))
        worker.send_signal(signal.SIGKILL)
        worker.communicate()
        scores = set(icl_harness.Run(out).records()["score"])
        assert scores in ({0.75}, {0.0, 1.0}), f"seed {SEED}: half of them"
        rescore(out)
        assert set(icl_harness.Run(out).records()["score"]) == {0.75}
        header = json.loads((out / "run.json").read_text())
        assert [one["n_changed"] for one in header["rescored"]] == [48], f"seed {SEED}"
