"""Licences of the corpora: whether their audio may be passed on, for example in a report with recordings to play."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """Licence of a corpus.

    Args:
        name: Its name.
        passes_on: Whether it allows audio to be passed on to others, on its terms.
    """

    name: str
    passes_on: bool


_ON_REQUEST = "a licence of its own, given to each group on request"
_UNKNOWN = Licence("not known", passes_on=False)

LICENCES = {
    "synthetic": Licence("none, because it is generated", passes_on=True),
    "iemocap": Licence(_ON_REQUEST, passes_on=False),
    "iemocap-4": Licence(_ON_REQUEST, passes_on=False),
    "crema-d": Licence("Open Database License 1.0", passes_on=True),
    "ravdess": Licence("CC BY-NC-SA 4.0", passes_on=True),
    "emodb": Licence("CC BY 4.0", passes_on=True),
    "msp-podcast": Licence("a licence agreement that must be signed", passes_on=False),
    "esd": Licence("a research licence that must be signed", passes_on=False),
}
"""Known licences, by the names of ``ser.corpora.NAMES``."""


def licence_of(name: str) -> Licence:
    """Return the licence of a corpus; where it is not known, audio may not be passed on.

    Args:
        name: As given to ``ser.corpora.load``.
    """
    return LICENCES.get(name, _UNKNOWN)
