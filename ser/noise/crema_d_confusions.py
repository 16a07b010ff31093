"""How CREMA-D's listeners confuse emotions: the shares of their voice-only votes.

Source: Cao, Cooper, Keutmann, Gur, Nenkova and Verma, "CREMA-D: Crowd-sourced Emotional Multimodal Actors Dataset",
IEEE Transactions on Affective Computing 5(4), 2014.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from ser.corpora.names import emotion_of
from ser.utils.errors import UserError, listed, shown

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
# Emotions that CREMA-D lacks, by the emotion whose row they had in version 0.1.
_FORMER = {
    "anger": ("frustration", "frustrated", "fru"),
    "happiness": ("surprise", "surprised", "sur", "excitement", "excited", "exc"),
    "neutral": ("calm", "cal", "boredom", "bored", "bor"),
}


def crema_d_transition(
    classes: Sequence[str], composition: Mapping[str, Mapping[str, int]] = MappingProxyType({})
) -> NDArray[np.float64]:
    """Return the transition matrix of CREMA-D's listeners for these classes.

    A class that consists of emotions of CREMA-D alone has the mean of their rows, weighted by their numbers of
    utterances, and the sum of their columns. Any other class is the emotion that its name says. Columns of emotions
    that are not among the classes are dropped, and rows normalised.

    Args:
        classes: C class names: words for emotions as in ``EMOTION_FAMILIES``, in any case.
        composition: As ``Corpus.composition``.

    Returns:
        (C, C) intended × perceived, rows sum to 1.

    Raises:
        UserError: If CREMA-D lacks classes, or two names are the same emotion; the message says what to take instead.

    Example:
        >>> crema_d_transition(("happy", "sad")).round(3).tolist()
        [[0.898, 0.102], [0.049, 0.951]]
        >>> merged = {"negative": {"angry": 30, "sad": 10}}
        >>> crema_d_transition(("negative", "happy"), merged).round(3).tolist()
        [[0.964, 0.036], [0.262, 0.738]]
    """
    members = [_members(name, composition.get(name, {})) for name in classes]
    taken: set[str] = set()
    known: list[str] = []
    others: list[str] = []
    for name, emotions in zip(classes, members, strict=True):
        (others if not emotions or taken & set(emotions) else known).append(name)
        taken |= set(emotions)
    if others:
        choose = f"--classes {','.join(known)}" if len(known) > 1 else "--classes"
        raise UserError(
            f"noise recipe 'human' knows the classes of CREMA-D ({', '.join(EMOTIONS)}), each once, and not "
            f"{listed(map(shown, others))}. Choose classes by {choose}, merge them by NEW=OLD+OLD, or use other "
            "noise: symmetric:RATE, or where there are votes pair:RATE."
        )
    weights = np.array([[float(emotions.get(emotion, 0)) for emotion in EMOTIONS] for emotions in members])
    weights /= weights.sum(axis=1, keepdims=True)
    shares = weights @ VOTE_SHARES @ (weights > 0).T
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def _members(name: str, parts: Mapping[str, int]) -> dict[str, int]:
    """Return the emotions of CREMA-D that a class consists of, with their weights; nothing if it has others too."""
    emotions: Counter[str] = Counter()
    for part, number in parts.items():
        emotions[_emotion(part)] += number
    if not sum(emotions.values()) or "" in +emotions:
        emotions = Counter({_emotion(name): 1})
    return {emotion: number for emotion, number in emotions.items() if emotion and number}


def _emotion(name: str) -> str:
    """Return the emotion of CREMA-D that a class name stands for, or an empty string."""
    emotion = emotion_of(name)
    return emotion if emotion in EMOTIONS else ""


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
    known = [_emotion(name) or near.get(name) for name in folded]
    if None in known:
        return crema_d_transition(classes)  # raises an error that names them
    transition = np.zeros((len(classes), len(classes)))
    rows = [EMOTIONS.index(str(emotion)) for emotion in known]
    for column, emotion in enumerate(EMOTIONS):
        owners = [place for place, name in enumerate(folded) if _emotion(name) == emotion]
        owners += [place for place, name in enumerate(folded) if near.get(name) == emotion]
        if owners:
            transition[:, owners[0]] = VOTE_SHARES[rows, column]
    return np.asarray(transition / transition.sum(axis=1, keepdims=True))
