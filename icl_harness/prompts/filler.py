"""Text that holds no example, as long as the shots in whose place it stands: a control for length.

In: the text of a shot and how its length is measured. Out: words at random, without any of the
labels, with as many tokens and the same white space at the end. The n-th filler of a draw is the
same at every shot count, so prompts of a draw are nested.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

import numpy as np

from icl_harness.draws import stable_seed

Measure = Callable[[str], int]  # the length of a text: in tokens where the model tells them
Filler = Callable[[int, str], str]  # (place, text of the shot) → the text in its place

# everyday nouns of no topic, most of them one token
WORDS = """
    window paper garden table stone ladder bottle curtain candle basket kettle pencil carpet
    bridge button corner drawer fence shelf pillow mirror bucket blanket hammer lantern ribbon
    saddle ticket tunnel violin wagon willow anchor barrel cabin canvas cellar cotton engine
    feather glove harvest island jacket kitchen leather market needle orchard parcel quilt river
    sailor timber umbrella valley whistle acorn marble meadow copper bamboo
"""
PADDING = " ."  # a token to most tokenizers
MOST_PADDING = 8


def n_bytes(text: str) -> int:
    """Return the bytes of a text, where no tokens are known."""
    return len(text.encode())


def make_filler(measure: Measure, labels: Collection[str], *parts: object) -> Filler:
    """Return what makes the fillers of a draw; `parts` tell it from others."""
    said = set(re.findall(r"\w+", " ".join(labels).casefold()))
    words = [word for word in WORDS.split() if word not in said]

    def filler(place: int, shot: str) -> str:
        ending = shot[len(shot.rstrip()) :] or "\n"
        room = measure(shot)
        rng = np.random.default_rng(stable_seed("filler", *parts, place))
        chosen = [words[i] for i in rng.integers(len(words), size=max(room, 1))]
        n = _most(lambda n: measure(" ".join(chosen[:n]) + ending) <= room, len(chosen))
        text = " ".join(chosen[:n])
        for _ in range(MOST_PADDING):
            if measure(text + PADDING + ending) > room:
                break
            text += PADDING
        return text + ending

    return filler


def _most(fits: Callable[[int], bool], most: int) -> int:
    """Return the largest number up to `most` that fits; 0 where none does."""
    low, high = 0, most + 1  # low fits, or is 0
    while high - low > 1:
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return low
