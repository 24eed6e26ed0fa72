"""Adding a provider is a folder with one record: nothing else names it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import icl_harness
from icl_harness import models
from icl_harness.cli.execute import Execution, plan_run
from icl_harness.errors import ModelError, SpecError
from icl_harness.models import is_api, is_local, open_model, providers
from icl_harness.runner.spec import Spec
from tests.models.api.apis import KEY
from tests.servers import LoopbackServer

RECORD = '''"""A provider of models that say how long a prompt is."""

from icl_harness.models.base import Model
from icl_harness.models.provider import Opening, Provider


def open_model(opening: Opening) -> Model:
    from icl_harness.models.lengthy.model import LengthyModel

    return LengthyModel(opening.name, id=opening.id, base_url=opening.base_url,
                        terms=opening.terms, **opening.model_args)


PROVIDERS = (
    Provider(name="lengthy", about="lengths: 'lengthy/<unit>'", open=open_model, is_api=True,
             own_models=("metre",)),
)
'''
MODEL = '''"""One endpoint, asked through httpx2."""

import httpx2

from icl_harness.models.api.account import Service
from icl_harness.models.api.client import http_client
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.model import ApiModel
from icl_harness.models.base import Usage


class LengthyModel(ApiModel):
    service = Service(provider="lengthy", key_names=("LENGTHY_API_KEY",),
                      base_url_name="LENGTHY_BASE_URL", sdk="httpx2", distribution="httpx2",
                      install="httpx2")

    def open_client(self):
        return http_client(httpx2.AsyncClient, self.account)

    async def close_client(self, client):
        await client.aclose()

    def request(self, prefix, sampling):
        return prefix.node.text

    async def send(self, request, query):
        body = {"model": "m", "prompt": request + query.tail}
        url = f"{self.account.base_url}/completions"
        headers = {"authorization": f"Bearer {self.account.key}"}
        response = await self.connection.client().post(url, json=body, headers=headers)
        if response.status_code != 200:
            raise Fault.from_body(response.status_code, response.json(), "", response.headers)
        return response.json()

    def read(self, response):
        used = response["usage"]
        usage = Usage(prompt_tokens=used["prompt_tokens"],
                      completion_tokens=used["completion_tokens"])
        return Reply(text=response["choices"][0]["text"], usage=usage)
'''
GRID = {"data": "data", "modes": ["supervised"], "shots": [0, 2], "draws": 2}


@pytest.fixture
def lengthy(toy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The provider `lengthy`, as a folder beside the others."""
    folder = toy / "more" / "lengthy"
    folder.mkdir(parents=True)
    (folder / "__init__.py").write_text('"""Lengths."""\n')
    (folder / "provider.py").write_text(RECORD)
    (folder / "model.py").write_text(MODEL)
    monkeypatch.setenv("LENGTHY_API_KEY", KEY)
    monkeypatch.setattr(models, "__path__", [*models.__path__, str(folder.parent)])
    known = set(sys.modules)
    providers.cache_clear()
    yield
    providers.cache_clear()
    for name in set(sys.modules) - known:
        if name.startswith("icl_harness.models.lengthy"):
            del sys.modules[name]


def parity(prompt: str) -> str:
    return ("even", "odd")[int(prompt.rstrip(" ->").split()[-1]) % 2]


@pytest.mark.usefixtures("lengthy")
class TestNewProvider:
    @pytest.mark.slow
    def test_a_grid_runs_on_it(self) -> None:
        with LoopbackServer(parity) as server:
            url = server.base_url("openai")
            run = icl_harness.run("toy", "lengthy/metres", out="out", base_url=url, **GRID)
        records = run.records()
        assert set(records["status"]) == {"ok"}
        assert len(records) == 4 * 12
        assert records["score"].mean() == 1

    def test_a_plan_counts_on_it(self) -> None:
        spec = Spec.from_dict({"tasks": "toy", "models": "lengthy/metres", **GRID}, "run()")
        plan = plan_run(spec, Path("out"), Execution(rpm=60))
        assert [row.requests for row in plan.rows] == [12, 12, 0, 12]  # no shots: the same prompts
        assert all(row.prompt_tokens for row in plan.rows if row.requests)
        assert plan.unpriced == ("lengthy/metres",)
        assert sum(row.seconds or 0 for row in plan.rows) == 36

    def test_what_is_for_apis_is_for_it(self) -> None:
        assert is_api("lengthy/metres")
        assert not is_local("lengthy/metres")
        spec = {"tasks": "toy", "models": "lengthy/metres", "scoring": "choices", **GRID}
        with pytest.raises(SpecError, match="offers no scoring 'choices'"):
            icl_harness.run(**{"model": spec.pop("models"), **spec})

    def test_it_is_named_among_the_others(self) -> None:
        with pytest.raises(ModelError, match=r"Is it lengthy/metre-5\?.*lengths: 'lengthy/<unit>'"):
            open_model("metre-5")


def test_the_providers_are_known_without_their_sdks() -> None:
    code = (
        "import sys; from icl_harness.models import providers; print(*providers())\n"
        "heavy = {'openai', 'anthropic', 'google.genai', 'torch', 'transformers', 'vllm'}\n"
        "print(heavy & sys.modules.keys())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
    names, heavy = out.splitlines()
    assert set(names.split()) == {
        *["anthropic", "baseline", "demo", "google", "hf", "openai", "sft", "vllm"]
    }
    assert heavy == "set()"
