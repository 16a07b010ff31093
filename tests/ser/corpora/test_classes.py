"""Classes that are chosen, merged and renamed."""

import shlex
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus, load
from ser.corpora.classes import FORMER, NO_VOTE, OTHER_TRUTH, choose_classes, resolved_classes
from ser.corpora.names import escaped
from ser.noise import corrupt_level
from ser.utils.errors import UserError
from tests.helpers.corpus_trees import BUILDERS

CHOSEN = {
    "iemocap": "ang,hap=hap+exc,neu,sad",
    "ravdess": "neutral,happy,sad,angry,fearful,disgust",
    "emodb": "anger,disgust,fear,happiness,neutral,sadness",
    "msp-podcast": "anger,disgust,fear,happiness,neutral,sadness",
    "esd": "angry,happy,neutral,sad",
    "crema-d": "anger,happiness,neutral,sadness",
}


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One small folder of each corpus."""
    return {name: BUILDERS[name](tmp_path_factory.mktemp(name)) for name in [*CHOSEN, "iemocap-4"]}


def made(rows: list[tuple[object, ...]], columns: tuple[str, ...], classes: tuple[str, ...]) -> Corpus:
    table = pd.DataFrame(rows, columns=list(columns))
    ids = [f"u{number}" for number in range(len(rows))]
    return Corpus("made", table.assign(utterance_id=ids, speaker="s"), classes, synthesize=lambda _: np.zeros(1))


CLASSES = ("angry", "calm", "happy", "neutral")
VOTED = made(
    [
        ("angry", (2, 1, 0, 0), 0),
        ("calm", (0, 2, 0, 1), 1),
        ("happy", (0, 0, 3, 0), 0),
        ("neutral", (0, 1, 0, 1), 2),
        ("angry", (0, 0, 3, 0), 1),
    ],
    ("label", "votes", "other_votes"),
    CLASSES,
)


# Answers known by hand


def test_classes_are_merged_renamed_and_left_out_with_their_votes() -> None:
    corpus = choose_classes(VOTED, "quiet=neutral+calm, anger=angry")
    assert corpus.classes == ("quiet", "anger")
    # u2 is happy. u4 is angry, but all of its votes are for happy or something else.
    assert corpus.table["utterance_id"].tolist() == ["u0", "u1", "u3"]
    assert corpus.table["label"].tolist() == ["anger", "quiet", "quiet"]
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[1, 2], [3, 0], [2, 0]]
    assert corpus.other_votes.tolist() == [0, 1, 2]
    assert corpus.outside == {"happy": 1, NO_VOTE: 1}
    assert corpus.notes == (
        f"classes quiet (neutral + calm), anger (angry): 3 of 5 utterances, without 1 happy, 1 {NO_VOTE}",
    )


def test_votes_for_classes_left_out_become_other_votes() -> None:
    corpus = choose_classes(VOTED, "angry,happy,neutral")
    assert corpus.table["utterance_id"].tolist() == ["u0", "u2", "u3", "u4"]
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[2, 0, 0], [0, 3, 0], [0, 0, 1], [0, 3, 0]]
    assert corpus.other_votes.tolist() == [1, 0, 3, 1]
    assert corpus_disagrees(corpus) == ["u4"]


def corpus_disagrees(corpus: Corpus) -> list[str]:
    """Return the utterances that disagreement noise can change."""
    noisy = corrupt_level(corpus, "disagreement:0.25", 0)
    return corpus.table["utterance_id"][noisy.labels != noisy.truth].tolist()


def test_utterances_without_votes_stay_without() -> None:
    corpus = made([("angry", None), ("calm", (0, 1, 0, 0)), ("happy", None)], ("label", "votes"), CLASSES)
    assert choose_classes(corpus, "angry,calm").table["votes"].tolist() == [None, (0, 1)]


def test_true_labels_are_mapped_and_utterances_with_another_one_are_left_out() -> None:
    rows = [("angry", "calm"), ("calm", "happy"), ("happy", "angry"), ("neutral", None)]
    corpus = choose_classes(made(rows, ("label", "true_label"), CLASSES), "angry,quiet=calm+neutral")
    assert corpus.table["label"].tolist() == ["angry", "quiet"]
    assert corpus.table["true_label"].iloc[0] == "quiet"
    assert corpus.class_indices(corpus.table["true_label"]).tolist() == [1, -1]
    assert corpus.outside == {"happy": 1, OTHER_TRUTH: 1}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("angry,hapy", "unknown class of corpus 'made': 'hapy'. Did you mean 'happy'"),
        ("angry,quiet=calm+neutra", "'neutra'. Did you mean 'neutral'"),
        ("angry,quiet=calm+angry", "uses class 'angry' twice"),
        ("angry,angry", "uses class 'angry' twice"),
        ("quiet=calm,quiet=neutral", "names class 'quiet' twice"),
        ("angry", "at least two"),
        ("all=angry+calm+happy+neutral", "at least two"),
        ("", "empty name"),
        ("angry,,calm", "empty name"),
        ("angry,=calm", "empty name"),
        ("angry,quiet=", "empty name"),
        ("angry,quiet=calm+", "empty name"),
        ("happy=angry,calm", "'happy' is another category"),
    ],
)
def test_mistakes_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError) as error:
        choose_classes(VOTED, text)
    assert message in str(error.value)


def test_a_choice_without_utterances_is_an_error() -> None:
    calm = made([("calm",)], ("label",), CLASSES)
    with pytest.raises(UserError, match="leaves none of the 1 utterances"):
        choose_classes(calm, "angry,happy")


# Every corpus


def test_the_four_classes_of_iemocap_are_a_choice_of_its_six(trees: dict[str, Path]) -> None:
    chosen = load("iemocap", trees["iemocap"], classes=CHOSEN["iemocap"])
    four = load("iemocap-4", trees["iemocap-4"])
    assert chosen.digest == four.digest
    assert chosen.outside == four.outside
    assert chosen.annotations is not None
    assert four.annotations is not None
    pd.testing.assert_frame_equal(chosen.annotations, four.annotations)


def test_an_annotator_who_names_two_merged_classes_has_one_vote(trees: dict[str, Path]) -> None:
    six = load("iemocap", trees["iemocap"])
    assert six.annotations is not None
    utterance = six.table["utterance_id"][six.table["label"] == "hap"].iloc[0]
    more = pd.DataFrame([(utterance, "E9", word, False) for word in ("hap", "exc")], columns=six.annotations.columns)
    both = Corpus("both", six.table, six.classes, six.root, annotations=pd.concat([six.annotations, more]))
    before, after = (choose_classes(one, CHOSEN["iemocap"]) for one in (six, both))
    row = before.table["utterance_id"].tolist().index(utterance)
    assert before.votes is not None
    assert after.votes is not None
    assert (after.votes - before.votes)[row].tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_naming_all_classes_changes_nothing(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes="all")
    assert load(name, trees[name], classes=",".join(corpus.classes)).digest == corpus.digest


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_a_choice_makes_the_named_levels_possible(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes=CHOSEN[name])
    noisy = corrupt_level(corpus, "noisy-A", 0)
    assert noisy.manifest["recipe"] == ("human" if corpus.votes is None else "disagreement")
    assert noisy.manifest["rate_realised"] > 0


@pytest.mark.parametrize("name", ["ravdess", "emodb", "esd"])
def test_all_classes_without_votes_name_the_choice_that_human_noise_knows(trees: dict[str, Path], name: str) -> None:
    corpus = load(name, trees[name], classes="all")
    with pytest.raises(UserError) as error:
        corrupt_level(corpus, "noisy-A", 0)
    assert f"--classes {CHOSEN[name]}," in str(error.value)
    assert "symmetric:0.2648" in str(error.value)


def test_ravdess_has_the_classes_of_crema_d_unless_all_are_asked_for(trees: dict[str, Path]) -> None:
    shared, everything = (load("ravdess", trees["ravdess"], classes=classes) for classes in (None, "all"))
    assert shared.classes == ("neutral", "happy", "sad", "angry", "fearful", "disgust")
    assert (len(shared), len(everything), len(everything.classes)) == (24, 32, 8)
    assert shared.notes == (
        "classes neutral, happy, sad, angry, fearful, disgust: 24 of 32 utterances, without 4 calm, 4 surprised; "
        "--classes all brings all 8 classes",
    )
    assert load("ravdess", trees["ravdess"], classes="quiet=neutral+calm,surprised").outside["happy"] == 4


# Classes that nobody has


def test_classes_without_an_utterance_are_left_out_and_named() -> None:
    rows = [("angry", (2, 1, 0, 0)), ("happy", (0, 1, 3, 0)), ("happy", (0, 0, 2, 1))]
    corpus = choose_classes(made(rows, ("label", "votes"), CLASSES), "all")
    assert corpus.classes == ("angry", "happy")
    assert corpus.votes is not None
    assert corpus.votes.tolist() == [[2, 0], [0, 3], [0, 2]]
    assert corpus.other_votes.tolist() == [1, 1, 1]
    assert corpus.notes == ("classes angry, happy: 3 of 3 utterances; no utterance has calm, neutral",)


def test_a_chosen_class_without_an_utterance_is_left_out() -> None:
    rows = [("angry",), ("happy",), ("calm",)]
    corpus = choose_classes(made(rows, ("label",), CLASSES), "angry,happy,quiet=neutral")
    assert corpus.classes == ("angry", "happy")
    assert corpus.notes == ("classes angry, happy: 2 of 3 utterances, without 1 calm; no utterance has quiet",)


def test_a_class_that_only_a_true_label_has_is_one_of_the_data() -> None:
    rows = [("angry", "calm"), ("happy", None)]
    assert choose_classes(made(rows, ("label", "true_label"), CLASSES), "all").classes == ("angry", "calm", "happy")


def test_an_utterance_whose_votes_are_all_for_a_class_that_nobody_has_is_left_out_and_counted() -> None:
    rows = [("angry", (2, 0, 0, 0)), ("angry", (0, 2, 0, 0)), ("happy", (0, 0, 1, 0)), ("neutral", (0, 1, 0, 0))]
    corpus = choose_classes(made(rows, ("label", "votes"), CLASSES), "all")
    # Without calm nothing is left of the votes of u1 and u3, and with u3 goes the class neutral.
    assert corpus.table["utterance_id"].tolist() == ["u0", "u2"]
    assert corpus.classes == ("angry", "happy")
    assert sum(corpus.outside.values()) == 2


def test_a_single_class_is_an_error_that_names_it() -> None:
    with pytest.raises(UserError, match=r"all 2 utterances of corpus 'made' are of class 'calm'; at least two"):
        choose_classes(made([("calm",), ("calm",)], ("label",), CLASSES), "all")


def test_what_version_0_1_began_keeps_classes_that_nobody_has() -> None:
    corpus = made([("calm",), ("happy",)], ("label",), CLASSES)
    assert choose_classes(corpus, FORMER).classes == CLASSES
    assert choose_classes(corpus, FORMER).digest == corpus.digest


@pytest.mark.parametrize("name", sorted(CHOSEN))
def test_classes_are_those_that_remain_after_exclusion(trees: dict[str, Path], name: str, tmp_path: Path) -> None:
    whole = load(name, trees[name])
    gone = whole.classes[-1]
    exclude = tmp_path / "exclude.txt"
    ids = whole.table["utterance_id"][whole.table["label"] == gone]
    exclude.write_text("\n".join(ids), encoding="utf-8")
    rest = load(name, trees[name], exclude)
    assert rest.classes == whole.classes[:-1]
    assert gone in rest.notes[-1].partition("no utterance has ")[2]
    if whole.votes is not None:
        assert rest.votes is not None
        kept = whole.table["utterance_id"].isin(rest.table["utterance_id"]).to_numpy()
        assert rest.votes.tolist() == whole.votes[kept][:, :-1].tolist()
        assert rest.other_votes.tolist() == (whole.other_votes + whole.votes[:, -1])[kept].tolist()


# Names that look like one class


def labelled(*labels: str) -> Corpus:
    return made([(label,) for label in labels], ("label",), tuple(dict.fromkeys(labels)))


def answers(corpus: Corpus) -> tuple[str, list[str]]:
    """Return the question about class names, and the values of --classes that it offers."""
    with pytest.raises(UserError) as error:
        choose_classes(corpus, "all")
    question = str(error.value)
    lines = [shlex.split(line) for line in question.splitlines()]
    return question, [words[1] for words in lines if words and words[0] == "--classes"]


@pytest.mark.parametrize(
    ("labels", "merged"),
    [
        (["angry", "Angry", "Angry", "sad"], {"Angry": 3, "sad": 1}),
        (["angry", "anger", "ANG", "sad", "happy", "joy"], {"ANG": 3, "sad": 1, "happy": 2}),
        (["sad", "sad ", "angry"], {"sad": 2, "angry": 1}),
        (["trist\u00e9", "triste\u0301", "angry"], {"trist\u00e9": 1, "angry": 1}),
        (["sad", "sad\u200b", "angry"], {"sad": 2, "angry": 1}),
        (["1", "01", "2"], {"01": 2, "2": 1}),
        (["Angry", "Sad", "Angry;Sad", "Sad"], {"Angry": 1, "Sad": 2}),
        (["angry", "anger", "sad, tired", "x+y=z"], {"anger": 2, "sad, tired": 1, "x+y=z": 1}),
        (["a b", "A  b", 'say "no"', "it's"], {"A  b": 2, 'say "no"': 1, "it's": 1}),
    ],
)
def test_near_equal_class_names_are_one_question_whose_answers_work(labels: list[str], merged: dict[str, int]) -> None:
    corpus = labelled(*labels)
    question, (merge, apart) = answers(corpus)
    assert all(f"'{escaped(name)}'" in question for name in labels if name not in merged)
    counts = choose_classes(corpus, merge).table["label"].value_counts().to_dict()
    if labels[0] == "trist\u00e9":
        assert set(counts.values()) == {2, 1}
    else:
        assert counts == merged
    kept = choose_classes(corpus, apart)
    assert kept.classes == corpus.classes
    assert kept.table["label"].tolist() == labels


def test_two_spellings_alone_can_only_be_kept_apart() -> None:
    _, offered = answers(labelled("angry", "Angry"))
    assert offered == ["angry,Angry"]


@pytest.mark.parametrize("name", ["fear/anxiety", "pleasant-surprise", "sad;tired", "rock&roll"])
def test_one_label_with_a_sign_is_no_question(name: str) -> None:
    corpus = labelled("angry", "neutral", name)
    assert choose_classes(corpus, "all") is corpus


def test_a_table_with_near_equal_classes_asks_once_and_takes_the_answer(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    labels = ["angry", "Angry", "sad", "Angry;Sad"]
    rows = [f"{number}.wav,s{number},{label}" for number, label in enumerate(labels)]
    path.write_text("\n".join(["path,speaker,label", *rows]), encoding="utf-8")
    with pytest.raises(UserError) as error:
        load("table", path)
    line = next(line for line in str(error.value).splitlines() if line.startswith("  --classes "))
    assert load("table", path, classes=shlex.split(line)[1]).table["label"].tolist() == ["Angry", "Angry", "sad"]
    assert load("table", path, classes="angry,Angry,sad").classes == ("angry", "Angry", "sad")


# Files of classes


def test_a_file_of_classes_means_what_its_canonical_text_means(tmp_path: Path) -> None:
    path = tmp_path / "classes.json"
    path.write_text('{"quiet": ["neutral", "calm"], "anger": ["angry"]}', encoding="utf-8")
    assert resolved_classes(str(path)) == "quiet=neutral+calm,anger=angry"
    one, other = (choose_classes(VOTED, text) for text in (str(path), "quiet=neutral+calm,anger=angry"))
    assert one.digest == other.digest
    named = '{"a,b": ["angry"], "c+d": ["calm", "happy"]}'
    assert resolved_classes(named) == named
    assert choose_classes(VOTED, named).classes == ("a,b", "c+d")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"a": ["angry"], "b"', "is not JSON"),
        ('["angry", "calm"]', "unknown class"),
        ('{"a": "angry", "b": ["calm"]}', "'a' has 'angry', not a list of class names"),
        ('{"a": ["angry"], "b": []}', r"'b' has \[\], not a list"),
        ('{"a": ["angry"], "b": [3]}', r"'b' has \[3\], not a list"),
        ('{"a": ["angry"], "a": ["calm"]}', "names class 'a' twice"),
        ('{"a": ["angry"], "b": ["angry"]}', "uses class 'angry' twice"),
        ('{"a": ["angry"], "b": ["clam"]}', "'clam'. Did you mean 'calm'"),
        ("{}", "at least two"),
        ("no/such/file.json", "cannot be read"),
    ],
)
def test_mistakes_in_a_mapping_are_named(text: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        choose_classes(VOTED, text)
