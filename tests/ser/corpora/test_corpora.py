import json
import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import soundfile

from ser.audio import SUFFIXES
from ser.corpora import Corpus, load, without
from ser.utils.errors import DataErrors, UserError


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def touch(root: Path, *names: str) -> Path:
    for name in names:
        write(root / name, "")
    return root


def errors_of(error: pytest.ExceptionInfo[DataErrors]) -> dict[str, str]:
    return dict(error.value.errors)


@pytest.fixture
def ravdess(tmp_path: Path) -> Path:
    return touch(
        tmp_path,
        "Actor_02/03-01-03-01-01-01-02.wav",
        "audio_speech/Actor_01/03-01-08-02-02-02-01.FLAC",
        "Actor_01/03-01-01-01-01-01-01.wav",
    )


@pytest.fixture
def table(tmp_path: Path) -> Path:
    return write(
        tmp_path / "mine.csv",
        "utterance_id,path,start,end,speaker,gender,session,label,votes_sad,votes_angry,age\n"
        "b,audio/b.wav,1.5,2.25,007,F,2,sad,2,1,33\n"
        "a,audio/a.wav,,,007,,1,angry,,,34\n"
        "c,/elsewhere/c.wav,,2,12,male,2,angry,,3,35\n",
    )


# Leaving utterances out


def test_excluding_a_path_leaves_out_every_utterance_cut_from_it(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "path,start,end,speaker,label\nx.wav,0,1,s,a\nx.wav,1,2,s,b\ny.wav,,,s,a\n",
    )
    rest = without(load("table", path), ["x.wav"])
    assert list(rest.table["utterance_id"]) == ["y"]
    assert list(without(load("table", path), [str(tmp_path / "y.wav")]).table["utterance_id"]) == [
        "x@0.0-1.0",
        "x@1.0-2.0",
    ]


def test_excluding_unknown_names_tells_how_many_and_the_nearest(ravdess: Path) -> None:
    with pytest.raises(UserError, match=r"2 of 3 .*'03-01-03-01-01-01-03'.*'03-01-03-01-01-01-02'"):
        without(load("ravdess", ravdess), ["03-01-01-01-01-01-01", "03-01-03-01-01-01-03", "nonsense"])


def test_an_empty_name_excludes_nothing_of_a_corpus_without_paths() -> None:
    frame = pd.DataFrame({"utterance_id": ["u", "t"], "speaker": "s", "label": ["a", "b"]})
    with pytest.raises(UserError, match="1 of 1"):
        without(Corpus("mine", frame, ("a", "b"), synthesize=lambda _: np.zeros(1, np.float32)), [""])


# load


def test_a_table_with_any_index_and_whole_second_cuts_is_taken() -> None:
    frame = pd.DataFrame(
        {"utterance_id": ["u", "t"], "path": ["p", "p"], "speaker": "s", "label": ["a", "b"], "start": [1, 0]},
        index=[7, 3],
    )
    corpus = Corpus("mine", frame, ("a", "b"))
    assert list(corpus.table["start"]) == [0.0, 1.0]
    assert corpus.votes is None


# RAVDESS


def test_ravdess_names_become_rows(ravdess: Path) -> None:
    corpus = load("ravdess", ravdess, classes="all")
    columns = ["utterance_id", "speaker", "gender", "label", "session"]
    assert corpus.table[columns].to_numpy().tolist() == [
        ["03-01-01-01-01-01-01", "Actor_01", "male", "neutral", ""],
        ["03-01-03-01-01-01-02", "Actor_02", "female", "happy", ""],
        ["03-01-08-02-02-02-01", "Actor_01", "male", "surprised", ""],
    ]
    assert corpus.classes == ("neutral", "happy", "surprised")
    assert corpus.relative_paths[2] == "audio_speech/Actor_01/03-01-08-02-02-02-01.FLAC"
    assert corpus.votes is None


def test_ravdess_skips_songs_videos_hidden_and_foreign_files(ravdess: Path) -> None:
    touch(
        ravdess,
        "Actor_01/03-02-01-01-01-01-01.wav",
        "Actor_01/01-01-01-01-01-01-01.mp4",
        "Actor_01/._03-01-01-01-01-01-01.wav",
        ".cache/03-01-99-01-01-01-01.wav",
        "Actor_01/03-01-01-01-01-01-01.TextGrid",
        "Actor_01/03-01-01-01-01-01-01.dss",
        "beep.wav",
    )
    corpus = load("ravdess", ravdess)
    assert len(corpus) == 2  # of the classes shared with CREMA-D
    # A hidden file and a hidden folder.
    expected = {"hidden": 2, "songs (03-02-…)": 1, "videos (01-…, 02-…)": 1, ".textgrid": 1, ".dss": 1, ".wav": 1}
    assert dict(corpus.unused) == expected
    about_dss, about_wav, _ = corpus.notes
    assert "1 .dss" in about_dss
    assert "ffmpeg" in about_dss
    assert about_wav == (
        f"not used: 1 .wav below {ravdess}, for example 'beep.wav': expected is a name such as 03-01-06-01-02-01-12.wav"
    )


def test_every_kind_of_audio_is_a_clip_of_ravdess(tmp_path: Path) -> None:
    names = [
        f"03-01-0{1 + number % 2}-01-0{1 + number // 24}-01-{1 + number % 24:02}{kind}"
        for number, kind in enumerate(sorted(SUFFIXES))
    ]
    corpus = load("ravdess", touch(tmp_path, *names), classes="all")
    assert sorted(corpus.relative_paths) == sorted(names)
    assert corpus.unused == {}


def test_an_archive_that_has_every_file_twice_is_the_corpus_once(ravdess: Path) -> None:
    copy = ravdess / "audio_speech_actors_01-24" / "Actor_02" / "03-01-03-01-01-01-02.wav"
    write(copy, "")
    corpus = load("ravdess", ravdess)
    assert corpus.relative_paths[1] == "Actor_02/03-01-03-01-01-01-02.wav"
    assert dict(corpus.unused) == {"copies": 1}
    assert corpus.notes[0] == (
        "copies of the same recording, not used: 1, for example "
        "audio_speech_actors_01-24/Actor_02/03-01-03-01-01-01-02.wav of Actor_02/03-01-03-01-01-01-02.wav"
    )
    write(copy, "another recording")
    name = copy.relative_to(ravdess).as_posix()
    with pytest.raises(DataErrors) as error:
        load("ravdess", ravdess)
    assert error.value.errors == [
        (
            name,
            "repeats utterance '03-01-03-01-01-01-02' of Actor_02/03-01-03-01-01-01-02.wav, with another path",
        )
    ]
    excluded = write(ravdess / "exclude.txt", f"{name}\n")
    assert load("ravdess", ravdess, excluded).digest == corpus.digest
    # Either of them can be left out, and both.
    write(excluded, "Actor_02/03-01-03-01-01-01-02.wav\n")
    assert load("ravdess", ravdess, excluded).relative_paths[1] == name
    write(excluded, "03-01-03-01-01-01-02\n")
    assert len(load("ravdess", ravdess, excluded, classes="all")) == 2


def test_a_copy_in_another_container_is_the_same_recording_and_a_broken_one_is_not(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(-3000, 3000, 8000).astype(np.int16)
    for number, emotion in enumerate((1, 3), start=1):
        (tmp_path / f"{emotion}").mkdir()
        soundfile.write(tmp_path / f"{emotion}" / f"03-01-0{emotion}-01-01-01-01.flac", noise * number // 2, 16000)
    soundfile.write(tmp_path / "03-01-01-01-01-01-01.wav", noise // 2, 16000)
    write(tmp_path / "03-01-03-01-01-01-01.wav", "version https://git-lfs.github.com/spec/v1\n")
    with pytest.raises(DataErrors) as error:
        load("ravdess", tmp_path)
    assert [name for name, _ in error.value.errors] == ["03-01-03-01-01-01-01.wav"]  # the good one stays
    excluded = write(tmp_path / "exclude.txt", str(error.value).splitlines()[1])
    corpus = load("ravdess", tmp_path, excluded)
    assert corpus.relative_paths == ["03-01-01-01-01-01-01.wav", "3/03-01-03-01-01-01-01.flac"]
    assert dict(corpus.unused) == {"copies": 1, ".txt": 1}


def test_ravdess_lists_bad_codes_and_duplicates_at_once(ravdess: Path) -> None:
    touch(
        ravdess,
        "Actor_01/03-01-09-01-01-01-25.wav",
        "Actor_01/03-01-01-01-01-01.wav",
        "Actor_01/03-01-01-01-01-01-01 (1).wav",
    )
    write(ravdess / "Actor_01/03-01-01-01-01-01-01.flac", "another recording")
    with pytest.raises(DataErrors) as error:
        load("ravdess", ravdess)
    errors = errors_of(error)
    assert set(errors) == {
        "Actor_01/03-01-09-01-01-01-25.wav",
        "Actor_01/03-01-01-01-01-01.wav",
        "Actor_01/03-01-01-01-01-01-01 (1).wav",
        "Actor_01/03-01-01-01-01-01-01.flac",
    }
    assert "emotion '09'" in errors["Actor_01/03-01-09-01-01-01-25.wav"]
    assert "actor '25'" in errors["Actor_01/03-01-09-01-01-01-25.wav"]
    assert "of Actor_01/03-01-01-01-01-01-01.wav" in errors["Actor_01/03-01-01-01-01-01-01.flac"]


def test_a_folder_without_ravdess_reports_the_layout(tmp_path: Path) -> None:
    touch(tmp_path, "Actor_01/03-02-01-01-01-01-01.wav")
    with pytest.raises(UserError, match="Actor_NN/03-01-EE-II-SS-RR-AA"):
        load("ravdess", tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        load("ravdess", tmp_path / "Actor_01" / "03-02-01-01-01-01-01.wav")


@pytest.mark.skipif("SER_RAVDESS_ROOT" not in os.environ, reason="SER_RAVDESS_ROOT does not name RAVDESS's folder")
def test_the_real_ravdess_has_1440_utterances_of_24_speakers() -> None:
    corpus = load("ravdess", os.environ["SER_RAVDESS_ROOT"], classes="all")
    assert len(corpus) == 1440
    assert corpus.table["speaker"].nunique() == 24
    assert corpus.table["gender"].value_counts().to_dict() == {"male": 720, "female": 720}
    assert np.bincount(corpus.labels).tolist() == [96] + [192] * 7
    shared = load("ravdess", os.environ["SER_RAVDESS_ROOT"])
    assert np.bincount(shared.labels).tolist() == [96] + [192] * 5


# Tables


def test_table_rows_are_read_as_written(table: Path) -> None:
    corpus = load("table", table)
    a, b, c = corpus.table.to_dict("records")
    assert corpus.classes == ("sad", "angry")
    assert (b["speaker"], b["session"], b["gender"], b["label"]) == ("007", "2", "female", "sad")
    assert (b["start"], b["end"], b["votes"]) == (1.5, 2.25, (2, 1))
    assert b["path"] == str(table.parent / "audio" / "b.wav")
    assert (a["gender"], a["votes"]) == ("unknown", None)
    assert np.isnan(a["start"])
    assert np.isnan(a["end"])
    assert (c["path"], c["votes"]) == ("/elsewhere/c.wav", (0, 3))
    assert corpus.votes is None  # not every utterance has votes


def test_parquet_gives_the_same_corpus_as_csv(table: Path) -> None:
    frame = pd.read_csv(table, dtype={"speaker": str, "session": float})
    frame.to_parquet(table.with_suffix(".parquet"))
    assert load("table", table.with_suffix(".parquet")).digest == load("table", table).digest


def test_listed_votes_read_alike_from_csv_and_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {"path": ["x.wav", "y.wav"], "speaker": [1, 2], "label": ["b", "a"], "votes": [[0, 3], [2, 1]]}
    )
    frame.to_parquet(tmp_path / "t.parquet")
    frame.assign(votes=frame["votes"].map(json.dumps)).to_csv(tmp_path / "t.csv", index=False)
    for name in ("t.csv", "t.parquet"):
        corpus = load("table", tmp_path / name)
        assert corpus.classes == ("a", "b")
        assert corpus.votes is not None
        assert corpus.votes.tolist() == [[0, 3], [2, 1]]
        assert list(corpus.table["speaker"]) == ["1", "2"]


def test_true_labels_may_be_missing_and_add_to_the_classes(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,speaker,label,true_label\nx.wav,s,a,c\ny.wav,s,b,\n")
    corpus = load("table", path)
    assert corpus.classes == ("a", "b", "c")
    assert corpus.class_indices(corpus.table["true_label"]).tolist() == [2, -1]


def test_words_that_pandas_takes_for_missing_stay_names(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "\ufeffpath, speaker ,label\nx.wav,NA,null\ny.wav,nan, a\n")
    corpus = load("table", path)
    assert list(corpus.table["speaker"]) == ["NA", "nan"]
    assert list(corpus.table["label"]) == ["null", "a"]


def test_the_order_of_the_rows_changes_nothing(table: Path, tmp_path: Path) -> None:
    header, *rows = table.read_text().splitlines()
    other = write(tmp_path / "other.csv", "\n".join([header, *reversed(rows)]) + "\n")
    one, two = load("table", table), load("table", other)
    assert (one.classes, one.digest) == (two.classes, two.digest)
    assert one.labels.tolist() == two.labels.tolist()


def test_names_that_differ_in_digits_or_accents_are_as_many_speakers() -> None:
    speakers = ["7", "70", "7.0", "zoe", "zo\u00e9", "nan"]
    rows = pd.DataFrame({"utterance_id": speakers, "path": "a.wav", "speaker": speakers, "label": ["x", "y"] * 3})
    assert set(Corpus("mine", rows, ("x", "y"), Path("/audio")).table["speaker"]) == set(speakers)


def test_all_errors_of_a_table_are_listed_at_once(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "utterance_id,path,start,end,speaker,gender,label,votes_a,votes_b\n"
        "fine,x.wav,,,s,,a,1,0\n"
        "time,x.wav,soon,,s,,a,1,0\n"
        "reversed,x.wav,2,1,s,,a,1,0\n"
        "half,x.wav,,,s,,a,1.5,0\n"
        "nolabel,x.wav,,,s,,,1,0\n"
        "nospeaker,x.wav,,,,,a,1,0\n"
        "nopath,,,,s,,a,1,0\n"
        "novotes,x.wav,,,s,,a,0,0\n"
        ",x.wav,,,s,,a,1,0\n"
        "fine,x.wav,,,s,,a,2,0\n",
    )
    with pytest.raises(DataErrors) as error:
        load("table", path)
    names = [name for name, _ in error.value.errors]
    assert sorted(names) == sorted(
        [
            "time",
            "reversed",
            "half",
            "nolabel",
            "nospeaker",
            "nopath",
            "novotes",
            "row 9",
            "fine (row 10)",
        ]
    )
    assert "'soon' is not a number of seconds" in errors_of(error)["time"]


def test_missing_and_repeated_columns_are_named(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "path,speakers,label,label\nx.wav,s,a,b\n")
    with pytest.raises(DataErrors, match="Columns found: path, speakers, label, label") as error:
        load("table", path)
    assert errors_of(error) == {
        "speaker": "column missing; is 'speakers' meant? Then: --corpus-options columns=speaker=speakers",
        "label": "column appears more than once",
    }


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "cannot be read"),
        ("t.csv", "path,speaker,label\n", "no rows"),
        ("t.csv", "path,speaker,label\nx,s,a,b,c\n", "cannot be read"),
        ("t.parquet", "not parquet", "cannot be read"),
        ("t.xlsx", "x", "none of .csv, .tsv"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_message(tmp_path: Path, name: str, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        load("table", write(tmp_path / name, content))


def test_a_folder_or_a_file_in_another_encoding_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes("path,speaker,label\nx.wav,J\xf6rg,a\n".encode("latin-1"))
    for name in ("folder.csv", "latin.csv"):
        with pytest.raises(UserError, match="cannot be read"):
            load("table", tmp_path / name)


# Unusual folders and tables


def test_a_votes_column_that_no_label_names_is_no_class(tmp_path: Path) -> None:
    path = write(
        tmp_path / "t.csv",
        "path,speaker,label,votes_a,votes_b,votes_count\nx.wav,s,a,2,1,3\ny.wav,t,b,0,3,3\nz.wav,u,a,3,0,3\n",
    )
    with pytest.raises(DataErrors, match="votes_count: is the sum of the other votes"):
        load("table", path)


@pytest.mark.parametrize(("end", "votes"), [("1e308", "1"), ("1", "99999999999999999999")])
def test_numbers_beyond_all_reason_are_errors(tmp_path: Path, end: str, votes: str) -> None:
    path = write(
        tmp_path / "t.csv",
        f"utterance_id,path,end,speaker,label,votes_a,votes_b\none,x.wav,{end},s,a,{votes},0\ntwo,y.wav,1,t,b,0,1\n",
    )
    with pytest.raises(DataErrors, match="one: "):
        load("table", path)


def test_ravdess_follows_links_and_keeps_what_leads_nowhere(tmp_path: Path) -> None:
    (tmp_path / "elsewhere" / "Actor_02").mkdir(parents=True)
    (tmp_path / "elsewhere" / "Actor_02" / "03-01-01-01-01-01-02.wav").touch()
    root = tmp_path / "ravdess"
    (root / "Actor_01" / "03-01-02-01-01-01-01.wav").mkdir(parents=True)
    (root / "Actor_01" / "03-01-01-01-01-01-01.wav").symlink_to("nowhere")
    (root / "Actor_02").symlink_to(tmp_path / "elsewhere" / "Actor_02")
    assert list(load("ravdess", root, classes="all").table["utterance_id"]) == [
        "03-01-01-01-01-01-01",
        "03-01-01-01-01-01-02",
        "03-01-02-01-01-01-01",
    ]


def test_a_list_of_exclusions_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = write(tmp_path / "t.csv", "utterance_id,path,speaker,label\none,x.wav,s,a\ntwo,y.wav,t,b\nsix,z.wav,t,a\n")
    names = write(tmp_path / "bad.txt", "\ufeffone\n\n# why\n")
    assert load("table", path, names).excluded == ("one",)
