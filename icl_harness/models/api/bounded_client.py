"""The HTTP client under every SDK: what it is sent is bounded in time and size, and from one place.

In: requests of an SDK. Out: responses, decoded. Raises `Fault` for one that takes too long, is too
large, is a redirect, or is nothing that HTTP knows; the SDKs pass it on or wrap it. Left out:
retries.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator
from typing import Any

import httpx2

from icl_harness.models.api.account import Account
from icl_harness.models.api.bounds import ERROR_BYTES, no_json_object, room_now
from icl_harness.models.api.error_bodies import error_instead
from icl_harness.models.api.faults import Fault

LATER_S = 1.0  # the transport's own time limits come first: they say what was waited for
SLOWEST = 10_000  # bytes a second, of what is so large that it is read or sent piece by piece


class BoundedClient(httpx2.AsyncClient):
    """The part of the client that is ours; `http_client` joins it with the SDK's."""

    account: Account
    home: tuple[str, str, int | None] | None = None  # where the SDK sent its first request

    async def send(self, request: httpx2.Request, **how: Any) -> httpx2.Response:
        """Send a request; the whole response must come in time, unless it is streamed."""
        self._refuse_elsewhere(request)
        n_bytes = int(request.headers.get("content-length", 0))
        most_s = self.account.args.timeout_s + n_bytes / SLOWEST
        limit = asyncio.timeout(most_s + LATER_S)
        try:
            async with limit:
                response = await super().send(request, **how)
        except TimeoutError as error:
            if limit.expired():
                raise Fault(_too_slow(most_s), lost=True) from None
            raise Fault.from_exception(error) from error
        except (Fault, httpx2.HTTPError):
            raise
        except Exception as error:  # what aiohttp makes of a malformed response, say
            raise Fault.from_exception(error) from error
        if response.is_success and not how.get("stream"):
            _refuse_what_is_no_answer(response.content)
        return response

    async def bound(self, response: httpx2.Response) -> None:
        """Hold a response to its bounds as it is read. Raises `Fault` for a redirect."""
        self.account.limiter.read_headers(response.headers)
        status = response.status_code
        if 300 <= status < 400:
            place = response.headers.get("location", "nowhere")
            raise Fault(
                f"redirected to {place}, where neither the prompt nor the key is sent. If that is "
                "the server, give it as --base-url",
                status=status,
            )
        raw = httpx2.Response(
            status, headers=response.headers, stream=response.stream, request=response.request
        )
        response.stream = BoundedStream(raw, self.account.args.timeout_s)
        response.headers.pop("content-encoding", None)

    def _refuse_elsewhere(self, request: httpx2.Request) -> None:
        """Raise `Fault` for a request to another place than the first: a server named it."""
        url = request.url
        place = (url.scheme, url.host, url.port)
        self.home = self.home or place
        if place != self.home:
            raise Fault(
                f"the server names {url.scheme}://{url.netloc.decode()} for the rest, where no key "
                "is sent",
                status=400,
            )


class BoundedStream(httpx2.AsyncByteStream):
    """The decoded body of a response. Raises `Fault` where it exceeds its bounds; the body of an
    error is cut there.
    """

    def __init__(self, raw: httpx2.Response, timeout_s: float) -> None:
        self._raw = raw
        self._timeout_s = timeout_s
        self._room = room_now()
        self._start = time.monotonic()

    async def __aiter__(self) -> AsyncGenerator[bytes, None]:
        n_bytes = n_line = 0
        most = self._room.most_bytes if self._raw.is_success else ERROR_BYTES
        async for chunk in self._chunks():
            n_bytes += len(chunk)
            at = chunk.rfind(b"\n")
            n_line = n_line + len(chunk) if at < 0 else len(chunk) - at - 1
            if n_bytes > most and not self._raw.is_success:
                yield chunk[: most - n_bytes]
                return
            if n_bytes > most or n_line > self._room.line_bytes:
                limit = most if n_bytes > most else self._room.line_bytes
                raise Fault(
                    f"the response is longer than {limit:,} bytes, more than the room for an "
                    "answer takes",
                    lost=True,
                )
            yield chunk

    async def _chunks(self) -> AsyncGenerator[bytes, None]:
        """Yield the body in pieces. Raises `Fault` where they come too slowly."""
        try:
            async for chunk in self._raw.aiter_bytes():
                most_s = self._timeout_s + self._raw.num_bytes_downloaded / SLOWEST
                if time.monotonic() - self._start > most_s + LATER_S:
                    raise Fault(_too_slow(most_s), lost=True)
                yield chunk
        except (Fault, httpx2.HTTPError):
            raise
        except Exception as error:
            raise Fault.from_exception(error) from error

    async def aclose(self) -> None:
        """Close the connection, or give it back."""
        await self._raw.aclose()


def _refuse_what_is_no_answer(body: bytes) -> None:
    """Raise `Fault` for a body that is no JSON object, or is an error and nothing else."""
    if words := no_json_object(body):
        raise Fault(f"malformed body: {words}", lost=True)
    if error := error_instead(body):
        raise Fault.in_answer(error)


def _too_slow(most_s: float) -> str:
    return f"no whole response within {most_s:,.1f} s (--model-arg timeout_s)"
