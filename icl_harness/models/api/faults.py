"""What one request to an API came to: a reply, or a fault with its fate (retry, overflow, refused,
stop).

In: status, body and headers of any provider's error. Out: a `Fault` with its fate and one line
without secrets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from icl_harness.errors import IclError
from icl_harness.models.api.bounds import in_words
from icl_harness.models.api.error_bodies import codes_of, message_of, retry_delay_s, status_of
from icl_harness.models.api.limiter import retry_after_s
from icl_harness.models.base import Usage
from icl_harness.printable import without_controls

Fate = Literal["account", "overflow", "refused", "transient", "failed"]

OVERFLOW_CODES = {
    "context_length_exceeded",
    "exceed_context_size_error",
    "request_too_large",
    "string_above_max_length",
}
FILTER_CODES = {"content_filter", "content_policy_violation", "invalid_prompt"}
ACCOUNT_CODES = {
    "insufficient_quota",
    "billing_hard_limit_reached",
    "billing_not_active",
    "billing_error",
    "account_deactivated",
    "invalid_api_key",
    "API_KEY_INVALID",
    "model_not_found",
}
# Not every server gives a code. The forms known: OpenAI and vLLM; Anthropic; Gemini; SGLang;
# llama.cpp; TGI.
OVERFLOW_TEXT = re.compile(
    r"maximum context length|longer than the (maximum model length|model's context length)"
    r"|prompt is too long|input length and `?max_tokens`? exceed"
    r"|input token count .*exceeds the maximum|input tokens exceed|request payload size exceeds"
    r"|exceeds? the (model's maximum|available) context"
    r"|`inputs` tokens \+ `max_new_tokens` must be|`inputs` must have less",
    re.IGNORECASE,
)
# Limits in money and limits of a place; a quota of Gemini's that is 0; one of a day, which no wait
# of ours outlasts.
ACCOUNT_TEXT = re.compile(
    r"credit balance is too low|API key not valid|API key expired"
    r"|reached your specified API usage limits|credits are depleted|location is not supported"
    r"|Quota exceeded .*\blimit: 0(?![.\d])",
    re.IGNORECASE | re.DOTALL,
)
DAILY = "PerDay"  # in the name of a quota of Gemini's
# A 429 to a request that the account could never send, however long it waits: others, with fewer
# shots, may pass.
NEVER_TEXT = re.compile(r"request too large for|required for long context requests", re.IGNORECASE)
# Without a code of its own: OpenRouter's 403 to a flagged prompt, Anthropic's 400 to an answer that
# was withheld.
FILTER_TEXT = {
    403: re.compile(r"moderation|flagged", re.IGNORECASE),
    400: re.compile(r"(output|response) (was )?blocked by content filter", re.IGNORECASE),
}
SECRET = re.compile(r"(sk-|AIza)[\w*.-]{4,}|(?<=Bearer )\S+|(?<=://)[^/@\s]+(?=@)")
MOST_TEXT = 4000  # characters of a message that are looked at; a line shows 300
MOST_CODES, MOST_CODE = 20, 100
PIECE = 8  # characters of a key's beginning or end that give it away
TRANSIENT_STATUS = {408, 409, 429}
# Of httpx2, aiohttp, requests and Python itself: no connection came about; one broke off, however
# that is wrapped.
UNREACHED = {
    "ConnectError",
    "ConnectTimeout",
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ConnectionTimeoutError",
    "ConnectionRefusedError",
    "NewConnectionError",
    "gaierror",
}
SHAPE = (AttributeError, LookupError, TypeError, RecursionError)
# Why a response that came whole holds no answer (`Reply.silent`)
NO_CONTENT = "the server gave no content"
ONLY_THOUGHT = "the model thought and gave no answer"
CALLED_A_TOOL = "the model called a tool and gave no answer"
BROKEN_OFF = {"ServerDisconnectedError", "ClientOSError", "ConnectionResetError"}


@dataclass(frozen=True)
class Miss:
    """What a provider finds that differs from an earlier request, and how many tokens follow it;
    None where it does not say how many.
    """

    reason: str
    tokens: int | None = None


@dataclass(frozen=True, kw_only=True)
class Reply:
    """What a response says. `text` is None where it was refused or withheld; `refused` then says
    why. Back ends that read more than a text derive from it.
    """

    text: str | None
    usage: Usage = field(default_factory=Usage)
    written_1h: int = 0  # of the tokens written to a cache, those kept for an hour; priced apart
    refused: str = ""
    cut_off: bool = False  # the limit on tokens ended it
    id: str = ""
    miss: Miss | None = None  # why a cache was not read, where the provider was asked and says so
    silent: str = ""  # why there is no answer, where the model was at fault for none: it is missing


class Fault(Exception):
    """One request that went wrong, in the provider's words. `status` is None without a response."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        codes: frozenset[str] = frozenset(),
        retry_after_s: float = 0,
        lost: bool = False,
        unreached: bool = False,
    ) -> None:
        super().__init__(message[:MOST_TEXT])
        self.status = status
        self.codes = codes
        self.retry_after_s = retry_after_s
        # it broke off once it was sent: it may have been answered, and charged for
        self.lost = lost
        self.unreached = unreached  # no connection came about

    @classmethod
    def from_body(
        cls, status: int | None, body: object, fallback: str, headers: Mapping[str, str]
    ) -> Fault:
        """Read an error body of any provider; `fallback` is the text where it has no message."""
        return cls(
            in_words(message_of(body)[:MOST_TEXT] or fallback),
            status=status,
            codes=frozenset(code[:MOST_CODE] for code in codes_of(body)[:MOST_CODES]),
            retry_after_s=retry_after_s(headers) or retry_delay_s(body),
        )

    @classmethod
    def in_answer(cls, error: object) -> Fault:
        """Read an error that came in the place of an answer, with a status of 200: the status that
        it should have had stands in it, or it is worth another try.
        """
        body = error if isinstance(error, dict) else {"message": str(error)}
        fault = cls.from_body(status_of(body), body, "an error without words", {})
        fault.lost = fault.fate == "transient"
        return fault

    @classmethod
    def from_exception(cls, error: Exception) -> Fault:
        """Read whatever came where no response did, or one of another shape. Raises what is no
        fault: an error that the user can mend.
        """
        if isinstance(error, IclError):
            raise error
        causes = list(_causes(error))
        for found in causes:
            if isinstance(found, Fault):  # an SDK may wrap it
                return found
        if isinstance(error, SHAPE):  # SDKs build their classes from any JSON
            return cls(f"malformed body: {_shape(error)}", lost=True)
        cause = error.__cause__ or error.__context__
        names = {type(e).__name__ for e in causes}
        if names & UNREACHED and not names & BROKEN_OFF:
            return cls(f"no connection: {cause or error}".rstrip("."), unreached=True)
        texts = [f"{type(e).__name__}: {e}" for e in (error, cause) if e is not None]
        return cls(", ".join(text.rstrip(": .") for text in texts), lost=True)

    @property
    def is_redirect(self) -> bool:
        """Whether the server named another place."""
        return self.status is not None and 300 <= self.status < 400

    @property
    def fate(self) -> Fate:
        """Return what becomes of the request, by the provider's code where it gives one."""
        text = str(self)
        if self.codes & FILTER_CODES or (
            self.status in FILTER_TEXT and FILTER_TEXT[self.status].search(text)
        ):
            return "refused"
        if self.codes & OVERFLOW_CODES or self.status == 413:
            return "overflow"
        if self.status in {400, 422} and OVERFLOW_TEXT.search(text):
            return "overflow"
        if (
            self.codes & ACCOUNT_CODES
            or self.status in {401, 402, 403, 404}
            or ACCOUNT_TEXT.search(text)
        ):
            return "account"
        if any(DAILY in code for code in self.codes):
            return "account"
        if self.status == 429 and NEVER_TEXT.search(text):
            return "failed"
        if self.status is None or self.status in TRANSIENT_STATUS or self.status >= 500:
            return "transient"
        return "failed"

    def describe(self, *secrets: str) -> str:
        """Return status, code and message in one line without secrets."""
        head = " ".join(filter(None, [str(self.status or ""), *sorted(self.codes - {"error"})]))
        return one_line(f"{head}: {self}" if head else str(self), *secrets)


def one_line(text: str, *secrets: str) -> str:
    """Return `text` in one storable line of at most 300 characters, without keys or passwords."""
    text = without_controls(storable(text))
    for secret in filter(None, secrets):
        text = _without(text, secret)
    text = SECRET.sub("***", " ".join(text.split())).rstrip(".")
    return text if len(text) <= 300 else text[:299] + "…"


def _without(text: str, secret: str) -> str:
    """Return `text` without a secret, whole or cut: pydantic shows the beginning and the end of
    what it cannot read.
    """
    for n in range(len(secret), min(len(secret), PIECE) - 1, -1):
        text = text.replace(secret[:n], "***").replace(secret[-n:], "***")
    return text


def storable(text: str) -> str:
    """Return `text` as UTF-8 can hold it: JSON may carry halves of surrogate pairs, which become
    question marks.
    """
    return text.encode("utf-8", "replace").decode()


def counted(n: object, name: str) -> int:
    """Return a number of tokens that the store can hold, 0 for None. Raises `ValueError`, in words,
    for anything else.
    """
    if n is None:
        return 0
    if not isinstance(n, int) or isinstance(n, bool):
        raise ValueError(f"usage: {name} is {shown(n)}, no count of tokens")
    if n < 0:
        raise ValueError(f"usage: {name} is {shown(n)}, less than nothing")
    if n >= 2**63:
        raise ValueError(f"usage: {name} is {shown(n)}, more than can be counted")
    return n


def shown(value: object) -> str:
    """Return a value that came where another kind was due, cut short, and what kind it is."""
    kinds = {str: "a text", float: "a fraction", list: "a list", dict: "an object"}
    kind = kinds.get(type(value))
    text = repr(value)[:40]
    return f"{text} ({kind})" if kind else text


def _shape(error: Exception) -> str:
    return "nested too deeply" if isinstance(error, RecursionError) else str(error)


def _causes(error: BaseException) -> Iterator[BaseException]:
    at: BaseException | None = error
    for _ in range(10):
        if at is None:
            return
        yield at
        at = at.__cause__ or at.__context__
