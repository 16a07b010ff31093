"""Table files: separators, encodings, JSON and Parquet."""

import json
from pathlib import Path

import pandas as pd
import pytest

from ser.corpora import load
from ser.corpora.tables.files import read_table
from ser.utils.errors import UserError
from tests.helpers.table_formats import frame

EXPECTED = frame(path="file", label="emotion").astype(object)


def check(path: Path) -> None:
    found, binary = read_table(path)
    assert list(found.columns) == list(EXPECTED.columns)
    assert found.astype(str).to_numpy().tolist() == EXPECTED.to_numpy().tolist()
    assert binary == ()


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".txt", ".CSV"])
@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_separator_encoding_and_line_ends_make_no_difference(
    tmp_path: Path, suffix: str, separator: str, encoding: str, end: str
) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_bytes(EXPECTED.to_csv(sep=separator, index=False, lineterminator=end).encode(encoding))
    check(path)


@pytest.mark.parametrize(
    ("suffix", "content"),
    [
        (".jsonl", EXPECTED.to_json(orient="records", lines=True)),
        (".ndjson", EXPECTED.to_json(orient="records", lines=True).replace("\n", "\r\n\r\n")),
        (".json", EXPECTED.to_json(orient="records", lines=True)),
        (".json", EXPECTED.to_json(orient="records")),
        (".json", EXPECTED.to_json(orient="columns")),
        (".json", json.dumps(EXPECTED.to_dict("list"))),
        (".json", "\ufeff" + EXPECTED.to_json(orient="records")),
    ],
)
def test_json_may_have_records_lines_or_columns(tmp_path: Path, suffix: str, content: str) -> None:
    path = tmp_path / f"table{suffix}"
    path.write_text(content, encoding="utf-8")
    check(path)


def test_records_by_their_key_are_read_with_the_key(tmp_path: Path) -> None:
    (tmp_path / "t.json").write_text(json.dumps({"one": {"wav": "1.wav"}, "two": {"wav": "2.wav", "emo": "sad"}}))
    found, _ = read_table(tmp_path / "t.json")
    assert found["key"].tolist() == ["one", "two"]
    assert found["wav"].tolist() == ["1.wav", "2.wav"]


@pytest.mark.parametrize("index", [False, True])
@pytest.mark.parametrize("suffix", [".parquet", ".pq"])
def test_parquet_is_read_without_its_index(tmp_path: Path, suffix: str, index: bool) -> None:
    EXPECTED.iloc[::-1].to_parquet(tmp_path / f"t{suffix}", index=index)
    found, _ = read_table(tmp_path / f"t{suffix}")
    assert list(found.columns) == list(EXPECTED.columns)
    assert found["file"].tolist() == EXPECTED["file"].tolist()[::-1]


def test_a_named_index_of_parquet_is_columns(tmp_path: Path) -> None:
    EXPECTED.set_index("file").to_parquet(tmp_path / "t.parquet")
    assert "file" in read_table(tmp_path / "t.parquet")[0].columns


def test_columns_of_bytes_are_left_out_of_parquet(tmp_path: Path) -> None:
    cells = pd.DataFrame({"audio": [{"bytes": b"RIFF", "path": "a.wav"}], "raw": [b"x"], "emotion": ["sad"]})
    cells.to_parquet(tmp_path / "t.parquet")
    found, binary = read_table(tmp_path / "t.parquet")
    assert (list(found.columns), binary) == (["emotion"], ("audio", "raw"))
    with pytest.raises(UserError, match=r"holds audio in its columns audio, raw\. Pass it as corpus huggingface"):
        load("table", tmp_path / "t.parquet")


def test_quoted_fields_blank_lines_and_an_index_without_a_name(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(
        '\n,file,speaker,emotion,text\n0,a.wav,"Doe, Jane",sad,"one\ntwo"\n\n2,b.wav,"O""Hara",sad,\n,,,,\n'
    )
    found, _ = read_table(tmp_path / "t.csv")
    assert list(found.columns) == ["file", "speaker", "emotion", "text"]
    assert found["speaker"].tolist() == ["Doe, Jane", 'O"Hara']
    assert found["text"][0] == "one\ntwo"


def test_a_column_without_a_name_that_holds_names_is_kept(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text(",SpkrID,emotion\na.wav,1,sad\nb.wav,2,angry\n")  # as a label file of EMO-SUPERB
    corpus = load("table", tmp_path / "t.csv")
    assert list(corpus.table["utterance_id"]) == ["a", "b"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", b"", "it is empty"),
        ("t.csv", b"\n\n", "it is empty"),
        ("t.csv", b"file;speaker;label\na;J\xf6rg;sad\n", r"line 2 is not UTF-8 \(byte 0xf6\).*iconv -f LATIN1"),
        ("t.csv", b"file,speaker,label\na,b,c,d,e\n", "Expected 3 fields in line 2, saw 5"),
        ("t.jsonl", b'{"a": 1}\n{"a": \n', "line 2 is not JSON"),
        ("t.json", b'"text"', "no records such as"),
        ("t.json", b"[1, 2]", "no records such as"),
        ("t.json", b"{", "line 1 is not JSON"),
        ("t.parquet", b"not parquet", "cannot be read"),
        ("t.xlsx", b"x", r"none of \.csv, \.tsv"),
    ],
)
def test_what_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_table(tmp_path / name)


def test_records_in_cells_become_columns(tmp_path: Path) -> None:
    records = [
        {"audio": {"path": "a.wav"}, "speaker": {"id": "07", "home": {"town": "Bonn"}}, "votes": {"sad": 2}},
        {"audio": {"path": "b.wav"}, "speaker": None, "votes": {"sad": 1}},
    ]
    path = tmp_path / "table.jsonl"
    path.write_text("\n".join(map(json.dumps, records)))
    found, _ = read_table(path)
    assert list(found.columns) == ["audio.path", "speaker.id", "speaker.home.town", "votes"]
    assert found.fillna("").to_numpy().tolist() == [["a.wav", "07", "Bonn", {"sad": 2}], ["b.wav", "", "", {"sad": 1}]]
