import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora.loaders.esd import load_esd
from ser.utils.errors import DataErrors, UserError


def touch(root: Path, *names: str) -> Path:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return touch(
        tmp_path / "ESD",
        "0011/Angry/0011_000351.wav",
        "0011/Neutral/0011_000001.wav",
        "0018/Happy/train/0018_000701.wav",
        "0018/Sad/evaluation/0018_001051.flac",
        "0020/Surprise/test/0020_001401.wav",
        "0003/Angry/0003_000351.wav",
        "0004/Sad/train/0004_001051.wav",
    )


def errors_of(root: Path) -> dict[str, str]:
    with pytest.raises(DataErrors) as error:
        load_esd(root).to_corpus()
    return dict(error.value.errors)


# Folders


def test_folders_and_names_become_rows(root: Path) -> None:
    corpus = load_esd(root).to_corpus()
    columns = ["utterance_id", "path", "speaker", "gender", "session", "label"]
    assert corpus.table[columns].to_numpy().tolist() == [
        ["0011_000001", str(root / "0011/Neutral/0011_000001.wav"), "0011", "male", "", "neutral"],
        ["0011_000351", str(root / "0011/Angry/0011_000351.wav"), "0011", "male", "", "angry"],
        ["0018_000701", str(root / "0018/Happy/train/0018_000701.wav"), "0018", "female", "", "happy"],
        ["0018_001051", str(root / "0018/Sad/evaluation/0018_001051.flac"), "0018", "female", "", "sad"],
        ["0020_001401", str(root / "0020/Surprise/test/0020_001401.wav"), "0020", "male", "", "surprise"],
    ]
    assert corpus.classes == ("angry", "happy", "neutral", "sad", "surprise")
    assert corpus.votes is None
    assert corpus.outside == {"mandarin": 2}


def test_a_language_or_both_can_be_chosen(root: Path) -> None:
    mandarin = load_esd(root, language="mandarin").to_corpus()
    assert mandarin.table[["speaker", "gender"]].to_numpy().tolist() == [["0003", "female"], ["0004", "male"]]
    assert mandarin.outside == {"english": 5}
    both = load_esd(root, language="both").to_corpus()
    assert len(both) == 7
    assert both.outside == {}


def test_each_language_has_five_women_and_five_men(tmp_path: Path) -> None:
    touch(tmp_path, *(f"{speaker:04}/Sad/{speaker:04}_001051.wav" for speaker in range(1, 21)))
    table = load_esd(tmp_path, language="both").to_corpus().table
    women = list(table.loc[table["gender"] == "female", "speaker"])
    assert women == ["0001", "0002", "0003", "0007", "0009", "0015", "0016", "0017", "0018", "0019"]


def test_what_is_not_the_corpus_is_passed_over(root: Path) -> None:
    touch(
        root,
        "beep.wav",
        "0011/._0011_000351.wav",
        "0011/Angry/._0011_000351.wav",
        "0011/Angry/notes.txt",
        "x/Sad/a.wav",
    )
    assert len(load_esd(root).to_corpus()) == 5


def test_the_folder_may_lie_deeper_or_be_a_speakers(root: Path) -> None:
    assert len(load_esd(root.parent).to_corpus()) == 5
    assert len(load_esd(root / "0018").to_corpus()) == 2


# Data errors


def test_all_misplaced_and_misnamed_files_are_reported_at_once(root: Path) -> None:
    touch(
        root,
        "0011/Angry/0011_000351 (1).wav",
        "0011/Angry/0012_000352.wav",
        "0011/Angry/0003_000352.wav",
        "0021/Angry/0021_000351.wav",
        "0011/Bored/0011_000002.wav",
        "0011/train/0011_000003.wav",
        "0011_000004.wav",
    )
    (root / "0011/Angry/train").mkdir()
    (root / "0011/Angry/train/0011_000351.wav").write_text("another recording", encoding="utf-8")
    assert errors_of(root) == {
        "0011/Angry/0011_000351 (1).wav": "the name is not like 0011_000351",
        "0011/Angry/0012_000352.wav": "is in folder '0011', not in that of its speaker",
        "0011/Angry/0003_000352.wav": "is in folder '0011', not in that of its speaker",
        "0021/Angry/0021_000351.wav": "speaker '0021' is not one of 0001 to 0020",
        "0011/Bored/0011_000002.wav": "is in folder 'Bored', not in one of Angry, Happy, Neutral, Sad, Surprise",
        "0011/train/0011_000003.wav": "is in folder '0011', not in one of Angry, Happy, Neutral, Sad, Surprise",
        "0011_000004.wav": "is in folder 'ESD', not in one of Angry, Happy, Neutral, Sad, Surprise",
        "0011/Angry/train/0011_000351.wav": (
            "repeats utterance '0011_000351' of 0011/Angry/0011_000351.wav, with another path"
        ),
    }
    corpus = load_esd(root).to_corpus(list(errors_of(root)))
    assert list(corpus.table["utterance_id"]) == [
        "0011_000001",
        "0011_000351",
        "0018_000701",
        "0018_001051",
        "0020_001401",
    ]


def test_nothing_of_the_corpus_or_of_the_language_is_one_message(tmp_path: Path) -> None:
    touch(tmp_path, "beep.wav")
    with pytest.raises(UserError, match=r"no utterance of ESD.*0011/Angry/0011_000351"):
        load_esd(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        load_esd(tmp_path / "beep.wav")
    touch(tmp_path, "0001/Angry/0001_000351.wav")
    with pytest.raises(
        UserError, match=r"no utterance in english .* 1 in mandarin.* --corpus-options language=mandarin"
    ):
        load_esd(tmp_path)


# Transcripts


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "gb2312", "cp1252"])
@pytest.mark.parametrize("separator", ["\t", " "])
def test_a_transcript_that_agrees_changes_nothing_and_one_that_does_not_is_reported(
    root: Path, encoding: str, separator: str
) -> None:
    sentence = {"gb2312": "打远一看，它们的确很是吸引人。", "cp1252": "It’s all this, café’"}.get(
        encoding, "A sad story."
    )
    path = root / "0011" / "0011.txt"
    lines = [("0011_000001", sentence, "Neutral"), ("0011_000351", sentence, "Angry")]
    path.write_bytes("\r\n".join(map(separator.join, lines)).encode(encoding))
    assert len(load_esd(root).to_corpus()) == 5
    lines[1] = ("0011_000351", sentence, "Happy")
    path.write_bytes("\r\n".join(map(separator.join, lines)).encode(encoding))
    assert errors_of(root) == {"0011_000351": "is in folder 'angry', but is 'happy' in 0011/0011.txt:2"}
    assert len(load_esd(root).to_corpus(["0011_000351"])) == 4


@pytest.mark.parametrize("encoding", ["gb2312", "utf-16"])
def test_chinese_words_for_emotions_are_understood(root: Path, encoding: str) -> None:
    for word, emotion in zip(
        ("生气", "快乐", "中立", "伤心", "惊喜"), ("angry", "happy", "neutral", "sad", "surprise"), strict=True
    ):
        (root / "0003" / "0003.txt").write_bytes(f"0003_000351\t打远一看\t{word}\n".encode(encoding))
        result = load_esd(root, language="mandarin")
        expected = [] if emotion == "angry" else [f"is in folder 'angry', but is {emotion!r} in 0003/0003.txt:1"]
        assert [problem for _, problem in result.errors] == expected


def test_lines_that_name_no_sentence_or_no_emotion_are_passed_over(root: Path) -> None:
    lines = [
        "0011_000001\tI am sad",
        "0011_000001",
        "0011_00001\tA story.\tSad",
        "0099_000001\tA story.\tSad",
        "a stray line",
        "0011_000351\tA story.\tAngry",
        "0011_000351\tAnother, by mistake.\tHappy",
        "",
    ]
    (root / "0011" / "0011.txt").write_text("\n".join(lines), encoding="utf-8")
    assert len(load_esd(root).to_corpus()) == 5


def test_a_transcript_that_cannot_be_read_is_reported_and_another_languages_does_not_matter(root: Path) -> None:
    (root / "0011" / "0011.txt").mkdir()
    (root / "0003" / "0003.txt").write_text("0003_000351\tx\tHappy", encoding="utf-8")
    assert errors_of(root) == {"0011/0011.txt": "cannot be read: Is a directory"}
    assert len(load_esd(root).to_corpus(["0011/0011.txt"])) == 5


@settings(max_examples=100, deadline=None)
@given(
    encoding=st.sampled_from(["utf-8", "utf-16", "gb2312"]),
    edits=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4),
)
def test_any_bytes_of_a_transcript_give_a_corpus_or_errors(encoding: str, edits: list[tuple[int, int, bytes]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = touch(Path(folder), "0011/Angry/0011_000351.wav", "0011/Happy/0011_000701.wav")
        content = "0011_000351\tA story.\tAngry\n0011_000701\tA story.\tHappy\n".encode(encoding)
        for where, length, some in edits:
            at = where % (len(content) + 1)
            content = content[:at] + some + content[at + length :]
        (root / "0011" / "0011.txt").write_bytes(content)
        result = load_esd(root)
        faulty = {name for name, _ in result.errors}
        assert faulty <= {"0011_000351", "0011_000701"}
        if not faulty:
            assert list(result.to_corpus().table["label"]) == ["angry", "happy"]


NAMES = st.sampled_from(["0011", "0001", "0099", "Angry", "angry", "Bored", "train", "test"])
FILES = st.sampled_from(["0011_000351.wav", "0001_000351.wav", "0099_000351.wav", "0011_351.wav", "a.wav", "0011.txt"])


@settings(max_examples=60, deadline=None)
@given(paths=st.lists(st.tuples(st.lists(NAMES, max_size=4), FILES), max_size=6))
def test_every_file_with_a_name_of_the_corpus_is_a_row_an_error_or_counted(paths: list[tuple[list[str], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        named = set()
        for folders, file in paths:
            touch(root, "/".join([*folders, file]))
            if "_000351" in file:
                named.add("/".join([*folders, file]))
        touch(root, "0012/Sad/0012_000002.wav")  # so that there is a corpus
        result = load_esd(root)
        errors = [problem for _, problem in result.errors if "not like" not in problem]
        counted = sum(int(problem.split()[0]) if " files are " in problem else 1 for problem in errors)
        assert len(named) + 1 == len(result.rows) + counted + sum(result.outside.values())
