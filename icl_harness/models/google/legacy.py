"""Gemini through google-generativeai, which Google has ended: `google/NAME --model-arg sdk=legacy`.

Its async calls fail over REST, so each request runs in a thread. A request that is cancelled ends
in its thread, at the latest after `timeout_s`. Left out: seeds, thoughts, cached contents and
batches, for which the other SDK is there.
"""

from __future__ import annotations

import asyncio
import importlib
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from icl_harness.models.api.body import query_turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling
from icl_harness.models.google.gemini import SERVICE, GeminiModel, read_response
from icl_harness.models.google.wire import google_role, google_turns
from icl_harness.prompts.tree import Query

LEGACY = replace(
    SERVICE,
    sdk="google.generativeai",
    distribution="google-generativeai",
    install="icl-harness[gemini-legacy]",
    caches=False,
)
Content = dict[str, Any]  # as the SDK, which has no types, takes it


@dataclass(frozen=True)
class LegacyClient:
    """The SDK's client, and the threads that it is called in."""

    service: Any
    threads: ThreadPoolExecutor


@dataclass(frozen=True)
class LegacyRequest:
    """What the requests of a prefix share."""

    contents: list[Content]
    parameters: dict[str, Any]


class GoogleLegacyModel(GeminiModel[LegacyClient, LegacyRequest, Any]):
    """`google/NAME` through the old SDK."""

    service = LEGACY

    def __init__(
        self,
        name: str,
        *,
        id: str,
        base_url: str | None = None,
        terms: Terms | None = None,
        **model_args: str,
    ) -> None:
        with warnings.catch_warnings():
            # At import it says that its support has ended, and google-api-core that this Python's
            # will: both are known to whoever asked for sdk=legacy.
            warnings.simplefilter("ignore", FutureWarning)
            super().__init__(name, id=id, base_url=base_url, terms=terms, **model_args)

    def open_client(self) -> LegacyClient:
        """Return a new client. The settings are the SDK's globals; the client taken from them at
        once is this model's own.
        """
        import google.generativeai as genai
        from google.generativeai.client import get_default_generative_client

        base_url = self.account.base_url
        options = {"api_endpoint": base_url} if base_url else None
        genai.configure(api_key=self.account.key, transport="rest", client_options=options)
        threads = ThreadPoolExecutor(self.args.concurrency, thread_name_prefix="gemini")
        return LegacyClient(get_default_generative_client(), threads)

    async def close_client(self, client: LegacyClient) -> None:
        """Close the connections; what is in flight ends in its thread."""
        client.threads.shutdown(wait=False, cancel_futures=True)
        client.service.transport.close()

    def request(self, prefix: Prefix, sampling: Sampling) -> LegacyRequest:
        """Return the contents of a prefix, and the other parameters."""
        contents: list[Content] = []
        system: Content | None = None
        for role, texts in google_turns(prefix.pieces)[:-1]:
            parts = [{"text": text} for _, text in texts]
            if role == "system":
                system = {"parts": parts}
            else:
                contents.append({"role": google_role(role), "parts": parts})
        config = self.config(sampling)
        return LegacyRequest(contents, {"generation_config": config, "system_instruction": system})

    async def send(self, request: LegacyRequest, query: Query) -> Any:
        """Send one request, in a thread."""
        from google.api_core.exceptions import GoogleAPICallError
        from google.generativeai import protos

        ParseError = importlib.import_module("google.protobuf.json_format").ParseError  # noqa: N806

        client = self.connection.client()
        own = [
            {"role": google_role(role), "parts": [{"text": text}]}
            for role, text in query_turns(query)
        ]
        message = protos.GenerateContentRequest(
            model=f"models/{self.name.removeprefix('models/')}",
            contents=[*request.contents, *own],
            **request.parameters,
        )

        def ask() -> Any:
            timeout_s = self.args.timeout_s
            return client.service.generate_content(message, retry=None, timeout=timeout_s)

        try:
            return await asyncio.get_running_loop().run_in_executor(client.threads, ask)
        except GoogleAPICallError as error:
            raise _fault(error) from None
        except (OSError, ParseError, ValueError) as error:
            # requests' errors are OSErrors; a body that is no JSON
            raise Fault.from_exception(error) from None

    def read(self, response: Any) -> Reply:
        """Return the text of a response."""
        return read_response(response)


def _fault(error: Any) -> Fault:
    """Read the body itself: the SDK's own message opens with the URL."""
    headers = getattr(error.response, "headers", None) or {}
    try:
        body = error.response.json()
    except (AttributeError, ValueError):
        body = error.message
    return Fault.from_body(error.code, body, type(error).__name__, headers)
