"""What a run of a fine-tuned model cannot have, and where it says what its trainings took.

In: a spec, a line's prompts; the answers of a cell. Out: refusals, and a row of `training.csv` in
the run folder for every training, as it ends. A run that was stopped while it trained trains again:
then a cell has two rows, for both were paid for.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from pathlib import Path

from icl_harness.errors import SpecError
from icl_harness.files import write_atomically
from icl_harness.models import fine_tunes
from icl_harness.models.base import Answer
from icl_harness.models.training import Training
from icl_harness.prompts.tree import Node
from icl_harness.prompts.variants import parse_variant
from icl_harness.runner.spec import Spec
from icl_harness.store.records import Cell

TRAINING_FILE = "training.csv"
OF_CELL = ("task", "model", "mode", "variant", "shots", "draw")
COLUMNS = (
    *OF_CELL,
    "shots_used",
    "learning_rate",
    "losses",
    "held_out",
    "epochs",
    "tokens",
    "choice_tokens",
    "seconds",
    "choice_seconds",
)


def refuse_untrainable(spec: Spec) -> None:
    """Raise `SpecError` where a model that is fine-tuned is asked for what it cannot do."""
    for model in filter(fine_tunes, spec.models):
        if "unsupervised" in spec.modes:
            raise SpecError(
                f"{model} learns from answers, and the shots of unsupervised mode show none. Leave "
                "out the mode or the model."
            )
        for variant in spec.variants:
            _refuse_variant(model, variant)
        if spec.queries_per_request > 1:
            raise SpecError(
                f"{model} is trained on one problem at a time and must be asked so. Leave out "
                "--queries-per-request or the model."
            )
        if spec.scoring == "choices-pmi":
            raise SpecError(
                f"{model} is another model in every cell, and --scoring choices-pmi weighs the "
                "bare cue once a run. Use --scoring choices, choices-per-byte or "
                "choices-calibrated."
            )


def _refuse_variant(model: str, variant: str) -> None:
    changes = parse_variant(variant)
    if changes.selects:
        raise SpecError(
            f"{model} is trained once for all queries of a cell, and variant {variant} shows each "
            "query shots of its own. Leave out the variant or the model."
        )
    if changes.frame.filler:
        raise SpecError(
            f"{model} learns from examples, and variant {variant} shows none. Leave out the "
            "variant or the model."
        )


def refuse_unanswered(model: str, variant: str, node: Node) -> None:
    """Raise `SpecError` where a model that is fine-tuned is shown a shot without its answer."""
    if fine_tunes(model) and any(shot.target is None for shot in node.shots):
        raise SpecError(
            f"{model} learns from answers, and variant {variant} shows shots without any. Leave "
            "out the variant or the model."
        )


def note_trainings(folder: Path, cell: Cell, answers: Iterable[Answer], shots_used: int) -> None:
    """Add a row to a run's `training.csv` for each training that came before answers. Raises
    `StoreError`.
    """
    for training in (answer.training for answer in answers):
        if training is not None:
            _append(folder / TRAINING_FILE, _row(cell, shots_used, training))


def trainings(folder: Path) -> dict[str, list[dict[str, str]]]:
    """Return model -> the rows of a run's `training.csv`; nothing where there is none."""
    file, found = folder / TRAINING_FILE, dict[str, list[dict[str, str]]]()
    if not file.exists():
        return found
    with file.open(newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            found.setdefault(row["model"], []).append(row)
    return found


def _row(cell: Cell, shots_used: int, training: Training) -> list[object]:
    losses = " ".join(f"{rate:g}:{loss:.4f}" for rate, loss in training.losses.items())
    return [
        *(getattr(cell, name) for name in OF_CELL),
        shots_used,
        f"{training.learning_rate:g}",
        losses,
        training.held_out,
        training.epochs,
        training.tokens,
        training.choice_tokens,
        round(training.seconds, 3),
        round(training.choice_seconds, 3),
    ]


def _append(file: Path, row: list[object]) -> None:
    """Add a row. The file is replaced as a whole, so that a kill leaves no half of one."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    if file.exists():
        text.write(file.read_text(encoding="utf-8"))
    else:
        writer.writerow(COLUMNS)
    writer.writerow(row)
    write_atomically(file, text.getvalue().encode())
