"""Queries that bring shots of their own: what is sent, stored, copied, dropped and planned."""

import asyncio
import json
from collections import Counter
from pathlib import Path

import pytest

from icl_harness import Prompt, ScriptedModel
from icl_harness.errors import AccountError, SpecError
from icl_harness.plan.asker import make_plan
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.overflow import refuse_overflow
from icl_harness.runner.spec import Spec
from icl_harness.store.records import RunStore
from tests.conftest import N_QUERIES, parity
from tests.runner.test_asking import Provider
from tests.runner.test_walk import Listener, go

NEAREST = {"variants": ["nearest=TFIDF"], "draws": 1}
COLOURS = ("red", "green", "blue", "white")


@pytest.fixture(autouse=True)
def colours(toy: Path) -> None:
    """Give every number a colour, so that ten pool examples are alike for each query."""
    for name in ("train", "test"):
        path = toy / f"data/toy/{name}.jsonl"
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        for row in rows:
            number = int(row["text"].split()[1])
            row["text"] = f"n {number} {COLOURS[number % 4]}"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def right(prompt: Prompt) -> str:
    return " " + parity(int(prompt.query.input.split()[1]))


def experiment_of(model: ScriptedModel, **options) -> Experiment:
    options = {"modes": ["supervised"], "shots": [0, 2, 8], **NEAREST, **options}
    spec = Spec.from_dict({"tasks": "toy", "models": [model.id], "data": "data", **options}, "test")
    return Experiment(spec, {model.id: model})


def plan(model: ScriptedModel, **options):
    rows = asyncio.run(make_plan(experiment_of(model, **options), Path("out"))).rows
    return {row.shots: row for row in rows}


class TestRecords:
    def test_each_record_has_the_leaf_and_the_shots_of_its_own_prompt(self) -> None:
        listener = Listener(right)
        records = go(ScriptedModel(listener), **NEAREST).records()
        assert (records["shots_used"] == records["shots"]).all()
        sent = {(p.leaf.n_shots, p.query.id): p.leaf.hash for p in listener.prompts}
        stored = {
            (shots, query): node
            for shots, query, node in zip(
                records["shots_used"], records["query_id"], records["node_hash"], strict=True
            )
        }
        assert stored == sent
        assert len({prompt.node.hash for prompt in listener.prompts}) == 1, "the preamble is shared"

    def test_the_shots_are_the_most_similar_ones_and_the_prompt_that_is_shown_was_sent(
        self,
    ) -> None:
        listener = Listener(right)
        run = go(ScriptedModel(listener), shots=[8], **NEAREST)
        for prompt in listener.prompts:
            colour = prompt.query.input.split()[-1]
            assert {shot.input.split()[-1] for shot in prompt.query.own_shots} == {colour}
        store = RunStore.open(run.path)
        shown = [stored.text for stored in store.find("test103")]
        store.close()
        assert shown == [p.text for p in listener.prompts if p.query.id == "test103"]

    @pytest.mark.slow
    def test_the_same_shots_and_query_are_sent_once_a_run(self) -> None:
        listener = Listener(right)
        records = go(ScriptedModel(listener), variants=["nearest=TFIDF"], draws=3).records()
        assert max(Counter(listener.texts).values()) == 1
        assert len(records) == 3 * 3 * N_QUERIES
        assert (~records["reused"]).sum() == len(listener.texts)
        assert records[records["shots"] == 0]["reused"].sum() == 2 * N_QUERIES

    def test_several_queries_a_request_are_refused_in_one_line(self) -> None:
        with pytest.raises(SpecError, match="--queries-per-request"):
            go(ScriptedModel(right), queries_per_request=2, **NEAREST)
        assert not Path("out").exists()


# Words: preamble 4, shot 5, query 4, answer 4 (the task's max_tokens).
FIVE_SHOTS = 4 + 5 * 5 + 4


class TestOverflow:
    def test_a_known_window_drops_whole_shots_that_are_the_least_similar(self) -> None:
        listener = Listener(right)
        model = ScriptedModel(listener, context_window=FIVE_SHOTS + 4)
        records = go(model, **NEAREST).records()
        assert records.groupby("shots")["shots_used"].unique().map(list).to_dict() == {
            0: [0],
            2: [2],
            8: [5],
        }
        five = [p for p in listener.prompts if p.query.id == "test103" and p.leaf.n_shots == 5]
        assert len(five) == 1
        assert {shot.input.split()[-1] for shot in five[0].query.own_shots} == {"white"}

    def test_error_refuses_before_anything_is_sent(self) -> None:
        refuse_overflow(experiment_of(ScriptedModel(right, context_window=4 + 5 * 8 + 4 + 4)))
        with pytest.raises(
            SpecError, match=r"8 shots do not fit into the 37 tokens .*; 5 shots fit"
        ):
            refuse_overflow(experiment_of(ScriptedModel(right, context_window=FIVE_SHOTS + 4)))

    @pytest.mark.slow
    def test_refusals_of_the_provider_drop_whole_shots_of_all_queries_of_the_cell(self) -> None:
        model = Provider(FIVE_SHOTS)
        records = go(model, shots=[0, 2, 8, 16], **NEAREST).records()
        assert (records["status"] == "ok").all()
        assert set(zip(records["shots"], records["shots_used"], strict=True)) == {
            (0, 0),
            (2, 2),
            (8, 5),
            (16, 5),
        }
        assert records["cost_usd"].sum() == model.paid
        assert records[records["shots"] == 16]["reused"].all(), (
            "the same prompts are not sent again"
        )

    def test_skip_leaves_the_cell_out(self) -> None:
        curves = go(Provider(FIVE_SHOTS), on_overflow="skip", **NEAREST).curves()
        assert curves["n_overflow"].tolist() == [0, 0, N_QUERIES]

    @pytest.mark.slow
    @pytest.mark.parametrize("n", range(1, N_QUERIES + 3, 2))
    def test_a_run_left_at_any_moment_goes_on_to_the_same_records(self, n) -> None:
        class Stopped(Provider):
            def say(self, prompt: Prompt) -> str:
                if len(self.asked) == n:
                    raise AccountError("stopped")
                return super().say(prompt)

        whole = go(Provider(FIVE_SHOTS), out="whole", shots=[8, 16], **NEAREST).records()
        first, second = Stopped(FIVE_SHOTS), Provider(FIVE_SHOTS)
        with pytest.raises(AccountError):
            go(first, shots=[8, 16], **NEAREST)
        records = go(second, shots=[8, 16], **NEAREST).records()
        same = ["query_id", "shots_used", "node_hash", "answer", "score", "status"]
        assert records[same].equals(whole[same])
        assert records["cost_usd"].sum() == first.paid + second.paid


class TestPlan:
    @pytest.mark.slow
    def test_it_counts_each_querys_own_shots(self) -> None:
        rows = plan(ScriptedModel(right))
        records = go(ScriptedModel(right), **NEAREST).records()
        words = records.groupby("shots")["prompt_tokens"].sum().to_dict()
        assert {shots: row.prompt_tokens for shots, row in rows.items()} == words
        assert [row.requests for row in rows.values()] == [N_QUERIES] * 3

    def test_shots_that_a_window_does_not_take_are_dropped_as_the_run_drops_them(self) -> None:
        rows = plan(ScriptedModel(right, context_window=FIVE_SHOTS + 4))
        assert {shots: row.shots_used for shots, row in rows.items()} == {0: 0, 2: 2, 8: 5}
        assert {shots: row.fits for shots, row in rows.items()} == {0: True, 2: True, 8: False}
        assert rows[8].longest == FIVE_SHOTS + 4

    @pytest.mark.slow
    def test_what_was_answered_and_identical_prompts_are_not_planned_again(self) -> None:
        model = ScriptedModel(right)
        with pytest.raises(AccountError):
            go(ScriptedModel(stopping_after(N_QUERIES + 3)), **NEAREST)
        assert [row.requests for row in plan(model).values()] == [0, N_QUERIES - 3, N_QUERIES]
        go(model, **NEAREST)
        assert [row.requests for row in plan(model).values()] == [0, 0, 0]


def stopping_after(n: int):
    sent = []

    def reply(prompt: Prompt) -> str:
        if len(sent) == n:
            raise AccountError("stopped")
        sent.append(prompt)
        return right(prompt)

    return reply
