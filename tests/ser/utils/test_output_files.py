"""Output files: nothing is overwritten, and names that are not UTF-8 are errors."""

import json
from pathlib import Path

import pytest

from ser.utils.errors import UserError
from ser.utils.output_files import encoded, output_folder, to_csv, to_json, write_new


def test_a_name_that_is_not_utf8_is_an_error() -> None:
    with pytest.raises(UserError, match=r"not UTF-8, near 'audio/\\udcff.wav'"):
        encoded({"train.csv": "audio/\udcff.wav"})


def test_a_conflict_leaves_everything_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "b").write_bytes(b"mine")
    (tmp_path / "c").mkdir()
    (tmp_path / "d").symlink_to("nowhere")
    with pytest.raises(UserError, match=r"has b, c, d already, with other content"):
        write_new(tmp_path, {"a": b"1", "b": b"2", "c": b"3", "d": b"4"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b", "c", "d"]
    assert (tmp_path / "b").read_bytes() == b"mine"
    write_new(tmp_path, {"a/b": b"1", "b": b"mine"})
    assert (tmp_path / "a" / "b").read_bytes() == b"1"
    assert not list(tmp_path.glob(".partial*"))


def test_an_output_folder_is_created_and_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert output_folder(Path("a/b")) == tmp_path / "a" / "b"
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("name", ["file/below", "nul\0", "\udcff"])
def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--output .* is not writable: .*\. Choose another folder\."):
        output_folder(tmp_path / name)


def test_texts_have_one_form() -> None:
    assert to_csv(["a", "b"], [(1, "x,y"), (2.5, "")]) == 'a,b\n1,"x,y"\n2.5,\n'
    assert json.loads(to_json({"b": "ü", "a": 1})) == {"a": 1, "b": "ü"}
    assert to_json({"b": "ü", "a": 1}).index('"a"') < to_json({"b": "ü", "a": 1}).index('"b": "ü"')
