"""What a response of Gemini's says, as either SDK gives it: an answer, a refusal, or why there is
none.

Finish reasons: ai.google.dev/api/generate-content#FinishReason, November 2026.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from icl_harness.models.api.faults import CALLED_A_TOOL, NO_CONTENT, ONLY_THOUGHT, Fault, Reply
from icl_harness.models.base import Usage
from icl_harness.models.google.wire import read_usage

if TYPE_CHECKING:
    from google.genai.types import Candidate, GenerateContentResponse

CUT_OFF = {"MAX_TOKENS", "CONTINUATION"}  # more would have come
WITHHELD = {"SAFETY", "RECITATION", "BLOCKLIST", "PROHIBITED_CONTENT", "SPII", "LANGUAGE"}
TOOLS = {"MALFORMED_FUNCTION_CALL", "UNEXPECTED_TOOL_CALL", "TOO_MANY_TOOL_CALLS"}
UNSPECIFIED = "FINISH_REASON_UNSPECIFIED"  # also what the old SDK makes of one it does not know


def read_response(response: GenerateContentResponse) -> Reply:
    """Return the text of the first candidate, without thoughts. Raises `Fault` where there is
    none, or the server broke it off.
    """
    usage = read_usage(response.usage_metadata) if response.usage_metadata else Usage()
    if not response.candidates:
        feedback = response.prompt_feedback
        blocked = feedback and feedback.block_reason
        if not blocked:
            raise Fault(
                "malformed body: neither a candidate nor a reason for having none", lost=True
            )
        return Reply(text=None, usage=usage, refused=f"prompt blocked, {blocked.name}")
    candidate = response.candidates[0]
    parts = (candidate.content and candidate.content.parts) or []
    text = "".join(part.text or "" for part in parts if not getattr(part, "thought", None))
    reason = candidate.finish_reason.name if candidate.finish_reason else UNSPECIFIED
    if reason in WITHHELD or (reason == "OTHER" and not text):
        return Reply(text=None, usage=usage, refused=reason)
    if reason in TOOLS:
        return Reply(text="", usage=usage, silent=f"{CALLED_A_TOOL} ({reason})")
    if reason not in {"STOP", UNSPECIFIED, *CUT_OFF}:
        raise Fault(f"the server broke the answer off ({reason})", lost=True)
    is_cut = reason in CUT_OFF
    silent = "" if text or is_cut else _silence(candidate, reason)
    return Reply(text=text, usage=usage, cut_off=is_cut, silent=silent)


def _silence(candidate: Candidate, reason: str) -> str:
    """Return why a candidate without a text is no answer; "" where the model said nothing."""
    parts = (candidate.content and candidate.content.parts) or []
    if parts and all(getattr(part, "thought", None) for part in parts):
        return ONLY_THOUGHT
    return NO_CONTENT if not candidate.content or reason == UNSPECIFIED else ""
