"""Lines of the walk as APIs need them: refusals of long prompts, chats, groups of queries, cells
all at once.
"""

import asyncio
import re
import sqlite3
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.analysis.compare import compare
from icl_harness.errors import AccountError, ContextOverflow, ProviderError, SpecError
from icl_harness.models.base import Answer
from icl_harness.report.run import load_runs
from icl_harness.runner.experiment import Experiment
from icl_harness.runner.spec import Spec
from icl_harness.runner.walk import run_experiment
from icl_harness.store.records import RunStore
from tests.conftest import N_QUERIES, parity
from tests.runner.test_walk import Listener, go, right


class Provider(ScriptedModel):
    """A model that tells its window only by refusing what is longer, in words; it charges a dollar
    a word.
    """

    def __init__(self, most_words: int) -> None:
        self.asked: list[tuple[int, str]] = []  # (shots, query id)
        self.paid = 0
        self.most_words = most_words
        super().__init__(self.say)

    def say(self, prompt: Prompt) -> str:
        self.asked.append((prompt.node.n_shots, prompt.query.id))
        if len(prompt.text.split()) > self.most_words:
            raise ContextOverflow("prompt is too long")
        return right(prompt)

    async def answers(self, node, queries, sampling):
        async for answers in super().answers(node, queries, sampling):
            self.paid += sum(a.usage.prompt_tokens or 0 for a in answers)
            yield [
                replace(a, usage=replace(a.usage, cost_usd=float(a.usage.prompt_tokens or 0)))
                for a in answers
            ]


# Words: preamble 4, shot 4, query 3, the longest query 5.
FIVE_SHOTS = 4 + 4 * 5 + 5


@pytest.fixture
def one_long(toy: Path) -> None:
    """Make one query longer than the others."""
    path = toy / "data/toy/test.jsonl"
    path.write_text(path.read_text().replace("n 105", "n 105 or so"))


@pytest.mark.usefixtures("toy", "one_long")
class TestRefusedByTheProvider:
    def test_drop_finds_the_most_whole_shots_with_the_longest_query_and_uses_them_for_the_cell(
        self,
    ) -> None:
        model = Provider(FIVE_SHOTS)
        records = go(model, shots=[0, 2, 8, 16, 32], draws=1).records()
        used = records.groupby("shots")["shots_used"].unique().map(list).to_dict()
        assert used == {0: [0], 2: [2], 8: [5], 16: [5], 32: [5]}
        assert (records["status"] == "ok").all()
        assert records[records["shots"] > 8]["reused"].all(), "the same prompt is not asked again"
        assert {query for shots, query in model.asked if shots > 5} == {"test105"}
        assert max(Counter(model.asked).values()) == 1
        assert next(query for shots, query in model.asked if shots == 0) == "test105", (
            "the longest goes first"
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("most", range(0, 32, 3))
    def test_what_the_search_took_is_in_the_records_to_the_cent(self, most) -> None:
        model = Provider(4 + 4 * most + 5)
        records = go(model, shots=[32], draws=1).records()
        assert set(records["shots_used"]) == {most}
        assert records["cost_usd"].sum() == model.paid
        assert len(records) == N_QUERIES

    @pytest.mark.slow
    @pytest.mark.parametrize("n", range(1, 12))
    def test_a_run_left_in_the_search_goes_on_with_it_and_ends_with_the_same_shots(self, n) -> None:
        class Stopped(Provider):
            def say(self, prompt: Prompt) -> str:
                if len(self.asked) == n:
                    raise AccountError("stopped")
                return super().say(prompt)

        whole = go(Provider(4 + 4 * 21 + 5), out="whole", shots=[32], draws=1).records()
        first, second = Stopped(4 + 4 * 21 + 5), Provider(4 + 4 * 21 + 5)
        with pytest.raises(AccountError):
            go(first, shots=[32], draws=1)
        records = go(second, shots=[32], draws=1).records()
        same = ["query_id", "shots_used", "node_hash", "answer", "score", "status"]
        assert records[same].equals(whole[same])
        assert records["cost_usd"].sum() == first.paid + second.paid

    def test_the_most_shots_are_known_again_when_a_run_goes_on(self) -> None:
        class Stopped(Provider):
            def say(self, prompt: Prompt) -> str:
                if (
                    Counter(shots for shots, _ in self.asked)[5] == N_QUERIES
                ):  # the first cell is done
                    raise AccountError("stopped")
                return super().say(prompt)

        with pytest.raises(AccountError):
            go(Stopped(FIVE_SHOTS), shots=[8, 16], draws=1, temperature=0.5)
        model = Provider(FIVE_SHOTS)
        records = go(model, shots=[8, 16], draws=1, temperature=0.5).records()
        assert Counter(shots for shots, _ in model.asked) == {5: N_QUERIES}
        assert set(records["shots_used"]) == {5}

    def test_skip_records_the_cell_and_asks_none_of_its_other_queries(self) -> None:
        model = Provider(FIVE_SHOTS)
        curves = go(model, draws=1, on_overflow="skip").curves().set_index("shots")
        assert curves["n_overflow"].to_dict() == {0: 0, 2: 0, 8: N_QUERIES}
        assert curves["value"].isna().to_dict() == {0: False, 2: False, 8: True}
        assert sum(shots == 8 for shots, _ in model.asked) == 1

    def test_error_stops_with_the_remedy(self) -> None:
        with pytest.raises(
            SpecError,
            match=r"8 shots do not fit .* of scripted\. Ask for fewer, or use --on-overflow",
        ):
            go(Provider(FIVE_SHOTS), draws=1, on_overflow="error")

    def test_a_query_that_does_not_fit_by_itself_is_overflow(self) -> None:
        model = Provider(6)
        curves = go(model, draws=1, shots=[0, 8]).curves()
        assert (curves["n_overflow"] == N_QUERIES).all()
        assert {query for _, query in model.asked} == {"test105"}

    def test_a_search_that_fails_is_missing_and_asked_again(self) -> None:
        class Shaky(Provider):
            def say(self, prompt: Prompt) -> str:
                if prompt.node.n_shots == 5:
                    raise ProviderError("503")
                return super().say(prompt)

        curve = go(Shaky(FIVE_SHOTS), draws=1, shots=[8]).curves().iloc[0]
        assert (curve["n_failed"], curve["n_ok"]) == (N_QUERIES, 0)
        records = go(Provider(FIVE_SHOTS), draws=1, shots=[8]).records()
        assert (records["status"] == "ok").all()
        assert set(records["shots_used"]) == {5}


@pytest.fixture
def one_dense(toy: Path) -> None:
    """Make one query longer than the others in bytes, and another in tokens."""
    path = toy / "data/toy/test.jsonl"
    text = path.read_text().replace("n 105", "n 105 " + "or so".replace(" ", "-") * 9)
    path.write_text(text.replace("n 108", "n 108 a b c d e"))


FOUR_SHOTS = 4 + 4 * 4 + 8 + 3  # with the dense query; with any other six fit


@pytest.mark.usefixtures("toy", "one_dense")
class TestAnotherIsTheLongest:
    """The provider refuses a query that was not thought to be the longest, when others are answered
    already.
    """

    def test_the_whole_cell_goes_down_to_the_shots_that_the_refused_query_has_room_for(
        self,
    ) -> None:
        model = Provider(FOUR_SHOTS)
        records = go(model, shots=[2, 5, 6, 16], draws=2).records(shot_ids=True)
        assert (records["status"] == "ok").all()
        assert records.groupby("shots")["shots_used"].unique().map(list).to_dict() == {
            2: [2],
            5: [4],
            6: [4],
            16: [4],
        }
        assert all(
            map(lambda used, ids: len(ids) == used, records["shots_used"], records["shot_ids"])
        )
        assert records["cost_usd"].sum() == model.paid, "what was answered in vain is paid for, too"
        assert max(Counter(model.asked).values()) == 2, "once in each draw"

    @pytest.mark.slow
    def test_copies_of_another_line_do_not_keep_shots_that_the_rest_of_the_cell_cannot_have(
        self,
    ) -> None:
        go(Provider(100), shots=[5], draws=1)  # that provider took all five
        database = sqlite3.connect("out/records.db")
        database.execute(
            "UPDATE cells SET draw = 1"
        )  # as of another line: the same words behind the same prefix
        database.execute("DELETE FROM records WHERE query_id IN ('test105', 'test108')")
        database.commit()
        database.close()
        records = go(Provider(FOUR_SHOTS), shots=[5], draws=1).records()
        records = records[records["draw"] == 0]
        assert set(records["shots_used"]) == {4}
        assert (records["status"] == "ok").all()

    def test_a_batch_keeps_a_cell_at_one_count_too(self) -> None:
        model = Provider(FOUR_SHOTS)
        records = TestAllAtOnce().walk(model, shots=[2, 5, 16], draws=1).records()
        assert set(zip(records["shots"], records["shots_used"], strict=True)) == {
            (2, 2),
            (5, 4),
            (16, 4),
        }
        assert records["cost_usd"].sum() == model.paid

    @pytest.mark.slow
    @pytest.mark.parametrize("n", range(1, 26))
    def test_a_run_left_at_any_moment_shows_one_count_and_goes_on_to_the_same_records(
        self, n
    ) -> None:
        class Stopped(Provider):
            def say(self, prompt: Prompt) -> str:
                if len(self.asked) == n:
                    raise AccountError("stopped")
                return super().say(prompt)

        whole = go(Provider(FOUR_SHOTS), out="whole", shots=[6], draws=1).records()
        first, second = Stopped(FOUR_SHOTS), Provider(FOUR_SHOTS)
        with pytest.raises(AccountError):
            go(first, shots=[6], draws=1)
        left = icl_harness.Run("out").records()
        assert left[left["status"] == "ok"]["shots_used"].nunique() <= 1
        assert left["cost_usd"].sum() == first.paid
        records = go(second, shots=[6], draws=1).records()
        same = ["query_id", "shots_used", "node_hash", "answer", "score", "status"]
        assert records[same].equals(whole[same])
        assert records["cost_usd"].sum() == first.paid + second.paid

    def test_skip_leaves_the_whole_cell_out_and_error_stops(self) -> None:
        model = Provider(FOUR_SHOTS)
        records = go(model, shots=[2, 5], draws=1, on_overflow="skip").records()
        assert records.groupby("shots")["status"].unique().map(list).to_dict() == {
            2: ["ok"],
            5: ["overflow"],
        }
        assert records["cost_usd"].sum() == model.paid
        with pytest.raises(SpecError, match="5 shots do not fit"):
            go(Provider(FOUR_SHOTS), out="error", shots=[2, 5], draws=1, on_overflow="error")

    @pytest.mark.slow
    def test_the_progress_ends_at_its_whole(self) -> None:
        seen = []
        for policy in ("drop", "skip"):
            go(
                Provider(FOUR_SHOTS),
                out=policy,
                shots=[2, 5, 16],
                draws=1,
                on_overflow=policy,
                watch=seen.append,
            )
            assert (seen[-1].queries_done, seen[-1].cells_done) == (
                seen[-1].queries,
                seen[-1].cells,
            )

    def test_the_longest_is_that_of_the_most_bytes(self, toy: Path) -> None:
        path = toy / "data/toy/test.jsonl"
        path.write_text(path.read_text().replace("n 107", "n 107 " + "\u4e00" * 30))
        model = Provider(1000)
        go(model, shots=[2], draws=1)
        assert model.asked[0] == (2, "test107")


class Charging(Provider):
    """A provider that charges for what fails, too."""

    def __init__(self, fails: Callable[[Prompt], bool], most_words: int = 10_000) -> None:
        super().__init__(most_words)
        self.fails = fails

    async def answers(self, node, queries, sampling):
        by_id = {query.id: query for query in queries}
        async for answers in super().answers(node, queries, sampling):
            yield [self.cut(a, Prompt(node, by_id[a.query_id])) for a in answers]

    def cut(self, answer: Answer, prompt: Prompt) -> Answer:
        if answer.status != "ok" or not self.fails(prompt):
            return answer
        return replace(answer, status="failed", text=None, error="cut off while thinking", n_lost=1)


@pytest.mark.usefixtures("toy")
class TestPaidInVain:
    @pytest.mark.slow
    @pytest.mark.parametrize("n", [1, 5])
    def test_the_records_sum_up_to_the_bill_whatever_failed_and_was_asked_again(self, n) -> None:
        paid, n_failed = 0, 0
        for fails in (lambda p: True, lambda p: "n 107" in p.query.text, lambda p: False):
            model = Charging(fails)
            model.reply = lambda p, model=model: model.say(
                Prompt(p.node, replace(p.query, input="n 1"))
            )
            records = go(model, draws=2, shots=[0, 4], queries_per_request=n).records()
            paid += model.paid
            n_failed += (records["status"] == "failed").sum()
            assert records["cost_usd"].sum() == pytest.approx(paid, rel=1e-12)
        assert (records["status"] == "ok").all()
        assert n_failed > len(records), "every query of the first run, and some of the second"

    @pytest.mark.parametrize("n", [1, 5])
    def test_a_search_that_fails_is_charged_once(self, n) -> None:
        model = Charging(lambda p: p.node.n_shots == 5)
        model.reply = lambda p: too_long_above(6, p)
        records = go(model, draws=1, shots=[8], queries_per_request=n).records()
        assert (records["status"] == "failed").all()
        assert records["cost_usd"].sum() == pytest.approx(model.paid, rel=1e-12)
        assert records["n_lost"].sum() == 1


def too_long_above(shots: int, prompt: Prompt) -> str:
    if prompt.node.n_shots > shots:
        raise ContextOverflow("prompt is too long")
    return " even"


@pytest.mark.usefixtures("toy")
class TestTheSameQueryTwice:
    @pytest.fixture(autouse=True)
    def three_texts(self, toy: Path) -> None:
        path = toy / "data/toy/test.jsonl"
        path.write_text(
            re.sub(
                r'"n 1(\d\d)"',
                lambda match: f'"n {100 + int(match[1]) % 4 // 2 * 2}"',
                path.read_text(),
            )
        )

    def test_a_greedy_prompt_is_asked_once_within_a_cell_too(self) -> None:
        listener = Listener()
        records = go(ScriptedModel(listener), draws=2).records()
        assert max(Counter(listener.texts).values()) == 1
        assert (records["status"] == "ok").all()
        assert len(records) == 3 * 2 * N_QUERIES
        assert (~records["reused"]).sum() == len(listener.texts)

    def test_a_copy_is_scored_by_its_own_gold_answer(self) -> None:
        go(ScriptedModel(lambda p: " even"), shots=[2], draws=1)
        scores = icl_harness.Run("out").records().set_index("query_id")["score"]
        assert scores.to_dict() == {
            f"test{i}": float(i % 2 == 0) for i in range(100, 100 + N_QUERIES)
        }

    @pytest.mark.slow
    def test_where_the_first_fails_each_of_the_others_is_asked(self) -> None:
        def once(prompt: Prompt) -> str:
            if prompt.query.id == "test100":
                raise ProviderError("503")
            return right(prompt)

        records = go(ScriptedModel(once), shots=[2], draws=1).records()
        assert records[records["status"] == "failed"]["query_id"].tolist() == ["test100"]
        listener = Listener()
        assert (go(ScriptedModel(listener), shots=[2], draws=1).records()["status"] == "ok").all()
        assert listener.texts == [], "it is copied now"

    def test_sampled_answers_are_asked_for_each(self) -> None:
        listener = Listener()
        go(ScriptedModel(listener), shots=[2], draws=1, temperature=0.7)
        assert len(listener.texts) == N_QUERIES


class Chatty(ScriptedModel):
    """A model that takes turns."""

    def __init__(self, reply, **options) -> None:
        super().__init__(reply, **options)
        self.capabilities = replace(self.capabilities, chat=True)


@pytest.mark.usefixtures("toy")
class TestChat:
    @pytest.mark.slow
    def test_a_chat_asks_the_same_shots_of_the_same_queries_in_turns(self) -> None:
        listener = Listener()
        chat = go(
            Chatty(listener), format="chat", draws=1, modes=["supervised", "unsupervised"]
        ).records(shot_ids=True)
        text = go(
            ScriptedModel(right), out="text", draws=1, modes=["supervised", "unsupervised"]
        ).records(shot_ids=True)
        same = ["mode", "shots", "draw", "query_id", "shot_ids", "score"]
        assert chat[same].equals(text[same])
        assert set(chat["node_hash"]).isdisjoint(text["node_hash"])
        roles = {
            tuple(edge.role for edge in p.node.path)
            for p in listener.prompts
            if p.node.mode == "supervised"
        }
        assert roles == {("system", *("user", "assistant") * k) for k in (0, 2, 8)}
        longest = [p.node for p in listener.prompts if p.node.n_shots == 8]
        cuts = {tuple(edge.n_shots for edge in node.path if edge.cut) for node in longest}
        assert cuts == {(0, 2, 8), (0, 2, 8, 8)}, (
            "in unsupervised mode before and behind the format block"
        )

    def test_show_gives_a_chats_turns(self) -> None:
        listener = Listener()
        run = go(Chatty(listener), format="chat", draws=1, shots=[1])
        store = RunStore.open(run.path)
        sent = [one.text for one in store.find("test103")]
        store.close()
        assert sent == [p.text for p in listener.prompts if p.query.id == "test103"]
        assert "\n\n[assistant]\n" in sent[0]
        assert sent[0].endswith("\n\n[user]\nn 103 ->")

    def test_a_model_without_turns_is_refused_with_the_remedy(self) -> None:
        with pytest.raises(
            SpecError, match=r"scripted has no chat template\. Use --format text; a local model"
        ):
            go(ScriptedModel(right), format="chat")
        assert not Path("out").exists()

    def test_a_bank_is_asked_in_turns_too(self) -> None:
        listener = Listener()
        go(Chatty(listener), format="chat", modes=["reinforced"], shots=[2], draws=1, bank_shots=3)
        asked = {p.node.n_shots: [e.role for e in p.node.path] for p in listener.prompts}
        assert asked == {k: ["system", *["user", "assistant"] * k] for k in (3, 2)}

    @pytest.mark.slow
    def test_a_chat_and_its_text_are_compared_on_the_same_draws_and_queries(self) -> None:
        go(Chatty(right), out="a", format="chat")
        go(Chatty(lambda p: " odd"), out="b")
        records = load_runs([Path("a"), Path("b")])[1].table()
        found = compare(records, by="format")
        assert found[["a", "b"]].drop_duplicates().values.tolist() == [["chat", "text"]]
        assert found["b_minus_a"].tolist() == [-0.5, -0.5, -0.5]


def answer_all(prompt: Prompt) -> str:
    """Answer every numbered query of a group."""
    asked = re.findall(r"^(\d+): n (\d+) ->$", prompt.query.text, re.MULTILINE)
    return "\n".join(f"{number}: {parity(int(n))}" for number, n in asked)


@pytest.mark.usefixtures("toy")
class TestGroups:
    def test_a_group_is_one_request_whose_answers_are_those_of_its_queries(self) -> None:
        listener = Listener(answer_all)
        records = go(ScriptedModel(listener), queries_per_request=5, draws=1).records()
        assert len(listener.prompts) == 3 * 3  # 12 queries in three requests
        assert len(records) == 3 * N_QUERIES
        assert (records["score"] == 1).all()
        assert set(records["queries_per_request"]) == {5}
        words = sum(len(p.text.split()) for p in listener.prompts)
        assert records["prompt_tokens"].sum() == words, "each request is counted once"

    def test_a_missing_answer_is_unparsed_for_its_query_alone(self) -> None:
        def forgetful(prompt: Prompt) -> str:
            return "\n".join(
                line for line in answer_all(prompt).splitlines() if not line.startswith("2:")
            )

        run = go(ScriptedModel(forgetful), queries_per_request=4, draws=2, shots=[0, 2])
        records = run.records()
        unparsed = records[records["parsed"].isna()]
        assert set(unparsed["query_id"]) == {"test101", "test105", "test109"}
        assert (unparsed["status"] == "ok").all()
        assert (unparsed["score"] == 0).all()
        # At 0 shots the second draw has copies, which count once.
        assert run.curves()["n_unparsed"].tolist() == [3, 2 * 3]

    def test_an_unparsed_answer_is_copied_as_unparsed_whatever_the_reply_looks_like(self) -> None:
        records = go(
            ScriptedModel(lambda p: "even"), queries_per_request=4, draws=3, shots=[0]
        ).records()
        assert records["reused"].sum() == 2 * N_QUERIES
        assert records["parsed"].isna().all()
        assert (records["score"] == 0).all()

    @pytest.mark.slow
    def test_a_failed_group_is_missing_for_all_its_queries_and_asked_again_whole(self) -> None:
        def flaky(prompt: Prompt) -> str:
            if "n 105" in prompt.query.text:
                raise ProviderError("503")
            return answer_all(prompt)

        curve = go(ScriptedModel(flaky), queries_per_request=4, shots=[2], draws=1).curves().iloc[0]
        assert (curve["n_ok"], curve["n_failed"]) == (8, 4)
        listener = Listener(answer_all)
        curve = (
            go(ScriptedModel(listener), queries_per_request=4, shots=[2], draws=1).curves().iloc[0]
        )
        assert len(listener.prompts) == 1
        assert (curve["n_ok"], curve["value"]) == (N_QUERIES, 1.0)

    def test_show_gives_the_very_prompt_of_the_group(self) -> None:
        listener = Listener(answer_all)
        run = go(ScriptedModel(listener), queries_per_request=5, draws=1, shots=[2])
        store = RunStore.open(run.path)
        assert [one.text for one in store.find("test107")] == [listener.texts[1]]
        store.close()

    def test_the_bank_is_asked_one_problem_at_a_time(self) -> None:
        listener = Listener(lambda p: right(p) if p.query.input else answer_all(p))
        records = go(
            ScriptedModel(listener), queries_per_request=6, modes=["reinforced"], shots=[2], draws=1
        ).records()
        assert sum(p.query.id.startswith("train") for p in listener.prompts) == 40 * 4
        assert (records["score"] == 1).all()

    def test_shots_that_the_provider_finds_too_many_are_dropped_for_the_whole_cell(self) -> None:
        def small(prompt: Prompt) -> str:
            if prompt.node.n_shots > 5:
                raise ContextOverflow("too long")
            return answer_all(prompt)

        records = go(ScriptedModel(small), queries_per_request=5, shots=[8], draws=1).records()
        assert set(records["shots_used"]) == {5}
        assert (records["score"] == 1).all()

    @pytest.mark.slow
    def test_a_told_window_must_hold_the_whole_group_and_all_its_answers(self) -> None:
        listener = Listener(answer_all)
        go(ScriptedModel(listener), out="wide", queries_per_request=5, shots=[0], draws=1)
        group = max(len(p.query.text.split()) for p in listener.prompts) + 5 * (
            4 + 8
        )  # the task's 4, 8 for a number
        model = ScriptedModel(answer_all, context_window=4 + 5 * 4 + group)
        records = go(model, queries_per_request=5, shots=[8], draws=1).records()
        assert set(records["shots_used"]) == {5}

    @pytest.mark.slow
    def test_with_and_without_groups_are_compared(self) -> None:
        go(ScriptedModel(right), out="one")
        go(ScriptedModel(answer_all), out="five", queries_per_request=5)
        found = compare(load_runs([Path("one"), Path("five")])[1].table(), by="queries_per_request")
        assert found[["a", "b"]].drop_duplicates().values.tolist() == [[1, 5]]
        # At 0 shots both draws have the same answers: their pairs count once.
        assert found["n_pairs"].tolist() == [N_QUERIES, 2 * N_QUERIES, 2 * N_QUERIES]


def half(prompt: Prompt) -> str:
    """Right about half of the pool, in words of its own; right about every query."""
    number = int(prompt.query.input.split()[1])
    return (
        f" {parity(number)} I say"
        if number >= 100 or number % 4 < 2
        else " odd"
        if number % 4 == 2
        else " even"
    )


@pytest.mark.usefixtures("toy")
class TestAllAtOnce:
    """Cells of a batch wait for each other only where they share a greedy prompt."""

    def walk(self, model: ScriptedModel, **options) -> icl_harness.Run:
        options = {
            "shots": [0, 2, 8],
            "draws": 3,
            "data": "data",
            "modes": ["supervised"],
            **options,
        }
        spec = Spec.from_dict({"tasks": "toy", "models": [model.id], **options}, "test")
        experiment = Experiment(spec, {model.id: model})
        experiment.batch = True  # a scripted model takes none; its cells are asked as if it did
        store = RunStore.create_or_resume(Path("batch"), experiment.header())
        try:
            run_experiment(experiment, store)
        finally:
            store.close()
        return icl_harness.Run("batch")

    def test_all_cells_are_underway_before_the_first_is_answered(self) -> None:
        started: list[str] = []

        class Batch(ScriptedModel):
            async def answers(self, node, queries, sampling):
                started.append(node.hash)
                async with asyncio.timeout(60):
                    while (
                        len(started) < 1 + 3 * 2
                    ):  # zero-shot of the first draw alone, and all other cells
                        await asyncio.sleep(0.001)
                async for answers in super().answers(node, queries, sampling):
                    yield answers

        records = self.walk(Batch(right)).records()
        assert len(started) == len(set(started)) == 7
        assert len(records) == 3 * 3 * N_QUERIES
        assert records["reused"].sum() == 2 * N_QUERIES

    @pytest.mark.slow
    def test_the_records_are_those_of_a_walk_in_turn(self) -> None:
        modes = ["supervised", "unsupervised", "reinforced"]
        once = self.walk(ScriptedModel(half), modes=modes, shots=[0, 2, 30, 40]).records()
        turn = go(ScriptedModel(half), modes=modes, shots=[0, 2, 30, 40], draws=3).records()
        assert once.drop(columns="latency_s").equals(turn.drop(columns="latency_s"))

    def test_a_bank_that_is_too_small_for_two_counts_is_asked_once_for_both(self) -> None:
        listener = Listener(half)
        self.walk(ScriptedModel(listener), modes=["reinforced"], shots=[30, 40], draws=1)
        assert max(Counter((p.text, p.query.sample) for p in listener.prompts).values()) == 1

    def test_other_lines_do_not_wait_for_a_bank_but_for_the_prompt_without_shots(self) -> None:
        order: list[tuple[str, int]] = []

        class Batch(ScriptedModel):
            async def answers(self, node, queries, sampling):
                if queries[0].id.startswith("train"):
                    async with asyncio.timeout(60):
                        while not any(mode == "supervised" for mode, _ in order):
                            await asyncio.sleep(0.001)
                order.append(
                    ("bank" if queries[0].id.startswith("train") else node.mode, node.n_shots)
                )
                async for answers in super().answers(node, queries, sampling):
                    yield answers

        self.walk(Batch(half), modes=["reinforced", "supervised"], shots=[0, 2], draws=1)
        assert order.index(("supervised", 2)) < order.index(("bank", 0))

    def test_shots_are_dropped_and_answers_of_the_batch_are_kept(self) -> None:
        model = Provider(FIVE_SHOTS)
        records = self.walk(model, shots=[2, 8, 16], draws=1).records()
        assert set(zip(records["shots"], records["shots_used"], strict=True)) == {
            (2, 2),
            (8, 5),
            (16, 5),
        }
        assert records["cost_usd"].sum() == model.paid

    def test_an_error_of_one_cell_stops_the_run_as_itself(self) -> None:
        def reply(prompt: Prompt) -> str:
            if prompt.node.n_shots == 8:
                raise AccountError("the key was refused")
            return right(prompt)

        with pytest.raises(AccountError, match="the key was refused"):
            self.walk(ScriptedModel(reply))
