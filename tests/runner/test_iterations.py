"""Banks of several iterations, and which of their attempts become shots: whole runs of the toy
task.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import Counter
from pathlib import Path

import pytest

from icl_harness import Prompt, ScriptedModel
from icl_harness.cli.execute import execute
from icl_harness.errors import AccountError, DataError, SpecError, StoreError
from icl_harness.plan.asker import make_plan
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from icl_harness.store.bank import USUAL_RULES, Bank, Rules, read_bank
from tests.conftest import N_POOL, parity

pytestmark = pytest.mark.usefixtures("toy")
TWO = {"bank_iterations": 2, "bank_samples": 2, "bank_prompts": 3, "bank_prompt_shots": 5}
OUT = Path("out")


class Solver:
    """Solves a quarter of the pool at once, and numbers up to `reach` where five shots of its own
    stand before them, the first of which is as `likes` says.
    """

    def __init__(self, stop_at: int = -1, reach: int = 30) -> None:
        self.prompts: list[Prompt] = []
        self.stop_at, self.reach = stop_at, reach

    def __call__(self, prompt: Prompt) -> str:
        if len(self.prompts) == self.stop_at:
            raise AccountError("stopped")
        self.prompts.append(prompt)
        number = int(prompt.query.input.split()[1])
        is_attempt = prompt.query.id.startswith("train")
        helped = prompt.node.n_shots == 5 and number < self.reach_of(prompt)
        right = number % 4 == 0 or number >= 100 or (is_attempt and helped)
        return f" {parity(number if right else number + 1)} I say {prompt.query.sample}"

    def reach_of(self, prompt: Prompt) -> int:
        """A prompt helps more, the greater the number in its first shot is."""
        first = int(prompt.node.shots[0].input.split()[1])
        return first if self.reach else 0

    @property
    def attempts(self) -> list[Prompt]:
        return [prompt for prompt in self.prompts if prompt.query.id.startswith("train")]


def go(model, out: str = "out", **options):
    options = {"modes": ["reinforced"], "shots": [0, 4], "draws": 1, "data": "data", **options}
    spec = Spec.from_dict({"tasks": "toy", "models": "scripted", **options}, "test")
    return execute(spec, Path(out), models={"scripted": ScriptedModel(model)})


def experiment_of(model, **options) -> Experiment:
    names = {"tasks": "toy", "models": "scripted", "data": "data", "draws": 1}
    spec = Spec.from_dict({**names, **options}, "test")
    return Experiment(spec, {"scripted": ScriptedModel(model)})


def bank_of(folder: str = "out", rules: Rules = USUAL_RULES) -> Bank:
    return read_bank(next(Path(folder).glob("banks/bank-*.jsonl")), rules)


def test_a_later_iteration_attempts_what_is_unsolved_from_the_best_of_its_prompts() -> None:
    model = Solver()
    go(model, **TWO)
    bank = bank_of()
    first = [attempt for attempt in bank.attempts if attempt.iteration == 1]
    later = [attempt for attempt in bank.attempts if attempt.iteration == 2]
    assert len(first) == 2 * N_POOL
    assert {attempt.n_shots for attempt in first} == {0}
    unsolved = {f"train{i}" for i in range(N_POOL) if i % 4}
    tried = [attempt for attempt in later if attempt.sample < 2 + TWO["bank_prompts"]]
    assert Counter(attempt.id for attempt in tried) == dict.fromkeys(unsolved, 3)
    assert {attempt.n_shots for attempt in later} == {5}
    n_right = Counter[str]()
    for attempt in tried:
        n_right[attempt.node] += attempt.reward == 1
    best = max(n_right, key=lambda node: n_right[node])
    others = [attempt for attempt in later if attempt not in tried]
    assert {attempt.node for attempt in others} == {best}
    solved_now = {attempt.id for attempt in tried if attempt.reward == 1}
    assert {attempt.id for attempt in others} == unsolved - solved_now
    assert bank.n_solved == N_POOL // 4 + len(solved_now)


def test_the_prompts_of_a_later_iteration_show_what_the_first_kept_and_no_query() -> None:
    model = Solver()
    go(model, **TWO)
    later = [prompt for prompt in model.attempts if prompt.query.sample >= 2]
    prompts = {prompt.node.hash: prompt.node for prompt in later}
    assert len(prompts) == 3
    for node in prompts.values():
        assert all(int(shot.input.split()[1]) % 4 == 0 for shot in node.shots)
        assert node.text.count(" I say 0\n") == 5
    assert max(map(model.prompts.index, later)) < min(
        map(model.prompts.index, [p for p in model.prompts if p.query.id.startswith("test")])
    )


# in the first iteration, between the two, among the candidates, behind the choice of the best
@pytest.mark.parametrize("n", [50, 80, 100, 171])
def test_a_run_that_is_stopped_in_any_iteration_ends_with_the_same_bank(n: int) -> None:
    whole = Solver()
    go(whole, out="whole", **TWO)
    first, second = Solver(n), Solver()
    with pytest.raises(AccountError):
        go(first, **TWO)
    go(second, **TWO)
    name = next(Path("whole/banks").iterdir()).name
    assert Path("out/banks", name).read_bytes() == Path("whole/banks", name).read_bytes()
    sent = [(p.hash, p.query.seed) for p in (*first.prompts, *second.prompts)]
    assert sorted(sent) == sorted((p.hash, p.query.seed) for p in whole.prompts)


def test_a_process_that_is_killed_between_iterations_goes_on_where_it_was() -> None:
    whole = Solver()
    go(whole, out="whole", **TWO)

    class Killed(Solver):
        def __call__(self, prompt: Prompt) -> str:
            if prompt.query.sample == 2:
                os.kill(os.getpid(), signal.SIGKILL)
            return super().__call__(prompt)

    child = os.fork()
    if not child:
        go(Killed(), **TWO)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    left = next(Path("out/banks").glob("*.partial")).read_text().splitlines()
    assert len(left) == 2 * N_POOL
    second = Solver()
    go(second, **TWO)
    assert len(second.attempts) == len(whole.attempts) - 2 * N_POOL
    name = next(Path("whole/banks").iterdir()).name
    assert Path("out/banks", name).read_bytes() == Path("whole/banks", name).read_bytes()


def test_where_nothing_is_solved_no_later_iteration_is_asked() -> None:
    model = Solver()
    with pytest.raises(DataError, match="is empty: none of 80 attempts at 40 problems"):
        go(lambda prompt: model(prompt) and " neither", shots=[4], **TWO)
    assert len(model.attempts) == 2 * N_POOL
    with pytest.raises(DataError, match="is empty: none of 80 attempts at 40 problems"):
        asyncio.run(make_plan(experiment_of(model, modes=["reinforced"], shots=[4], **TWO), OUT))


def test_a_plan_counts_the_most_that_later_iterations_take_and_then_what_is_left() -> None:
    def planned() -> list[int]:
        options = {"modes": "reinforced", "shots": [0], "draws": 1, **TWO}
        rows = asyncio.run(make_plan(experiment_of(Solver(), **options), OUT)).rows
        return [row.requests for row in rows if row.draw is None]

    assert planned() == [2 * N_POOL, *3 * [N_POOL], N_POOL]
    model = Solver(2 * N_POOL + 10)
    with pytest.raises(AccountError):
        go(model, shots=[0], **TWO)
    n_unsolved = N_POOL * 3 // 4
    assert planned()[:3] == [n_unsolved - 10, n_unsolved, n_unsolved]
    go(Solver(), shots=[0], **TWO)
    assert planned() == []


def test_options_of_banks_as_usual_are_in_no_run_json_and_change_no_prompt() -> None:
    usual = {"bank_iterations": 1, "bank_keep": 1, "bank_agree": 1, "bank_threshold": 1.0}
    run = go(Solver(), out="plain")
    again = go(Solver(), out="said", **usual)
    assert run.header["spec"] == again.header["spec"]
    assert not [name for name in run.header["spec"] if name in (*usual, *TWO, "bank_prompts")][1:]
    assert run.records()["node_hash"].tolist() == again.records()["node_hash"].tolist()


def test_several_rationales_of_a_problem_stand_one_behind_the_other_each_a_shot() -> None:
    run = go(Solver(), bank_keep=2, shots=[4, 40])
    records = run.records(shot_ids=True)
    assert records.groupby("shots")["shots_used"].first().to_dict() == {4: 4, 40: 20}
    ids = records[records["shots"] == 40]["shot_ids"].iloc[0]
    assert ids[1::2] == [f"{id}#2" for id in ids[::2]]
    plain = go(Solver(), out="plain", shots=[10]).records(shot_ids=True)
    assert ids[::2] == plain["shot_ids"].iloc[0], "the same problems in the same order"
    assert bank_of(rules=Rules(keep=2)).n_solved == 10


def test_rationales_of_the_same_words_are_one() -> None:
    run = go(lambda prompt: " " + parity(int(prompt.query.input.split()[1])), bank_keep=3)
    assert bank_of(rules=Rules(keep=3)).n_shots == N_POOL
    assert set(run.records()["shots_used"]) == {0, 4}


def test_gold_answers_of_the_banks_problems_stand_as_often_as_its_rationales() -> None:
    options = {"modes": ["supervised", "reinforced"], "variants": ["bank"], "bank_keep": 2}
    records = go(Solver(), shots=[6], **options).records(shot_ids=True)
    shown = {mode: rows["shot_ids"].iloc[0] for mode, rows in records.groupby("mode")}
    assert shown["supervised"] == shown["reinforced"]


def graded(prompt: Prompt) -> str:
    """An attempt is right, in part right, or wrong, as its number and sample say."""
    number = int(prompt.query.input.split()[1])
    return f" {(number + prompt.query.sample) % 4}"


GRADED_REWARD = '''
def earned(answer, example):
    """0, .25, .5 or .75."""
    return Score(parsed=answer.strip(), value=int(answer) / 4)


@task
def toy()'''


@pytest.fixture
def graded_task(toy: Path) -> None:
    source = (toy / "tasks/toy.py").read_text()
    source = source.replace("label_match, rows", "Score, label_match, rows")
    source = source.replace("@task\ndef toy()", GRADED_REWARD)
    source = source.replace("max_tokens=4", "max_tokens=4,\n        reward=earned")
    (toy / "tasks/toy.py").write_text(source)


@pytest.mark.usefixtures("graded_task")
def test_a_reward_below_1_is_kept_by_a_threshold_and_the_best_attempt_before_others() -> None:
    with pytest.raises(DataError, match=r"a reward of 1 from earned, the best 0\.75.*lower"):
        go(graded)
    go(graded, out="half", bank_threshold=0.5, bank_samples=2)
    kept = [attempt for attempt in bank_of("half", Rules(threshold=0.5)).attempts if attempt.kept]
    # of the rewards n % 4 and (n + 1) % 4 quarters: the better, where it is a half or more
    best = {n: max(n % 4, (n + 1) % 4) / 4 for n in range(N_POOL)}
    assert {int(a.id[5:]): a.reward for a in kept} == {n: r for n, r in best.items() if r >= 0.5}


def test_only_problems_at_which_enough_attempts_are_right_are_kept() -> None:
    def lucky(prompt: Prompt) -> str:
        number = int(prompt.query.input.split()[1])
        right = number >= 100 or prompt.query.sample < number % 4
        return " " + parity(number if right else number + 1)

    go(lucky, bank_agree=2, shots=[0, 2])
    kept = {attempt.id for attempt in bank_of(rules=Rules(agree=2)).attempts if attempt.kept}
    assert kept == {f"train{i}" for i in range(N_POOL) if i % 4 >= 2}
    with pytest.raises(DataError, match=r"none of 160 .* is one of 4 .*lower --bank-agree"):
        go(lucky, out="four", bank_agree=4, shots=[2])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bank_prompts": 2}, "--bank-prompts is for iterations after the first"),
        ({"bank_prompt_shots": 2}, "--bank-prompt-shots is for iterations after the first"),
        ({"bank": "x", "bank_iterations": 2}, "--bank-iterations is for a bank that is yet to be"),
        ({"bank_agree": 5}, "--bank-agree is 5, and --bank-samples 4"),
        ({"bank_keep": 5}, "--bank-keep is 5, and --bank-samples 4"),
        ({"bank_threshold": 0}, "--bank-threshold is 0; it takes a number above 0, at most 1"),
        ({"bank_threshold": 1.5}, "--bank-threshold is 1.5; it takes a number above 0, at most 1"),
        ({"bank_iterations": 0}, "--bank-iterations is 0; it takes a whole number of 1 or more"),
        ({"modes": ["supervised"], "bank_keep": 2}, "--bank-keep belongs to the reinforced mode"),
        ({"iterations": 2, "bank_iterations": 2}, "iterations and bank_iterations are the same"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_what_would_do_nothing_or_cannot_be_is_refused(options: dict, message: str) -> None:
    with pytest.raises(SpecError, match=message):
        go(Solver(), **options)


class Wavering:
    """Right at every pool problem that 4 divides, wrong where it leaves 1, else now right, now
    wrong: one of four attempts is right where it leaves 2, three where it leaves 3.
    """

    def __call__(self, prompt: Prompt) -> str:
        number, sample = int(prompt.query.input.split()[1]), prompt.query.sample
        n_right = {0: 4, 1: 0, 2: 1, 3: 3}[number % 4]
        right = number >= 100 or sample >= 4 - n_right
        return f" {parity(number if right else number + 1)} I say {sample}"


NAMES = ("right", "wrong", "majority", "gold")


def test_right_wrong_and_gold_answers_and_the_majoritys_are_of_the_same_problems() -> None:
    variants = [*(f"rationale={name}" for name in NAMES), "rationale=pseudo"]
    model = Wavering()
    prompts: list[Prompt] = []

    def reply(prompt: Prompt) -> str:
        prompts.append(prompt)
        return model(prompt)

    run = go(reply, variants=variants, shots=[6, 40])
    records = run.records(shot_ids=True)
    cells = records.groupby(["variant", "shots"])
    shown = {key: rows["shot_ids"].iloc[0] for key, rows in cells}
    mixed = {f"train{i}" for i in range(N_POOL) if i % 4 >= 2}
    for name in NAMES:
        assert shown[f"rationale={name}", 6] == shown["rationale=right", 6]
        assert set(shown[f"rationale={name}", 40]) == mixed
    assert len(shown["rationale=pseudo", 40]) == N_POOL

    def words(name: str) -> dict[int, str]:
        row = records[(records["variant"] == f"rationale={name}") & (records["shots"] == 40)].iloc[
            0
        ]
        text = next(p.text for p in prompts if p.node.hash == row["node_hash"])
        lines = [line for line in text.split("\n") if " -> " in line and line.startswith("n ")]
        return {int(line.split()[1]): line.split(" -> ")[1] for line in lines}

    for n, text in words("right").items():
        assert text == f"{parity(n)} I say {3 if n % 4 == 2 else 1}", "the first right attempt"
    for n, text in words("wrong").items():
        assert text == f"{parity(n + 1)} I say 0"
    for n, text in words("gold").items():
        assert text == parity(n)
    for n, text in words("majority").items():
        assert text.split()[0] == parity(n if n % 4 == 3 else n + 1)
    for n, text in words("pseudo").items():
        assert text.split()[0] == parity(n if n % 4 in (0, 3) else n + 1)


def test_another_models_answers_are_a_variant_whose_copy_the_run_keeps() -> None:
    def other(prompt: Prompt) -> str:
        number = int(prompt.query.input.split()[1])
        return f" {parity(number if number % 3 else number + 1)} says another"

    go(other, out="other", shots=[4])
    variants = ["rationale=right", "rationale=other"]
    run = go(Wavering(), variants=variants, shots=[0, 40])
    records = run.records(shot_ids=True)
    used = records[records["shots"] == 40].groupby("variant")["shot_ids"].first()
    right, others = used["rationale=right"], used["rationale=other"]
    assert others == [id for id in right if int(id[5:]) % 3]
    for file in Path("other/banks").iterdir():
        file.unlink()
    Path("other/banks").rmdir()
    again = go(Wavering(), variants=variants, shots=[0, 40])
    assert len(again.records()) == len(records)
    with pytest.raises(StoreError, match=r"variant rationale=wrnog \(or one of right, wrong"):
        go(Wavering(), out="typo", variants=["rationale=wrnog"])
    assert not Path("typo").exists()


def test_where_the_model_never_wavers_there_is_one_line() -> None:
    def certain(prompt: Prompt) -> str:
        return " " + parity(int(prompt.query.input.split()[1]))

    with pytest.raises(DataError, match="nothing to show, as at no problem was one attempt right"):
        go(certain, variants=["rationale=wrong"])


def test_rationales_are_of_reinforced_mode_alone() -> None:
    with pytest.raises(SpecError, match="supervised mode, whose shots show the gold answers"):
        go(Wavering(), modes=["supervised"], variants=["rationale=wrong"])
