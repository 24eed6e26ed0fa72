"""What a grid or a model folder from elsewhere may do: send a key only where that is said, leave no
key behind, run no code.
"""

import json
from pathlib import Path

import pytest

from icl_harness.errors import ModelError
from icl_harness.models import open_model
from icl_harness.models.api.access import masked
from icl_harness.runner.spec import Spec
from tests.api_runs import plant_keys
from tests.cli.test_app import icl  # noqa: F401
from tests.servers import LoopbackServer
from tests.tiny_models import save_tiny_model

SECRET = "sk-live-0a1b2c3d4e5f6a7b8c9d"

MASKED = [
    (f"https://gate.example/{SECRET}/v1", "https://gate.example/***/v1"),
    ("https://gate.example/v1", "https://gate.example/v1"),
    ("http://localhost:8000/v1", "http://localhost:8000/v1"),
    ("http://127.0.0.1:8765/openai/v1", "http://127.0.0.1:8765/openai/v1"),
    ("https://x.example/v1beta/models", "https://x.example/v1beta/models"),
    ("https://x.example/openai-compatible-endpoint/v1",) * 2,
    ("https://x.example/deployments/gpt-4o-mini-2024-07-18/v1",) * 2,
    ("https://x.example/api/v1",) * 2,
    ("https://x.example/keys/token/secret",) * 2,
    (
        "https://x.example/v1/0123456789abcdef0123456789abcdef/gw/openai",
        "https://x.example/v1/***/gw/openai",
    ),
    ("https://x.example/0f8fad5b-d9cb-469f-a165-70867728950e/v1", "https://x.example/***/v1"),
    ("https://x.example/AIzaSyA1234567890abcdef", "https://x.example/***"),
    ("https://x.example/hunter2-of-mine/v1", "https://x.example/***/v1"),
    ("https://x.example/Zm9vYmFyMTIzNDU2Nzg5MA==/v1", "https://x.example/***/v1"),
]


@pytest.mark.parametrize(("url", "shown"), MASKED)
def test_a_key_in_the_path_of_a_url_is_masked_and_nothing_else(
    url: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GATEWAY_API_KEY", "hunter2-of-mine")
    assert masked(url) == shown
    assert masked(shown) == shown


@pytest.mark.usefixtures("toy")
class TestKeyInTheUrl:
    def test_it_stands_neither_in_the_spec_nor_in_what_a_model_says_of_itself(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant_keys(monkeypatch)
        url = f"https://gate.example/{SECRET}/v1"
        spec = Spec(tasks="toy", models="openai/some-model", base_url=url)
        model = open_model("openai/some-model", base_url=url)
        for said in (spec.as_dict(), model.describe()):
            assert SECRET not in json.dumps(said)
            assert said["base_url"] == "https://gate.example/***/v1"

    def test_it_is_taken_from_the_environment_where_only_run_json_is_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        plant_keys(monkeypatch)
        with pytest.raises(ModelError, match="Set OPENAI_BASE_URL to the whole URL"):
            open_model("openai/x", base_url="https://gate.example/***/v1")
        monkeypatch.setenv("OPENAI_BASE_URL", f"https://gate.example/{SECRET}/v1")
        open_model("openai/x", base_url="https://gate.example/***/v1")
        with pytest.raises(ModelError, match="Set OPENAI_BASE_URL to the whole URL"):
            open_model("openai/x", base_url="https://other.example/***/v1")


class TestServerOfAFile:
    GRID = "task: toy\nmodel: openai/some-model\nshots: [0]\ndraws: 1\ndata: data\n"

    @pytest.mark.slow
    def test_it_is_said_before_anything_is_sent(self, icl, monkeypatch) -> None:  # noqa: F811
        plant_keys(monkeypatch)
        with LoopbackServer(lambda prompt: " even") as server:
            url = server.base_url("openai")
            Path("grid.yaml").write_text(f"{self.GRID}base_url: {url}\n")
            code, _, err = icl("run", "grid.yaml", "--out", "out")
            first = err.splitlines()[0]
            assert code == 0
            assert first == (
                f"icl: grid.yaml names the server {url}: it is sent the prompts and OPENAI_API_KEY."
            )
            for more in (["--base-url", url], []):
                said = icl("run", "grid.yaml", "--out", "out", *more)[2]
                assert ("names the server" in said) is (not more)

    def test_nothing_is_said_where_no_key_is_set(self, icl, monkeypatch) -> None:  # noqa: F811
        monkeypatch.delenv("OPENAI_API_KEY", raising=False)
        Path("grid.yaml").write_text(f"{self.GRID}base_url: http://127.0.0.1:9/v1\n")
        assert "names the server" not in icl("plan", "grid.yaml", "--out", "out")[2]


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path("owned").touch()


class Config(LlamaConfig):
    model_type = "mine"


class Model(LlamaForCausalLM):
    config_class = Config
"""


@pytest.mark.parametrize("answer", ["y", "n"])
def test_code_that_comes_with_a_model_is_refused_and_not_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str
) -> None:
    folder = save_tiny_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "mine", "architectures": ["Model"]}
    config["auto_map"] = {"AutoConfig": "code.Config", "AutoModelForCausalLM": "code.Model"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(CODE)
    monkeypatch.chdir(tmp_path)
    asked: list[str] = []
    monkeypatch.setattr("builtins.input", lambda text="": asked.append(text) or answer)
    with pytest.raises(ModelError, match="trust_remote_code") as caught:
        open_model(f"hf/{folder}")
    assert "\n" not in str(caught.value)
    assert not asked
    assert not (tmp_path / "owned").exists()
