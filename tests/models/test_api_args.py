"""Keys, SDKs and model-args of the API back ends: what is missing or wrong is one line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from icl_harness.errors import ModelError
from icl_harness.models.api import ApiModel
from icl_harness.models.api_args import load_sdk
from icl_harness.models.openai import OpenAIModel
from tests.models.apis import CLASSES, KEY, ask, every_sdk, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
def test_a_missing_key_is_one_line_that_names_the_variables(sdk: str, monkeypatch: pytest.MonkeyPatch) -> None:
    cls = CLASSES[sdk]
    for name in cls.key_names:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError) as caught:
        cls("m", id=f"{cls.provider}/m")
    assert str(caught.value) == f"{cls.provider}/m needs a key: set {' or '.join(cls.key_names)}."


def test_a_compatible_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with LoopbackServer(lambda _: "fine") as server:
        assert ask(open_model("openai", server))[0].text == "fine"


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "geheim-schlüssel")
    with pytest.raises(ModelError, match="OPENAI_API_KEY") as caught:
        OpenAIModel("m", id="openai/m")
    assert "geheim" not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    assert OpenAIModel("m", id="openai/m").key == KEY


def test_a_missing_sdk_says_what_to_install() -> None:
    with pytest.raises(ModelError, match="pip install 'icl-harness"):
        load_sdk("no_such_sdk", "icl-harness[extra]", "google/m")


def test_model_args_are_checked() -> None:
    def opened(**args: str) -> ApiModel:
        return OpenAIModel("m", id="openai/m", **args)

    model = opened(context_window="8000", concurrency="3", timeout_s="1.5", max_retries="0")
    assert (model.capabilities.context_window, model.concurrency, model.timeout_s, model.max_retries) == (
        8000,
        3,
        1.5,
        0,
    )
    with pytest.raises(ModelError, match=r"no model-arg 'concurency'; it takes .*timeout_s.* Nearest: concurrency"):
        opened(concurency="3")
    for name, text in {"concurrency": "0", "timeout_s": "nan", "max_retries": "x", "send_temperature": "maybe"}.items():
        with pytest.raises(ModelError, match=f"model-arg {name} is {text!r}; it must be (a|yes)"):
            opened(**{name: text})


def test_importing_the_back_ends_loads_no_sdk() -> None:
    code = (
        "import sys, icl_harness.models.openai, icl_harness.models.anthropic, icl_harness.models.google_legacy\n"
        "print(sys.modules.keys() & {'openai', 'anthropic', 'google.genai', 'google.generativeai', 'httpx2'})"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "set()\n"
