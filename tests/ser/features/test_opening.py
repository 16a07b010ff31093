import io
from pathlib import Path

import numpy as np
from rich.console import Console

from ser.corpora import Corpus
from ser.features.front_ends import Extractor, FrontEnd
from ser.features.opening import open_with_progress

LEVEL = Extractor(FrontEnd("level", "vector", 16000, 8), lambda: lambda samples: np.full((1, 8), samples.std()))


def console(*, terminal: bool) -> Console:
    return Console(file=io.StringIO(), force_terminal=terminal, width=200, color_system=None)


def printed(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def test_what_is_computed_is_printed_before_and_nothing_once_it_is_there(tones: Corpus, tmp_path: Path) -> None:
    first, second = console(terminal=False), console(terminal=False)
    built = open_with_progress(tones, LEVEL, tmp_path, first)
    opened = open_with_progress(tones, LEVEL, tmp_path, second)
    assert built.built
    assert not opened.built
    size = f"{4 * 8 * len(tones) / 1e3:.0f} kB"
    # The durations of synthesised tones are not known before.
    assert printed(first) == f"features  level of {len(tones)} utterances, about {size} in {tmp_path}\n"
    assert printed(second) == ""


def test_a_terminal_shows_progress_and_the_time_left(tones: Corpus, tmp_path: Path) -> None:
    terminal = console(terminal=True)
    open_with_progress(tones, LEVEL, tmp_path, terminal)
    assert f"{len(tones)}/{len(tones)} utterances" in printed(terminal)
    assert " left " in printed(terminal)
