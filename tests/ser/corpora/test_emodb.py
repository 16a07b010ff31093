import os
import re
from pathlib import Path

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ser.corpora.loaders.emodb import load_emodb
from ser.utils.errors import DataErrors, UserError
from tests.helpers.fuzzing import damage

TEST = "erkennung.txt"
CLIPS = ("03a01Fa", "08b10Wd", "13a07Lb", "16b09Tc")
JUDGED = {"03a01Ab": (65, 35), "03a01Fa": (90, 75), "08b10Wd": (100, 95), "13a07Lb": (85, 45), "16b09Tc": (80, 60)}


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("latin-1") if isinstance(content, str) else content)
    return path


def listening_test(rows: list[tuple[str, object, object]]) -> str:
    """Rows in the layout of the published file: tabs, decimal commas, and no-break spaces after the numbers."""

    def number(cell: object) -> str:
        return f"{cell},00\xa0\xa0\xa0\xa0\xa0" if isinstance(cell, int) else str(cell)

    lines = [f"{n}\xa0\xa0\t{name}.wav\t{number(a)}\t{number(b)}" for n, (name, a, b) in enumerate(rows, start=1)]
    return "\n".join(["Nr.\tSatz\terkannt\tnatuerlich", *lines]) + "\n"


def build(root: Path) -> Path:
    for clip in CLIPS:
        write(root / "wav" / f"{clip}.wav", "")
    write(root / TEST, listening_test([(name, *percentages) for name, percentages in JUDGED.items()]))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "emodb")


def errors_of(root: Path) -> list[tuple[str, str]]:
    with pytest.raises(DataErrors) as error:
        load_emodb(root).to_corpus()
    return error.value.errors


# Names and the listening test


def test_names_and_the_listening_test_become_rows(root: Path) -> None:
    corpus = load_emodb(root).to_corpus()
    columns = ["utterance_id", "speaker", "gender", "session", "label", "recognition", "naturalness"]
    assert corpus.table[columns].to_numpy().tolist() == [
        ["03a01Fa", "03", "male", "", "happiness", 0.9, 0.75],
        ["08b10Wd", "08", "female", "", "anger", 1.0, 0.95],
        ["13a07Lb", "13", "female", "", "boredom", 0.85, 0.45],
        ["16b09Tc", "16", "female", "", "sadness", 0.8, 0.6],
    ]
    assert corpus.classes == ("anger", "boredom", "disgust", "fear", "happiness", "neutral", "sadness")
    assert corpus.relative_paths[0] == "wav/03a01Fa.wav"
    assert corpus.outside == {"judged, without audio": 1}
    assert corpus.votes is None


@pytest.mark.parametrize(
    ("letter", "label"),
    [
        ("W", "anger"),
        ("L", "boredom"),
        ("E", "disgust"),
        ("A", "fear"),
        ("F", "happiness"),
        ("N", "neutral"),
        ("T", "sadness"),
    ],
)
def test_the_sixth_letter_is_the_emotion(tmp_path: Path, letter: str, label: str) -> None:
    write(tmp_path / "wav" / f"03a01{letter}a.wav", "")
    assert list(load_emodb(tmp_path).to_corpus().table["label"]) == [label]


def test_genders_are_those_of_the_documentation(tmp_path: Path) -> None:
    men, women = ("03", "10", "11", "12", "15"), ("08", "09", "13", "14", "16")
    for speaker in (*men, *women):
        write(tmp_path / "wav" / f"{speaker}a01Na.wav", "")
    table = load_emodb(tmp_path).to_corpus().table
    assert dict(zip(table["speaker"], table["gender"], strict=True)) == dict.fromkeys(men, "male") | dict.fromkeys(
        women, "female"
    )


def test_without_the_listening_test_its_columns_are_not_there(root: Path) -> None:
    (root / TEST).unlink()
    corpus = load_emodb(root).to_corpus()
    assert list(corpus.table["utterance_id"]) == list(CLIPS)
    assert not {"recognition", "naturalness"} & {*corpus.table.columns}
    assert corpus.outside == {}


def test_the_audio_may_lie_in_the_root_itself(root: Path) -> None:
    assert len(load_emodb(root / "wav").to_corpus()) == 4


def test_other_folders_hidden_files_and_what_is_no_audio_are_passed_over(root: Path) -> None:
    for name in ("lablaut/03a01Faxx.lablaut", "laryngo/03a01Fa.wav", "wav/._03a01Fa.wav", "wav/readme.txt"):
        write(root / name, "")
    corpus = load_emodb(root).to_corpus()
    assert len(corpus) == 4
    assert dict(corpus.unused) == {"hidden": 1, ".lablaut": 1, ".wav": 1, ".txt": 1}
    (note,) = corpus.notes
    assert note.startswith(
        f"not used: 1 .wav below {root}, for example 'laryngo/03a01Fa.wav': expected: wav/03a01Wa.wav"
    )


@pytest.mark.parametrize(
    "content",
    [
        "\ufeffNr. Satz erkannt natürlich\r\n\r\n1 03a01Fa.wav 90.0 75\r\n".encode(),
        "natürlich ERKANNT Satz\n75,00 90,00 03a01Fa\n".encode("latin-1"),
        "Satz\terkannt\tnatuerlich\n03a01Fa.wav\t90,00\xa0\t75,00\xa0".encode(),
    ],
)
def test_copies_in_other_encodings_and_orders_of_columns_are_read(root: Path, content: bytes) -> None:
    for clip in CLIPS[1:]:
        (root / "wav" / f"{clip}.wav").unlink()
    write(root / TEST, content)
    assert load_emodb(root).to_corpus().table[["recognition", "naturalness"]].to_numpy().tolist() == [[0.9, 0.75]]


# Data errors


def test_bad_names_and_clips_in_two_files_are_listed_at_once(root: Path) -> None:
    names = {
        "wav/17c01Xa.wav": "speaker '17' is not one of 03, ",
        "wav/03a03Wa.wav": "text 'a03'",
        "wav/03a01wA.wav": "emotion 'w' is not one of W, L, E, A, F, N, T; version 'A'",
        "wav/03a01Faxx.wav": "'03a01Faxx' is not speaker, text, emotion and version",
    }
    other = "wav/copies/03a01Fa.flac"
    for name in (*names, other):
        write(root / name, name)
    errors = dict(errors_of(root))
    assert errors.keys() == {*names, other}
    for name, words in names.items():
        assert words in errors[name]
    assert errors[other] == "repeats utterance '03a01Fa' of wav/03a01Fa.wav, with another path"


def test_all_errors_of_the_listening_test_are_listed_at_once(root: Path) -> None:
    write(
        root / TEST,
        listening_test(
            [
                ("03a01Fa", 90, 75),
                ("03a01Fa", 90, 80),
                ("08b10Wd", 101, 95),
                ("16b09Tc", "80,00", "sixty"),
                ("nobody", 80, 60),
                ("03a01Ab", "8,0,0", 60),
            ]
        )
        + "7\t03a01Ac.wav\t80,00\n",
    )
    assert sorted(errors_of(root)) == sorted(
        [
            (f"{TEST}:3", "has other percentages for 03a01Fa than line 2"),
            ("08b10Wd", f"{TEST}:4: '101,00' and '95,00' are not both percentages"),
            ("16b09Tc", f"{TEST}:5: '80,00' and 'sixty' are not both percentages"),
            (f"{TEST}:6", "'nobody' is not speaker, text, emotion and version, such as 03a01Wa"),
            ("03a01Ab", f"{TEST}:7: '8,0,0' and '60,00' are not both percentages"),
            (f"{TEST}:8", "has 3 cells, not 4"),
            ("13a07Lb", f"{TEST} has no line for this clip"),
        ]
    )


def test_errors_can_be_left_out_by_their_lines(root: Path) -> None:
    write(root / "wav" / "beep.wav", "")
    write(root / TEST, listening_test([("03a01Fa", 90, 75), ("13a07Lb", 90, 75), ("16b09Tc", 200, 75), ("x", 1, 1)]))
    errors = errors_of(root)
    assert len(errors) == 4
    corpus = load_emodb(root).to_corpus([f"{name}: {problem}" for name, problem in errors])
    assert list(corpus.table["utterance_id"]) == ["03a01Fa", "13a07Lb"]
    assert corpus.excluded == ("08b10Wd", "16b09Tc", f"{TEST}:5", "wav/beep.wav")


# Unreadable files


def test_a_place_without_clips_reports_the_layout(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"wav/03a01Wa\.wav"):
        load_emodb(tmp_path)
    write(tmp_path / "1001_DFA_ANG_XX.wav", "")
    with pytest.raises(UserError, match=r"1 files with other names, such as '1001_DFA_ANG_XX\.wav'.*wav/03a01Wa\.wav"):
        load_emodb(tmp_path)
    with pytest.raises(UserError, match="not a folder"):
        load_emodb(tmp_path / "1001_DFA_ANG_XX.wav")


@pytest.mark.parametrize(
    "content",
    [
        "",
        "1\t03a01Fa.wav\t90,00\t75,00\n",
        "Satz\terkannt\terkannt\tnatuerlich\n",
        "Nr. Satz erkannt\n".encode("utf-16"),
    ],
)
def test_another_file_in_place_of_the_listening_test_is_one_message(root: Path, content: str | bytes) -> None:
    write(root / TEST, content)
    with pytest.raises(UserError, match="whose first line names each of Satz, erkannt and natuerlich once"):
        load_emodb(root)


def test_a_listening_test_of_other_clips_is_one_message(root: Path) -> None:
    write(root / TEST, listening_test([("03a01Nc", 90, 75)]))
    with pytest.raises(UserError, match=r"no line for any of the clips.*remove it to load the corpus without"):
        load_emodb(root)


def test_a_folder_in_place_of_the_listening_test_is_one_message(root: Path) -> None:
    (root / TEST).unlink()
    (root / TEST).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_emodb(root)


# Any content


percentages = st.sampled_from([0, 80, 100, 101, -5, "", "x", "85.0", "1e1"])
FINE = {0: 0.0, 80: 0.8, 100: 1.0, "85.0": 0.85}


@settings(max_examples=150, deadline=None)
@given(
    plan=st.tuples(*[st.tuples(st.booleans(), st.lists(st.tuples(percentages, percentages), max_size=2))] * len(CLIPS))
)
def test_errors_name_exactly_the_clips_that_do_not_fit_their_lines(plan, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("plan")
    assume(any(audio for audio, _ in plan))
    rows = [(clip, *cells) for clip, (_, table) in zip(CLIPS, plan, strict=True) for cells in table]
    assume(any(audio and any("" not in cells for cells in table) for audio, table in plan))
    fine, bad, wrong_lines, absent = {}, set(), 0, 0
    for clip, (audio, table) in zip(CLIPS, plan, strict=True):
        if audio:
            write(root / "wav" / f"{clip}.wav", "")
        legible = [cells for cells in table if "" not in cells]  # a line with a blank has too few cells
        wrong_lines += len(table) - len(legible)
        wrong_lines += sum(cells != legible[0] for cells in legible)
        if legible and {*legible[0]} <= {*FINE}:
            if audio:
                fine[clip] = tuple(FINE[cell] for cell in legible[0])
            else:
                absent += 1
        elif legible or audio:
            bad.add(clip)
    write(root / TEST, listening_test(rows))

    result = load_emodb(root)
    names = [name for name, _ in result.errors]
    assert {name for name in names if not name.startswith(TEST)} == bad
    assert sum(name.startswith(TEST) for name in names) == wrong_lines
    if not bad:
        assert result.outside.get("judged, without audio", 0) == absent
    columns = ("utterance_id", "recognition", "naturalness")
    assert {id_: shares for id_, *shares in zip(*(result.rows[c] for c in columns), strict=True)} == {
        clip: list(shares) for clip, shares in fine.items()
    }


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_whatever_bytes_the_listening_test_holds_the_corpus_is_whole_or_refused(data, tmp_path_factory) -> None:
    root = build(tmp_path_factory.mktemp("damage"))
    content = data.draw(damage((root / TEST).read_bytes(), [b"\n", b"\t", b",", b"1", b"\x00", b"\xa0"]))
    write(root / TEST, content)
    try:
        corpus = load_emodb(root).to_corpus()
    except UserError:
        return
    assert list(corpus.table["utterance_id"]) == list(CLIPS)
    columns = ("utterance_id", "recognition", "naturalness")
    for id_, *shares in zip(*(corpus.table[column] for column in columns), strict=True):
        cells = re.findall(rf"{id_}\S*\s+(\S+)\s+(\S+)", content.decode("latin-1"))[0]
        assert shares == [float(cell.replace(",", ".")) / 100 for cell in cells]
        assert all(0 <= share <= 1 for share in shares)


# The real corpus


@pytest.mark.skipif("SER_EMODB_ROOT" not in os.environ, reason="SER_EMODB_ROOT does not name EmoDB's folder")
def test_the_real_first_edition_has_535_clips_that_four_in_five_recognised() -> None:
    corpus = load_emodb(Path(os.environ["SER_EMODB_ROOT"])).to_corpus()
    assert len(corpus) == 535
    assert corpus.table["label"].value_counts().to_dict() == {
        "anger": 127,
        "boredom": 81,
        "neutral": 79,
        "happiness": 71,
        "fear": 69,
        "sadness": 62,
        "disgust": 46,
    }
    assert corpus.table["gender"].value_counts().to_dict() == {"female": 302, "male": 233}
    assert corpus.table["recognition"].min() == 0.8
    assert corpus.outside == {"judged, without audio": 281}
