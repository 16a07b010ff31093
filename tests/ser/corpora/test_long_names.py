"""Cells, names and options of absurd length: messages stay short, and lists of errors stay usable."""

from pathlib import Path

import pandas as pd
import pytest

from ser.corpora import load, parse_options
from ser.corpora.classes import choose_classes
from ser.noise import check_level
from ser.utils.errors import DataErrors, UserError

HUGE = 100_000
COLUMNS = (
    "utterance_id", "path", "start", "end", "speaker", "gender", "session", "label", "true_label", "official_subset",
    "votes", "other_votes",
)  # fmt: skip


def frame_of(column: str, cell: object) -> pd.DataFrame:
    frame = pd.DataFrame(
        {
            "utterance_id": ["a", "b", "c", "d"],
            "path": ["a.wav", "b.wav", "c.wav", "d.wav"],
            "speaker": ["s", "t", "u", "v"],
            "label": ["happy", "sad", "happy", "sad"],
        },
        dtype=object,
    )
    frame[column] = frame.get(column, pd.Series([None] * 4, dtype=object))
    frame[column] = pd.Series([cell, *frame[column].tolist()[1:]], dtype=object)
    return frame


def messages(path: Path) -> str:
    """Return what loading a table prints: its error, or its notes."""
    try:
        corpus = load("table", path)
    except UserError as error:
        return str(error)
    return "\n".join(corpus.notes)


@pytest.mark.parametrize("column", COLUMNS)
def test_a_very_long_cell_gives_a_short_message(column: str, tmp_path: Path) -> None:
    frame_of(column, "x" * HUGE).to_csv(tmp_path / "t.csv", index=False)
    said = messages(tmp_path / "t.csv")
    assert len(said) < 20_000
    assert all(len(line) < 2_000 for line in said.splitlines())


@pytest.mark.parametrize("column", ["path", "speaker", "label", "gender", "votes"])
def test_a_cell_with_the_bytes_of_audio_gives_a_short_message(column: str, tmp_path: Path) -> None:
    frame = frame_of(column, b"RIFF" * HUGE)
    frame[column] = [b"RIFF" * HUGE] * 4
    frame.to_parquet(tmp_path / "t.parquet")
    said = messages(tmp_path / "t.parquet")
    assert len(said) < 20_000


def test_a_column_with_a_very_long_name_gives_a_short_message(tmp_path: Path) -> None:
    frame_of("x" * HUGE, "1").drop(columns="label").to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(UserError) as error:
        load("table", tmp_path / "t.csv")
    assert len(str(error.value)) < 20_000


@pytest.mark.parametrize("name", ["x" * HUGE, "two\nlines", "#7", "  blanks  ", "y" * 201])
def test_a_line_of_a_list_of_errors_excludes_its_utterance(name: str, tmp_path: Path) -> None:
    frame = frame_of("utterance_id", name)
    frame.loc[0, "label"] = "sad" * HUGE
    frame["votes_happy"], frame["votes_sad"] = [0, 0, 1, 0], [1, 1, 0, 1]
    frame.to_parquet(tmp_path / "t.parquet")
    with pytest.raises(DataErrors) as error:
        load("table", tmp_path / "t.parquet")
    lines = str(error.value).splitlines()[1:-1]
    assert len(str(error.value)) < 20_000
    (tmp_path / "exclude.txt").write_text("\n".join(lines), encoding="utf-8")
    rest = load("table", tmp_path / "t.parquet", tmp_path / "exclude.txt")
    assert rest.table["utterance_id"].tolist() == ["b", "c", "d"]


@pytest.mark.parametrize("sign", ["x", "=", "\n", "{", "+"])
def test_a_very_long_option_gives_a_short_message(sign: str) -> None:
    word = sign * HUGE
    corpus = load("synthetic")
    calls = (
        lambda: parse_options([word]) and load("synthetic", options=parse_options([word])),
        lambda: load("crema-d", ".", options={word: word}),
        lambda: load("crema-d", ".", options={"votes": word}),
        lambda: choose_classes(corpus, word),
        lambda: choose_classes(corpus, f"ang,{word}=nobody"),
        lambda: choose_classes(corpus, f"ang,hap={word}"),
        lambda: load(word),
        lambda: check_level(word),
        lambda: check_level(f"symmetric:{word}"),
        lambda: load("synthetic", word),
    )
    for call in calls:
        with pytest.raises(UserError) as error:
            call()
        assert len(str(error.value)) < 20_000


@pytest.mark.parametrize("column", ["speaker", "label", "session"])
def test_a_very_long_name_is_no_name(column: str, tmp_path: Path) -> None:
    frame_of(column, "x" * 201).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(DataErrors, match=f"a: {column} .* is longer than 200 characters"):
        load("table", tmp_path / "t.csv")
    frame_of(column, "x" * 200).to_csv(tmp_path / "t.csv", index=False)
    assert load("table", tmp_path / "t.csv").table[column][0] == "x" * 200
