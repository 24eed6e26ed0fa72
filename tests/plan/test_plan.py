"""The plan: what a run will take, held against what it then took; and --max-cost."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pandas as pd
import pytest

from icl_harness import Run
from icl_harness.cli.app import main
from icl_harness.models.api.prices import Tokens, find_price
from tests.conftest import N_POOL, N_QUERIES, parity
from tests.models.api.apis import CLASSES, KEY
from tests.servers import Bill, LoopbackServer

ROOM = 4  # tokens of an answer: the toy's
PRICED = {
    "anthropic/claude-sonnet-4-5": "anthropic/claude-sonnet-4-5",
    "openai/gpt-5.6": "openai/gpt-5.6",  # explicit breakpoints, writes cost more
    "openai/gpt-4.1-mini": "openai/gpt-4.1-mini",  # automatic
    "google/gemini-2.5-flash": "google/gemini-2.5-flash",  # kept contents
}
COUNTING = ("input_tokens", "count_tokens", "countTokens")


def thirds(text: str) -> int:
    return len(text.encode()) // 3


def reply(prompt: str) -> str:
    return f" {parity(int(prompt.split()[-2]))}"


def n_prompt(bill: Bill) -> int:
    return bill.input + bill.cache_read + sum(bill.cache_write.values())


def billed(server: LoopbackServer, model: str) -> float:
    """Return the input dollars that the server charged."""
    price = find_price(*PRICED[model].split("/"))
    kinds = [
        Tokens(
            prompt=n_prompt(bill), cached=bill.cache_read, written=sum(bill.cache_write.values())
        )
        for bill in server.bill
    ]
    return sum(price.input_usd(tokens) for tokens in kinds)


def call(icl, command: str, server: LoopbackServer, model: str, *options: str):
    provider = model.partition("/")[0]
    if model in PRICED:
        options = (
            *options,
            "--model-arg",
            f"priced_as={PRICED[model]}",
            "--model-arg",
            "reasoning_tokens=0",
        )
    return icl(
        command,
        "toy",
        "--model",
        model,
        "--base-url",
        server.base_url(provider),
        "--data",
        "data",
        *options,
    )


def planned(icl, server: LoopbackServer, model: str, *options: str) -> pd.DataFrame:
    code, out, err = call(icl, "plan", server, model, *options, "--csv", "-")
    assert (code, err) == (0, "")
    return pd.read_csv(io.StringIO(out))


@pytest.fixture
def icl(toy, capfdbinary, monkeypatch):
    """Run the command line beside a toy whose shots take 1,000 tokens each; every provider has a
    key.
    """
    for cls in CLASSES.values():
        for name in (*cls.service.key_names, cls.service.base_url_name):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(cls.service.key_names[0], KEY)
    rows = [
        {"id": f"train{i}", "text": f"n {i} " + "a b c " * 500 + f"n {i}", "label": parity(i)}
        for i in range(N_POOL)
    ]
    (toy / "data/toy/train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))

    def command(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["icl", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        out, err = capfdbinary.readouterr()
        return int(caught.value.code or 0), out.decode(), err.decode()

    return command


GRID = ("--shots", "0,1,4,16", "--draws", "2")


class TestPlan:
    @pytest.mark.slow
    @pytest.mark.parametrize("model", PRICED)
    def test_it_foresees_the_tokens_and_the_dollars_that_the_run_then_takes(
        self, icl, model: str
    ) -> None:
        with LoopbackServer(
            reply, count=thirds, cache_minimum=2048 if "gemini" in model else 1024
        ) as server:
            plan = planned(icl, server, model, *GRID)
            assert all(request.path.endswith(COUNTING) for request in server.requests)
            assert len(server.requests) == 7  # nodes: one without shots, three in each of two draws
            code, _, err = call(icl, "run", server, model, *GRID)
        assert (code, err) == (0, "")
        assert plan["requests"].sum() == 7 * N_QUERIES
        assert plan["prompt_tokens"].sum() == pytest.approx(
            sum(map(n_prompt, server.bill)), rel=0.02
        )
        usd = plan["usd_cached"].sum()
        assert usd == pytest.approx(billed(server, model), rel=0.04)
        assert plan["usd_plain"].sum() > 2.5 * plan["usd_cached"].sum()
        assert plan["usd_batch"].sum() == pytest.approx(plan["usd_plain"].sum() / 2)
        assert (plan["completion_tokens"] == plan["requests"] * ROOM).all()

    @pytest.mark.slow
    @pytest.mark.parametrize("model", ["anthropic/claude-sonnet-4-5", "openai/gpt-5.6"])
    @pytest.mark.parametrize(
        "options",
        [
            ("--modes", "supervised,unsupervised"),
            ("--format", "chat"),
            ("--queries-per-request", "5"),
            ("--variants", "nearest=TFIDF"),
            ("--variants", "nearest=TFIDF", "--format", "chat"),
            ("--variants", "hybrid=8"),
        ],
        ids=["unsupervised", "chat", "groups", "own shots", "own turns", "hybrid"],
    )
    def test_it_foresees_other_prompts_as_well(
        self, icl, model: str, options: tuple[str, ...]
    ) -> None:
        with LoopbackServer(lambda prompt: "1: even", count=thirds) as server:
            plan = planned(icl, server, model, *GRID, *options)
            code, _, err = call(icl, "run", server, model, *GRID, *options)
        assert (code, err) == (0, "")
        assert plan["requests"].sum() == len(server.bill)
        usd = plan["usd_cached"].sum()
        assert usd == pytest.approx(billed(server, model), rel=0.04)

    @pytest.mark.slow
    def test_it_counts_what_a_run_left_and_costs_no_more_than_that(self, icl) -> None:
        model = "anthropic/claude-sonnet-4-5"
        with LoopbackServer(reply, count=thirds) as server:
            call(icl, "run", server, model, *GRID, "--out", "out")
            done, n_before = (
                planned(icl, server, model, *GRID, "--out", "out"),
                len(server.requests),
            )
            assert done["requests"].sum() == 0
            assert len(server.requests) == n_before
            code, _, err = call(icl, "plan", server, model, "--shots", "0,1", "--out", "out")
        assert code == 2
        assert "out holds a run of another spec" in err

    def test_it_writes_nothing(self, icl) -> None:
        before = sorted(map(str, Path().rglob("*")))
        with LoopbackServer(reply, count=thirds) as server:
            planned(icl, server, "openai/gpt-5.6", *GRID)
        assert sorted(map(str, Path().rglob("*"))) == before

    @pytest.mark.slow
    def test_shots_that_a_known_window_does_not_take_are_dropped_as_the_run_drops_them(
        self, icl
    ) -> None:
        grid = ("--shots", "0,4,16", "--draws", "1", "--model-arg", "context_window=6000")
        with LoopbackServer(reply, count=thirds, context_window=6000) as server:
            plan = planned(icl, server, "anthropic/claude-sonnet-4-5", *grid).set_index("shots")
            call(icl, "run", server, "anthropic/claude-sonnet-4-5", *grid, "--out", "out")
        assert (
            Run("out").records().groupby("shots")["shots_used"].max().to_dict()
            == plan["shots_used"].to_dict()
        )
        assert plan["fits"].to_dict() == {0: True, 4: True, 16: False}
        assert set(plan["window_source"]) == {"user"}

    @pytest.mark.slow
    def test_of_a_window_that_only_the_price_table_tells_it_foresees_what_the_provider_takes(
        self, icl
    ) -> None:
        grid = ("--shots", "0,4,16,32", "--draws", "1", "--model-arg", "priced_as=openai/gpt-4")
        with LoopbackServer(reply, count=thirds, context_window=8192) as server:
            plan = planned(icl, server, "openai/gpt-4", *grid).set_index("shots")
            call(icl, "run", server, "openai/gpt-4", *grid, "--out", "out")
        assert (
            Run("out").records().groupby("shots")["shots_used"].max().to_dict()
            == plan["shots_used"].to_dict()
        )
        assert plan["fits"].to_dict() == {0: True, 4: True, 16: False, 32: False}
        assert set(plan["window_source"]) == {"price table"}
        assert plan["requests"].tolist() == [N_QUERIES] * 3 + [
            0
        ]  # the last is the same prompt again

    def test_a_bank_that_is_to_be_made_is_a_row_and_its_shots_are_the_gold_answers(
        self, icl
    ) -> None:
        with LoopbackServer(reply, count=thirds) as server:
            plan = planned(
                icl,
                server,
                "anthropic/claude-sonnet-4-5",
                "--shots",
                "0,4",
                "--modes",
                "reinforced",
            )
        bank, cells = plan[plan["draw"].isna()], plan[plan["draw"].notna()]
        assert bank["requests"].tolist() == [4 * N_POOL]
        assert cells["requests"].sum() == 4 * N_QUERIES
        assert (
            cells[cells["shots"] == 4]["counted"]
            .str.endswith("gold answers for the model's own")
            .all()
        )

    def test_it_needs_no_key_and_says_that_it_estimates(self, icl, monkeypatch) -> None:
        for name in CLASSES["anthropic"].service.key_names:
            monkeypatch.delenv(name)
        code, out, err = icl(
            "plan", "toy", "--model", "anthropic/claude-sonnet-4-5", "--data", "data", *GRID
        )
        assert (code, err) == (0, "")
        assert "tokens of 7 of 7 cells: estimate: 3 bytes a token" in out
        assert "by the price table" in out
        assert "≈yes" in out
        assert "prompts: $" in out

    def test_the_table_sums_the_draws_and_tells_the_time_at_the_rates(self, icl) -> None:
        with LoopbackServer(reply, count=thirds) as server:
            code, out, _ = call(
                icl, "plan", server, "anthropic/claude-sonnet-4-5", *GRID, "--rpm", "6"
            )
        assert code == 0
        lines = [line.split() for line in out.splitlines()]
        assert ["supervised", "0", "12"] in [line[:3] for line in lines]
        assert ["16", "24"] in [line[:2] for line in lines]
        assert "7 cells · 84 requests" in out
        assert "14 min at the rates given" in out

    @pytest.mark.parametrize("model", PRICED)
    def test_the_time_is_that_of_the_tokens_which_the_provider_counts(
        self, icl, model: str
    ) -> None:
        with LoopbackServer(
            reply, count=thirds, cache_minimum=2048 if "gemini" in model else 1024
        ) as server:
            plan = planned(icl, server, model, *GRID, "--tpm", "60000")
        free = plan["cached_tokens"] if model.startswith("anthropic/") else 0
        assert plan["cached_tokens"].sum() > 10_000
        counted = plan["prompt_tokens"] - free + plan["completion_tokens"]
        assert plan["seconds"].sum() == pytest.approx(counted.sum() / 1000)

    def test_the_table_fits_into_100_columns_and_its_csv_into_a_new_folder(self, icl) -> None:
        with LoopbackServer(reply, count=thirds) as server:
            grid = (*GRID, "--modes", "supervised,unsupervised")
            out = call(icl, "plan", server, "anthropic/claude-sonnet-4-5", *grid)[1]
            code, *_ = call(
                icl, "plan", server, "anthropic/claude-sonnet-4-5", *grid, "--csv", "new/plan.csv"
            )
        lines = out.split("\n\n")[0].splitlines()
        assert lines[1].split("  ")[-4:] == ["$ cached", "$ plain", "$ batch", "$ answers"]
        assert max(map(len, lines)) <= 100
        assert code == 0
        assert len(pd.read_csv("new/plan.csv")) == 2 * 2 * 4

    def test_a_local_model_counts_its_tokens_and_costs_nothing(self, icl) -> None:
        code, out, err = icl("plan", "toy", "--model", "baseline/majority", "--data", "data", *GRID)
        assert (code, err) == (0, "")
        assert "$" not in out

    def test_it_takes_every_option_of_run(self, icl) -> None:
        said = {command: icl(command, "--help")[1] for command in ("run", "plan")}
        options = {
            command: {w for w in text.split() if w.startswith("--")}
            for command, text in said.items()
        }
        assert options["plan"] - options["run"] == {"--csv"}
        assert not options["run"] - options["plan"]
        assert len(options["run"]) > 25


class TestMaxCost:
    def test_a_plan_above_it_refuses_before_anything_is_asked_or_written(self, icl) -> None:
        with LoopbackServer(reply, count=thirds) as server:
            code, _, err = call(
                icl,
                "run",
                server,
                "anthropic/claude-sonnet-4-5",
                *GRID,
                "--max-cost",
                "0.01",
                "--out",
                "out",
            )
            assert all(request.path.endswith(COUNTING) for request in server.requests)
        assert code == 2
        assert err.count("\n") == 1
        assert err.startswith("icl: --max-cost is $0.01: the prompts alone take $")
        assert "Give more, or ask for less" in err
        assert not Path("out").exists()

    def test_without_a_price_it_refuses_and_names_the_remedy(self, icl) -> None:
        with LoopbackServer(reply) as server:
            code, _, err = call(icl, "run", server, "openai/some-model", *GRID, "--max-cost", "5")
            assert not server.requests
        assert code == 2
        assert "no price is known for openai/some-model" in err
        assert "priced_as=provider/model" in err

    @pytest.mark.slow
    def test_where_tokens_are_more_than_estimated_the_run_stops_before_passing_it_and_more_goes_on(
        self, icl
    ) -> None:
        """The server counts a token for each byte, three times the estimate."""
        options = (*GRID, "--out", "out", "--model-arg", "priced_as=openai/gpt-4.1-mini")
        with LoopbackServer(
            reply, count=lambda text: len(text.encode()), cache_minimum=10**9
        ) as server:
            plan = planned(icl, server, "openai/some-model", *options)
            most = round(plan["usd_cached"].sum() * 1.2, 4)
            code, _, err = call(
                icl, "run", server, "openai/some-model", *options, "--max-cost", str(most)
            )
            assert code == 1
            assert "caching does not take" in err.splitlines()[0]
            missed, line = err.splitlines()[1:]
            assert "18 of 18 requests that could read the cache missed it" in missed
            assert line.startswith("icl: --max-cost: $")
            assert line.endswith("Run the same command again to resume.")
            records = Run("out").records()
            assert 0.5 * most < records["cost_usd"].sum() <= most
            n_paid = len(server.bill)
            assert n_paid == (~records["reused"]).sum()
            code, *_ = call(
                icl, "run", server, "openai/some-model", *options, "--max-cost", str(10 * most)
            )
        assert code == 0
        assert len(Run("out").records()) == 8 * N_QUERIES
        assert len(server.bill) == 7 * N_QUERIES

    @pytest.mark.slow
    def test_what_a_run_has_spent_counts(self, icl) -> None:
        options = (
            "--shots",
            "0,4",
            "--modes",
            "reinforced",
            "--draws",
            "1",
            "--bank-samples",
            "1",
            "--out",
            "out",
        )
        model = "anthropic/claude-sonnet-4-5"
        with LoopbackServer(reply, count=thirds) as server:
            assert call(icl, "run", server, model, *options)[0] == 0
            code, out, _ = call(icl, "plan", server, model, *options)
            bank = [
                json.loads(line)
                for line in next(Path("out").glob("banks/*.jsonl")).read_text().splitlines()
            ]
            spent = Run("out").records()["cost_usd"].sum() + sum(
                attempt["cost_usd"] for attempt in bank
            )
            assert f"nothing is left to ask; ${spent:.4f} spent" in out
            code, _, err = call(
                icl, "run", server, model, *options, "--max-cost", f"{0.9 * spent:.5f}"
            )
        assert code == 2
        assert f"${spent:.4f} are spent and" in err


def test_a_plan_of_a_run_that_began_goes_by_the_tokens_of_its_own_answers(icl) -> None:
    model = "openai/gpt-4.1-mini"
    with LoopbackServer(reply, count=thirds) as server:
        server.n_reasoning = 3
        server.fail_next(*[None] * 3, *["invalid"] * 5)
        options = ("--shots", "0", "--draws", "1", "--out", "out", "--model-arg", "max_retries=0")
        assert call(icl, "run", server, model, *options)[0] == 1
        table = planned(icl, server, model, *options)
        _, out, _ = call(icl, "plan", server, model, *options)
    ok = Run("out").records().query("status == 'ok'")
    mean, n_left = ok["completion_tokens"].mean(), N_QUERIES - len(ok)
    assert list(table["usual_low_tokens"]) == list(table["usual_high_tokens"]) == [mean]
    usd = (
        n_left
        * mean
        * find_price("openai", "gpt-4.1-mini").cost_usd(
            Tokens(prompt=0, completion=10**6), batch=False
        )
        / 1e6
    )
    assert table["usd_usual_low"].sum() == pytest.approx(usd)
    assert f"{mean:,.0f} tokens an answer, the mean of {len(ok)} answers of this run" in out


def test_a_price_that_is_not_known_is_nowhere_a_price_of_nothing(icl) -> None:
    with LoopbackServer(reply, count=thirds) as server:
        options = ("--shots", "0", "--draws", "1", "--out", "out")
        _, plan_out, _ = call(icl, "plan", server, "openai/nosuch", *options)
        code, _, err = call(icl, "run", server, "openai/nosuch", *options, "--max-cost", "1")
        assert (code, "no price is known for openai/nosuch" in err) == (2, True)
        assert not server.bill
        code, run_out, _ = call(icl, "run", server, "openai/nosuch", *options)
        assert code == 0
    _, curves_out, _ = icl("curves", "out")
    assert pd.read_csv("out/curves.csv")["cost_usd"].isna().all()
    assert Run("out").records()["cost_usd"].isna().all()
    for said in (plan_out, run_out, curves_out):
        assert "$" not in said
        assert "no price is known" in said
