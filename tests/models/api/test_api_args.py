"""Keys, SDKs and model-args of the API back ends: what is missing or wrong is one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from icl_harness.errors import ModelError
from icl_harness.models.api.access import load_sdk
from icl_harness.models.api.model import ApiModel
from icl_harness.models.openai.chat import OpenAIModel
from tests.models.api.apis import CLASSES, KEY, ask, every_sdk, open_model
from tests.servers import LoopbackServer

pytestmark = pytest.mark.usefixtures("planted_keys")


@every_sdk
def test_a_missing_key_is_one_line_that_names_the_variables(
    sdk: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = CLASSES[sdk]
    for name in cls.service.key_names:
        monkeypatch.delenv(name, raising=False)
    with pytest.raises(ModelError) as caught:
        cls("m", id=f"{cls.service.provider}/m")
    names = " or ".join(cls.service.key_names)
    assert (
        str(caught.value)
        == f"{cls.service.provider}/m needs a key: set {names}, or write it into .env."
    )


def test_a_compatible_server_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with LoopbackServer(lambda _: "fine") as server:
        assert ask(open_model("openai", server))[0].text == "fine"


def test_a_key_that_no_header_can_carry_is_refused_without_being_shown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "geheim-schlüssel")
    with pytest.raises(ModelError, match="OPENAI_API_KEY") as caught:
        OpenAIModel("m", id="openai/m")
    assert "geheim" not in str(caught.value)
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    assert OpenAIModel("m", id="openai/m").account.key == KEY


@pytest.mark.parametrize("encoding", ["latin-1", "utf-16"])
def test_a_file_of_keys_that_is_no_utf_8_is_one_line(
    encoding: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("OPENAI_API_KEY")
    Path(".env").write_text(f"# clé\nOPENAI_API_KEY={KEY}\n", encoding=encoding)
    with pytest.raises(ModelError, match=r"^\.env cannot be read: it is no UTF-8 text\."):
        OpenAIModel("m", id="openai/m")
    Path(".env").write_text(f"OPENAI_API_KEY={KEY}\n", encoding="utf-8-sig")
    assert OpenAIModel("m", id="openai/m").account.key == KEY


def test_a_missing_sdk_says_what_to_install() -> None:
    with pytest.raises(ModelError, match="pip install 'icl-harness"):
        load_sdk("no_such_sdk", "icl-harness[extra]", "google/m")


def test_model_args_are_checked() -> None:
    def opened(**args: str) -> ApiModel:
        return OpenAIModel("m", id="openai/m", **args)

    model = opened(context_window="8000", concurrency="3", timeout_s="1.5", max_retries="0")
    assert (
        model.args.context_window,
        model.args.concurrency,
        model.args.timeout_s,
        model.args.max_retries,
    ) == (
        8000,
        3,
        1.5,
        0,
    )
    with pytest.raises(
        ModelError, match=r"no model-arg 'concurency'; it takes .*timeout_s.* Nearest: concurrency"
    ):
        opened(concurency="3")
    with pytest.raises(ModelError, match="it takes api, concurrency"):
        opened(thinking="8")
    for name, text in {
        "concurrency": "0",
        "timeout_s": "nan",
        "max_retries": "x",
        "send_temperature": "maybe",
    }.items():
        with pytest.raises(ModelError, match=f"--model-arg {name}={text}: it must be (a|yes)"):
            opened(**{name: text})


def test_importing_the_back_ends_loads_no_sdk() -> None:
    code = (
        "import sys, icl_harness.models.openai.chat, icl_harness.models.anthropic.messages\n"
        "import icl_harness.models.google.gemini, icl_harness.models.google.legacy\n"
        "print(sys.modules.keys() & {'openai', 'anthropic', 'google.genai', "
        "'google.generativeai', 'httpx2'})"
    )
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout
        == "set()\n"
    )


WRONG_URLS = {
    "": "is empty",
    "http://[::1": "has no valid host or port",
    "http://host:99999": "has no valid host or port",
    "http://host:0/v1": "has no valid host or port",
    "http://host:http": "has no valid host or port",
    "http://": "has no valid host or port",
    "http://a..b/v1": "has no valid host or port",
    "http://1.2.3.999/v1": "has no valid host or port",
    "http://ho%st/v1": "has no valid host or port",
    "http://host\n/v1": "holds a space, a line break",
    " http://host": "holds a space, a line break",
    "localhost:8000": "does not begin with http:// or https://",
    "host/v1": "does not begin with http:// or https://",
    "ftp://host/v1": "does not begin with http:// or https://",
    "http://user:geheim@host/v1": "holds a user or password, .*put the key into the environment "
    "variable",
    "http://geheim@host/v1": "holds a user or password",
    "http://host/v1?key=geheim": r"holds a \? or #",
}


@every_sdk
@pytest.mark.parametrize("url", WRONG_URLS)
def test_a_base_url_that_no_request_can_go_to_is_one_line(
    sdk: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    cls = CLASSES[sdk]
    with pytest.raises(
        ModelError, match=rf"^{cls.service.provider}/m: the base URL {WRONG_URLS[url]}.*\. It must"
    ) as caught:
        cls("m", id=f"{cls.service.provider}/m", base_url=url)
    assert "\n" not in str(caught.value)
    assert "geheim" not in str(caught.value)
    if url:
        monkeypatch.setenv(cls.service.base_url_name, url)
        with pytest.raises(ModelError, match=rf"the base URL \(from {cls.service.base_url_name}\)"):
            cls("m", id=f"{cls.service.provider}/m")


@pytest.mark.parametrize(
    "url", ["http://[::1]:8000", "https://host", "http://1.2.3.4:80/v1/", "http://my_server/@a/v1"]
)
def test_other_base_urls_are_taken_as_they_are(url: str) -> None:
    model = OpenAIModel("m", id="openai/m", base_url=url)
    assert model.account.base_url == url
    model.open_client()
