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
_EMOTION = {name: emotion for emotion, names in _SPELLINGS.items() for name in names}
# Emotions that CREMA-D lacks, by the emotion whose row they had in version 0.1.
_FORMER = {
    "anger": ("frustration", "frustrated", "fru"),
    "happiness": ("surprise", "surprised", "sur", "excitement", "excited", "exc"),
    "neutral": ("calm", "cal", "boredom", "bored", "bor"),
}


def crema_d_transition(classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the transition matrix of CREMA-D's listeners for these classes.

    Columns of emotions that are not among the classes are dropped, and rows normalised.

    Args:
        classes: C class names: nouns, adjectives or three-letter abbreviations, in any case.

    Returns:
        (C, C) intended × perceived, rows sum to 1.

    Raises:
        UserError: If CREMA-D lacks classes, or two names are the same emotion; the message says what to take instead.

    Example:
        >>> crema_d_transition(("happy", "sad")).round(3).tolist()
        [[0.898, 0.102], [0.049, 0.951]]
    """
    emotions = [_EMOTION.get(name.casefold()) for name in classes]
    known = {emotion: name for emotion, name in zip(emotions, classes, strict=True) if emotion is not None}
    others = [name for name in classes if name not in known.values()]
    if others:
        choose = f"--classes {','.join(known.values())}" if len(known) > 1 else "--classes"
        raise UserError(
            f"noise recipe 'human' knows the classes of CREMA-D ({', '.join(EMOTIONS)}), each once, and not "
            f"{', '.join(map(repr, others))}. Choose classes by {choose}, merge them by NEW=OLD+OLD, or use other "
            "noise: symmetric:RATE, or where there are votes pair:RATE."
        )
    rows = [EMOTIONS.index(emotion) for emotion in known]
    shares = VOTE_SHARES[np.ix_(rows, rows)]
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def former_transition(classes: Sequence[str]) -> NDArray[np.float64]:
    """Return the transition matrix of version 0.1, so that what it began can be resumed with the same labels.

    A class that CREMA-D lacks has the row of a neighbour. The column of an emotion belongs to the first class of that
    name, else to the first neighbour. With it a "neutral" label of RAVDESS was right in 19 % of cases at noisy-B, and
    nothing ever became calm or surprised.

    Args:
        classes: C class names that version 0.1 accepted.

    Returns:
        (C, C) intended × perceived, rows sum to 1.

    Raises:
        UserError: If version 0.1 had no row for a class.
    """
    near = {name: emotion for emotion, names in _FORMER.items() for name in names}
    folded = [name.casefold() for name in classes]
    known = [_EMOTION.get(name) or near.get(name) for name in folded]
    if None in known:
        return crema_d_transition(classes)  # raises an error that names them
    transition = np.zeros((len(classes), len(classes)))
    rows = [EMOTIONS.index(str(emotion)) for emotion in known]
    for column, emotion in enumerate(EMOTIONS):
        owners = [place for place, name in enumerate(folded) if _EMOTION.get(name) == emotion]
        owners += [place for place, name in enumerate(folded) if near.get(name) == emotion]
        if owners:
            transition[:, owners[0]] = VOTE_SHARES[rows, column]
    return np.asarray(transition / transition.sum(axis=1, keepdims=True))
