"""Gemini through google-generativeai, which Google has ended: `google/NAME --model-arg sdk=legacy`.

Its async calls fail over REST, so each request is made and read in a thread; it is sent through the
same HTTP client as everyone's, which bounds what comes back. Left out: seeds, thoughts, cached
contents and batches, for which the other SDK is there.
"""

from __future__ import annotations

import asyncio
import contextvars
import io
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from icl_harness.models.api.body import query_turns
from icl_harness.models.api.caching import Prefix
from icl_harness.models.api.client import http_client
from icl_harness.models.api.faults import Fault, Reply
from icl_harness.models.api.terms import Terms
from icl_harness.models.base import Sampling
from icl_harness.models.google.gemini import SERVICE, GeminiModel
from icl_harness.models.google.responses import read_response
from icl_harness.models.google.wire import google_role, google_turns
from icl_harness.prompts.tree import Query

if TYPE_CHECKING:
    import httpx2

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
    http: httpx2.AsyncClient


def _adapter(http: httpx2.AsyncClient) -> Any:
    """Return what requests' session, which the SDK's threads send through, is to send with: our own
    client, in the running event loop.
    """
    from requests import Response
    from requests.adapters import BaseAdapter

    loop = asyncio.get_running_loop()

    class Adapter(BaseAdapter):
        """Sends what a thread asks for, and waits for it."""

        def send(self, request: Any, *_: Any, **__: Any) -> Response:
            sent = http.request(
                request.method, request.url, headers=request.headers, content=request.body
            )
            came = asyncio.run_coroutine_threadsafe(sent, loop).result()
            response = Response()
            response.status_code = came.status_code
            response.headers.update(came.headers)
            response.raw = io.BytesIO(came.content)
            response.request, response.url = request, str(request.url)
            return response

        def close(self) -> None:
            pass

    return Adapter()


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
        import httpx2
        from google.generativeai.client import get_default_generative_client

        base_url = self.account.base_url
        options = {"api_endpoint": base_url} if base_url else None
        genai.configure(api_key=self.account.key, transport="rest", client_options=options)
        threads = ThreadPoolExecutor(self.args.concurrency, thread_name_prefix="gemini")
        http = http_client(httpx2.AsyncClient, self.account)
        service = get_default_generative_client()
        session: Any = service.transport._session
        for scheme in ("http://", "https://"):
            session.mount(scheme, _adapter(http))
        return LegacyClient(service, threads, http)

    async def close_client(self, client: LegacyClient) -> None:
        """Close the connections; what is in flight ends in its thread."""
        client.threads.shutdown(wait=False, cancel_futures=True)
        await client.http.aclose()

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

        in_room = partial(contextvars.copy_context().run, ask)

        try:
            return await asyncio.get_running_loop().run_in_executor(client.threads, in_room)
        except GoogleAPICallError as error:
            raise _fault(error) from None
        except Exception as error:  # the transport's, the SDK's, the parser's  # noqa: BLE001
            raise Fault.from_exception(error) from None

    def read(self, response: Any) -> Reply:
        """Return the text of a response."""
        return read_response(response)


def _fault(error: Any) -> Fault:
    """Read the body itself: the SDK's own message opens with the URL."""
    headers = getattr(error.response, "headers", None) or {}
    try:
        body = error.response.json()
    except (AttributeError, ValueError, RecursionError):
        body = getattr(error.response, "text", "") or error.message
    return Fault.from_body(error.code, body, type(error).__name__, headers)
