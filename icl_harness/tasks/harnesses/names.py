"""Names of other harnesses' tasks: "lm-eval:NAME", "lm-eval:FILE.yaml", "inspect:FILE@TASK"."""

from __future__ import annotations

LM_EVAL, INSPECT = "lm-eval:", "inspect:"


def is_foreign(name: str) -> bool:
    """Return whether a name is that of another harness's task."""
    return name.startswith((LM_EVAL, INSPECT))


def without_folder(name: str) -> str:
    """Return the name of another harness's task as it is wherever its file lies."""
    harness, _, rest = name.partition(":")
    return f"{harness}:{rest.rpartition('/')[2]}"
