"""Opening of the report: what to train with at each noise level, how sure that is, and what was trained."""

from __future__ import annotations

from dataclasses import dataclass

from analysis.common.records import Records


@dataclass(frozen=True)
class Advice:
    """Row of the recommendation table: what to train with at a noise level, as displayed.

    Args:
        level: Noise level.
        rate: Share of wrong training labels.
        method: Recommended method in words.
        configuration: Path of its configuration file, relative to the page; empty if there is none.
        score: Its test UAR with a 95 % interval, or of each fold.
        chance: UAR of guessing.
        why: Reason in a few words.
    """

    level: str
    rate: str
    method: str
    configuration: str
    score: str
    chance: str
    why: str


@dataclass(frozen=True)
class Opening:
    """First screen of the report, apart from its figure.

    Args:
        advice: One row per noise level.
        primary: Result of the primary comparison in one sentence, or why there is none.
        details: Further sentences.
        trained: What was trained: pairs of what and value.
        terms: Terms of the page: pairs of term and explanation.
    """

    advice: tuple[Advice, ...]
    primary: str
    details: tuple[str, ...]
    trained: tuple[tuple[str, str], ...]
    terms: tuple[tuple[str, str], ...]


def make_opening(records: Records, reference: str | None = None) -> Opening:
    """Return the first screen of the report.

    Args:
        records: Records of the experiment.
        reference: Space that the others are compared with; None is the one that each design declares.
    """
    raise NotImplementedError
