"""Registry of the sections: adding one takes one module and one line here.

A section's module has a ``TITLE``, a dataclass ``Options`` of its command line, and a function ``section``.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any, Protocol, cast

from analysis.common.records import Records
from analysis.common.section import Section
from analysis.options import RecordsOptions

SECTIONS = {
    "best_runs": "analysis.sections.best_runs.section",
    "significance": "analysis.sections.significance.section",
    "dose_response": "analysis.sections.dose_response.section",
    "across_corpora": "analysis.sections.across_corpora.section",
    "curves": "analysis.sections.curves.section",
    "importance": "analysis.sections.importance.section",
    "selection": "analysis.sections.selection.section",
    "confusion": "analysis.sections.confusion.section",
    "embeddings": "analysis.sections.embeddings.section",
    "corrections": "analysis.sections.corrections.section",
    "noise": "analysis.page.noise",
    "trials": "analysis.page.trials",
    "protocol": "analysis.page.protocol",
    "costs": "analysis.page.costs",
    "reproduction": "analysis.page.reproduction",
}
"""Section → the import path of its module, in the order of the report."""


class SectionModule(Protocol):
    """Module of a section.

    Args:
        TITLE: Heading, also where the section cannot be made.
        Options: Options of its command; a section without a command of its own has ``RecordsOptions``.
        section: (records, options) → the section.
    """

    TITLE: str
    Options: type[RecordsOptions]
    section: Callable[[Records, Any], Section]


def load_section(name: str) -> SectionModule:
    """Import the module of a section.

    Args:
        name: A key of ``SECTIONS``.
    """
    return cast(SectionModule, importlib.import_module(SECTIONS[name]))


def options_from(module: SectionModule, given: RecordsOptions) -> RecordsOptions:
    """Return a section's options, taken from those options of another command that have the same name.

    Args:
        module: From ``load_section``.
        given: Options of the other command; ``output`` is not taken.
    """
    known = {option.name for option in fields(given)} - {"output"}
    return module.Options(**{o.name: getattr(given, o.name) for o in fields(module.Options) if o.name in known})
