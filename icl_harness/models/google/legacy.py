"""Gemini through google-generativeai, which Google has ended: `google/NAME --model-arg sdk=legacy`.

Its async calls fail over REST, so each request runs in a thread. A request that is cancelled ends
in its thread, at the latest after `timeout_s`. Left out: seeds, thoughts, cached contents and
batches, for which the other SDK is there.
"""

from __future__ import annotations

import asyncio
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.faults import Fault
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling
from icl_harness.models.google.gemini import GeminiModel, google_turns
from icl_harness.prompts.tree import Query


class GoogleLegacyModel(GeminiModel):
    """`google/NAME` through the old SDK."""

    caches = False
    sdk = ("google.generativeai", "google-generativeai", "icl-harness[gemini-legacy]")

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

    def _open(self) -> Any:
        import google.generativeai as genai
        from google.generativeai.client import get_default_generative_client

        # The settings are the SDK's globals; the client taken from them at once is this model's
        # own.
        options = {"api_endpoint": self.base_url} if self.base_url else None
        genai.configure(api_key=self.key, transport="rest", client_options=options)
        return get_default_generative_client(), ThreadPoolExecutor(
            self.most, thread_name_prefix="gemini"
        )

    def _request(self, prefix: Prefix, sampling: Sampling) -> Any:
        contents, system = [], None
        for role, texts in google_turns(prefix):
            parts = [{"text": text} for text in texts]
            if role == "system":
                system = {"parts": parts}
            else:
                contents.append({"role": role, "parts": parts})
        return contents, {"generation_config": self._config(sampling), "system_instruction": system}

    async def _send(self, client: Any, request: Any, query: Query) -> Any:
        from google.api_core.exceptions import GoogleAPICallError
        from google.generativeai import protos
        from google.protobuf.json_format import ParseError  # type: ignore[import-not-found,import-untyped,unused-ignore]

        service, threads = client
        contents, more = request
        asked = [
            *contents[:-1],
            {"role": "user", "parts": [{"text": query.text}]},
        ]  # the last one is the hole
        message = protos.GenerateContentRequest(
            model=f"models/{self.name.removeprefix('models/')}", contents=asked, **more
        )

        def ask() -> Any:
            return service.generate_content(message, retry=None, timeout=self.timeout_s)

        try:
            return await asyncio.get_running_loop().run_in_executor(threads, ask)
        except GoogleAPICallError as error:
            raise _fault(error) from None
        except (
            OSError,
            ParseError,
            ValueError,
        ) as error:  # requests' errors are OSErrors; a body that is no JSON
            raise Fault.from_exception(error) from None

    async def _close(self, client: Any) -> None:
        service, threads = client
        threads.shutdown(wait=False, cancel_futures=True)
        service.transport.close()


def _fault(error: Any) -> Fault:
    """Read the body itself: the SDK's own message opens with the URL."""
    try:
        body = error.response.json()
    except (AttributeError, ValueError):
        body = error.message
    return Fault.from_body(
        error.code, body, type(error).__name__, getattr(error.response, "headers", None) or {}
    )
