"""FLORES-200: the same sentences in some 200 languages, in pairs.

In: two language codes, such as eng_Latn and kmr_Latn. Out: rows with the columns sentence_<code> of
both. They stand in one file, DIR/flores200/dev or devtest; on the hub (gated: it needs an account's
token) each language is a config of its own, whose sentences are joined by their id.
"""

from __future__ import annotations

import csv
import functools
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from icl_harness.errors import DataError, SpecError, nearest
from icl_harness.examples import Example
from icl_harness.tasks.hub import Hub, hub_rows
from icl_harness.tasks.row_files import PlacedRow
from icl_harness.tasks.rows import MakeExample, build, rows

HUB_ID = "openlanguagedata/flores_plus"


@dataclass(frozen=True, kw_only=True)
class Flores:
    """The sentences of one split in two languages, the `first` so many of them."""

    codes: tuple[str, str]
    split: str
    first: int | None = None

    def examples(self, make: MakeExample, task: str, data: Path | None) -> list[Example]:
        """Return the examples of all sentences, in order. Raises `DataError`."""
        if data is not None:
            file = rows(self.split, f"flores200/{self.split}", first=self.first)
            return file.examples(make, task, data)
        found = []
        for number, (where, raw) in enumerate(islice(self._joined(), self.first)):
            example = build(make, raw, number, self.split, where)
            if example is not None:
                found.append(example)
        return found

    def _joined(self) -> Iterator[PlacedRow]:
        """Yield the hub's rows of the first language, each with its sentence in the other."""
        first, second = (hub_rows(Hub(id=HUB_ID, config=code), self.split) for code in self.codes)
        others = {row["id"]: row["text"] for _, row in second}
        for where, row in first:
            if row["id"] not in others:
                raise DataError(f"{where}: {self.codes[1]} has no sentence of id {row['id']}.")
            sentences: dict[str, Any] = {f"sentence_{self.codes[0]}": row["text"]}
            sentences[f"sentence_{self.codes[1]}"] = others[row["id"]]
            yield where, {"id": row["id"], **sentences}


def flores(source: str, target: str, *, split: str, first: int | None = None) -> Flores:
    """Return the sentences of two languages, of the split "dev" or "devtest"."""
    return Flores(codes=(source, target), split=split, first=first)


def flores_language(code: str) -> str:
    """Return the name of a language by its code in FLORES-200. Raises `SpecError`."""
    known = _languages()
    if code not in known:
        named = [c for c, name in known.items() if code and code.casefold() in name.casefold()]
        hint = f" {known[named[0]]} is {named[0]}." if named else nearest(code, known)
        raise SpecError(f"{code!r} is no language code of FLORES-200, as kmr_Latn is.{hint}")
    return known[code]


@functools.cache
def _languages() -> dict[str, str]:
    """Return code -> name, as the data set's own page lists them, and codes of the hub's copy."""
    file = Path(__file__).parent / "flores_languages.csv"
    with file.open(encoding="utf-8", newline="") as stream:
        return {row["code"]: row["language"] for row in csv.DictReader(stream)}
