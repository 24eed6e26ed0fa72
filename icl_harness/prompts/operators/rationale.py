"""Which answers the shots of reinforced mode show: are right ones what it learns from?"""

from __future__ import annotations

from icl_harness.examples import Example
from icl_harness.prompts.operators.registry import Argument, Context, Value, operator

OF_THE_BANK = ("right", "wrong", "majority", "gold", "pseudo")


def _read(text: str) -> Value:
    """Return one of the names, or where another bank lies: whether it is there is seen when it is
    opened, as a run is read when it may be gone.
    """
    if not text:
        raise ValueError
    return text.casefold() if text.casefold() in OF_THE_BANK else text


SOURCE = Argument(
    read=_read,
    rule=f"one of {', '.join(OF_THE_BANK)}, or the run folder or bank file of another model",
    sample="wrong",
)


@operator("shots", argument=SOURCE, needs_bank=True, modes=("reinforced",))
def rationale(shots: list[Example], context: Context, source: str) -> list[Example]:
    """Show the model's right answers, its wrong ones, the majority's, the gold ones, another's.

    All of these on the same problems: those with a right and a wrong attempt. `pseudo`: the
    majority's answer to every problem, so that no gold answer is used.
    """
    return [shot for shot in shots if shot.id in context.solved]
