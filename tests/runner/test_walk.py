"""The walk: nested prompts, nothing asked twice, failures missing, overflow by whole shots."""

import json
import sqlite3
import subprocess
import sys
import textwrap
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

import icl_harness
from icl_harness import Prompt, ScriptedModel
from icl_harness.errors import AccountError, ContextOverflow, ProviderError, SpecError, StoreError
from icl_harness.report.run import load_runs
from icl_harness.runner.banks import bank_usd
from icl_harness.store.records import RunStore
from tests.conftest import N_QUERIES, parity


def right(prompt: Prompt) -> str:
    return " " + parity(int(prompt.query.input.split()[1]))


class Listener:
    """A scripted reply that keeps every prompt it was asked."""

    def __init__(self, reply=right) -> None:
        self.prompts: list[Prompt] = []
        self.reply = reply

    def __call__(self, prompt: Prompt) -> str:
        self.prompts.append(prompt)
        return self.reply(prompt)

    @property
    def texts(self) -> list[str]:
        return [p.text for p in self.prompts]


def go(model, out="out", **options):
    options = {"modes": ["supervised"], "shots": [0, 2, 8], "draws": 2, "data": "data", **options}
    return icl_harness.run("toy", model, out=out, **options)


@pytest.mark.usefixtures("toy")
class TestWalk:
    def test_every_cell_asks_every_query_and_scores_it(self) -> None:
        records = go(ScriptedModel(right), modes=["supervised", "unsupervised"]).records()
        assert len(records) == 2 * 3 * 2 * N_QUERIES
        assert (records["score"] == 1).all()
        assert (records["shots_used"] == records["shots"]).all()

    def test_draws_are_nested_and_each_prompt_is_the_path_of_its_shots(self) -> None:
        listener = Listener()
        records = go(ScriptedModel(listener), draws=1).records(shot_ids=True)
        by_shots = {k: part["shot_ids"].iloc[0] for k, part in records.groupby("shots")}
        assert by_shots[8][:2] == by_shots[2]
        assert len(set(by_shots[8])) == 8
        longest = max(listener.texts, key=len)
        shown = "".join(f"n {i[5:]} -> {parity(int(i[5:]))}\n" for i in by_shots[8])
        assert longest.startswith("Even or odd? (supervised)\n" + shown + "n 1")
        assert longest.endswith(" ->")

    def test_unsupervised_prompts_show_no_answer_before_the_fixed_block(self) -> None:
        listener = Listener()
        go(ScriptedModel(listener), modes=["unsupervised"], draws=1, worked=2)
        blocks = {
            text.partition("Answer even or odd.\n")[2].rpartition("n 1")[0]
            for text in listener.texts
        }
        assert len(blocks) == 1, "the worked examples stay the same as K grows"
        worked = blocks.pop()
        assert worked.count("->") == 2
        for text in listener.texts:
            inputs = text.partition("Answer even or odd.\n")[0].partition("\n")[2]
            assert "even" not in inputs
            assert "odd" not in inputs
            for line in worked.splitlines():
                assert line.split(" ->")[0] + "\n" not in inputs

    def test_the_same_greedy_prompt_is_asked_once_a_run(self) -> None:
        listener = Listener()
        records = go(ScriptedModel(listener), draws=3).records()
        assert max(Counter(listener.texts).values()) == 1
        zero = records[records["shots"] == 0]
        assert len(zero) == 3 * N_QUERIES
        assert zero["reused"].sum() == 2 * N_QUERIES

    def test_sampled_answers_are_not_copied(self) -> None:
        listener = Listener()
        go(ScriptedModel(listener), draws=3, shots=[0], temperature=0.7)
        assert len(listener.texts) == 3 * N_QUERIES
        assert len({p.query.seed for p in listener.prompts}) == 3 * N_QUERIES

    def test_a_variant_maps_the_labels_shown_and_scored(self) -> None:
        listener = Listener()
        run = go(ScriptedModel(listener), variants=["flipped"], shots=[4], draws=1)
        shown = {line for text in listener.texts for line in text.splitlines()[1:-1]}
        assert all(line.endswith(parity(int(line.split()[1]) + 1)) for line in shown)
        assert run.curves()["value"].tolist() == [0.0]

    @pytest.mark.slow
    def test_the_same_command_asks_nothing_more_and_changes_nothing(self) -> None:
        first = go(ScriptedModel(right)).records()
        silent = Listener()
        again = go(ScriptedModel(silent)).records()
        assert silent.texts == []
        assert first.equals(again)

    def test_a_run_in_a_notebook_with_a_running_loop(self) -> None:
        import asyncio

        async def cell():
            return go(ScriptedModel(right), shots=[0], draws=1)

        assert len(asyncio.run(cell()).records()) == N_QUERIES

    @pytest.mark.slow
    def test_ctrl_c_in_a_notebook_stops_the_asking(self, toy: Path) -> None:
        cell = """
            import asyncio, signal, threading
            import icl_harness

            asked = []

            def reply(prompt):
                asked.append(prompt)
                if len(asked) == 3:
                    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
                return " even"

            class Slow(icl_harness.ScriptedModel):
                async def answers(self, node, queries, sampling):
                    async for answers in super().answers(node, queries, sampling):
                        await asyncio.sleep(20 if len(asked) == 3 else 0)
                        yield answers

            async def notebook():
                try:
                    grid = {"data": "data", "modes": ["supervised"], "shots": [0, 2, 8]}
                    icl_harness.run("toy", Slow(reply), out="out", **grid)
                except KeyboardInterrupt:
                    print("stopped", threading.active_count(), len(asked))

            signal.signal(signal.SIGINT, signal.default_int_handler)
            asyncio.new_event_loop().run_until_complete(notebook())
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(cell)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.split() == ["stopped", "1", "3"]
        assert len(icl_harness.Run("out").records()) == 2, "what was answered is kept"
        assert len(go(ScriptedModel(right), draws=3).records()) == 3 * 3 * N_QUERIES

    @pytest.mark.slow
    def test_show_gives_the_very_prompt_that_was_sent(self) -> None:
        listener = Listener()
        run = go(ScriptedModel(listener), draws=1, modes=["supervised", "unsupervised"])
        store = RunStore.open(run.path)
        sent = {one.text for one in store.find("test103")}
        store.close()
        assert sent == {p.text for p in listener.prompts if p.query.id == "test103"}
        assert len(sent) == 6


@pytest.mark.usefixtures("toy")
class TestFaults:
    @pytest.mark.slow
    def test_a_failed_request_is_missing_and_asked_again(self) -> None:
        def flaky(prompt: Prompt) -> str:
            if prompt.query.id == "test105":
                raise ProviderError("503 from the server")
            return right(prompt)

        curve = go(ScriptedModel(flaky), shots=[2], draws=1).curves().iloc[0]
        assert (curve["value"], curve["n_ok"], curve["n_failed"]) == (1.0, N_QUERIES - 1, 1)
        listener = Listener()
        curve = go(ScriptedModel(listener), shots=[2], draws=1).curves().iloc[0]
        assert [p.query.id for p in listener.prompts] == ["test105"]
        assert (curve["n_ok"], curve["n_failed"]) == (N_QUERIES, 0)

    def test_an_answer_that_cannot_be_parsed_is_wrong_and_counted(self) -> None:
        curve = go(ScriptedModel(lambda p: "maybe"), shots=[2], draws=1).curves().iloc[0]
        assert (curve["value"], curve["n_ok"], curve["n_unparsed"]) == (0.0, N_QUERIES, N_QUERIES)

    @pytest.mark.slow
    def test_a_refused_request_is_missing_counted_and_not_asked_again(self) -> None:
        class Strict(ScriptedModel):
            async def answers(self, node, queries, sampling):
                async for answers in super().answers(node, queries, sampling):
                    yield [
                        replace(a, status="refused", text=None, error="the filter")
                        if a.query_id == "test105"
                        else a
                        for a in answers
                    ]

        curve = go(Strict(right), shots=[2], draws=1).curves().iloc[0]
        assert (curve["value"], curve["n_ok"], curve["n_refused"], curve["n_failed"]) == (
            1.0,
            N_QUERIES - 1,
            1,
            0,
        )
        silent = Listener()
        go(Strict(silent), shots=[2], draws=1)
        assert silent.texts == []

    def test_a_refused_key_stops_the_run_and_keeps_what_was_answered(self) -> None:
        def reply(prompt: Prompt) -> str:
            if prompt.node.n_shots == 8:
                raise AccountError("the key was refused")
            return right(prompt)

        with pytest.raises(AccountError):
            go(ScriptedModel(reply), draws=1)
        assert len(icl_harness.Run("out").records()) == 2 * N_QUERIES
        assert len(icl_harness.Run("out").curves()) == 2  # an unfinished run is read like any other

    def test_a_back_end_that_answers_twice_is_counted_once(self) -> None:
        class Eager(ScriptedModel):
            async def answers(self, node, queries, sampling):
                async for answers in super().answers(node, queries, sampling):
                    yield answers
                    yield [replace(a, text="another") for a in answers]

        curve = go(Eager(right), shots=[2], draws=1).curves().iloc[0]
        assert (curve["n_ok"], curve["value"]) == (N_QUERIES, 1.0)

    def test_a_back_end_that_leaves_a_query_out_gives_a_failed_record(self) -> None:
        class Forgetful(ScriptedModel):
            def answers(self, node, queries, sampling):
                return super().answers(node, queries[1:], sampling)

        curve = go(Forgetful(right), shots=[2], draws=1).curves().iloc[0]
        assert (curve["n_ok"], curve["n_failed"]) == (N_QUERIES - 1, 1)


@pytest.mark.usefixtures("toy")
class TestOverflow:
    # ScriptedModel counts words: preamble 4, shot 4, query 3, answer 4 (the task's max_tokens).
    def model(self) -> ScriptedModel:
        return ScriptedModel(right, context_window=4 + 3 + 4 + 5 * 4)

    def test_drop_uses_the_whole_shots_that_fit(self) -> None:
        records = go(self.model(), on_overflow="drop").records()
        assert records.groupby("shots")["shots_used"].unique().map(list).to_dict() == {
            0: [0],
            2: [2],
            8: [5],
        }
        assert (records["status"] == "ok").all()

    def test_skip_records_the_cell_as_overflow(self) -> None:
        curves = go(self.model(), on_overflow="skip").curves().set_index("shots")
        assert curves["n_overflow"].to_dict() == {0: 0, 2: 0, 8: 2 * N_QUERIES}

    def test_error_refuses_before_anything_is_asked_or_written(self) -> None:
        listener = Listener()
        model = ScriptedModel(listener, context_window=31)
        with pytest.raises(
            SpecError, match="8 shots do not fit into the 31 tokens of scripted; 5 shots fit"
        ):
            go(model, on_overflow="error")
        assert listener.texts == []
        assert not Path("out").exists()

    def test_a_query_that_does_not_fit_at_all_is_overflow(self) -> None:
        curves = go(ScriptedModel(right, context_window=9), shots=[0, 2]).curves()
        assert (curves["n_overflow"] == 2 * N_QUERIES).all()


@pytest.mark.usefixtures("toy")
class TestReinforced:
    def half(self, prompt: Prompt) -> str:
        """Right about half of the pool, in words of its own; right about every query."""
        number = int(prompt.query.input.split()[1])
        return (
            f" {parity(number)} I say"
            if number >= 100 or number % 4 < 2
            else " odd"
            if number % 4 == 2
            else " even"
        )

    @pytest.mark.slow
    def test_the_bank_holds_every_attempt_and_caps_the_shots(self) -> None:
        listener = Listener(self.half)
        run = go(
            ScriptedModel(listener), modes=["reinforced"], shots=[4, 40], draws=1, bank_samples=3
        )
        lines = [
            json.loads(line)
            for line in next(run.path.glob("banks/*.jsonl")).read_text().splitlines()
        ]
        assert len(lines) == 40 * 3
        assert sum(line["kept"] for line in lines) == 20
        records = run.records()
        assert records.groupby("shots")["shots_used"].first().to_dict() == {4: 4, 40: 20}
        longest = max(listener.texts, key=len)
        assert longest.count(" I say\n") == 20, "shots are the model's words, not the gold answers"

    @pytest.mark.slow
    def test_the_bank_is_sampled_with_its_own_seeds_and_made_once(self) -> None:
        listener = Listener(self.half)
        go(ScriptedModel(listener), modes=["reinforced"], shots=[4], draws=3, variants=["default"])
        asks = [p for p in listener.prompts if p.query.id.startswith("train")]
        assert len(asks) == 40 * 4
        assert len({p.query.seed for p in asks}) == 40 * 4

    def test_source_shots_are_no_problems_of_the_bank(self) -> None:
        listener = Listener(self.half)
        go(
            ScriptedModel(listener),
            modes=["reinforced"],
            shots=[4],
            draws=1,
            bank_shots=6,
            bank_samples=1,
        )
        asks = [p for p in listener.prompts if p.query.id.startswith("train")]
        source = {shot.id for shot in asks[0].node.shots}
        assert len(source) == 6
        assert {p.query.id for p in asks}.isdisjoint(source)
        assert len(asks) == 34

    @pytest.mark.slow
    def test_a_bank_of_an_earlier_run_serves_again(self) -> None:
        first = go(ScriptedModel(self.half), out="first", modes=["reinforced"], shots=[4], draws=1)
        listener = Listener(self.half)
        again = go(
            ScriptedModel(listener),
            out="again",
            modes=["reinforced"],
            shots=[4],
            draws=1,
            bank="first",
        )
        assert all(not p.query.id.startswith("train") for p in listener.prompts)
        assert first.records()["node_hash"].tolist() == again.records()["node_hash"].tolist()
        with pytest.raises(StoreError, match="--bank nowhere: there is no such folder or file"):
            go(
                ScriptedModel(right),
                out="third",
                modes=["reinforced"],
                shots=[4],
                draws=1,
                bank="nowhere",
            )

    @pytest.mark.slow
    def test_a_bank_whose_requests_failed_goes_on_where_it_was(self) -> None:
        def flaky(prompt: Prompt) -> str:
            if prompt.query.id == "train7":
                raise ProviderError("503")
            return right(prompt)

        with pytest.raises(ProviderError, match="4 of 160 requests for the bank failed"):
            go(ScriptedModel(flaky), modes=["reinforced"], shots=[4], draws=1)
        listener = Listener()
        go(ScriptedModel(listener), modes=["reinforced"], shots=[4], draws=1)
        assert Counter(p.query.id for p in listener.prompts if p.query.id.startswith("train")) == {
            "train7": 4
        }

    @pytest.mark.slow
    def test_what_failed_attempts_cost_is_in_the_sum_before_and_after_they_are_made_again(
        self,
    ) -> None:
        class Dear(ScriptedModel):
            def __init__(self, fails: set[str]) -> None:
                super().__init__(right)
                self.fails, self.paid = fails, 0

            async def answers(self, node, queries, sampling):
                async for answers in super().answers(node, queries, sampling):
                    for answer in answers:
                        self.paid += 1
                        usage = replace(answer.usage, cost_usd=1.0)
                        cut = {"status": "failed", "text": None, "error": "cut off"}
                        yield [
                            replace(
                                answer,
                                usage=usage,
                                **(cut if answer.query_id in self.fails else {}),
                            )
                        ]

        model, bank = (
            Dear({"train7", "train9"}),
            {"modes": ["reinforced"], "shots": [40], "draws": 1},
        )
        for fails in ({"train7", "train9"}, {"train7"}):
            model.fails = fails
            with pytest.raises(
                ProviderError, match=f"{4 * len(fails)} of .* requests for the bank failed"
            ):
                go(model, **bank)
            experiment = SimpleNamespace(spec=SimpleNamespace(bank=None))
            assert bank_usd(experiment, Path("out")) == model.paid
        model.fails = set()
        records = go(model, **bank).records()
        assert bank_usd(experiment, Path("out")) + records["cost_usd"].sum() == model.paid
        assert set(records["shots_used"]) == {40}, "an attempt that failed is no attempt"
        assert model.paid == 160 + 8 + 4 + N_QUERIES

    def test_a_problem_that_can_never_be_answered_is_an_unsolved_one(self) -> None:
        def reply(prompt: Prompt) -> str:
            if prompt.query.id == "train7":
                raise ContextOverflow("too long")
            return right(prompt)

        run = go(ScriptedModel(reply), modes=["reinforced"], shots=[40], draws=1)
        lines = [
            json.loads(line)
            for line in next(run.path.glob("banks/*.jsonl")).read_text().splitlines()
        ]
        assert [line["error"] for line in lines if line["id"] == "train7"] == ["too long"] * 4
        assert set(run.records()["shots_used"]) == {39}

    def test_a_bank_of_other_problems_is_refused_before_anything_is_written(
        self, toy: Path
    ) -> None:
        go(ScriptedModel(self.half), out="first", modes=["reinforced"], shots=[4], draws=1)
        path = toy / "data/toy/train.jsonl"
        path.write_text(path.read_text().replace('"n 0"', '"n 200"'))
        with pytest.raises(
            StoreError, match=r"was made from other problems \(train0 is another problem there\)"
        ):
            go(
                ScriptedModel(right),
                out="second",
                modes=["reinforced"],
                shots=[4],
                draws=1,
                bank="first",
            )
        assert not Path("second").exists()

    @pytest.mark.slow
    def test_models_whose_names_look_alike_have_a_bank_each(self) -> None:
        models = [ScriptedModel(self.half, id=name) for name in ("x/a-b", "x/a_b")]
        run = icl_harness.run(
            "toy", models, out="out", data="data", modes=["reinforced"], shots=[4], draws=1
        )
        assert len(list(run.path.glob("banks/*.jsonl"))) == 2

    @pytest.mark.slow
    @pytest.mark.parametrize("ending", [".jsonl", ".partial"])
    def test_a_folder_with_banks_beside_its_records_goes_on_there(self, ending: str) -> None:
        reinforced = {"modes": ["reinforced"], "draws": 1}
        run = go(ScriptedModel(self.half), **reinforced, shots=[4])
        [bank] = run.path.glob("banks/*.jsonl")
        content = bank.read_bytes()
        bank.rename((run.path / bank.name).with_suffix(ending))
        bank.parent.rmdir()
        go(ScriptedModel(self.half), **reinforced, shots=[4])
        again = go(ScriptedModel(self.half), **reinforced, shots=[4], out="again", bank="out")
        assert not bank.parent.exists()
        assert (run.path / bank.name).read_bytes() == content
        assert (again.path / "banks" / bank.name).read_bytes() == content

    def test_a_bank_counts_what_its_attempts_cost(self) -> None:
        run = go(ScriptedModel(self.half), modes=["reinforced"], shots=[4], draws=1)
        lines = [
            json.loads(line)
            for line in next(run.path.glob("banks/*.jsonl")).read_text().splitlines()
        ]
        assert all(line["prompt_tokens"] > 0 and line["completion_tokens"] > 0 for line in lines)


@pytest.mark.usefixtures("toy")
class TestRefusals:
    @pytest.mark.slow
    def test_another_wording_of_the_task_is_another_run(self, toy: Path) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        for name, old, new in (
            ("prompts/toy.jinja", "Even or odd?", "Odd or even?"),
            ("tasks/toy.py", "max_tokens=4", "max_tokens=5"),
            ("tasks/toy.py", "max_tokens=4", "max_tokens=4, stop=('x',)"),
            ("tasks/toy.py", "max_tokens=4", "max_tokens=4, fields={'a': 1}"),
        ):
            whole = (toy / name).read_text()
            (toy / name).write_text(whole.replace(old, new))
            with pytest.raises(StoreError, match="a run of another wording of toy"):
                go(ScriptedModel(right), shots=[0], draws=1)
            (toy / name).write_text(whole)
        go(ScriptedModel(right), shots=[0], draws=1)

    @pytest.mark.slow
    def test_another_scoring_of_the_task_names_the_command_that_scores_again(
        self, toy: Path
    ) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        for old, new in (
            ("max_tokens=4", "max_tokens=4, metric='macro_f1'"),
            ("scorer=label_match", "scorer=lambda a, e: label_match(a, e)"),
            ("max_tokens=4", "max_tokens=4, reward=lambda a, e: label_match(a + 'x', e)"),
        ):
            whole = (toy / "tasks/toy.py").read_text()
            (toy / "tasks/toy.py").write_text(whole.replace(old, new))
            with pytest.raises(StoreError, match="Run `icl rescore out`") as caught:
                go(ScriptedModel(right), shots=[0], draws=1)
            assert "how answers to toy are scored has changed" in str(caught.value)
            (toy / "tasks/toy.py").write_text(whole)
        go(ScriptedModel(right), shots=[0], draws=1)

    def test_other_weights_under_the_same_name_are_another_run(self) -> None:
        class Weighty(ScriptedModel):
            def describe(self):
                return {"sha256": self.weights}

        model = Weighty(right)
        model.weights = "one"
        go(model, shots=[0], draws=1)
        model.weights = "two"
        with pytest.raises(StoreError, match="another model's weights: scripted"):
            go(model, shots=[0], draws=1)

    def test_a_damaged_run_is_told_in_one_line(self) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        for text in ("{", "[]", "{}", '{"spec": null}', "null"):
            Path("out/run.json").write_text(text)
            for call in (
                lambda: icl_harness.Run("out"),
                lambda: go(ScriptedModel(right), shots=[0], draws=1),
            ):
                with pytest.raises(StoreError, match=r"run.json is damaged"):
                    call()

    def test_a_damaged_or_foreign_database_is_told_in_one_line(self) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        Path("out/records.db").write_bytes(b"SQLite format 3\0" + b"x" * 5000)
        with pytest.raises(StoreError, match=r"records.db"):
            icl_harness.Run("out")
        Path("theirs").mkdir()
        other = sqlite3.connect("theirs/records.db")
        other.execute("CREATE TABLE mine (a)")
        other.close()
        with pytest.raises(StoreError, match=r"records.db is not a run's records"):
            go(ScriptedModel(right), out="theirs")
        assert Path("theirs/records.db").read_bytes()[18:20] == b"\1\1", (
            "another's file is not even set to WAL"
        )

    def test_more_shots_than_the_pool_holds(self) -> None:
        with pytest.raises(
            SpecError,
            match=r"toy has 40 pool examples; --shots asks for 5,000. Ask for at most 40\.",
        ):
            go(ScriptedModel(right), shots=[4, 5000])
        assert not Path("out").exists()

    def test_another_spec_into_the_same_folder_names_the_difference(self) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        with pytest.raises(
            StoreError, match=r"another spec: shots is \[0\] there and \[0, 2\] here"
        ):
            go(ScriptedModel(right), shots=[0, 2], draws=1)

    def test_other_data_under_the_same_spec_is_refused(self) -> None:
        go(ScriptedModel(right), shots=[0], draws=1)
        path = Path("data/toy/train.jsonl")
        path.write_text(path.read_text().replace("n 7", "n 77"))
        with pytest.raises(StoreError, match="other data of toy: its files have changed"):
            go(ScriptedModel(right), shots=[0], draws=1)

    def test_a_folder_with_other_things_in_it_is_left_alone(self) -> None:
        Path("out").mkdir()
        Path("out/thesis.tex").write_text("dear")
        with pytest.raises(
            StoreError, match=r"out is not empty and not a run folder \(it holds thesis.tex\)"
        ):
            go(ScriptedModel(right))
        assert [p.name for p in Path("out").iterdir()] == ["thesis.tex"]

    def test_two_runs_do_not_write_into_one_folder(self) -> None:
        def reply(prompt: Prompt) -> str:
            with pytest.raises(StoreError, match="is being written by another icl run"):
                go(ScriptedModel(right))
            return right(prompt)

        go(ScriptedModel(reply), shots=[0], draws=1, queries=1)


@pytest.mark.usefixtures("toy")
class TestPuttingRunsTogether:
    def load(self, *names: str):
        return load_runs([Path(name) for name in names])[1].table()

    @pytest.mark.slow
    def test_other_models_and_shots_go_together(self) -> None:
        go(ScriptedModel(right, id="one"), out="a")
        go(ScriptedModel(right, id="two"), out="b", shots=[4])
        assert len(self.load("a", "b")) == (3 + 1) * 2 * N_QUERIES

    def test_a_run_named_twice_counts_once(self) -> None:
        go(ScriptedModel(right), out="a")
        assert len(self.load("a", "./a")) == 3 * 2 * N_QUERIES

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"seed": 1}, "their draws of toy differ, as --seed does"),
            ({"pool": 20}, "their draws of toy differ, as --pool does"),
            ({}, "both hold the same cells"),
            (
                {"temperature": 0.5, "shots": [4]},
                r"the same curve, asked in different ways \(temperature\)",
            ),
        ],
    )
    def test_what_would_be_counted_wrong_is_refused(self, options, message) -> None:
        go(ScriptedModel(right), out="a")
        go(ScriptedModel(right), out="b", **options)
        with pytest.raises(StoreError, match=message):
            self.load("a", "b")

    @pytest.mark.slow
    def test_curves_of_other_wordings_or_weights_are_refused(self, toy: Path) -> None:
        go(ScriptedModel(right), out="a", shots=[0])
        prompts = toy / "prompts/toy.jinja"
        prompts.write_text(prompts.read_text().replace("Even or odd?", "Odd or even?"))
        go(ScriptedModel(right), out="b", shots=[2])
        with pytest.raises(StoreError, match=r"asked in different ways \(wording of toy\)"):
            self.load("a", "b")
