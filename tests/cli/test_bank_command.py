"""`icl bank`: what a run's banks hold, and how hard the problems are that its shots show."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from icl_harness import Prompt, ScriptedModel
from icl_harness.cli.app import main
from icl_harness.cli.execute import execute
from icl_harness.errors import AccountError
from icl_harness.runner.bank_warnings import bank_warnings, by_luck
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from tests.conftest import N_POOL, parity

pytestmark = pytest.mark.usefixtures("toy")
ESCAPE = "\x1b]0;title\x07"


class Waverer:
    """At pool problem n, n % 4 of four attempts are right; an escape sequence stands in each."""

    def __init__(self, stop_at: int = -1) -> None:
        self.n, self.stop_at = 0, stop_at

    def __call__(self, prompt: Prompt) -> str:
        if self.n == self.stop_at:
            raise AccountError("stopped")
        self.n += 1
        number = int(prompt.query.input.split()[1])
        right = number >= 100 or prompt.query.sample < number % 4
        return f" {parity(number if right else number + 1)} {ESCAPE}"


def make(out: str = "out", stop_at: int = -1, **options) -> Path:
    options = {"modes": ["supervised", "reinforced"], "shots": [0, 4, 12], "draws": 2, **options}
    names = {"tasks": "toy", "models": "scripted", "data": "data"}
    spec = Spec.from_dict({**names, **options}, "test")
    execute(spec, Path(out), models={"scripted": ScriptedModel(Waverer(stop_at))})
    return Path(out)


def icl(monkeypatch: pytest.MonkeyPatch, capsys, *arguments: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["icl", *arguments])
    with pytest.raises(SystemExit) as end:
        main()
    said = capsys.readouterr()
    return end.value.code, said.out, said.err


def test_it_counts_attempts_shows_problems_and_sends_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    make()
    code, out, _ = icl(monkeypatch, capsys, "bank", "out", "--examples", "1")
    assert code == 0
    assert max(map(len, out.splitlines())) <= 100
    row = next(line for line in out.splitlines() if line.startswith("        1 "))
    assert row.split() == ["1", "40", "160", ".375", ".375", "30", "0", "0", "0"]
    assert "kept: 30 rationales of 30 of 40 problems; a prompt can show 30" in out
    assert r"solved: train1, 1 of 4 right; kept: ' odd \x1b]0;title\x07'" in out
    assert r"unsolved: train0, 0 of 4 right; the best, of reward 0: ' odd \x1b]0;t" in out
    code, out, _ = icl(monkeypatch, capsys, "bank", "out", "--problem", "train2")
    assert out.count("train2: iteration 1, attempt") == 4
    assert "attempt 1, reward 1, kept, read as 'even'\neven \\x1b]0;title\\x07\n" in out
    code, _, err = icl(monkeypatch, capsys, "bank", "out", "--problem", "train200")
    assert code == 2
    assert "no attempt at a problem 'train200'" in err


def test_the_shift_is_the_mean_solve_rate_of_the_shots_less_the_pools(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    folder = make()
    icl(monkeypatch, capsys, "bank", "out", "--shift-csv", "shift.csv", "--csv", "attempts.csv")
    shift = pd.read_csv("shift.csv").set_index(["mode", "shots", "draw"])
    from icl_harness.report.run import Run

    records = Run(folder).records(shot_ids=True)
    cells = records[records["shots"] > 0].groupby(["mode", "shots", "draw"])
    assert len(shift) == len(cells) == 8
    for key, rows in cells:
        ids = rows["shot_ids"].iloc[0]
        rate = sum(int(id[5:]) % 4 / 4 for id in ids) / len(ids)
        assert shift.loc[key, "solve_rate"] == pytest.approx(rate, abs=1e-6)
        assert shift.loc[key, "pool_solve_rate"] == 0.375
        assert shift.loc[key, "shift"] == pytest.approx(rate - 0.375, abs=1e-6)
    assert shift.loc["reinforced", "shift"].mean() > max(0, shift.loc["supervised", "shift"].mean())
    attempts = pd.read_csv("attempts.csv")
    assert len(attempts) == 4 * N_POOL
    assert attempts["kept"].sum() == 30
    assert (
        attempts.groupby("problem")["right"].mean()
        == attempts.groupby("problem")["solve_rate"].first()
    ).all()


def test_a_bank_in_the_making_is_shown_as_far_as_it_is(
    monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    with pytest.raises(AccountError):
        make(stop_at=30, modes=["reinforced"])
    code, out, _ = icl(monkeypatch, capsys, "bank", "out")
    assert code == 0
    assert "1 bank of 1 in the making; the same icl run goes on with it" in out
    assert " 30 " in out


def test_a_run_without_a_bank_is_told_so(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    make(modes=["supervised"], shots=[0])
    code, _, err = icl(monkeypatch, capsys, "bank", "out")
    assert code == 2
    assert (
        "out has no bank: only reinforced mode and variants with bank or rationale make one" in err
    )


def test_a_high_chance_is_warned_of_once_with_the_remedy(capsys) -> None:
    make(shots=[0, 2])
    err = capsys.readouterr().err
    assert (
        "toy: a guess is right 50% of the time, so that luck alone has one of 4 attempts right at "
        "94% of the problems; --bank-agree 4 keeps problems with 4 right attempts (6% by luck)"
    ) in err
    make("agreed", shots=[0, 2], bank_agree=2)
    assert "by luck" not in capsys.readouterr().err


def test_written_attempts_are_told_of_where_choices_are_weighed() -> None:
    options = {"modes": "reinforced", "scoring": "choices", "bank_agree": 2, "data": "data"}
    spec = Spec.from_dict({"tasks": "toy", "models": "scripted", "shots": [2], **options}, "test")
    experiment = Experiment(spec, {"scripted": ScriptedModel(Waverer())})
    [warning] = bank_warnings(experiment)
    assert warning.startswith("reinforced with --scoring choices: the attempts of the bank are wri")


def test_luck_is_binomial() -> None:
    from scipy.stats import binom

    for n, least in ((4, 1), (4, 4), (10, 3)):
        assert by_luck(0.3, n, least) == pytest.approx(binom.sf(least - 1, n, 0.3))
