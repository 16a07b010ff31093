import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ser.corpora import Corpus, load
from ser.corpora.loaders.msp_podcast import CLASSES, load_msp_podcast
from ser.splits import split
from ser.utils.errors import DataErrors, UserError

HEADER = "FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"
CONSENSUS = (
    "MSP-PODCAST_0001_0008.wav,N,2.2,4.0,2.6,127,Male,Train",
    "MSP-PODCAST_0001_0019.wav,H,5.5,6.0,5.0,Unknown,Unknown,Train",
    "MSP-PODCAST_0002_0033.wav,U,5.0,4.5,4.0,9,Female,Test1",
    "MSP-PODCAST_0002_0034_0001.wav,X,3.0,3.0,3.0,Unknown,Female,Validation",
    "MSP-PODCAST_0003_0001.wav,O,3.0,3.0,3.0,9,Female,Test2",
    "MSP-PODCAST_test3_0001.wav,,,,,,,Test3",
)
# File (by position above), worker, primary, secondary, activation, valence, dominance.
JUDGED = (
    (0, "WORKER00000823", "Neutral", "Neutral,Concerned", 3, 4, 3),
    (0, "WORKER00000001", "Neutral", "Neutral", 1, 4, 2),
    (0, "WORKER00000007", "Sad", "Sad,Disappointed", 2, 4, 3),
    (0, "WORKER00000009", "Other-bored; so bored", "Other-meh", 2, 4, 3),
    (1, "WORKER00000823", "Happy", "Happy,Amused", 6, 7, 5),
    (1, "WORKER00000001", "Happy", "Excited", 5, 5, 5),
    (2, "WORKER00000001", "Surprise", "Surprise", 5, 4, 4),
    (2, "WORKER00000823", "Contempt", "Surprise", 5, 5, 4),
    (3, "WORKER00000001", "Angry", "Angry", 3, 3, 3),
    (3, "WORKER00000823", "Fear", "Fear", 3, 3, 3),
    (4, "WORKER00000001", "Other", "Other-sly", 3, 3, 3),
)
NAMES = tuple(line.partition(",")[0] for line in CONSENSUS)
IDS = tuple(name.removesuffix(".wav") for name in NAMES)


def said(worker: str, primary: str, secondary: str, act: int, val: int, dom: int) -> str:
    return f"{worker}; {primary}; {secondary}; A:{act}.000000; V:{val}.000000; D:{dom}.000000;"


def detail_lines() -> list[str]:
    return [f'{NAMES[file]},"{said(*judgement)}"' for file, *judgement in JUDGED]


def tabular_lines() -> list[str]:
    return [f'{NAMES[f]},{w},"{p}","{s}",{a},{v},{d}' for f, w, p, s, a, v, d in JUDGED]


def text_lines() -> list[str]:
    lines = []
    for file, name in enumerate(NAMES[:5]):
        lines.append(f"{name}; N; A:2.200000; V:4.000000; D:2.600000;")
        lines += [said(*judgement) for judged, *judgement in JUDGED if judged == file]
        lines.append("")
    return lines


TABULAR_2 = "FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"
TABULAR_1 = TABULAR_2.replace("WorkerID", "Workers")
DETAILED = {
    "EmoDetail": ("labels_detailed.csv", ["FileName,EmoDetail", *detail_lines()]),
    "2.0": ("labels_detailed.csv", [TABULAR_2, *tabular_lines()]),
    "1.6": ("labels_detailed.csv", [TABULAR_1, *tabular_lines()]),
    "text": ("Labels.txt", text_lines()),
}


def write(path: Path, lines: list[str]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def release(root: Path, kind: str = "EmoDetail") -> Path:
    (root / "Audios").mkdir(parents=True, exist_ok=True)
    write(root / "Labels" / "labels_consensus.csv", [HEADER, *CONSENSUS])
    name, lines = DETAILED[kind]
    write(root / "Labels" / name, lines)
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return release(tmp_path / "msp")


@pytest.fixture
def consensus(root: Path) -> Path:
    return root / "Labels" / "labels_consensus.csv"


@pytest.fixture
def detailed(root: Path) -> Path:
    return root / "Labels" / "labels_detailed.csv"


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def errors_of(root: Path) -> list[tuple[str, str]]:
    with pytest.raises(DataErrors) as error:
        load_msp_podcast(root).to_corpus()
    return error.value.errors


# The files of a release


@pytest.mark.parametrize("kind", DETAILED)
def test_a_release_in_each_of_its_forms_gives_the_same_corpus(tmp_path: Path, kind: str) -> None:
    root = release(tmp_path / "msp", kind)
    corpus = load_msp_podcast(root).to_corpus()
    columns = ["utterance_id", "path", "speaker", "gender", "session", "label", "activation", "valence", "dominance"]
    audios = root / "Audios"
    assert corpus.table[columns].to_numpy().tolist() == [
        [IDS[0], str(audios / NAMES[0]), "127", "male", "", "neutral", 2.2, 4.0, 2.6],
        [IDS[1], str(audios / NAMES[1]), "unknown-0001", "unknown", "", "happiness", 5.5, 6.0, 5.0],
        [IDS[2], str(audios / NAMES[2]), "9", "female", "", "surprise", 5.0, 4.5, 4.0],
    ]
    assert corpus.classes == ("anger", "contempt", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [
        [0, 0, 0, 0, 0, 2, 1, 0],
        [0, 0, 0, 0, 2, 0, 0, 0],
        [0, 1, 0, 0, 0, 0, 0, 1],
    ]
    assert corpus.other_votes.tolist() == [1, 0, 0]
    assert corpus.outside == {"no agreement": 1, "other": 1, "withheld": 1}


@pytest.mark.parametrize("kind", DETAILED)
def test_each_workers_judgement_is_kept_by_name(tmp_path: Path, kind: str) -> None:
    corpus = load_msp_podcast(release(tmp_path / "msp", kind)).to_corpus()
    assert corpus.annotations is not None
    assert corpus.ratings is not None
    assert corpus.annotations[corpus.annotations["utterance_id"] == IDS[0]].to_numpy().tolist() == [
        [IDS[0], "WORKER00000823", "neutral", False],
        [IDS[0], "WORKER00000001", "neutral", False],
        [IDS[0], "WORKER00000007", "sadness", False],
        [IDS[0], "WORKER00000009", "other", False],
    ]
    # Includes utterances outside the classes.
    assert set(corpus.annotations["utterance_id"]) == set(IDS[:5])
    first = corpus.ratings.to_dict("records")[0]
    assert first == {
        "utterance_id": IDS[0],
        "annotator": "WORKER00000823",
        "is_self": False,
        "valence": 4.0,
        "activation": 3.0,
        "dominance": 3.0,
    }


def test_a_worker_who_judged_twice_votes_for_each_different_emotion(detailed: Path, root: Path) -> None:
    again = said("WORKER00000823", "Sad", "Sad", 2, 2, 2)
    same = said("WORKER00000001", "Neutral", "Neutral", 2, 2, 2)
    change(detailed, "FileName,EmoDetail\n", f'FileName,EmoDetail\n{NAMES[0]},"{again}"\n{NAMES[0]},"{same}"\n')
    corpus = load_msp_podcast(root).to_corpus()
    assert corpus.table["votes"][0] == (0, 0, 0, 0, 0, 2, 2, 0)
    assert corpus.ratings is not None
    assert (corpus.ratings["utterance_id"] == IDS[0]).sum() == 6


def test_nouns_a_missing_second_emotion_and_blank_ratings_are_taken(detailed: Path, root: Path) -> None:
    write(
        detailed,
        [
            "FileName,EmoDetail",
            f'{NAMES[0]},"WORKER1; Anger; A:; V:nan; D:3;"',
            f"{NAMES[1]},WORKER1;happiness;;A:3;V:3;D:3",
            f"{NAMES[2]},WORKER1;SADNESS;;A:3;V:3;D:7",
        ],
    )
    corpus = load_msp_podcast(root).to_corpus()
    assert corpus.annotations is not None
    assert corpus.ratings is not None
    assert list(corpus.annotations["label"]) == ["anger", "happiness", "sadness"]
    assert np.isnan(corpus.ratings.loc[0, ["activation", "valence"]].astype(float)).all()
    assert list(corpus.ratings["dominance"]) == [3.0, 3.0, 7.0]


def test_the_csv_is_taken_where_the_text_is_there_too(root: Path) -> None:
    write(root / "Labels" / "labels.txt", ["nonsense"])
    assert len(load_msp_podcast(root).to_corpus()) == 3


def test_without_the_workers_there_are_no_votes(root: Path, detailed: Path) -> None:
    detailed.unlink()
    corpus = load_msp_podcast(root).to_corpus()
    assert len(corpus) == 3
    assert corpus.votes is None
    assert corpus.annotations is None
    assert corpus.ratings is None


def test_older_names_of_folders_and_files_are_found(root: Path) -> None:
    digest = load_msp_podcast(root).to_corpus().digest
    (root / "Labels" / "labels_consensus.csv").rename(root / "Labels" / "labels_concensus.csv")
    (root / "Labels").rename(root / "label")
    assert load_msp_podcast(root).to_corpus().digest == digest
    (root / "Audios").rename(root / "Audio")
    assert load_msp_podcast(root).to_corpus().table["path"][0] == str(root / "Audio" / NAMES[0])


# Unreadable files


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (lambda root: (root / "Labels").rename(root / "other"), "no folder Labels found in"),
        (lambda root: (root / "Audios").rmdir(), "no folder Audios found in"),
        (lambda root: (root / "Labels" / "labels_consensus.csv").unlink(), "no labels_consensus.csv"),
        (lambda root: write(root / "Labels" / "labels_consensus.csv", [HEADER]), "has no rows"),
        (lambda root: write(root / "Labels" / "labels_consensus.csv", ["a,b", "1,2"]), "FileName: column missing"),
        (lambda root: write(root / "Labels" / "labels_detailed.csv", ["a,b"]), "WorkerID: column missing"),
        (lambda root: (root / "Labels" / "labels_detailed.csv").write_bytes(b"\xff\xfe\xff"), "not UTF-8"),
        (lambda root: write(root / "Labels" / "labels_consensus.csv", [HEADER, *CONSENSUS[3:]]), "8 errors"),
    ],
)
def test_what_cannot_be_read_is_one_message(root: Path, break_it: Callable[[Path], object], message: str) -> None:
    break_it(root)
    with pytest.raises(UserError, match=message):
        load_msp_podcast(root).to_corpus()


def test_a_file_instead_of_the_folder_and_a_corpus_in_no_class_are_reported(root: Path, consensus: Path) -> None:
    with pytest.raises(UserError, match=r"cannot be read.*Audios/MSP-PODCAST_0001_0008\.wav"):
        load_msp_podcast(consensus)
    write(consensus, [HEADER, *CONSENSUS[3:]])
    (root / "Labels" / "labels_detailed.csv").unlink()
    with pytest.raises(UserError, match="no utterances"):
        load_msp_podcast(root).to_corpus()


# Data errors


def test_all_errors_of_the_consensus_are_reported_at_once(root: Path, consensus: Path, detailed: Path) -> None:
    detailed.unlink()
    bad = [
        "MSP-PODCAST_0009_0001.wav,Q,2,3,4,5,Male,Train",
        "MSP-PODCAST_0009_0002.wav,,2,3,4,5,Male,Train",
        "MSP-PODCAST_0009_0003.wav,N,two,8,4,5,Male,Train",
        "MSP-PODCAST_0009_0004.wav,N,2,3,4,,Robot,Train",
        "MSP-PODCAST_0009_0005.wav,N,2,3",
        "MSP-PODCAST_0009_0006.wav,N,2,3,4,5,Male,Train,more",
        "../secret.wav,N,2,3,4,5,Male,Train",
        ",N,2,3,4,5,Male,Train",
        CONSENSUS[0].replace(",N,", ",S,"),
        "MSP-PODCAST_0009_0007.wav,N,2,3,4,5,Male,eval",
        CONSENSUS[1],
    ]
    write(consensus, [HEADER, *CONSENSUS, *bad])
    assert errors_of(root) == [
        ("MSP-PODCAST_0009_0001", "EmoClass 'Q' is not one of A, C, D, F, H, N, O, S, U, X"),
        ("MSP-PODCAST_0009_0002", "EmoClass '' is not one of A, C, D, F, H, N, O, S, U, X"),
        ("MSP-PODCAST_0009_0003", "EmoAct 'two' is not a number from 1 to 7"),
        ("MSP-PODCAST_0009_0003", "EmoVal '8' is not a number from 1 to 7"),
        ("MSP-PODCAST_0009_0004", "SpkrID is blank"),
        ("Labels/labels_consensus.csv:12", "has too few cells: no EmoDom, SpkrID, Gender, Split_Set"),
        ("Labels/labels_consensus.csv:13", "has too many cells"),
        ("Labels/labels_consensus.csv:14", "FileName '../secret.wav' is not like MSP-PODCAST_0001_0008.wav"),
        ("Labels/labels_consensus.csv:15", "FileName '' is not like MSP-PODCAST_0001_0008.wav"),
        ("Labels/labels_consensus.csv:16", f"has other cells for {NAMES[0]} than line 2"),
        (
            "MSP-PODCAST_0009_0007",
            "Split_Set 'eval' is not one of train, development, validation, test, test1, test2, … or blank",
        ),
    ]
    names = [name for name, _ in errors_of(root)]
    corpus = load_msp_podcast(root).to_corpus(names)
    assert list(corpus.table["utterance_id"]) == list(IDS[:3])
    assert corpus.table["label"][0] == "neutral"  # the first row of a repeated file
    repeated = "rows of the consensus that repeat another: 1, for example Labels/labels_consensus.csv:18"
    assert repeated in corpus.notes


SETS = (
    "MSP-PODCAST_0001_0001.wav,N,2,4,3,1,Male,Train",
    "MSP-PODCAST_0001_0002.wav,S,2,4,3,2,NA,development",
    "MSP-PODCAST_0001_0003.wav,H,2,4,3,3,Female,Test1",
    "MSP-PODCAST_0001_0004.wav,S,2,4,3,4,Female,Test2",
    "MSP-PODCAST_0001_0005.wav,X,2,4,3,4,Female,Test2",
    "MSP-PODCAST_0001_0006.wav,H,2,4,3,5,Female,test3",
    "MSP-PODCAST_0001_0007.wav,,,,,,,Test3",
)


@pytest.mark.parametrize(
    ("options", "tested", "note"),
    [
        ({}, [3], "official split: test1 is the test set; in no subset: 2 of test2, 2 of test3"),
        ({"test": "test2"}, [4], "official split: test2 is the test set; in no subset: 1 of test1, 2 of test3"),
        ({"test": "test1+test2"}, [3, 4], "official split: test1+test2 is the test set; in no subset: 2 of test3"),
        ({"test": "test3"}, [6], "official split: test3 is the test set; in no subset: 1 of test1, 2 of test2"),
    ],
)
def test_the_chosen_test_set_is_the_official_fold(
    root: Path, consensus: Path, detailed: Path, options: dict[str, str], tested: list[int], note: str
) -> None:
    write(consensus, [HEADER, *SETS])
    detailed.unlink()
    corpus = load("msp-podcast", root, options=options)
    assert corpus.notes[0] == note
    assert corpus.outside == {"no agreement": 1, "withheld": 1}
    assert list(corpus.table["gender"][:2]) == ["male", "unknown"]
    fold = split(corpus)
    assert fold.unit == "official split"
    number = [int(id_[-1]) for id_ in corpus.table["utterance_id"]]
    assert [[number[row] for row in rows] for rows in fold.subsets.values()] == [[1], [2], tested]


def test_a_test_set_without_labels_is_one_message(root: Path) -> None:
    with pytest.raises(UserError, match=r"no utterance of test3 has a label \(1 are withheld"):
        load("msp-podcast", root, options={"test": "test3"})


def test_audio_without_a_row_is_counted_and_other_formats_are_found(root: Path) -> None:
    for name in (NAMES[0], NAMES[3], "MSP-PODCAST_9999_0001.wav", "._MSP-PODCAST_9999_0001.wav"):
        write(root / "Audios" / name, [name])
    write(root / "Audios" / NAMES[1].replace(".wav", ".flac"), ["flac"])
    write(root / "Transcripts" / "x.txt", ["x"])
    corpus = load_msp_podcast(root).to_corpus()
    assert corpus.relative_paths == [f"Audios/{NAMES[0]}", f"Audios/{IDS[1]}.flac", f"Audios/{NAMES[2]}"]
    assert dict(corpus.unused) == {"hidden": 1, ".wav": 1, ".txt": 1}  # an utterance outside the classes has its row
    assert corpus.notes[-1] == (
        f"not used: 1 .wav below {root}, for example 'Audios/MSP-PODCAST_9999_0001.wav': "
        "no row of labels_consensus.csv names it"
    )


@pytest.mark.parametrize("kind", ["EmoDetail", "2.0"])
def test_all_errors_of_the_judgements_are_reported_at_once(tmp_path: Path, kind: str) -> None:
    root = release(tmp_path / "msp", kind)
    name, lines = DETAILED[kind]
    bad: list[tuple[str, tuple[object, ...]]] = [
        ("MSP-PODCAST_0001_9999.wav", ("WORKER1", "Sad", "Sad", 2, 3, 4)),
        (NAMES[0], ("WORKER1", "Concerned", "Sad", 2, 3, 4)),
        (NAMES[0], ("WORKER1", "", "Sad", 2, 3, 4)),
        (NAMES[0], ("WORKER1", "Sad", "Sad", 0, 3, "x")),
    ]
    if kind == "2.0":
        bad.append((NAMES[0], ("", "Sad", "Sad", 2, 3, 4)))
        extra = [f'{file},{w},{p},"{s}",{a},{v},{d}' for file, (w, p, s, a, v, d) in bad]
    else:
        extra = [f'{file},"{w}; {p}; {s}; A:{a}; V:{v}; D:{d};"' for file, (w, p, s, a, v, d) in bad]
        extra.append(f"{NAMES[0]},Neutral")
    write(root / "Labels" / name, [*lines, *extra])
    place = "Labels/labels_detailed.csv"
    last = "has no worker" if kind == "2.0" else "'Neutral' is not like WORKER1; Neutral; Neutral,Sad; A:3; V:4; D:3;"
    dominance = "EmoDom 'x'" if kind == "2.0" else "dominance 'x'"
    assert [problem.replace("EmoDom", "dominance") for _, problem in errors_of(root)] == [
        "judges 'MSP-PODCAST_0001_9999.wav', which is not in the consensus",
        "primary emotion 'Concerned' is neither one of the classes nor Other-…",
        "primary emotion '' is neither one of the classes nor Other-…",
        "activation '0' is not a number from 1 to 7",
        f"{dominance.replace('EmoDom', 'dominance')} is not a number from 1 to 7",
        last,
    ]
    assert [name for name, _ in errors_of(root)] == [f"{place}:{line}" for line in (13, 14, 15, 16, 16, 17)]
    excluded = sorted({name for name, _ in errors_of(root)})
    assert len(load_msp_podcast(root).to_corpus(excluded)) == 3


def test_all_errors_of_the_text_are_reported_at_once(tmp_path: Path) -> None:
    root = release(tmp_path / "msp", "text")
    place = "Labels/Labels.txt"
    lines = text_lines()
    extra = [
        said("WORKER1", "Sad", "Sad", 2, 3, 4),
        "MSP-PODCAST_0001_9999.wav; N; A:1; V:1; D:1;",
        said("WORKER1", "Sad", "Sad", 2, 3, 4),
        "",
        f"{NAMES[0]}; N; A:1; V:1; D:1;",
        "WORKER1; Sad",
        said("WORKER1", "Sad", "Sad", 2, 3, 4) + said("WORKER2", "Sad", "Sad", 2, 3, 4),
        "and a stray line",
    ]
    write(root / place, [*lines, *extra])
    start = len(lines)
    assert errors_of(root) == [
        (f"{place}:{start + 1}", "no earlier line names the file that this worker judged"),
        (f"{place}:{start + 2}", "judges 'MSP-PODCAST_0001_9999.wav', which is not in the consensus"),
        (f"{place}:{start + 5}", f"repeats {NAMES[0]}"),
        (f"{place}:{start + 6}", "'WORKER1; Sad' is not like WORKER1; Neutral; Neutral,Sad; A:3; V:4; D:3;"),
        (f"{place}:{start + 7}", "contains further lines. Is a quotation mark or a line break missing?"),
        (f"{place}:{start + 8}", "'and a stray line' is neither the line of a file nor that of a worker"),
    ]


@pytest.mark.parametrize("kind", DETAILED)
def test_an_utterance_that_no_worker_gave_a_class_is_an_error(tmp_path: Path, kind: str) -> None:
    root = release(tmp_path / "msp", kind)
    name, lines = DETAILED[kind]
    write(root / "Labels" / name, [line for line in lines if "Happy" not in line])
    assert errors_of(root) == [(IDS[1], "no worker named one of the classes")]
    corpus = load_msp_podcast(root).to_corpus([IDS[1]])
    assert list(corpus.table["utterance_id"]) == [IDS[0], IDS[2]]
    assert corpus.votes is not None


def test_an_utterance_with_other_votes_alone_is_an_error(root: Path, detailed: Path) -> None:
    for _ in range(2):
        change(detailed, "Happy; ", "Other-gleeful; ")
    assert errors_of(root) == [(IDS[1], "no worker named one of the classes")]


# No record is lost without a message


def counted(corpus: Corpus) -> tuple[int, int, dict[str, int]]:
    return len(corpus), 0 if corpus.annotations is None else len(corpus.annotations), dict(corpus.outside)


@pytest.mark.parametrize("kind", ["consensus", "EmoDetail", "2.0", "text"])
@pytest.mark.parametrize("mark", ['"', "\n", None])
def test_a_stray_quotation_mark_or_line_end_loses_no_judgement_in_silence(
    tmp_path: Path, kind: str, mark: str | None
) -> None:
    if kind == "consensus":
        path = release(tmp_path) / "Labels" / "labels_consensus.csv"
        (tmp_path / "Labels" / "labels_detailed.csv").unlink()
    else:
        path = release(tmp_path, kind) / "Labels" / DETAILED[kind][0]
    root = tmp_path
    before = counted(load_msp_podcast(root).to_corpus())
    text = path.read_text(encoding="utf-8")
    if mark is None:
        # Every line end but the last, whose loss changes nothing.
        ends = [position for position, letter in enumerate(text[:-1]) if letter == "\n"]
        changed = [text[:position] + text[position + 1 :] for position in ends]
    else:
        start = text.index("\n") + 1 if kind != "text" else 0
        changed = [text[:position] + mark + text[position:] for position in range(start, len(text), 11)]
    raised = 0
    for other in changed:
        path.write_text(other, encoding="utf-8")
        try:
            assert counted(load_msp_podcast(root).to_corpus()) == before
        except UserError:
            raised += 1
    assert raised > 0


MUTATIONS = st.lists(
    st.tuples(
        st.sampled_from(["byte", "insert", "delete", "double", "truncate", "swap"]),
        st.integers(0, 10_000),
        st.binary(min_size=1, max_size=3),
    ),
    min_size=1,
    max_size=4,
)


def mutated(content: bytes, mutations: list[tuple[str, int, bytes]]) -> bytes:
    for kind, where, some in mutations:
        at = where % (len(content) + 1)
        lines = content.split(b"\n")
        line = where % len(lines)
        if kind == "byte":
            content = content[:at] + some + content[at + len(some) :]
        elif kind == "insert":
            content = content[:at] + some + content[at:]
        elif kind == "delete":
            content = b"\n".join(lines[:line] + lines[line + 1 :])
        elif kind == "double":
            content = b"\n".join(lines[: line + 1] + lines[line:])
        elif kind == "truncate":
            content = content[:at]
        else:
            content = b"\n".join(lines[line:] + lines[:line])
    return content


@settings(max_examples=100, deadline=None)
@given(kind=st.sampled_from(sorted(DETAILED)), is_consensus=st.booleans(), mutations=MUTATIONS)
def test_any_bytes_give_a_valid_corpus_or_a_readable_mistake(
    kind: str, is_consensus: bool, mutations: list[tuple[str, int, bytes]]
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = release(Path(folder) / "msp", kind)
        path = root / "Labels" / ("labels_consensus.csv" if is_consensus else DETAILED[kind][0])
        path.write_bytes(mutated(path.read_bytes(), mutations))
        try:
            corpus = load_msp_podcast(root).to_corpus()
        except UserError:
            return
        assert set(corpus.table["label"]) <= set(CLASSES)
        assert corpus.votes is not None
        assert corpus.annotations is not None
        assert corpus.votes.sum() + corpus.other_votes.sum() <= len(corpus.annotations)


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=200), is_consensus=st.booleans())
def test_bytes_that_never_were_a_release_are_a_readable_mistake(content: bytes, is_consensus: bool) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = release(Path(folder) / "msp")
        name = "labels_consensus.csv" if is_consensus else "labels_detailed.csv"
        (root / "Labels" / name).write_bytes(content)
        with pytest.raises(UserError):
            load_msp_podcast(root).to_corpus()
