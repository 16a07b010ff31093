"""How CREMA-D's listeners confuse emotions: the shares of their voice-only votes.

Source: Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset",
IEEE Transactions on Affective Computing 5(4), 2014.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ser.utils.errors import UserError

EMOTIONS = ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
# Rows: intended emotion; columns: perceived emotion; 68,568 votes.
VOTE_SHARES = np.array(
    [
        [0.532, 0.211, 0.051, 0.019, 0.176, 0.011],
        [0.121, 0.286, 0.092, 0.028, 0.377, 0.096],
        [0.064, 0.063, 0.321, 0.030, 0.383, 0.139],
        [0.070, 0.075, 0.082, 0.290, 0.450, 0.033],
        [0.039, 0.059, 0.050, 0.020, 0.762, 0.070],
        [0.019, 0.070, 0.116, 0.013, 0.531, 0.250],
    ]
)
_SPELLINGS = {
    "anger": ("anger", "angry", "ang"),
    "disgust": ("disgust", "disgusted", "dis"),
    "fear": ("fear", "fearful", "fea"),
    "happiness": ("happiness", "happy", "hap", "joy"),
    "neutral": ("neutral", "neu"),
    "sadness": ("sadness", "sad"),
}
# Emotions that CREMA-D lacks, by the emotion whose row they take.
_NEIGHBOURS = {
    "anger": ("frustration", "frustrated", "fru"),
    "happiness": ("surprise", "surprised", "sur", "excitement", "excited", "exc"),
    "neutral": ("calm", "cal", "boredom", "bored", "bor"),
}


def crema_d_transition(classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the transition matrix of CREMA-D's listeners for these classes.

    A class that CREMA-D lacks takes the row of its neighbour (calm and boredom: neutral; surprise and excitement:
    happiness; frustration: anger). The column of a perceived emotion belongs to the first class of that name, else to
    the first neighbouring class; columns that belong to no class are dropped, and rows normalised.

    Args:
        classes: C class names: nouns, adjectives or three-letter abbreviations, in any case.

    Returns:
        (C, C) intended × perceived, rows sum to 1.

    Raises:
        UserError: If class names are unknown; lists all of them.
    """
    exact = {name: emotion for emotion, names in _SPELLINGS.items() for name in names}
    neighbour = {name: emotion for emotion, names in _NEIGHBOURS.items() for name in names}
    known = exact | neighbour
    folded = [name.casefold() for name in classes]
    if unknown := [name for name, fold in zip(classes, folded, strict=True) if fold not in known]:
        raise UserError(
            f"noise recipe 'human' has no confusions for {'class' if len(unknown) == 1 else 'classes'} "
            f"{', '.join(map(repr, unknown))}. Known: {', '.join(sorted(known))}. "
            "Use symmetric:RATE, which works for any classes."
        )
    transition = np.zeros((len(folded), len(folded)))
    rows = [EMOTIONS.index(known[name]) for name in folded]
    for column, emotion in enumerate(EMOTIONS):
        owners = [i for i, name in enumerate(folded) if exact.get(name) == emotion]
        owners += [i for i, name in enumerate(folded) if neighbour.get(name) == emotion]
        if owners:
            transition[:, owners[0]] = VOTE_SHARES[rows, column]
    return np.asarray(transition / transition.sum(axis=1, keepdims=True))
