"""Kinds of training labels, and which noise levels they go with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args

from ser.utils.errors import UserError

LabelKind = Literal["consensus", "plurality", "dawid_skene", "soft"]
"""What is trained on: the corpus's labels, or labels that are made from its annotators' votes."""
LABEL_KINDS: tuple[LabelKind, ...] = get_args(LabelKind)
CONSENSUS, PLURALITY, DAWID_SKENE, SOFT = LABEL_KINDS

CLEAN = "clean"
"""The noise level of labels from votes: the annotators' errors are the noise."""


def check_labels(kind: LabelKind, level: str) -> None:
    """Check that a kind of labels goes with a noise level.

    Args:
        kind: Kind of training labels.
        level: Noise level.

    Raises:
        UserError: Labels from votes, with a level other than ``clean``.

    Example:
        >>> check_labels("consensus", "noisy-A")
        >>> check_labels("dawid_skene", "clean")
    """
    if kind != CONSENSUS and level != CLEAN:
        raise UserError(
            f"--labels {kind}: labels from annotators' votes go with noise level clean only, not with {level!r}, "
            "because the annotators' errors are their noise. Add --noise clean, or train on --labels consensus."
        )


def kind_of(manifest: Mapping[str, Any]) -> LabelKind:
    """Return the kind of labels that a noise manifest describes; those of earlier versions are ``consensus``.

    Example:
        >>> kind_of({"level": "clean"}), kind_of({"labels": {"kind": "soft"}})
        ('consensus', 'soft')
    """
    kind: LabelKind = manifest.get("labels", {}).get("kind", CONSENSUS)
    return kind
