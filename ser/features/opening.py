"""Opening a feature store from a command: what is computed is printed before, and progress while it is."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ser.features.front_ends import Extractor
from ser.features.store import FeatureStore, open_store
from ser.utils.printing import say

if TYPE_CHECKING:
    from ser.corpora.corpus import Corpus

SPEED_SECONDS = 300.0
"""Seconds of the past from which the time left is estimated."""


def open_with_progress(corpus: Corpus, extractor: Extractor, folder: Path, console: Console) -> FeatureStore:
    """Open the feature store of a corpus; if it has to be built, print what that takes, and show progress.

    Args:
        corpus: The corpus.
        extractor: What computes the features.
        folder: Folder of the stores.
        console: Where to print.

    Raises:
        UserError: As ``ser.features.open_store``.
    """
    columns = (
        TextColumn("features"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("utterances"),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    progress = Progress(
        *columns,
        console=console,
        transient=True,
        disable=not console.is_terminal,
        speed_estimate_period=SPEED_SECONDS,
    )
    with progress:
        bar = progress.add_task("features", total=len(corpus), visible=False)

        def advance(done: int, total: int) -> None:
            if not progress.tasks[bar].visible:  # a build that is resumed does not begin at 0
                progress.reset(bar, completed=done - 1, visible=True)
            progress.update(bar, completed=done)

        return open_store(corpus, extractor, folder, progress=advance, announce=partial(say, console))
