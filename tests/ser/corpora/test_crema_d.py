import csv
import io
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from ser.corpora.loaders.crema_d import CLASSES, load_crema_d
from ser.utils.errors import DataErrors, UserError
from tests.helpers.fuzzing import damage

VOTES = "processedResults/tabulatedVotes.csv"
CLIPS = ("1001_DFA_ANG_XX", "1001_IEO_NEU_XX", "1002_IEO_SAD_HI", "1091_WSI_HAP_XX")
# A D F H N S of each clip above
VOICE = ([6, 2, 0, 0, 1, 0], [0, 0, 0, 1, 10, 0], [0, 0, 1, 0, 4, 4], [1, 0, 0, 3, 5, 0])
FACE = ([9, 0, 0, 0, 0, 0], [0, 0, 0, 2, 8, 0], [0, 0, 0, 0, 1, 7], [0, 0, 0, 9, 0, 0])
BOTH = ([8, 1, 0, 0, 0, 0], [1, 0, 0, 2, 8, 0], [0, 0, 0, 0, 0, 9], [0, 0, 0, 9, 1, 0])


def write(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode("utf-8") if isinstance(content, str) else content)
    return path


def table_text(rows: list[tuple[str, str, list]]) -> str:
    """Rows (id, clip, counts) in the layout of the repository's file, without most of its means and medians."""
    lines = ['"","A","D","F","H","N","S","fileName","numResponses","agreement","emoVote","meanEmoResp"']
    for id_, clip, counts in rows:
        total = sum(count for count in counts if isinstance(count, int))
        lines.append(f'"{id_}",{",".join(map(str, counts))},"{clip}",{total},0.5,"A:N",-1')
    return "\n".join(lines) + "\n"


def all_rows() -> list[tuple[str, str, list]]:
    return [
        (f"{condition}0000{number}", clip, counts)
        for condition, table in (("1", VOICE), ("2", FACE), ("3", BOTH))
        for number, (clip, counts) in enumerate(zip(CLIPS, table, strict=True), start=1)
    ]


def build(root: Path) -> Path:
    for clip in CLIPS:
        write(root / "AudioWAV" / f"{clip}.wav", "")
    write(
        root / "VideoDemographics.csv",
        '"ActorID","Age","Sex","Race","Ethnicity"\n1001,51,"Male","Caucasian","Not Hispanic"\n'
        '1002,21,"Female","Caucasian","Not Hispanic"\n1003,21,"Female","Asian","Not Hispanic"\n'
        '1091,29,"Female","Asian","Not Hispanic"\n',
    )
    write(root / VOTES, table_text(all_rows()))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return build(tmp_path / "CREMA-D")


def errors_of(root: Path, **options) -> list[tuple[str, str]]:
    with pytest.raises(DataErrors) as error:
        load_crema_d(root, **options).to_corpus()
    return error.value.errors


# Names and tables


def test_names_and_tables_become_rows(root: Path) -> None:
    corpus = load_crema_d(root).to_corpus()
    columns = ["utterance_id", "speaker", "gender", "session", "label", "votes"]
    assert corpus.table[columns].to_numpy().tolist() == [
        ["1001_DFA_ANG_XX", "1001", "male", "", "anger", (6, 2, 0, 0, 1, 0)],
        ["1001_IEO_NEU_XX", "1001", "male", "", "neutral", (0, 0, 0, 1, 10, 0)],
        ["1002_IEO_SAD_HI", "1002", "female", "", "sadness", (0, 0, 1, 0, 4, 4)],
        ["1091_WSI_HAP_XX", "1091", "female", "", "happiness", (1, 0, 0, 3, 5, 0)],
    ]
    assert corpus.classes == ("anger", "disgust", "fear", "happiness", "neutral", "sadness")
    assert corpus.relative_paths[2] == "AudioWAV/1002_IEO_SAD_HI.wav"
    assert corpus.outside == {}


@pytest.mark.parametrize(("votes", "table"), [("voice", VOICE), ("face", FACE), ("both", BOTH)])
def test_each_condition_has_votes_of_its_own(root: Path, votes, table) -> None:
    corpus = load_crema_d(root, votes=votes).to_corpus()
    assert corpus.votes is not None
    assert corpus.votes.tolist() == list(table)
    assert list(corpus.table["label"]) == ["anger", "neutral", "sadness", "happiness"]


def test_plurality_takes_what_most_heard_and_counts_ties_outside(root: Path) -> None:
    heard = load_crema_d(root, consensus="plurality").to_corpus()
    assert dict(zip(heard.table["utterance_id"], heard.table["label"], strict=True)) == {
        "1001_DFA_ANG_XX": "anger",
        "1001_IEO_NEU_XX": "neutral",
        "1091_WSI_HAP_XX": "neutral",
    }
    assert heard.outside == {"tie": 1}
    assert heard.annotations is not None
    tied = set(heard.annotations["utterance_id"]) - set(heard.table["utterance_id"])
    assert len(tied) == 1  # so that agreement is not that of the untied clips alone
    assert len(load_crema_d(root, consensus="plurality").to_corpus([*tied]).table) == 3
    seen = load_crema_d(root, votes="face", consensus="plurality").to_corpus()
    assert list(seen.table["label"]) == ["anger", "neutral", "sadness", "happiness"]
    assert seen.outside == {}


def test_a_corpus_of_ties_alone_has_no_utterances(root: Path) -> None:
    write(root / VOTES, table_text([("100001", clip, [2, 2, 0, 0, 0, 0]) for clip in CLIPS]))
    with pytest.raises(UserError, match="no utterances"):
        load_crema_d(root, consensus="plurality").to_corpus()


def test_a_table_without_row_ids_is_of_the_voices(root: Path) -> None:
    lines = ["fileName,A,D,F,H,N,S", *(",".join([c, *map(str, v)]) for c, v in zip(CLIPS, VOICE, strict=True))]
    write(root / VOTES, "\r\n".join(lines))
    corpus = load_crema_d(root).to_corpus()
    assert corpus.votes is not None
    assert corpus.votes.tolist() == list(VOICE)
    for votes in ("face", "both"):
        with pytest.raises(UserError, match=rf"votes={votes} needs row ids"):
            load_crema_d(root, votes=votes)


def test_row_ids_may_have_a_name(root: Path) -> None:
    write(root / VOTES, table_text(all_rows()).replace('""', '"Unnamed: 0"', 1))
    corpus = load_crema_d(root, votes="face").to_corpus()
    assert corpus.votes is not None
    assert corpus.votes.tolist() == list(FACE)


def test_without_a_table_there_are_no_votes_and_options_that_need_it_say_so(root: Path) -> None:
    (root / VOTES).unlink()
    corpus = load_crema_d(root).to_corpus()
    assert len(corpus) == 4
    assert corpus.votes is None
    for options in ({"votes": "face"}, {"votes": "both"}, {"consensus": "plurality"}):
        key, value = next(iter(options.items()))
        with pytest.raises(UserError, match=rf"{key}={value} needs .*tabulatedVotes.csv, which is missing"):
            load_crema_d(root, **options)


def test_without_demographics_genders_are_unknown(root: Path) -> None:
    (root / "VideoDemographics.csv").unlink()
    assert set(load_crema_d(root).to_corpus().table["gender"]) == {"unknown"}


def test_the_misnamed_clip_of_old_copies_is_the_one_that_was_voted_on(root: Path) -> None:
    (root / "AudioWAV" / "1001_DFA_ANG_XX.wav").rename(root / "AudioWAV" / "1001_DFA_ANG_X.wav")
    corpus = load_crema_d(root).to_corpus()
    assert corpus.table["utterance_id"][0] == "1001_DFA_ANG_XX"
    assert corpus.relative_paths[0] == "AudioWAV/1001_DFA_ANG_X.wav"
    assert corpus.table["votes"][0] == (6, 2, 0, 0, 1, 0)


def test_other_folders_hidden_files_and_what_is_no_audio_are_passed_over(root: Path) -> None:
    for name in (
        "AudioMP3/1001_DFA_ANG_XX.mp3",
        "VideoFlash/1001_DFA_ANG_XX.flv",
        "AudioWAV/._1001_DFA_ANG_XX.wav",
        "AudioWAV/1001_DFA_ANG_XX.txt",
    ):
        write(root / name, "")
    corpus = load_crema_d(root).to_corpus()
    assert len(corpus) == 4
    assert dict(corpus.unused) == {"AudioMP3": 1, "hidden": 1, ".flv": 1, ".txt": 1}
    assert corpus.notes == ()


# Data errors


def test_bad_names_and_clips_in_two_files_are_listed_at_once(root: Path) -> None:
    names = {
        "AudioWAV/1092_DFA_ANG_XX.wav": "actor '1092'",
        "AudioWAV/1001_DFB_ANG_XX.wav": "sentence 'DFB'",
        "AudioWAV/1001_DFA_SUR_MED.wav": "emotion 'SUR' is not one of ANG, DIS, FEA, HAP, NEU, SAD; level 'MED'",
        "AudioWAV/1001_DFA_ANG_XX (1).wav": "level 'XX (1)'",
        "AudioWAV/beep.wav": "'beep' is not ACTOR_SENTENCE_EMOTION_LEVEL",
    }
    others = ("AudioWAV/1001_DFA_ANG_XX.mp3", "AudioWAV/1001_IEO_NEU_XX.wav")  # a WAV file comes first, and X before XX
    for name in (*names, *others, "AudioWAV/1001_IEO_NEU_X.wav"):
        write(root / name, name)
    errors = dict(errors_of(root))
    assert errors.keys() == {*names, *others}
    for name, words in names.items():
        assert words in errors[name]
    assert errors[others[0]] == (
        "repeats utterance '1001_DFA_ANG_XX' of AudioWAV/1001_DFA_ANG_XX.wav, with another path"
    )


def test_all_errors_of_the_votes_are_listed_at_once(root: Path) -> None:
    rows = [row for row in all_rows() if row[0] != "100002"]
    rows[0] = ("100001", CLIPS[0], [6, 2, 0, 0, "1.5", -1])
    rows[1] = ("100003", CLIPS[2], [0] * 6)
    rows += [
        ("100005", "1003_DFA_ANG_XX", [1, 0, 0, 0, 0, 0]),
        ("100006", "1003_DFA_ANG", [1, 0, 0, 0, 0, 0]),
        ("100007", CLIPS[3], [1, 0, 0, 0, 0, 0]),
        ("400008", CLIPS[3], [1, 0, 0, 0, 0, 0]),
    ]
    write(root / VOTES, table_text(rows))
    assert sorted(errors_of(root)) == sorted(
        [
            (CLIPS[0], f"{VOTES}:2: N is '1.5', not a count; S is '-1', not a count"),
            (CLIPS[1], f"{VOTES} has no row for this clip (voice)"),
            (CLIPS[2], f"{VOTES}:3: no votes"),
            (f"{VOTES}:15", f"has other votes for {CLIPS[3]} than line 4"),
            ("1003_DFA_ANG_XX", f"{VOTES}:13 has votes for this clip, but AudioWAV/1003_DFA_ANG_XX.wav is missing"),
            (f"{VOTES}:14", "'1003_DFA_ANG' is not ACTOR_SENTENCE_EMOTION_LEVEL, such as 1001_DFA_ANG_XX"),
            (f"{VOTES}:16", "row id '400008' is not 1, 2 or 3 and five digits; or too many cells"),
        ]
    )


def test_errors_of_a_condition_not_asked_for_do_not_matter(root: Path) -> None:
    rows = all_rows()
    rows[5] = ("200002", "nonsense", [0] * 6)
    write(root / VOTES, table_text(rows))
    assert len(load_crema_d(root, votes="voice").to_corpus()) == 4
    assert [name for name, _ in errors_of(root, votes="face")] == [f"{VOTES}:7", CLIPS[1]]


def test_counts_that_do_not_add_up_to_the_responses_are_errors(root: Path) -> None:
    text = table_text(all_rows())
    write(root / VOTES, text.replace('"100001",6,2', '"100001",5,2'))
    assert errors_of(root) == [(CLIPS[0], f"{VOTES}:2: the counts add up to 8, but numResponses is '9'")]


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("1001_DFA_ANG_XX,6,2,0,0,1", "S is missing"),
        ("1001_DFA_ANG_XX,6,2,0,0,1,", "S is '', not a count"),
        ("1001_DFA_ANG_XX,6,2,0,0,1,0,0", "too many cells"),
        ("1001_DFA_ANG_XX,6,2,0,0,1,9999999999", "S is '9999999999', not a count"),
        ("1001_DFA_ANG_XX,6,2,0,0,1,٣", "S is '٣', not a count"),
    ],
)
def test_a_row_cut_short_or_too_long_is_an_error(root: Path, line: str, problem: str) -> None:
    for clip in CLIPS[1:]:
        (root / "AudioWAV" / f"{clip}.wav").unlink()
    write(root / VOTES, f"fileName,A,D,F,H,N,S\n{line}\n")
    assert errors_of(root) == [(CLIPS[0], f"{VOTES}:2: {problem}")]


def test_missing_genders_are_unknown_and_reported(root: Path) -> None:
    name = "VideoDemographics.csv"
    write(root / name, "ActorID,Age,Sex\n1001,51,M\n1002,21,NA\n1002,22,\n1003\n")
    corpus = load_crema_d(root).to_corpus()
    assert list(corpus.table["gender"]) == ["male", "male", "unknown", "unknown"]
    assert corpus.notes == (f"{name}: gender unknown of actors 1002 (Sex 'NA'), 1091 (no row)",)


def test_unknown_actors_and_actors_of_two_genders_are_errors_that_leave_the_first(root: Path) -> None:
    name = "VideoDemographics.csv"
    write(root / name, "ActorID,Age,Sex\n1001,51,M\n1002,21,Female\n1002,22,Male\n2000,21,Male\n1091,29,Female\n")
    assert errors_of(root) == [
        (f"{name}:4", "actor 1002 has another Sex in line 3"),
        (f"{name}:5", "ActorID '2000' is not one of 1001 to 1091"),
    ]
    corpus = load_crema_d(root).to_corpus([f"{name}:4", f"{name}:5"])
    assert list(corpus.table["gender"]) == ["male", "male", "female", "female"]


def test_errors_can_be_left_out_by_their_lines(root: Path) -> None:
    write(root / "AudioWAV" / "beep.wav", "")
    write(root / VOTES, table_text([*all_rows()[1:], ("100005", "1003_DFA_ANG_XX", [1, 0, 0, 0, 0, 0])]))
    errors = errors_of(root)
    assert len(errors) == 3
    corpus = load_crema_d(root).to_corpus([f"{name}: {problem}" for name, problem in errors])
    assert list(corpus.table["utterance_id"]) == list(CLIPS[1:])
    assert corpus.excluded == ("1001_DFA_ANG_XX", "1003_DFA_ANG_XX", "AudioWAV/beep.wav")


# Unreadable files


@pytest.mark.parametrize("place", ["", "AudioWAV", "AudioWAV/1001_DFA_ANG_XX.wav"])
def test_a_place_without_clips_reports_the_layout(tmp_path: Path, place: str) -> None:
    root = build(tmp_path / "CREMA-D") / place if place else tmp_path
    with pytest.raises(UserError, match=r"AudioWAV/1001_DFA_ANG_XX\.wav"):
        load_crema_d(root)


def test_audio_of_another_corpus_is_reported_with_an_example(tmp_path: Path) -> None:
    write(tmp_path / "AudioWAV" / "03a01Wa.wav", "")
    with pytest.raises(UserError, match=r"1 files with other names, such as 'AudioWAV/03a01Wa\.wav'"):
        load_crema_d(tmp_path)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (VOTES, "", "is empty"),
        (VOTES, "fileName,A,D,F,H,N\n", "S: column missing"),
        (VOTES, "fileName,A,D,F,H,N,S\n", "no rows"),
        (VOTES, table_text(all_rows()[4:]), "no row of condition 'voice'"),
        (VOTES, table_text([("100001", "1003_DFA_ANG_XX", [1] * 6)]), "for none of the 4 clips.*remove it"),
        (VOTES, b"\xff\xfe\x00", "not UTF-8"),
        ("VideoDemographics.csv", "ActorID,Age\n1001,51\n", "Sex: column missing"),
    ],
)
def test_a_table_that_cannot_be_read_is_one_message(root: Path, name: str, content, message: str) -> None:
    write(root / name, content)
    with pytest.raises(UserError, match=message):
        load_crema_d(root)


def test_a_folder_in_place_of_a_table_is_one_message(root: Path) -> None:
    (root / VOTES).unlink()
    (root / VOTES).mkdir()
    with pytest.raises(UserError, match="cannot be read"):
        load_crema_d(root)


# Any content


counts_of_a_row = st.lists(st.sampled_from([0, 0, 1, 2, "x", "", "1.0", -1]), min_size=6, max_size=6)


@settings(max_examples=150, deadline=None)
@given(plan=st.tuples(*[st.tuples(st.booleans(), st.lists(counts_of_a_row, max_size=2))] * len(CLIPS)))
def test_errors_name_exactly_the_clips_that_do_not_fit_their_rows(plan, tmp_path_factory) -> None:
    root = tmp_path_factory.mktemp("plan")
    present = [clip for clip, (audio, _) in zip(CLIPS, plan, strict=True) if audio]
    rows = [("100001", clip, counts) for clip, (_, table) in zip(CLIPS, plan, strict=True) for counts in table]
    assume(present and rows)
    for clip in present:
        write(root / "AudioWAV" / f"{clip}.wav", "")
    write(root / VOTES, table_text(rows))
    assume(any(audio and table for audio, table in plan))
    fine = {
        clip: tuple(table[0])
        for clip, (audio, table) in zip(CLIPS, plan, strict=True)
        if audio and table and set(table[0]) <= {0, 1, 2} and any(table[0])
    }
    absent = {clip for clip, (audio, table) in zip(CLIPS, plan, strict=True) if not audio and not table}
    first = {clip: table[0] for clip, (_, table) in zip(CLIPS, plan, strict=True) if table}
    repeats = {f"{VOTES}:{line}" for line, (_, clip, counts) in enumerate(rows, start=2) if counts != first[clip]}

    result = load_crema_d(root)
    assert {name for name, _ in result.errors} == (set(CLIPS) - absent - fine.keys()) | repeats
    assert dict(zip(result.rows["utterance_id"], result.rows["votes"], strict=True)) == fine
    heard = load_crema_d(root, consensus="plurality")
    untied = {clip: votes for clip, votes in fine.items() if sorted(votes)[-1] > sorted(votes)[-2]}
    assert dict(zip(heard.rows["utterance_id"], heard.rows["label"], strict=True)) == {
        clip: CLASSES[int(np.argmax(votes))] for clip, votes in untied.items()
    }
    assert heard.outside.get("tie", 0) == len(fine) - len(untied)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), name=st.sampled_from([VOTES, "VideoDemographics.csv"]), votes=st.sampled_from(["voice", "face"]))
def test_whatever_bytes_a_table_holds_the_corpus_is_whole_or_refused(data, name, votes, tmp_path_factory) -> None:
    root = build(tmp_path_factory.mktemp("damage"))
    whole = load_crema_d(root, votes=votes).to_corpus()
    content = data.draw(damage((root / name).read_bytes(), [b"\n", b",", b'"', b"1", b"\x00", b"\xef\xbb\xbf"]))
    write(root / name, content)
    try:
        corpus = load_crema_d(root, votes=votes).to_corpus()
    except UserError:
        return
    assert list(corpus.table["utterance_id"]) == list(CLIPS)
    assert ("unknown" in set(corpus.table["gender"])) == ("gender unknown" in "".join(corpus.notes))
    if name == VOTES:
        table = [[cell.strip() for cell in row] for row in csv.reader(io.StringIO(content.decode("utf-8-sig"), ""))]
        header, *rows = [row for row in table if any(row)]
        name_at, *counts_at = (header.index(column) for column in ("fileName", *"ADFHNS"))
        # Of a repeated row the first counts.
        heard = [row for row in reversed(rows) if row[0][:1] == {"voice": "1", "face": "2"}[votes]]
        assert {row[name_at]: tuple(int(row[at]) for at in counts_at) for row in heard} == dict(
            zip(corpus.table["utterance_id"], corpus.table["votes"], strict=True)
        )
    else:
        assert corpus.votes is not None
        assert corpus.votes.tolist() == whole.votes.tolist()


# The real votes


@pytest.mark.skipif(
    "SER_CREMA_D_VOTES" not in os.environ, reason="SER_CREMA_D_VOTES does not name CREMA-D's voice votes"
)
def test_the_real_votes_agree_with_the_intended_emotion_in_46_percent_of_the_untied_clips(tmp_path: Path) -> None:
    with Path(os.environ["SER_CREMA_D_VOTES"]).open(encoding="utf-8", newline="") as file:
        real = [(row["fileName"], [int(row[letter]) for letter in "ADFHNS"]) for row in csv.DictReader(file)]
    (tmp_path / "AudioWAV").mkdir()
    for clip, _ in real:
        (tmp_path / "AudioWAV" / f"{clip}.wav").touch()
    rows = [(f"1{number:05}", clip, counts) for number, (clip, counts) in enumerate(real, start=1)]
    rows += [(f"{c}{number:05}", clip, [0, 0, 0, 0, 0, 9]) for c in "23" for number, (clip, _) in enumerate(real, 1)]
    write(tmp_path / VOTES, table_text(rows))

    everything = load_crema_d(tmp_path).to_corpus()
    assert len(everything) == 7442
    assert everything.table["speaker"].nunique() == 91
    assert everything.votes is not None
    assert everything.votes.sum() == 68568
    heard = load_crema_d(tmp_path, consensus="plurality").to_corpus()
    assert len(heard) == 6798
    assert heard.outside == {"tie": 644}
    intended = everything.table.set_index("utterance_id")["label"][heard.table["utterance_id"]]
    agreement = np.mean(intended.to_numpy() == heard.table["label"].to_numpy())
    assert agreement == pytest.approx(0.456, abs=0.0005)
