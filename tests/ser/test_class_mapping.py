"""Classes that a training shares with another corpus."""

import dataclasses

import pandas as pd
import pytest

from ser.class_mapping import mapping_lines, match_classes, share_classes, shared_corpus, true_classes
from ser.corpora import Corpus
from ser.utils.errors import UserError

NAMES = ("anger", "happiness", "neutral", "surprised")


def corpus_of(labels, classes, **columns):
    table = pd.DataFrame({"label": labels, "speaker": "ann", "utterance_id": [f"u{n}" for n in range(len(labels))]})
    table["path"] = "/audio/" + table["utterance_id"] + ".wav"
    return Corpus("calls", table.assign(**columns), classes)


@pytest.mark.parametrize(
    ("other", "mapped"),
    [
        (("neutral", "anger"), {"anger": "anger", "neutral": "neutral"}),  # in the order of the training
        (("Neutral", "ANGER"), {"anger": "ANGER", "neutral": "Neutral"}),
        (("ang", "hap", "neu", "fru"), {"anger": "ang", "happiness": "hap", "neutral": "neu"}),
        (("angry", "joy", "happy"), {"anger": "angry"}),  # which of the two is happiness is not known
        (("anger", "angry"), {"anger": "anger"}),  # the same name comes first
        (("Wut", "Freude"), {}),
    ],
)
def test_classes_are_matched_by_name_then_by_emotion(other, mapped):
    found = match_classes(NAMES, other)
    assert found == mapped
    assert list(found) == list(mapped)


def test_classes_of_no_known_emotion_are_never_matched_with_each_other():
    assert match_classes(["x1", "y1"], ["a", "b"]) == {}


def test_fewer_than_two_are_an_error_with_both_lists():
    with pytest.raises(UserError) as raised:
        share_classes(NAMES, corpus_of(["Wut", "neutral"], ("Wut", "neutral")))
    text = str(raised.value)
    assert "share 1 class; two are needed" in text
    assert "Classes of the training: anger, happiness, neutral, surprised." in text
    assert "Classes of corpus 'calls': Wut, neutral." in text
    assert "such as --classes neutral,anger=Wut if 'Wut' means 'anger'." in text


def test_the_shared_corpus_has_the_names_of_the_training_and_counts_what_is_left_out():
    whole = corpus_of(["angry", "sad", "happy", "angry"], ("angry", "happy", "sad"))
    mapped = share_classes(NAMES, whole)
    found = shared_corpus(whole, mapped)
    assert found.classes == ("anger", "happiness")
    assert dict(zip(found.table["utterance_id"], found.table["label"], strict=True)) == {
        "u0": "anger", "u2": "happiness", "u3": "anger",
    }  # fmt: skip
    assert dict(found.outside) == {"sad": 1}
    lines = mapping_lines(NAMES, whole, mapped, found)
    assert lines[0] == "2 classes of both corpora (training = calls): anger = angry, happiness = happy"
    assert lines[1] == "3 of 4 utterances of calls, all of them test data; left out: 1 sad"
    assert lines[2].endswith("the network also knows neutral, surprised")


def test_all_that_is_left_out_or_not_scored_is_counted():
    labels, truth = ["angry", "angry", "sad", "happy", "happy"], ["angry", "sad", "angry", None, "happy"]
    whole = corpus_of(labels, ("angry", "happy", "sad"), true_label=truth)
    mapped = share_classes(NAMES, whole)
    assert mapping_lines(NAMES, whole, mapped, shared_corpus(whole, mapped))[1] == (
        "3 of 5 utterances of calls, all of them test data; left out: 1 sad, 1 with a true label outside the classes; "
        "1 have no true label to score against"
    )


def test_names_with_commas_are_shared_too():
    whole = corpus_of(["calm, content", "sad"], ("calm, content", "sad"))
    found = shared_corpus(whole, share_classes(["sad", "calm, content"], whole))
    assert found.classes == ("sad", "calm, content")


def test_true_labels_come_before_given_ones():
    given = corpus_of(["angry", "sad"], ("angry", "sad"), true_label=["sad", None])
    assert true_classes(given).tolist() == [1, -1]
    assert true_classes(dataclasses.replace(given, table=given.table.drop(columns="true_label"))).tolist() == [0, 1]
