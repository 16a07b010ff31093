import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora.corpus import Corpus
from ser.corpora.loaders.iemocap import CLASSES, CLASSES_4, load_iemocap, load_iemocap_4
from ser.utils.errors import DataErrors, UserError

FOLDER = "Session1/dialog/EmoEvaluation"
FILE = f"{FOLDER}/Ses01F_impro01.txt"

# The line numbers in the tests below refer to this text.
TEXT = """\
% [START_TIME - END_TIME] TURN_NAME EMOTION [V, A, D]

[6.2901 - 8.2357]\tSes01F_impro01_F000\tneu\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tNeutral;\t()
C-E4:\tNeutral; Frustration;\t(a comment; with more, words)
C-F1:\tAnger;\t(curious)
A-E3:\tval 3; act 2; dom  2;\t()
A-E4:\tval 2; act 3; dom   ;\t(guarded (tense); ready)
A-F1:\tval 3; act 2; dom  1;\t()

[7.5000 - 10.0100]\tSes01F_impro01_M000\texc\t[4.0000, 4.5000, 3.0000]
C-E2:\tExcited; Happiness;\t()
C-E3:\tHappiness; Excited; Surprise;\t()
C-E4:\tExcited;\t()
C-E5:\tfrustration;\t()
A-E3:\tval 4; act 4; dom  3;\t()
A-E4:\tval 4; act 5; dom  3;\t()

[10.0100 - 11.3925]\tSes01F_impro01_F001\txxx\t[2.5000, 2.5000, 2.5000]
C-E2:\tNeutral;\t()
C-E3:\tAnger;\t()
C-E4:\tFrustration;\t()
A-E3:\tval 3; act 2; dom  2;\t()

[14.8872 - 18.0175]\tSes01F_impro01_F002\tfru\t[2.0000, 3.5000, 3.5000]
C-E2:\tFrustration;\t()
C-E3:\tFrustration;\t()
C-E4:\tAnger;\t()
A-E3:\tval 2; act 3; dom  3;\t()
A-E4:\tval 2; act 4; dom  4;\t()

"""


def release_with(root: Path, text: str | bytes = TEXT, name: str = FILE) -> Path:
    path = root / "IEMOCAP_full_release" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return root


def records(corpus: Corpus) -> dict[str, dict]:
    return {row["utterance_id"]: row for row in corpus.table.to_dict("records")}


def errors_at(root: Path) -> list[tuple[str, str]]:
    with pytest.raises(DataErrors) as error:
        load_iemocap(root).to_corpus()
    return error.value.errors


# The format, by hand


def test_a_block_becomes_a_row(tmp_path: Path) -> None:
    corpus = load_iemocap(release_with(tmp_path)).to_corpus()
    release = tmp_path / "IEMOCAP_full_release"
    assert (corpus.name, corpus.classes, corpus.root) == ("iemocap", CLASSES, release)
    row = records(corpus)["Ses01F_impro01_F000"]
    assert np.isnan(row.pop("start"))
    assert np.isnan(row.pop("end"))
    assert row == {
        "utterance_id": "Ses01F_impro01_F000",
        "path": str(release / "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"),
        "speaker": "Ses01F",
        "gender": "female",
        "session": "Ses01",
        "label": "neu",
        "votes": (0, 0, 1, 0, 3, 0),
        "other_votes": 0,
        "valence": 2.5,
        "activation": 2.5,
        "dominance": 2.5,
        "dialog_start": 6.2901,
        "dialog_end": 8.2357,
        "comments": "C-E4: (a comment; with more, words); C-F1: (curious); A-E4: (guarded (tense); ready)",
    }
    man = records(corpus)["Ses01F_impro01_M000"]
    assert (man["speaker"], man["gender"], man["label"], man["comments"]) == ("Ses01M", "male", "exc", "")
    assert (man["votes"], man["other_votes"]) == ((0, 3, 1, 2, 0, 0), 1)
    assert (man["valence"], man["activation"], man["dominance"]) == (4.0, 4.5, 3.0)


def test_who_said_what_keeps_the_names_and_tells_self_evaluations_apart(tmp_path: Path) -> None:
    corpus = load_iemocap(release_with(tmp_path)).to_corpus()
    assert corpus.annotations is not None
    assert corpus.ratings is not None
    of = corpus.annotations[corpus.annotations["utterance_id"] == "Ses01F_impro01_F000"]
    assert of[["annotator", "label", "is_self"]].to_numpy().tolist() == [
        ["E2", "neu", False],
        ["E3", "neu", False],
        ["E4", "neu", False],
        ["E4", "fru", False],
        ["F1", "ang", True],
    ]
    assert set(corpus.annotations["label"]) == {"ang", "exc", "fru", "hap", "neu", "sur"}
    of = corpus.ratings[corpus.ratings["utterance_id"] == "Ses01F_impro01_F000"]
    assert of[["annotator", "is_self", "valence", "activation"]].to_numpy().tolist() == [
        ["E3", False, 3.0, 2.0],
        ["E4", False, 2.0, 3.0],
        ["F1", True, 3.0, 2.0],
    ]
    np.testing.assert_array_equal(of["dominance"], [2.0, np.nan, 1.0])


def test_the_four_classes_merge_excitement_before_the_votes_are_counted(tmp_path: Path) -> None:
    corpus = load_iemocap_4(release_with(tmp_path)).to_corpus()
    assert (corpus.name, corpus.classes) == ("iemocap-4", CLASSES_4)
    rows = records(corpus)
    assert list(rows) == ["Ses01F_impro01_F000", "Ses01F_impro01_M000"]
    assert (rows["Ses01F_impro01_M000"]["label"], rows["Ses01F_impro01_M000"]["votes"]) == ("hap", (0, 3, 0, 0))
    assert rows["Ses01F_impro01_M000"]["other_votes"] == 2  # surprise and frustration
    assert corpus.outside == {"fru": 1, "xxx": 1}
    assert corpus.annotations is not None
    said = corpus.annotations[corpus.annotations["utterance_id"] == "Ses01F_impro01_M000"]
    assert said[["annotator", "label"]].to_numpy().tolist() == [
        ["E2", "hap"],
        ["E3", "hap"],
        ["E3", "sur"],
        ["E4", "hap"],
        ["E5", "fru"],
    ]


def test_utterances_outside_of_the_classes_are_counted_by_the_corpus_word(tmp_path: Path) -> None:
    text = TEXT
    for code, word in (("sur", "Surprise"), ("fea", "Fear"), ("dis", "Disgust"), ("oth", "Other")):
        block = TEXT.split("\n\n")[-2].replace("F002", f"M0{ord(word[0])}").replace("\tfru\t", f"\t{code}\t")
        text += block.replace("Frustration", word) + "\n\n"
    corpus = load_iemocap(release_with(tmp_path, text)).to_corpus()
    assert len(corpus) == 3
    assert corpus.outside == {"dis": 1, "fea": 1, "oth": 1, "sur": 1, "xxx": 1}


@pytest.mark.parametrize("inside", [False, True])
def test_the_root_is_the_release_or_the_folder_that_it_is_in(tmp_path: Path, inside: bool) -> None:
    release_with(tmp_path)
    root = tmp_path / "IEMOCAP_full_release" if inside else tmp_path
    corpus = load_iemocap(root).to_corpus()
    assert corpus.relative_paths[0] == "Session1/sentences/wav/Ses01F_impro01/Ses01F_impro01_F000.wav"


@pytest.mark.parametrize("kind", ["empty", "a session itself", "a file"])
def test_a_root_without_sessions_reports_the_layout(tmp_path: Path, kind: str) -> None:
    release = release_with(tmp_path) / "IEMOCAP_full_release"
    root = {"empty": tmp_path / "none", "a session itself": release / "Session1", "a file": release / FILE}[kind]
    with pytest.raises(
        UserError, match=r"no session of IEMOCAP found .*SessionN/dialog/EmoEvaluation/SesNNF_impro01\.txt"
    ):
        load_iemocap(root)


# Irregularities that are accepted


def changed(old: str, new: str, count: int = -1) -> str:
    assert old in TEXT
    return TEXT.replace(old, new, count)


ODDITIES = {
    "Windows' line ends": TEXT.replace("\n", "\r\n"),
    "a byte order mark": "\ufeff" + TEXT,
    "no blank line at the end": TEXT.rstrip("\n"),
    "no title": TEXT.partition("\n\n")[2],
    "two blank lines": changed("\n\n", "\n\n \t\n"),
    "no blank line between blocks": changed("\n\n[", "\n["),
    "spaces at the ends of lines": changed("\n", "  \n"),
    "spaces for tabs": changed("\t", "   "),
    "the long word for neutral": changed("Neutral;", "Neutral state;"),
    "categories in other cases": changed("Frustration;", "FRUSTRATION;").replace("Happiness;", "happiness;"),
    "a consensus in capitals": changed("\tneu\t", "\tNEU\t"),
    "an evaluator's line twice": changed("C-E2:\tFrustration;\t()\n", "C-E2:\tFrustration;\t()\n" * 2),
    "a category twice": changed("C-E4:\tAnger;", "C-E4:\tAnger; Anger;"),
    "no semicolon at the end": changed("C-E4:\tAnger;", "C-E4:\tAnger"),
    "no space after a semicolon": changed("Neutral; Frustration;", "Neutral;Frustration;"),
    "dimensions before categories": changed(
        "C-E5:\tfrustration;\t()\nA-E3:\tval 4; act 4; dom  3;\t()",
        "A-E3:\tval 4; act 4; dom  3;\t()\nC-E5:\tfrustration;\t()",
    ),
    "another who names nothing": changed("C-E4:\tAnger;\t()\n", "C-E4:\tAnger;\t()\nC-E6:\t\t()\nC-F1:\t;\t()\n"),
}


@pytest.mark.parametrize("text", ODDITIES.values(), ids=ODDITIES)
def test_oddities_of_writing_change_no_label_and_no_vote(tmp_path: Path, text: str) -> None:
    columns = ["utterance_id", "label", "votes", "other_votes", "valence", "dialog_start", "speaker"]
    plain = load_iemocap(release_with(tmp_path / "plain")).to_corpus()
    odd = load_iemocap(release_with(tmp_path / "odd", text)).to_corpus()
    assert odd.table[columns].to_dict("list") == plain.table[columns].to_dict("list")
    assert odd.outside == plain.outside


def test_blank_dimensions_and_means_are_not_numbers(tmp_path: Path) -> None:
    text = changed("[2.0000, 3.5000, 3.5000]", "[NaN, 3.5000, 0.5000]").replace(
        "val 2; act 3; dom  3;", "val ; act; dom"
    )
    corpus = load_iemocap(release_with(tmp_path, text)).to_corpus()
    row = records(corpus)["Ses01F_impro01_F002"]
    assert np.isnan(row["valence"])
    assert (row["activation"], row["dominance"]) == (3.5, 0.5)
    assert corpus.ratings is not None
    of = corpus.ratings[corpus.ratings["utterance_id"] == "Ses01F_impro01_F002"]
    assert of[["valence", "activation", "dominance"]].isna().all(axis=1).tolist() == [True, False]


def test_a_comment_may_hold_anything_in_its_parentheses(tmp_path: Path) -> None:
    text = changed("(a comment; with more, words)", "(C-E9:\tAnger; [1 - 2] % ((“so”) ; )")
    row = records(load_iemocap(release_with(tmp_path, text)).to_corpus())["Ses01F_impro01_F000"]
    assert row["comments"].startswith("C-E4: (C-E9:\tAnger; [1 - 2] % ((“so”) ;); C-F1")
    assert row["votes"] == (0, 0, 1, 0, 3, 0)


@pytest.mark.parametrize(
    "name", ["Ses03M_script03_2_F033", "Ses05M_script01_1b_F013", "Ses03M_impro08a_M004", "Ses02F_script01_1_MXX0"]
)
def test_names_of_every_kind_give_dialog_session_and_speaker(tmp_path: Path, name: str) -> None:
    dialog, _, turn = name.rpartition("_")
    text = changed("Ses01F_impro01_M000", name).replace("Ses01F_impro01", dialog)
    file = f"Session{name[4]}/dialog/EmoEvaluation/{dialog}.txt"
    row = records(load_iemocap(release_with(tmp_path, text, file)).to_corpus())[name]
    assert (row["session"], row["speaker"]) == (name[:5], name[:5] + turn[0])
    assert row["path"].endswith(f"/Session{name[4]}/sentences/wav/{dialog}/{name}.wav")


def test_hidden_files_and_subfolders_are_passed_over(tmp_path: Path) -> None:
    for name in ("._Ses01F_impro01.txt", ".DS_Store", "Attribute/x.txt", "Categorical/x.txt", "Self-evaluation/x.txt"):
        release_with(tmp_path, b"\0\xff", f"{FOLDER}/{name}")
    release_with(tmp_path, b"", "Session1/dialog/transcriptions/Ses01F_impro01.txt")
    release_with(tmp_path, b"", "README.txt")
    assert len(load_iemocap(release_with(tmp_path)).to_corpus()) == 3


# Data errors


def test_sentences_of_other_formats_are_found_and_those_without_a_transcript_counted(tmp_path: Path) -> None:
    release = release_with(tmp_path) / "IEMOCAP_full_release"
    sentences = "Session1/sentences/wav/Ses01F_impro01"
    names = ("F000.wav", "M000.flac", "F001.wav", "F003.wav", "._F000.wav")  # F001 is outside the classes
    paths = [f"{sentences}/Ses01F_impro01_{name}" for name in names[:4]]
    for name in (*paths, f"{sentences}/{names[4]}", "Session1/dialog/wav/Ses01F_impro01.wav", "README.pdf"):
        (release / name).parent.mkdir(parents=True, exist_ok=True)
        (release / name).write_bytes(b"")
    corpus = load_iemocap(tmp_path).to_corpus()
    # The file of F002 is missing, which is an error of its audio.
    missing = f"{sentences}/Ses01F_impro01_F002.wav"
    assert sorted(corpus.relative_paths) == sorted([paths[0], paths[1], missing])
    assert dict(corpus.unused) == {"hidden": 1, ".wav": 1, "whole dialogs": 1, ".pdf": 1}
    assert corpus.notes == (
        f"not used: 1 .wav below {release}, for example '{paths[3]}': no file in dialog/EmoEvaluation names it",
    )


def without_lines(*numbers: int) -> str:
    return "".join(line for number, line in enumerate(TEXT.splitlines(True), 1) if number not in numbers)


# A text and its replacement, or the lines removed → the line of the error, and part of its message.
FAULTS = {
    "start after end": ("6.2901", "9.2901", 3, "F000: the times '9.2901 - 8.2357' are empty, reversed"),
    "no length": ("6.2901", "8.2357", 3, "F000: the times '8.2357 - 8.2357' are empty"),
    "times of another kind": ("6.2901", "soon", 3, "F000: the times 'soon - 8.2357' are not START - END"),
    "negative time": ("6.2901", "-6.2901", 3, "not START - END"),
    "infinite time": ("8.2357", "inf", 3, "not START - END"),
    "endless time": ("8.2357", "9" * 400, 3, "beyond"),
    "one time": ("6.2901 - 8.2357", "6.2901", 3, "not START - END"),
    "unknown consensus": ("\tneu\t", "\tnue\t", 3, "F000: the consensus 'nue' is not one of ang, dis, exc"),
    "two means": ("[2.5000, ", "[", 3, "F000: the means '2.5000, 2.5000' are not three numbers"),
    "a mean of another kind": ("[2.5000,", "[high,", 3, "not three numbers"),
    "a mean off the scale": ("[2.5000,", "[25.000,", 3, "not three numbers"),
    "no consensus": ("\tneu", "", 3, "F000: '[6.2901 - 8.2357]"),
    "header without its end": ("2.5000]", "2.5000", 3, "not a header line"),
    "header cut": ("\texc\t[4.0000, 4.5000, 3.0000]", "", 12, "not a header line"),
    "utterance of another dialog": (
        "impro01_M000",
        "impro02_M000",
        12,
        "'Ses01F_impro02_M000' is not named like a turn",
    ),
    "utterance of another session": ("Ses01F_impro01_M", "Ses02F_impro01_M", 12, "not named like a turn"),
    "no name of an utterance": ("_M000", "_X000", 12, "not named like a turn"),
    "dialog for utterance": ("_M000", "", 12, "not named like a turn"),
    "utterance again": ("_F001", "_F000", 20, "F000: is already at line 3"),
    "unknown category": ("Frustration", "Frustated", 6, "F000: C-E4 names 'Frustated', not one of anger"),
    "unknown word of an actor": ("C-F1:\tAnger", "C-F1:\tAngr", 7, "F000: C-F1 names 'Angr'"),
    "no comment": ("C-E4:\tExcited;\t()", "C-E4:\tExcited;", 15, "M000: 'C-E4:\\tExcited;' is not an evaluator's line"),
    "comment cut": ("(curious)", "(cur", 7, "not an evaluator's line"),
    "no evaluator": ("C-E4:\tExcited", "C-:\tExcited", 15, "not an evaluator's line"),
    "words in a block": ("C-E4:\tExcited;\t()", "see above", 15, "M000: 'see above' is not"),
    "title in a block": ("C-E4:\tExcited;\t()", "% [START", 15, "not an evaluator's line"),
    "no names of dimensions": ("val 4; act 5; dom  3;", "4; 5; 3;", 18, "M000: A-E4 rates '4; 5; 3;'"),
    "two dimensions": ("act 5; dom  3;", "act 5;", 18, "A-E4 rates"),
    "a word for a number": ("act 5; dom", "act x; dom", 18, "A-E4 rates"),
    "rating off the scale": ("act 5; dom", "act 50; dom", 18, "A-E4 rates"),
    "no evaluator's line": ((13, 14, 15, 16, 17, 18), "", 12, "M000: no outside evaluator (C-E…)"),
    "no category": ((4, 5, 6), "", 3, "F000: no outside evaluator (C-E…) names"),
    "no dimension": ((8, 9), "", 3, "F000: no outside evaluator (A-E…) rates"),
    "consensus that none names": ("\tneu\t", "\thap\t", 3, "F000: the consensus is hap, which no outside"),
    "consensus of the actor": ("\tneu\t", "\tang\t", 3, "F000: the consensus is ang, which no outside"),
    "header lost": ((12,), "", 12, "'C-E2:\\tExcited; Happiness;\\t()' is not below a header line"),
    "blank line in a block": ("C-E5", "\nC-E5", 17, "'C-E5:\\tfrustration;\\t()' is not below a header line"),
    "line in another encoding": ("curious", "na\udcefve", 7, "F000: byte 17 of the line is not UTF-8"),
    "name in another encoding": ("neu\t", "n\udce9u\t", 3, "not UTF-8"),
}


@pytest.mark.parametrize(("old", "new", "line", "words"), FAULTS.values(), ids=FAULTS)
def test_an_error_in_a_block_is_named_by_file_and_line(
    tmp_path: Path, old: str | tuple[int, ...], new: str, line: int, words: str
) -> None:
    text = without_lines(*old) if isinstance(old, tuple) else changed(old, new, 1)
    root = release_with(tmp_path, text.encode(errors="surrogateescape"))
    errors = errors_at(root)
    assert [words in problem for name, problem in errors if name == f"{FILE}:{line}"] == [True]
    rest = load_iemocap(root).to_corpus([name for name, _ in errors])
    assert rest.excluded == tuple(sorted({name for name, _ in errors}))
    # Only the utterance with the error is lost; of a repeated one, the first stays.
    names = {"Ses01F_impro01_F000", "Ses01F_impro01_M000", "Ses01F_impro01_F002"}
    lost = set() if line == 20 else {"Ses01F_impro01_F000" if line < 12 else "Ses01F_impro01_M000"}
    assert set(rest.table["utterance_id"]) == names - lost
    assert rest.outside == ({} if line == 20 else {"xxx": 1})


def test_of_lines_that_lost_their_header_the_first_of_each_run_is_reported(tmp_path: Path) -> None:
    errors = errors_at(release_with(tmp_path, without_lines(12, 20)))
    assert errors == [
        (f"{FILE}:12", "'C-E2:\\tExcited; Happiness;\\t()' is not below a header line"),
        (f"{FILE}:19", "'C-E2:\\tNeutral;\\t()' is not below a header line"),
    ]


def test_a_block_cut_anywhere_before_its_ratings_is_found(tmp_path: Path) -> None:
    begin = TEXT.index("[14.8872")
    end = TEXT.index("A-E3:", begin)
    for position in range(begin + 1, end, 7):
        root = release_with(tmp_path, TEXT[:position])
        assert errors_at(root)[0][0].startswith(f"{FILE}:2")
        assert "Ses01F_impro01_F002" not in set(load_iemocap(root).rows["utterance_id"])


@pytest.mark.parametrize("name", ["notes.txt", "Ses01F_impro01 (1).txt", "Ses01F_impro02.TXT", "Ses01F_impro02.bak"])
def test_a_file_that_is_named_unlike_a_dialog_is_an_error(tmp_path: Path, name: str) -> None:
    root = release_with(release_with(tmp_path), TEXT, f"{FOLDER}/{name}")
    assert [(where, "not named like a dialog" in problem) for where, problem in errors_at(root)] == [
        (f"{FOLDER}/{name}", True)
    ]
    assert len(load_iemocap(root).to_corpus([f"{FOLDER}/{name}"])) == 3


def test_a_file_in_another_sessions_folder_is_an_error(tmp_path: Path) -> None:
    name = "Session2/dialog/EmoEvaluation/Ses01F_impro01.txt"
    root = release_with(release_with(tmp_path), TEXT, name)
    assert errors_at(root) == [(name, "is a dialog of session 1, but in the folder of session 2")]


@pytest.mark.parametrize(
    ("content", "words"),
    [(b"", "no utterance"), (TEXT[:55].encode(), "no utterance"), (TEXT.encode("utf-16"), "NUL"), (b"\0" * 99, "NUL")],
)
def test_a_file_without_a_block_is_an_error(tmp_path: Path, content: bytes, words: str) -> None:
    root = release_with(release_with(tmp_path), content, f"{FOLDER}/Ses01M_impro01.txt")
    ((name, problem),) = errors_at(root)
    assert name == f"{FOLDER}/Ses01M_impro01.txt"
    assert words in problem


def test_a_folder_for_a_file_and_a_link_to_nowhere_are_errors(tmp_path: Path) -> None:
    folder = release_with(tmp_path) / "IEMOCAP_full_release" / FOLDER
    (folder / "Ses01M_impro01.txt").mkdir()
    (folder / "Ses01M_impro02.txt").symlink_to("nowhere")
    assert [(name.rpartition("/")[2], problem[:14]) for name, problem in errors_at(tmp_path)] == [
        ("Ses01M_impro01.txt", "cannot be read"),
        ("Ses01M_impro02.txt", "cannot be read"),
    ]


def test_a_session_without_evaluations_is_an_error_and_a_missing_session_is_none(tmp_path: Path) -> None:
    release = release_with(tmp_path) / "IEMOCAP_full_release"
    assert len(load_iemocap(tmp_path).to_corpus()) == 3
    (release / "Session2" / "dialog").mkdir(parents=True)
    (release / "Session3" / "dialog" / "EmoEvaluation").mkdir(parents=True)
    (release / "Session6").mkdir()
    errors = dict(errors_at(tmp_path))
    assert list(errors) == ["Session2", "Session3/dialog/EmoEvaluation", "Session6"]
    assert "dialog/EmoEvaluation cannot be read" in errors["Session2"]
    assert len(load_iemocap(tmp_path).to_corpus(list(errors))) == 3


def test_a_message_stays_short_where_a_line_is_endless(tmp_path: Path) -> None:
    for old in ("6.2901", "\tSes01F_impro01_F000", "\tneu", "[2.5000", "Frustration", "val 3", "C-F1"):
        (_, problem), *_ = errors_at(release_with(tmp_path, changed(old, old + 1000 * "x", 1)))
        assert len(problem) < 400


def test_all_errors_are_listed_at_once_in_the_order_of_the_files(tmp_path: Path) -> None:
    text = without_lines(8, 9).replace("\texc\t", "\tecx\t").replace("C-E4:\tAnger;", "C-E4:\tAnge;")
    root = release_with(release_with(tmp_path, text), text.replace("Ses01F", "Ses01M"), f"{FOLDER}/Ses01M_impro01.txt")
    names = [name for name, _ in errors_at(root)]
    assert names == [f"{FOLDER}/Ses01{letter}_impro01.txt:{line}" for letter in "FM" for line in (3, 10, 27)]


def test_lines_of_the_list_of_errors_leave_out_just_those_utterances(tmp_path: Path) -> None:
    root = release_with(tmp_path, changed("\texc\t", "\tecx\t").replace("C-E4:\tAnger;", "C-E4:\tAnge;"))
    with pytest.raises(DataErrors) as error:
        load_iemocap(root).to_corpus()
    lines = [line.strip() for line in str(error.value).splitlines() if line.startswith("  ")]
    corpus = load_iemocap(root).to_corpus(lines)
    assert list(corpus.table["utterance_id"]) == ["Ses01F_impro01_F000"]
    assert corpus.excluded == (f"{FILE}:12", f"{FILE}:29")
    with pytest.raises(DataErrors, match=":29"):
        load_iemocap(root).to_corpus(lines[:1])


def test_a_corpus_of_which_nothing_is_left_is_one_message(tmp_path: Path) -> None:
    root = release_with(tmp_path, "\n".join(TEXT.splitlines()[:7]))
    with pytest.raises(UserError, match="no utterances"):
        load_iemocap(root).to_corpus([name for name, _ in errors_at(root)])


# Any content


def read(content: bytes) -> Corpus | UserError:
    with tempfile.TemporaryDirectory() as folder:
        try:
            result = load_iemocap(release_with(Path(folder), content))
            errors = [name for name, _ in result.errors]
            try:
                return result.to_corpus()
            except DataErrors as error:
                assert errors
                result.to_corpus(errors)  # leaving all of them out gives a corpus, or a UserError
                return error
        except UserError as error:
            return error


PLAIN = TEXT.encode()
# Utterance → label, votes for CLASSES, other votes.
WHOLE = {
    "Ses01F_impro01_F000": ("neu", (0, 0, 1, 0, 3, 0), 0),
    "Ses01F_impro01_M000": ("exc", (0, 3, 1, 2, 0, 0), 1),
    "Ses01F_impro01_F002": ("fru", (1, 0, 2, 0, 0, 0), 0),
}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, len(PLAIN)), st.integers(0, 4), st.binary(max_size=4)), min_size=1, max_size=4)
)
def test_changed_bytes_give_a_corpus_or_a_user_error(edits: list[tuple[int, int, bytes]]) -> None:
    content = PLAIN
    for position, removed, added in edits:
        content = content[:position] + added + content[position + removed :]
    assert isinstance(read(content), Corpus | UserError)


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=200) | st.text("[]CAE-:;()% \t\n0123.Ses01F_improneu", max_size=200).map(str.encode))
def test_bytes_of_any_kind_give_a_user_error(content: bytes) -> None:
    assert isinstance(read(content), UserError)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_lines_give_a_corpus_or_a_user_error_and_never_another_label(data: st.DataObject) -> None:
    lines = TEXT.splitlines(True)
    place = data.draw(st.integers(0, len(lines) - 1))
    match data.draw(st.sampled_from(["delete", "double", "swap", "cut", "insert"])):
        case "delete":
            del lines[place]
        case "double":
            lines.insert(place, lines[place])
        case "swap":
            other = data.draw(st.integers(0, len(lines) - 1))
            lines[place], lines[other] = lines[other], lines[place]
        case "cut":
            lines[place] = lines[place][: data.draw(st.integers(0, len(lines[place])))]
        case "insert":
            lines.insert(place, data.draw(st.sampled_from([*lines, "?\n", "C-E1:\n", "[\n", "%\n"])))
    found = read("".join(lines).encode())
    if isinstance(found, Corpus):
        labels = {(name, label) for name, (label, _, _) in WHOLE.items()}
        assert set(zip(found.table["utterance_id"], found.table["label"], strict=True)) <= labels


@settings(max_examples=60, deadline=None)
@given(st.integers(0, len(PLAIN)))
def test_a_file_cut_anywhere_keeps_only_whole_votes(position: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        rows = load_iemocap(release_with(Path(folder), PLAIN[:position])).rows
    for row in rows.to_dict("records"):
        assert (row["label"], row["votes"], row["other_votes"]) == WHOLE[row["utterance_id"]]
