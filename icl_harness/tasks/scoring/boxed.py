r"""The answer in the last `\boxed{}` of a worked solution, as in MATH's."""

from __future__ import annotations

import re

_BOX = re.compile(r"\\(?:boxed|fbox)\s*(?:\{|(?P<bare>[^\s{}$]+))")


def boxed_answer(solution: str) -> str | None:
    r"""Return what the last `\boxed{}` or `\fbox{}` holds, braces inside it included; of
    `\boxed 5` the 5. None where there is none.
    """
    boxes = list(_BOX.finditer(solution))
    if not boxes:
        return None
    last = boxes[-1]
    if last["bare"]:
        return last["bare"].rstrip(".,")
    depth = 1
    for place in range(last.end(), len(solution)):
        is_escaped = solution[place - 1] == "\\"
        if not is_escaped:
            depth += {"{": 1, "}": -1}.get(solution[place], 0)
        if depth == 0:
            return solution[last.end() : place].strip() or None
    return None
