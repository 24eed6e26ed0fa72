"""The process in which expressions are compared: math-verify, held to a limit.

In: lines of JSON on standard input, [target, expression]. Out: a line for each, `true` or `false`.
Some expressions (`9^{9^{9^9}}`) keep sympy busy for hours, inside calls that no signal handler and
no thread can interrupt. Here the system ends the process at the limit; latex.py starts another.
"""

from __future__ import annotations

import contextlib
import json
import re
import resource
import signal
import sys
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

SECONDS = 2  # of CPU time for one comparison, so that a busy machine changes no verdict
MOST_BYTES = 4 << 30  # of memory
_MATHS = re.compile(r"\$|\\\(|\\\[")


def main() -> None:
    """Compare until standard input ends."""
    verdicts, sys.stdout = sys.stdout, sys.stderr  # what libraries print is no verdict
    with contextlib.suppress(ValueError, OSError):  # not every system limits memory
        resource.setrlimit(resource.RLIMIT_AS, (MOST_BYTES, MOST_BYTES))
    _is_same("1", "1")  # now, as imports take longer than the limit allows
    for line in sys.stdin:
        target, said = json.loads(line)
        signal.setitimer(signal.ITIMER_PROF, SECONDS)  # SIGPROF ends a process
        verdict = _is_same(target, said)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps(verdict), file=verdicts, flush=True)


def _is_same(target: str, said: str) -> bool:
    from math_verify import verify

    gold, found = _parsed(target), _parsed(said)
    if not gold or not found or (_equates(gold) and not _has_relation(found)):
        return False
    return bool(verify(list(gold), list(found), timeout_seconds=0))


def _equates(readings: Sequence[Any]) -> bool:
    """Return whether an expression is an equation that no name begins, as `x + y + z = 0`: that
    says more than the 0, which math-verify would take for it. Of `y = 2x` the side is enough.
    """
    first = readings[0]
    return _is(first, "is_Equality") and not _is(first.lhs, "is_Symbol", "is_Function")


def _has_relation(readings: Sequence[Any]) -> bool:
    return _is(readings[0], "is_Relational", "is_Boolean")


def _is(expression: Any, *kinds: str) -> bool:
    """Return whether sympy says that an expression is of one of these kinds."""
    return any(getattr(expression, kind, False) is True for kind in kinds)


@lru_cache(maxsize=10_000)
def _parsed(text: str) -> tuple[Any, ...]:
    """Return math-verify's readings of an expression; none where it has none."""
    from math_verify import parse

    marked = text if _MATHS.search(text) else f"\\boxed{{{text}}}"
    return tuple(parse(marked, parsing_timeout=0))


if __name__ == "__main__":
    main()
