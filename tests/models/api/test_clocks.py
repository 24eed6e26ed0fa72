"""Clocks that jump, and waits that a server asks for: nothing hangs, and the user is told."""

from __future__ import annotations

import asyncio
import io
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from icl_harness.models.api.batch_jobs import Batch, BatchJobs
from icl_harness.models.api.ledger import Ledger, new_token
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling
from tests.models.api.apis import NODE, ask, every_sdk, open_model, queries
from tests.quick import QUICK
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@pytest.mark.parametrize("ahead_s", [3600.0, 86_400.0, 1e9])
@pytest.mark.parametrize("sdk", ["openai", "anthropic", "google"])
def test_a_batch_that_was_submitted_by_a_clock_that_was_ahead_is_found_at_once(
    sdk: str, ahead_s: float
) -> None:
    async def go(server: LoopbackServer) -> None:
        ledger = Ledger()
        model = open_model(sdk, server, terms=Terms(timing=QUICK, batch=True, ledger=ledger))
        api = model.batch_api()
        jobs: BatchJobs = BatchJobs(api, ledger)
        entry = ledger.plan_batch(new_token(), model.id, ["one"], 1)
        request = api.request(model.account.prefix(NODE, 1), Sampling())
        begin, _, end = api.frame
        line = b"".join(api.line(f"{entry.token}-0", request, queries(1)[0]))
        await jobs.create(Batch(entry=entry), io.BytesIO(begin + line + end))
        batch: Batch = Batch(entry=replace(entry, made=time.time() + ahead_s))
        found = await asyncio.wait_for(BatchJobs(api, Ledger())._find(batch), 5)
        assert found is not None
        assert found.name in server.batches
        await model.close()

    with LoopbackServer() as server:
        asyncio.run(go(server))


LATER = format_datetime(datetime.now(UTC) + timedelta(days=3000), usegmt=True)


@pytest.mark.slow
@every_sdk
@pytest.mark.parametrize(
    "asked", ["94608000", "1e300", "inf", pytest.param(LATER, id="date"), "121", "45"]
)
def test_a_long_wait_that_the_provider_asks_for_is_said(sdk: str, asked: str) -> None:
    notes: list[str] = []
    with LoopbackServer(retry_after=asked) as server:
        server.fail_always("rate")
        model = open_model(
            sdk, server, terms=Terms(timing=QUICK, say=notes.append), max_retries="3"
        )

        async def some() -> None:
            async for _ in model.answers(NODE, queries(1), Sampling()):
                pass

        async def go() -> None:
            asking = asyncio.create_task(some())
            try:
                async with asyncio.timeout(30):
                    while not notes:
                        await asyncio.sleep(0.01)
                assert not asking.done(), "it waits as it was told"
            finally:
                asking.cancel()
                await model.close()

        asyncio.run(go())
    [note] = notes
    assert ("45 s." in note) if asked == "45" else ("120 s or longer" in note)
    assert "Ctrl-C" in note


@every_sdk
@pytest.mark.parametrize("asked", ["-5", "nan", "soon", "", "0.01"])
def test_a_strange_or_short_wait_is_none_that_is_said(sdk: str, asked: str) -> None:
    notes: list[str] = []
    with LoopbackServer(lambda _: "fine", retry_after=asked) as server:
        server.fail_next("rate")
        terms = Terms(timing=QUICK, say=notes.append)
        [answer] = ask(open_model(sdk, server, terms=terms, max_retries="1"))
    assert (answer.text, notes) == ("fine", [])
