r"""Mathematical answers: are answer and target the same expression, set, interval or point?

`\dfrac12`, .5 and `\frac{1}{2}` are one answer, as are `\{1,2\}` and `\{2,1\}`. What is equal is
math-verify's to say (https://github.com/huggingface/Math-Verify); where it reads no expression, as
in "Evelyn", the words are compared. Expressions that it cannot compare within the limits of
latex_worker.py (`9^{9^{9^9}}`) are unparsed, from whichever thread they are scored.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
from functools import lru_cache

from icl_harness.errors import DataError
from icl_harness.examples import Example
from icl_harness.tasks.scoring.base import UNPARSED, Score, plain, spoken
from icl_harness.tasks.scoring.final_claims import claims, first_problem

_LONGEST = 1000  # characters of an expression; longer ones take sympy minutes
_OR = re.compile(r"\bor\b")
_LOCK = threading.Lock()  # one comparison at a time
KILLED = (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGHUP)
Worker = subprocess.Popen[str]


def latex_match(answer: str, example: Example) -> Score:
    """Compare the answer's final expression with the target's, as math-verify does.

    The final expression stands in the last `\\boxed{}` or after the last "final answer is" (or
    "answer:", "####") of the first problem; without such a mark the answer has to be one line.
    """
    said = _final_expression(answer)
    if said is None or len(said) > _LONGEST:
        return UNPARSED
    if _OR.search(said) and not _OR.search(example.target):
        return UNPARSED  # two answers are none
    is_same = _is_same(example.target, said)
    return UNPARSED if is_same is None else Score(said, float(is_same))


def _final_expression(answer: str) -> str | None:
    text = first_problem(spoken(answer)).strip()
    found = claims(text)
    if found and found[-1].is_denied:
        return None
    said = found[-1].text if found else text
    if not found and ("\n" in said or "\\boxed" in said):
        return None
    lines = [line.strip() for line in said.split("\n") if re.search(r"\w|\\", line)]
    return lines[0].strip().rstrip(" .") or None if lines else None


@lru_cache(maxsize=10_000)
def _is_same(target: str, said: str) -> bool | None:
    """Return whether two expressions are equal; None where the worker found no verdict within its
    limits.
    """
    if _words(target) == _words(said):
        return True
    request = json.dumps([target, said])
    with _LOCK:
        verdict, is_killed = _verdict(request)
        if is_killed:  # by another process, or for want of memory: that is no verdict
            verdict, _ = _verdict(request)
    return None if not verdict else bool(json.loads(verdict))


def _verdict(request: str) -> tuple[str, bool]:
    """Return the worker's line, "" where it has ended, and whether it was killed from outside."""
    worker, verdict = _worker(os.getpid()), ""
    try:
        verdict = _ask(worker, request)
    finally:  # after Ctrl-C, too: the next question is not to read this one's verdict
        if not verdict:
            _worker.cache_clear()
            _end(worker)
    return verdict, not verdict and worker.returncode in KILLED


@lru_cache(maxsize=1)
def _worker(_: int) -> Worker:
    """Start the process that compares: one for each process that asks, by its id."""
    path = os.pathsep.join(sys.path)  # so that it imports what this process imports
    worker = subprocess.Popen(
        [sys.executable, "-m", "icl_harness.tasks.scoring.latex_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": path},
        text=True,
        start_new_session=True,  # what ends the run is for the run to handle
    )
    atexit.register(_end, worker)
    if not _ask(worker, json.dumps(["1", "1"])):
        raise DataError("math-verify cannot be started: latex_match compares no expressions.")
    return worker


def _ask(worker: Worker, request: str) -> str:
    """Return the worker's line; "" where it has ended."""
    stdin, stdout = worker.stdin, worker.stdout
    if stdin is None or stdout is None:
        return ""
    try:
        stdin.write(request + "\n")
        stdin.flush()
        return stdout.readline()
    except (OSError, ValueError):  # its pipes are closed
        return ""


def _end(worker: Worker) -> None:
    worker.kill()  # a fork of this process may hold its pipes open
    for pipe in (worker.stdin, worker.stdout):
        if pipe is not None:
            with contextlib.suppress(OSError):
                pipe.close()
    worker.wait()
    atexit.unregister(_end)


def _words(text: str) -> str:
    return re.sub(r"\s|\\(?:text|mathrm|textbf|left|right)\b|[{}]", "", plain(text))
