"""What `icl show` says of a record beside its prompt: its cell, the answer, the gold answer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from icl_harness.cli.notes import imported_note
from icl_harness.counts import n_of
from icl_harness.store.records import StoredRecord


def about_record(record: StoredRecord, n_cells: int, header: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line on the cell and one on the answer. `n_cells` hold a record of the query;
    `header` is what the run's run.json says.
    """
    cell = record.cell
    about = f"{cell.task} {cell.model} {cell.mode} {cell.variant}"
    notes = [f"{about}, {n_of(cell.shots, 'shot')}, draw {cell.draw}"]
    if cell.format == "chat":
        notes.append("sent as the turns of a chat")
    elif header["spec"].get("model_args", {}).get("chat_template") == "true":
        notes.append("sent inside the model's chat template")
    if n_cells > 1:
        others = n_of(n_cells - 1, "other cell")
        notes.append(f"{others} asked it too: --shots, --draw, --mode … choose")
    yield f"\n[{'; '.join(notes)}]"
    if "imported" in header:
        yield f"[{imported_note(header)}]"
    if record.whole is not None:
        yield f"[the model wrote {record.whole!r}]"
    yield f"[{_answer(record)}]"


def _answer(record: StoredRecord) -> str:
    gold = "gold not stored" if record.target is None else f"gold {record.target!r}"
    if record.status == "ok" and record.answer is None:  # imported
        return f"answer not stored; {gold}; score {record.score:g}"
    if record.status != "ok":
        return f"{record.status}; {gold}"
    cut = ", cut by the limit on tokens" if record.cut else ""
    parsed = "not parsed" if record.parsed is None else f"parsed {record.parsed!r}"
    score = "no score" if record.score is None else f"score {record.score:g}"
    return f"answer {record.answer!r}{cut}; {parsed}; {gold}; {score}"
