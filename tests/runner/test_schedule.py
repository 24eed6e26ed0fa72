"""Schedules: a later bundle depends on the answers to the one before, in a run, a plan, a bank."""

import asyncio
import signal
import subprocess
import sys
import textwrap
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from icl_harness import Prompt, Run, ScriptedModel
from icl_harness.errors import AccountError, ContextOverflow, ProviderError, SpecError
from icl_harness.plan.asker import make_plan
from icl_harness.prompts.tree import Edge
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.groups import make_requests
from icl_harness.runner.overflow import refuse_overflow
from icl_harness.runner.schedule import Bundle, Read, Scope, every_query
from icl_harness.runner.spec import Spec
from icl_harness.runner.walk import run_experiment
from icl_harness.store.bank import read_bank
from icl_harness.store.records import RunStore
from tests.conftest import N_POOL, N_QUERIES, parity

ROOT = Path(__file__).parents[2]


def ask_again(scope: Scope, shots: int, read: Read) -> Iterator[Bundle]:
    """Yield every query, then those once more that were not solved, with the answer that they were
    given.
    """
    yield from every_query(scope, shots, read)
    answers = read()
    unsolved = {key for key, one in answers.items() if one.status == "ok" and one.score == 0}

    def again(k: int) -> list:
        queries = []
        for request in scope.requests(k):
            if request.key in unsolved:
                query = request.query
                wrong = Edge(text=f"{query.text}{answers[request.key].text} is wrong\n")
                queries.append(replace(query, own=(*query.own, wrong), sample=1))
        return make_requests(queries, 1)

    yield Bundle(path=scope.path, shots=shots, requests=again, sampling=scope.sampling)


class TwoRounds(Experiment):
    """An experiment whose cells, and banks, ask again what was not solved."""

    def schedule(self, line):
        return ask_again

    def bank_schedule(self, line):
        return ask_again


class Learner(ScriptedModel):
    """Solves half of the problems at once, and the others when it is shown its wrong answer.

    `stop_at`: the request at which `stop` is called.
    """

    def __init__(self, stop_at: int = -1, stop=None, **options) -> None:
        self.sent: list[str] = []
        self.stop_at, self.stop = stop_at, stop
        super().__init__(self.say, **options)

    def say(self, prompt: Prompt) -> str:
        if len(self.sent) == self.stop_at:
            self.stop()
        self.sent.append(prompt.text)
        number = int(prompt.query.input.split()[1])
        knows = number % 4 < 2 or "is wrong" in prompt.text
        return " " + parity(number if knows else number + 1)


def stop() -> None:
    raise AccountError("stopped")


def experiment_of(model: ScriptedModel, **options) -> TwoRounds:
    options = {"modes": ["supervised"], "shots": [0, 2], "draws": 2, **options}
    spec = Spec.from_dict({"tasks": "toy", "models": [model.id], "data": "data", **options}, "test")
    return TwoRounds(spec, {model.id: model})


def go(model: ScriptedModel, out: str = "out", watch=None, **options) -> Run:
    experiment = experiment_of(model, **options)
    store = RunStore.create_or_resume(Path(out), experiment.header())
    try:
        run_experiment(experiment, store, watch)
    finally:
        store.close()
    return Run(out)


def plan(model: ScriptedModel, out: str = "out", **options):
    return asyncio.run(make_plan(experiment_of(model, **options), Path(out)))


SAME = [
    "shots",
    "draw",
    "query_id",
    "sample",
    "shots_used",
    "node_hash",
    "answer",
    "score",
    "status",
]
UNSOLVED = {f"test{i}" for i in range(100, 100 + N_QUERIES) if i % 4 >= 2}


@pytest.mark.usefixtures("toy")
class TestTwoRounds:
    def test_the_second_bundle_asks_again_what_the_first_did_not_solve(self) -> None:
        model = Learner()
        records = go(model, draws=1, shots=[2]).records()
        first, second = (records[records["sample"] == sample] for sample in (0, 1))
        assert set(first["query_id"]) == {f"test{i}" for i in range(100, 100 + N_QUERIES)}
        assert set(first[first["score"] == 0]["query_id"]) == UNSOLVED
        assert set(second["query_id"]) == UNSOLVED
        assert (second["score"] == 1).all()
        shown = [text.split("\n", 3)[-1] for text in model.sent[N_QUERIES:]]
        assert "n 102 -> odd is wrong\nn 102 ->" in shown

    @pytest.mark.slow
    @pytest.mark.parametrize("n", range(0, 3 * (N_QUERIES + len(UNSOLVED)), 3))
    def test_a_run_that_was_stopped_asks_nothing_twice_and_ends_with_the_same_records(
        self, n: int
    ) -> None:
        whole = go(Learner(), out="whole").records()
        first, second = Learner(n, stop), Learner()
        with pytest.raises(AccountError):
            go(first)
        records = go(second).records()
        assert records[SAME].equals(whole[SAME])
        assert max(Counter(first.sent + second.sent).values()) == 1
        assert len(first.sent + second.sent) == 3 * (N_QUERIES + len(UNSOLVED))

    @pytest.mark.slow
    def test_a_process_that_is_killed_in_either_round_goes_on_where_it_was(self) -> None:
        whole = go(Learner(), out="whole").records()
        code = """
            import os, signal, sys
            from tests.runner.test_schedule import Learner, go

            model = Learner(int(sys.argv[1]), lambda: os.kill(os.getpid(), signal.SIGKILL))
            go(model)
        """
        n_cell = N_QUERIES + len(UNSOLVED)
        # killed in the first round, in the second, in the second cell; the last is left alone
        for n in (5, N_QUERIES - 5 + 2, n_cell - (N_QUERIES + 2), 3 * n_cell):
            command = [sys.executable, "-c", textwrap.dedent(code), str(n)]
            done = subprocess.run(command, env={"PYTHONPATH": str(ROOT)}, capture_output=True)
            assert done.returncode == (0 if n == 3 * n_cell else -signal.SIGKILL), done.stderr
        assert Run("out").records()[SAME].equals(whole[SAME])

    def test_a_failed_answer_is_neither_solved_nor_asked_again_before_it_has_one(self) -> None:
        def shaky(prompt: Prompt) -> str:
            if prompt.query.id == "test102":
                raise ProviderError("503")
            return Learner().say(prompt)

        records = go(ScriptedModel(shaky), draws=1, shots=[2]).records()
        assert set(records[records["sample"] == 1]["query_id"]) == UNSOLVED - {"test102"}
        model = Learner(id="scripted")
        records = go(model, draws=1, shots=[2]).records()
        assert len(model.sent) == 2, "both rounds of the one that had failed"
        assert set(records[records["sample"] == 1]["query_id"]) == UNSOLVED

    def test_the_progress_ends_at_its_whole(self) -> None:
        seen = []
        go(Learner(), watch=seen.append)
        assert seen[-1].queries_done == seen[-1].queries == 4 * (N_QUERIES + len(UNSOLVED))

    def test_a_later_round_that_does_not_fit_drops_whole_shots_of_its_own(self) -> None:
        class Small(Learner):
            def say(self, prompt: Prompt) -> str:
                if len(prompt.text.split()) > 4 + 4 * 2 + 3 + 4:
                    raise ContextOverflow("prompt is too long")
                return super().say(prompt)

        records = go(Small(), draws=1, shots=[2, 8]).records()
        assert (records["status"] == "ok").all()
        used = records.groupby(["shots", "sample"])["shots_used"].unique().map(list).to_dict()
        assert used == {(2, 0): [2], (2, 1): [1], (8, 0): [3], (8, 1): [1]}


@pytest.mark.usefixtures("toy")
class TestOtherAskers:
    def test_a_plan_counts_the_requests_that_a_later_bundle_takes_at_most(self) -> None:
        rows = plan(Learner(), draws=1, shots=[2]).rows
        assert [row.requests for row in rows] == [N_QUERIES, N_QUERIES]
        assert rows[1].prompt_tokens > rows[0].prompt_tokens

    def test_a_plan_of_a_run_that_was_left_counts_what_is_left_of_either_round(self) -> None:
        with pytest.raises(AccountError):
            go(Learner(N_QUERIES + 2, stop), draws=1, shots=[2])
        rows = plan(Learner(), draws=1, shots=[2]).rows
        assert [row.requests for row in rows] == [0, len(UNSOLVED) - 2]
        go(Learner(), draws=1, shots=[2])
        assert sum(row.requests for row in plan(Learner(), draws=1, shots=[2]).rows) == 0

    def test_a_later_bundle_that_cannot_fit_is_refused_before_anything_is_sent(self) -> None:
        words = 4 + 4 * 2 + 3 + 4  # preamble, two shots, query, answer
        refuse_overflow(experiment_of(Learner(context_window=words + 5), shots=[2]))
        with pytest.raises(SpecError, match="2 shots do not fit into the 19 tokens"):
            refuse_overflow(experiment_of(Learner(context_window=words), shots=[2]))

    def test_a_bank_can_be_made_in_rounds(self) -> None:
        bank = {"modes": ["reinforced"], "shots": [N_POOL], "draws": 1, "bank_samples": 1}
        with pytest.raises(AccountError):
            go(Learner(N_POOL + 3, stop), **bank)
        model = Learner()
        records = go(model, **bank).records()
        assert set(records["shots_used"]) == {N_POOL}, "the second round solves all that was left"
        attempts = read_bank(next(Path("out").glob("banks/*.jsonl"))).attempts
        assert Counter(attempt.sample for attempt in attempts) == {0: N_POOL, 1: N_POOL // 2}
        assert sum("is wrong" in text for text in model.sent) == N_POOL // 2 - 3 + len(UNSOLVED)
