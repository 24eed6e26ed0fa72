"""Row numbers that others have published: which test rows they asked.

In: the name of a data set, and the folder of lists beside its rows. Out: the numbers of its rows,
from 0, in the order of the published test split.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

from icl_harness.errors import DataError
from icl_harness.tasks.data_folder import LOCAL_FOLDER
from icl_harness.tasks.rows import RowNumbers

FOLDER = "long_context_icl_splits"
FILES = {
    "banking77": "banking-indices",
    "clinc150": "clinic-indices",
    "trec": "trec-indices",
    "nlu": "nlu-test-indices",
    "nlu_test_split": "map-nlu-test",
}


def bertsch_rows(name: str) -> RowNumbers:
    """Return the 250 test rows of Bertsch et al. 2024: of "banking77", "clinc150" and "trec" in the
    test split, of "nlu" in the one split that there is. "nlu_test_split" are the rows of the latter
    that are no training data there.

    Their lists are read from `long_context_icl_splits` in the folder of `--data` once rows are;
    where they are not there, that raises `DataError`.
    """
    return functools.partial(_listed, name)


def _listed(name: str, data: Path | None) -> frozenset[int]:
    folder = (data or LOCAL_FOLDER) / FOLDER
    for suffix in (".json", ".txt"):
        file = folder / f"{FILES[name]}{suffix}"
        if file.is_file():
            return _numbers(file)
    raise DataError(
        f"{folder} lacks {FILES[name]}.txt, the test rows of Bertsch et al. 2024. Put their folder "
        "dataset-splits (github.com/abertsch72/long-context-icl) there under that name, or name "
        "its parent with --data."
    )


def _numbers(file: Path) -> frozenset[int]:
    try:
        listed = json.loads(file.read_text(encoding="utf-8"))
        return frozenset(int(number) for number in listed)
    except (OSError, ValueError, TypeError) as error:
        raise DataError(f"{file} is no list of row numbers in brackets: {error}.") from error
