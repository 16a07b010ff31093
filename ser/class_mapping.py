"""Classes that a training shares with another corpus: how a network is scored on a corpus with other classes."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ser.corpora import Corpus
from ser.corpora.classes import choose_classes, classes_text
from ser.corpora.names import emotion_of, folded
from ser.utils.errors import UserError

Mapped = Mapping[str, str]
"""Class of the training → the class of another corpus that means the same."""


def match_classes(trained: Sequence[str], other: Sequence[str]) -> dict[str, str]:
    """Match classes of two corpora: by name, else by the emotion that both words stand for.

    Args:
        trained: Class names of the training.
        other: Class names of the other corpus.

    Returns:
        Class of the training → class of the other corpus, in the order of the training. A class is left out if no
        class or several classes of the other corpus stand for its emotion, or several of the training do.

    Example:
        >>> match_classes(["angry", "calm", "happy", "sad"], ["sad", "anger", "Happy", "neutral"])
        {'angry': 'anger', 'happy': 'Happy', 'sad': 'sad'}
        >>> match_classes(["anger", "happiness"], ["angry", "joy", "hap"])
        {'anger': 'angry'}
    """
    found: dict[str, str] = {}
    for key in (str, folded, emotion_of):
        left = [name for name in trained if name not in found]
        right = [name for name in other if name not in found.values()]
        for name in left:
            same = [one for one in right if key(one) == key(name)]
            rivals = [one for one in left if key(one) == key(name)]
            if key(name) is not None and len(same) == len(rivals) == 1:
                found[name] = same[0]
    return {name: found[name] for name in trained if name in found}


def share_classes(trained: Sequence[str], corpus: Corpus, option: str = "--classes ") -> dict[str, str]:
    """Match the classes of a training with those of another corpus; at least two must be shared.

    Args:
        trained: Class names of the training.
        corpus: The other corpus.
        option: Option that renames the classes of the other corpus, for the message.

    Raises:
        UserError: Fewer than two classes are shared.
    """
    mapped = match_classes(trained, corpus.classes)
    if len(mapped) >= 2:
        return mapped
    left = [name for name in trained if name not in mapped]
    right = [name for name in corpus.classes if name not in mapped.values()]
    pairs = [*mapped.items(), *zip(left, right, strict=False)][:2]
    example = shlex.quote(classes_text({new: [old] for new, old in pairs}))
    guessed = " and ".join(f"{old!r} means {new!r}" for new, old in pairs if new not in mapped)
    raise UserError(
        f"the training and corpus {corpus.name!r} share {len(mapped) or 'no'} class{'' if len(mapped) == 1 else 'es'}; "
        f"two are needed. Classes of the training: {', '.join(trained)}. Classes of corpus {corpus.name!r}: "
        f"{', '.join(corpus.classes)}. Name the latter as in the training with {option.strip()}"
        + (f", such as {option}{example} if {guessed}." if len(pairs) > 1 else ".")
    )


def shared_corpus(corpus: Corpus, mapped: Mapped) -> Corpus:
    """Return the utterances of the shared classes, which have the names of the training.

    Args:
        corpus: The other corpus.
        mapped: Its classes by those of the training; at least two.

    Returns:
        A corpus whose classes are the keys of ``mapped``; ``outside`` counts the utterances that are left out.
    """
    return choose_classes(corpus, classes_text({new: [old] for new, old in mapped.items()}))


def true_classes(corpus: Corpus) -> NDArray[np.int64]:
    """Return the true class indices of a corpus that is only tested on, (N,): its true labels if it has any.

    Returns:
        Indices 0…C−1, −1 where the true label is not known.
    """
    return corpus.class_indices(corpus.table["true_label"]) if "true_label" in corpus.table else corpus.labels


def mapping_lines(trained: Sequence[str], corpus: Corpus, mapped: Mapped, shared: Corpus, name: str = "") -> list[str]:
    """Return how classes were matched and what was left out, in lines for people.

    Args:
        trained: Class names of the training.
        corpus: The other corpus, with all of its classes.
        mapped: Its classes by those of the training.
        shared: Its utterances of the shared classes, from ``shared_corpus``.
        name: Name of the data, by default that of the corpus.
    """
    data = name or corpus.name
    pairs = ", ".join(new if new == old else f"{new} = {old}" for new, old in mapped.items())
    out = [f"{count} {name}" for name, count in (Counter(shared.outside) - Counter(corpus.outside)).items()]
    unknown = int((true_classes(shared) < 0).sum())
    unseen = [name for name in trained if name not in mapped]
    lines = [f"{len(mapped)} classes of both corpora (training = {data}): {pairs}"]
    lines.append(
        f"{len(shared)} of {len(corpus)} utterances of {data}, all of them test data"
        + (f"; left out: {', '.join(out)}" if out else "")
        + (f"; {unknown} have no true label to score against" if unknown else "")
    )
    lines.append(
        "the prediction is the most probable of these classes, with their probabilities renormalised"
        + (f"; the network also knows {', '.join(unseen)}" if unseen else "")
    )
    return lines
