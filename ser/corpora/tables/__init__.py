"""Tables of utterances: their files, their columns under the names that people give them, and their votes."""

from __future__ import annotations

from ser.corpora.tables.columns import SYNONYMS
from ser.corpora.tables.files import read_table
from ser.corpora.tables.result import result_of

__all__ = ["SYNONYMS", "read_table", "result_of"]
