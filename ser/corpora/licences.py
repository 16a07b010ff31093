"""What each corpus's licence says of passing its audio on, such as in a page with recordings to listen to."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Licence:
    """A corpus's licence.

    Args:
        name: Its name.
        passes_on: Whether it lets audio be passed on to others, on its terms.
    """

    name: str
    passes_on: bool


_REQUESTED = "a licence of its own, given to each group on request"

LICENCES = {
    "synthetic": Licence("none, for it is generated", passes_on=True),
    "iemocap": Licence(_REQUESTED, passes_on=False),
    "iemocap-4": Licence(_REQUESTED, passes_on=False),
    "crema-d": Licence("Open Database License 1.0", passes_on=True),
    "ravdess": Licence("CC BY-NC-SA 4.0", passes_on=True),
    "emodb": Licence("CC BY 4.0", passes_on=True),
    "msp-podcast": Licence("a licence agreement that is to be signed", passes_on=False),
    "esd": Licence("a research licence that is to be signed", passes_on=False),
    "table": Licence("not known", passes_on=False),
}
"""By the names of ``ser.corpora.NAMES``; where nothing is known, audio is not passed on."""
