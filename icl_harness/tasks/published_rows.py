"""Row numbers that others have published: which test rows they asked.

In: the name of a data set. Out: the numbers of its rows, from 0, in the order of the published test
split. bertsch2024.json beside this file says where they are from.
"""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parent / "bertsch2024.json"


def bertsch_rows(name: str) -> tuple[int, ...]:
    """Return the 250 test rows of Bertsch et al. 2024: of "banking77", "clinc150" and "trec" in the
    test split, of "nlu" in the one split that there is. "nlu_test_split" are the rows of the latter
    that are no training data there.
    """
    listed: dict[str, list[int]] = json.loads(FILE.read_text(encoding="utf-8"))
    return tuple(listed[name])
