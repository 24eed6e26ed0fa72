"""What becomes of a run by what its provider says, through the command line: stopped, refused,
failed, given up.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

import icl_harness
from icl_harness.models.api.timing import Timing
from tests.api_runs import WIRES, Parity, Watched, Wire, every_wire, plant_keys, sent_asks
from tests.quick import quicken_command_line
from tests.servers import LoopbackServer
from tests.test_end_to_end import command_line, read_csv

pytestmark = pytest.mark.slow

GRID = ("run", "toy", "--data", "data", "--shots", "0,2", "--draws", "1", "--out", "out")
N_RECORDS = 2 * 12
CONCURRENCY, MAX_RETRIES, N_BEFORE = 4, 2, 5


@pytest.fixture
def icl(toy, monkeypatch, capfd) -> Callable[..., tuple[int, str, str]]:
    plant_keys(monkeypatch)
    quicken_command_line(monkeypatch, Timing(first_wait_s=0.001, longest_wait_s=0.01))
    return command_line(toy, monkeypatch, capfd)


def command(wire: Wire, server: LoopbackServer) -> list[str]:
    return [
        *GRID,
        *wire.options(
            server, concurrency=str(CONCURRENCY), max_retries=str(MAX_RETRIES), timeout_s="30"
        ),
    ]


def statuses() -> dict[str, int]:
    return dict(icl_harness.Run("out").records()["status"].value_counts())


@every_wire
@pytest.mark.parametrize("fault", ["auth", "quota", "billing", "forbidden", "model"])
def test_what_no_request_can_mend_stops_the_run_at_once_in_one_line(
    icl, wire: Wire, fault: str
) -> None:
    with LoopbackServer(Parity()) as server:
        server.fail_next(*[None] * N_BEFORE)
        server.fail_always(fault)
        code, out, err = icl(*command(wire, server))
        assert (code, out.strip()) == (1, "")
        assert err.startswith(f"icl: {wire.id}: 4")
        assert err.count("\n") == 1
        assert "Check " in err
        assert err.endswith("Run the same command again to resume.\n")
        assert N_BEFORE < len(server.requests) <= N_BEFORE + CONCURRENCY
        assert statuses() == {"ok": N_BEFORE}, (
            "what was answered is kept, and nothing is said of the others"
        )
        server.fail_always(None)
        n_sent = len(server.requests)
        assert icl(*command(wire, server))[0] == 0
        assert statuses() == {"ok": N_RECORDS}
        assert len(server.requests) - n_sent == N_RECORDS - N_BEFORE


@pytest.mark.parametrize(
    ("name", "fault"),
    [("chat", "filtered"), ("responses", "filtered"), ("messages", "filtered"),
     ("gemini", "refused"), ("gemini", "filtered")],
)  # fmt: skip
def test_refused_content_has_its_column_and_is_not_asked_again(icl, name: str, fault: str) -> None:
    with LoopbackServer(Parity()) as server:
        server.fail_next(fault, None, fault)
        code, _, err = icl(*command(WIRES[name], server))
        assert (code, err) == (0, "")
        table = read_csv(Path("out/curves.csv"))
        assert (table["n_refused"].sum(), table["n_failed"].sum(), table["n_ok"].sum()) == (
            2,
            0,
            N_RECORDS - 2,
        )
        assert (table["value"] == 1).all(), "what was refused is no wrong answer"
        refused = icl_harness.Run("out").records().query("status == 'refused'")
        assert refused["answer"].isna().all()
        assert refused["error"].str.startswith("refused: ").all()
        assert (refused["cost_usd"] > 0).all(), "a prompt that was read is paid for"
        assert icl(*command(WIRES[name], server))[0] == 0
        assert len(server.requests) == N_RECORDS


@every_wire
def test_what_fails_otherwise_is_told_and_asked_again(icl, wire: Wire) -> None:
    with LoopbackServer(Parity()) as server:
        server.fail_next(*["invalid", None] * 3)
        code, out, err = icl(*command(wire, server))
        assert (code, err) == (1, "")
        assert re.search(
            r"3 requests failed \(400 .+\) and are missing; the same command sends them again", out
        )
        assert read_csv(Path("out/curves.csv"))["n_failed"].sum() == 3
        assert len(server.requests) == N_RECORDS, "none is asked twice in one run"
        assert icl(*command(wire, server))[0] == 0
        assert statuses() == {"ok": N_RECORDS}
        assert len(server.requests) == N_RECORDS + 3


@every_wire
def test_where_nothing_listens_one_line_says_so(icl, wire: Wire) -> None:
    with LoopbackServer() as server:
        arguments = command(wire, server)
    code, out, err = icl(*arguments)
    assert (code, out.strip()) == (1, "")
    assert err.count("\n") == 1
    assert "Is the server up? Check http://127.0.0.1:" in err


@every_wire
@pytest.mark.parametrize(
    "fault", ["500", "529", "rate", "reset", "lost", "garbage", "shapeless", "gone"]
)
def test_a_provider_that_dies_for_good_ends_the_run(icl, wire: Wire, fault: str) -> None:
    def reply(prompt: str) -> str:
        if len(server.requests) >= N_BEFORE:
            server.fail_always("reset" if fault == "gone" else fault)
            if fault == "gone":
                server._http.socket.shutdown(socket.SHUT_RD)  # no connection comes about any more
        return "even"

    with LoopbackServer(reply) as server:
        code, out, err = icl(*command(wire, server))
    assert (code, out.strip()) == (1, "")
    *first, last = err.splitlines()
    assert [line.endswith("trying again. Ctrl-C keeps what is answered.") for line in first] == [
        True
    ]
    assert " requests was answered. The last one: " in last
    assert last.endswith("Run the same command again to resume.")
    most = Timing().unanswered + MAX_RETRIES + CONCURRENCY * (MAX_RETRIES + 1)
    n_answered = sum(bill.delivered for bill in server.bill)
    assert N_BEFORE - CONCURRENCY < n_answered < N_BEFORE + CONCURRENCY
    assert len(server.requests) - n_answered <= most < (N_RECORDS - n_answered) * (MAX_RETRIES + 1)


class Poisoned(Watched):
    """A server that cannot cope with one query."""

    def of_request(self, method: str, path: str, body: bytes) -> str | None:
        return "500" if b"n 103 ->" in body else None


@every_wire
@pytest.mark.parametrize("concurrency", ["1", "8"])
def test_a_query_that_the_provider_cannot_answer_fails_alone(
    icl, wire: Wire, concurrency: str
) -> None:
    with LoopbackServer(Parity()) as server:
        server.misbehaviour = Poisoned(0, 0, ())
        n_tries = Timing().unanswered + 2
        args = {"concurrency": concurrency, "max_retries": str(n_tries - 1), "timeout_s": "30"}
        assert icl(*GRID, *wire.options(server, **args))[0] == 1
    assert statuses() == {"ok": N_RECORDS - 2, "failed": 2}
    assert len(sent_asks(wire, server)) == N_RECORDS - 2 + 2 * n_tries
