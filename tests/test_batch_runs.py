"""Whole runs in batches: the records of a run without, half its bill, states, kills."""

import os
import random
import signal
import time
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

import icl_harness
from icl_harness.errors import ProviderError, SpecError, StoreError
from icl_harness.models.anthropic.batch_api import AnthropicBatches
from icl_harness.models.api.ledger import Ledger
from icl_harness.models.api.prices import Tokens, find_price
from icl_harness.models.google.batch_api import GoogleBatches
from icl_harness.models.openai.batch_api import OpenAIBatches
from icl_harness.store.bank import read_bank
from tests import batch_worker
from tests.batch_worker import BANKED, GRID, PLAIN, TIMING, go, make_small
from tests.forked import Forked
from tests.quick import quicken_command_line, tries
from tests.servers import KINDS, LoopbackServer
from tests.test_end_to_end import command_line

pytestmark = pytest.mark.slow

MODELS = {
    "openai": "openai/gpt-4.1", "anthropic": "anthropic/claude-sonnet-4-5",
    "google": "google/gemini-2.5-flash",
}  # fmt: skip
N_KILLS = tries(8)
SEED = int(os.environ.get("ICL_KILL_SEED", "20261124"))  # printed with a failure, to replay it
SAME = ["mode", "shots", "draw", "query_id", "shots_used", "node_hash", "status", "answer",
        "parsed", "score", "prompt_tokens", "completion_tokens", "cost_usd"]  # fmt: skip
every_provider = pytest.mark.parametrize("provider", list(MODELS))


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch, toy: Path) -> None:
    for name in ("OPENAI", "ANTHROPIC", "GEMINI"):
        monkeypatch.setenv(f"{name}_API_KEY", "planted-key-0123456789")
    for api in (OpenAIBatches, AnthropicBatches, GoogleBatches):
        monkeypatch.setattr(api, "most_requests", api.most_requests)  # put back afterwards
    make_small()
    quicken_command_line(monkeypatch, TIMING)


def reply(prompt: str) -> str:
    """Return the parity of the last number, and now and then the wrong one."""
    number = int(prompt.rstrip().rstrip("->").split()[-1])
    return " even" if (number % 2 == 0) != (number % 5 == 0) else " odd"


def grid(out: str, provider: str, server: LoopbackServer, **how: object) -> pd.DataFrame:
    args = {"priced_as": MODELS[provider], "timeout_s": "30"}
    url = server.base_url(provider)
    run = icl_harness.run(
        "toy", MODELS[provider], out=out, base_url=url, model_args=args, **GRID, **how
    )
    return records(run)


def records(run: icl_harness.Run) -> pd.DataFrame:
    frame = run.records()
    return frame.sort_values(["mode", "shots", "draw", "query_id"]).reset_index(drop=True)


def billed_usd(server: LoopbackServer) -> float:
    total = 0.0
    for bill in server.bill:
        price = find_price(bill.provider, bill.model)
        assert price is not None
        tokens = Tokens(
            prompt=bill.input + bill.cache_read, cached=bill.cache_read, completion=bill.output
        )
        total += price.cost_usd(tokens, batch=bill.batch) or 0.0
    return total


def times_answered(server: LoopbackServer) -> Counter[str]:
    """Return how often each request was answered, and so paid for."""
    return Counter(
        str(outcome.item.body)
        for batch in server.batches.values()
        for outcome in {o.item.name: o for o in batch.outcomes if o.kind == "succeeded"}.values()
    )


@every_provider
def test_a_run_in_batches_has_the_records_of_one_without_at_half_the_bill(provider: str) -> None:
    with LoopbackServer(reply) as server:
        plain = grid("plain", provider, server)
        whole_usd = billed_usd(server)
        server.bill.clear()
        batched = grid("batched", provider, server, batch=True)
        columns = [name for name in SAME if name != "cost_usd"]
        pd.testing.assert_frame_equal(plain[columns], batched[columns])
        assert billed_usd(server) == pytest.approx(whole_usd / 2)
        assert batched["cost_usd"].sum() == pytest.approx(plain["cost_usd"].sum() / 2)
        assert set(times_answered(server).values()) == {1}
        assert {entry.state for entry in Ledger(Path("batched")).batches()} == {"done"}


def test_icl_batch_shows_the_state_of_a_run_that_goes_on_with_batch_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    icl = command_line(tmp_path, monkeypatch, capfd)
    with LoopbackServer(reply, batch_polls=10**6) as server:
        url = server.base_url("openai")
        grid = ["--data", "data", "--shots", "0,2", "--draws", "1", "--modes", "supervised"]
        options = ["toy", "--model", "openai/gpt-4.1", "--base-url", url, *grid, "--out", "out"]
        assert icl("batch", "nosuch")[0] == 2
        worker = Forked(batch_worker.run_command_line, "run", *options, "--batch")
        try:
            wait_for_batches(server, worker, 3)
            code, out, _ = icl("batch", "out")
            assert code == 0
            lines = [line for line in out.splitlines() if "openai/gpt-4.1" in line]
            assert all(name in line for name, line in zip(server.batches, lines, strict=True))
            assert "requests" in out
            assert "MB" in out
        finally:
            worker.kill()
            worker.communicate()
        server.fail_always("forbidden")
        code, out, _ = icl("batch", "out")
        assert code == 0
        assert "The states are those last seen: openai/gpt-4.1: 403" in out
        server.fail_always(None)
        code, _, err = icl("run", *options)
        assert code == 2
        assert "still out (3; `icl batch out` shows them). Give --batch" in err
        for batch in server.batches.values():
            batch.polls_left = 0
        code, _, err = icl("run", *options, "--batch")
        assert code == 0, err
        assert len(server.batches) == 3
        code, out, _ = icl("batch", "out")
        assert out.count("  in the records  ") == 3
        monkeypatch.delenv("OPENAI_API_KEY")
        assert icl("batch", "out")[0] == 0
        assert icl("run", *options)[0] == 0  # nothing is out any more


def test_a_run_whose_ledger_is_damaged_says_what_it_told_of_and_hands_nothing_in() -> None:
    with LoopbackServer(reply) as server:
        go("out", MODELS["openai"], server.base_url("openai"), PLAIN)
        n_batches = len(server.batches)
        Path("out/ledger.db").write_text("no database " * 9)
        with pytest.raises(
            StoreError, match=r"out/ledger.db cannot be used: .* It names the batches"
        ):
            go("out", MODELS["openai"], server.base_url("openai"), PLAIN)
        assert len(server.batches) == n_batches


def test_a_run_without_batches_says_so(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    icl = command_line(tmp_path, monkeypatch, capfd)
    icl_harness.run(
        "toy", "baseline/majority", out="out", data="data", shots=[0], draws=1, modes=["supervised"]
    )
    assert icl("batch", "out")[:2] == (0, "out has submitted no batches.\n")
    with pytest.raises(SpecError, match="baseline/majority takes no batches"):
        icl_harness.run(
            "toy", "baseline/majority", out="other", data="data", shots=[0], draws=1, batch=True
        )
    with pytest.raises(SpecError, match="--scoring choices"):
        icl_harness.run(
            "toy",
            "openai/gpt-4.1",
            out="other",
            data="data",
            shots=[0],
            batch=True,
            scoring="choices",
        )
    assert not Path("other").exists()


@every_provider
def test_a_run_that_is_killed_at_random_instants_amid_faults_ends_with_the_same_records(
    provider: str,
) -> None:
    rng = random.Random(f"{SEED} {provider}")
    with LoopbackServer(reply) as server:
        whole = grid("whole", provider, server, batch=True)
        n_calls = len(server.requests)
    with LoopbackServer(reply, stall_s=1.5) as server:
        server.misbehave(rng.randrange(1000), share=0.3, kinds=KINDS)
        n_killed = 0
        for _ in range(N_KILLS):
            worker = start(provider, server)
            aim = len(server.requests) + rng.randint(1, 2 * n_calls // N_KILLS + 3)
            while worker.poll() is None and len(server.requests) < aim:
                time.sleep(0.002)
            time.sleep(rng.uniform(0, 0.05))
            if worker.poll() is None:
                worker.send_signal(signal.SIGKILL)
                n_killed += 1
            worker.communicate()
        said = start(provider, server).communicate()[1]
        assert n_killed >= N_KILLS / 2, f"seed {SEED}"
        assert Path("killed/records.db").exists(), said
        killed = records(icl_harness.Run("killed"))
        pd.testing.assert_frame_equal(whole[SAME], killed[SAME], obj=f"seed {SEED}")
        times = times_answered(server)
        assert set(times.values()) == {1}, f"seed {SEED}"
        assert len(server.bill) == len(times)


@pytest.mark.parametrize("step", ["RunStore.add", "Ledger.answered"])
def test_a_failed_answer_that_was_paid_for_counts_once_where_the_run_is_killed_as_it_is_stored(
    step: str,
) -> None:
    with LoopbackServer(reply) as server:
        server.n_reasoning = 10**6  # no room is left for an answer
        worker = start("openai", server, step)
        said = worker.communicate()[1]
        assert worker.returncode == -signal.SIGKILL, said
        assert (icl_harness.Run("killed").records()["cost_usd"].sum() > 0) == (
            step == "Ledger.answered"
        )
        failed = records(go("killed", MODELS["openai"], server.base_url("openai"), PLAIN))
        assert set(failed["status"]) == {"failed"}
        assert failed["cost_usd"].sum() == pytest.approx(billed_usd(server))
        if step == "RunStore.add":  # what was not stored yet is fetched, and not asked again
            assert len(server.bill) == len(failed)
        server.n_reasoning = 0
        answered = records(go("killed", MODELS["openai"], server.base_url("openai"), PLAIN))
        assert set(answered["status"]) == {"ok"}
        assert answered["cost_usd"].sum() == pytest.approx(billed_usd(server))


def test_a_banks_failed_attempt_counts_once_where_the_run_is_killed_as_it_is_kept() -> None:
    with LoopbackServer(reply) as server:
        server.n_reasoning = 10**6
        worker = start("openai", server, "Ledger.answered", "BANKED")
        said = worker.communicate()[1]
        assert worker.returncode == -signal.SIGKILL, said
        server.n_reasoning = 0
        with pytest.raises(
            ProviderError, match="for the bank failed"
        ):  # those that it had submitted
            go("killed", MODELS["openai"], server.base_url("openai"), BANKED)
        run = go("killed", MODELS["openai"], server.base_url("openai"), BANKED)
        assert set(records(run)["status"]) == {"ok"}
        bank_usd = sum(read_bank(path).cost_usd or 0.0 for path in run.path.glob("banks/*.jsonl"))
        assert bank_usd > 0
        assert bank_usd + records(run)["cost_usd"].sum() == pytest.approx(billed_usd(server))


def test_what_a_draw_has_submitted_serves_the_same_requests_of_another_after_a_resume() -> None:
    with LoopbackServer(reply) as server:
        server.n_reasoning = (
            10**6
        )  # without shots the first draw fails, so that the second asks too
        worker = start("openai", server, "Ledger.all_answered")
        wait_for_batches(server, worker, 7)
        server.batch_polls = 10**6
        wait_for_batches(server, worker, 8)  # the second draw's
        worker.kill()
        worker.communicate()
        server.n_reasoning = 0
        for batch in server.batches.values():
            batch.polls_left = min(batch.polls_left, 0)
        server.batch_polls = 1
        for _ in range(2):  # what had failed before the kill is asked again by the second
            answered = records(go("killed", MODELS["openai"], server.base_url("openai"), PLAIN))
            assert answered["cost_usd"].sum() == pytest.approx(billed_usd(server))
        assert set(answered["status"]) == {"ok"}


def wait_for_batches(server: LoopbackServer, worker: Forked, n: int) -> None:
    while len(server.batches) < n:
        assert worker.poll() is None, worker.communicate()
        time.sleep(0.002)


def start(provider: str, server: LoopbackServer, *dies_at: str) -> Forked:
    url = server.base_url(provider)
    return Forked(batch_worker.main, "killed", MODELS[provider], url, *dies_at)
