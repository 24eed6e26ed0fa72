"""What the body of a provider's error says: its message, its codes, its status, how long to wait.

In: JSON of any shape. Out: texts and numbers. Left out: what becomes of the request (faults.py).
"""

from __future__ import annotations

import json
import re
from itertools import chain

from icl_harness.models.api.limiter import capped_s

# An error that comes with a status of 200 names the status that it should have had, or its kind:
# docs.anthropic.com (errors), google.rpc.Code, platform.openai.com (error codes).
STATUS_OF_KIND = {
    "authentication_error": 401, "UNAUTHENTICATED": 401, "billing_error": 402,
    "permission_error": 403, "PERMISSION_DENIED": 403, "not_found_error": 404, "NOT_FOUND": 404,
    "invalid_request_error": 400, "INVALID_ARGUMENT": 400, "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400, "request_too_large": 413, "rate_limit_error": 429,
    "RESOURCE_EXHAUSTED": 429, "api_error": 500, "server_error": 500, "INTERNAL": 500,
    "UNAVAILABLE": 503, "DEADLINE_EXCEEDED": 504, "timeout_error": 504, "overloaded_error": 529,
}  # fmt: skip
# What stands in a response that is one, beside an error or not: answers, batches, caches, counts.
ANSWERS = ("choices", "content", "output", "candidates", "name", "id", "data", "predictions")
MOST_BYTES = 1 << 16  # of an error that is looked for


def error_instead(body: bytes) -> object:
    """Return the error that a response holds and nothing else, though its status was 200; None
    where there is none.
    """
    if len(body) > MOST_BYTES or b'"error"' not in body:
        return None
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return None
    if isinstance(found, list) and len(found) == 1:
        [found] = found
    if not isinstance(found, dict) or any(found.get(name) for name in ANSWERS):
        return None
    return found.get("error") or None


def status_of(error: object) -> int | None:
    """Return the status that an error names in its body, by number or by kind; None without."""
    if not isinstance(error, dict):
        return None
    named = [str(error.get(key)) for key in ("code", "status", "type")]
    numbers = [int(name) for name in named if re.fullmatch(r"[45]\d\d", name)]
    kinds = [STATUS_OF_KIND[name] for name in named if name in STATUS_OF_KIND]
    return next(chain(numbers, kinds), None)


def message_of(body: object) -> str:
    """Return the message of an error's body; "" where it has none."""
    if isinstance(body, list):
        return message_of(body[0]) if body else ""
    if isinstance(body, dict):
        texts = (message_of(body.get(key)) for key in ("error", "message", "detail"))
        return next(filter(None, texts), "")
    return body if isinstance(body, str) else ""


def retry_delay_s(body: object) -> float:
    """Return the wait that Google's error bodies name, as in {"retryDelay": "34s"}; 0 where there
    is none.
    """
    if isinstance(body, list):
        return max(map(retry_delay_s, body), default=0.0)
    if not isinstance(body, dict):
        return 0.0
    delay = body.get("retryDelay")
    if isinstance(delay, str) and re.fullmatch(r"[\d.]+s", delay):
        return capped_s(float(delay[:-1]))
    return max(map(retry_delay_s, body.values()), default=0.0)


def codes_of(body: object) -> list[str]:
    """Return every string that stands as a code, type, status, reason or quota anywhere in an error
    body.
    """
    if isinstance(body, list):
        return list(chain.from_iterable(map(codes_of, body)))
    if not isinstance(body, dict):
        return []
    names = {"code", "type", "status", "reason", "quotaId"}
    own = [v for k, v in body.items() if k in names and isinstance(v, str)]
    return own + list(chain.from_iterable(map(codes_of, body.values())))
