import numpy as np
import pandas as pd
import pytest

from ser.corpora import Corpus
from ser.corpora.classes import FORMER, choose_classes
from ser.noise import corrupt_level
from ser.noise.crema_d_confusions import EMOTIONS, VOTE_SHARES, crema_d_transition, former_transition
from ser.utils.errors import UserError


def test_all_classes_have_the_published_shares():
    assert crema_d_transition(EMOTIONS) == pytest.approx(VOTE_SHARES, abs=0.001)


def test_classes_are_known_by_any_spelling_in_any_order():
    transition = crema_d_transition(("neutral", "happy", "sad", "ANGRY", "fearful", "dis"))
    neutral = np.array([0.762, 0.020, 0.070, 0.039, 0.050, 0.059])
    assert transition[0] == pytest.approx(neutral)
    assert transition.sum(axis=1) == pytest.approx(np.ones(6))


def test_columns_of_other_emotions_are_dropped_and_rows_normalised():
    transition = crema_d_transition(("ang", "hap", "neu", "sad"))
    assert transition[0] == pytest.approx(np.array([0.532, 0.019, 0.176, 0.011]) / 0.738)
    assert transition[1] == pytest.approx(np.array([0.070, 0.290, 0.450, 0.033]) / 0.843)


def test_classes_that_crema_d_lacks_are_all_listed_with_what_to_take_instead():
    with pytest.raises(UserError, match=r"and not 'contempt', 'other'\. .*--classes angry,sad, .*symmetric:RATE"):
        crema_d_transition(("angry", "contempt", "sad", "other"))


def test_two_classes_of_one_emotion_are_to_be_merged():
    with pytest.raises(UserError, match=r"each once, and not 'joy'\..*NEW=OLD\+OLD"):
        crema_d_transition(("happy", "joy", "sad"))


RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def test_what_version_0_1_began_keeps_its_confusions():
    transition = former_transition(RAVDESS)
    np.testing.assert_allclose(transition.sum(axis=1), 1)
    np.testing.assert_array_equal(transition[1], transition[0])  # calm has the row of neutral
    np.testing.assert_array_equal(transition[7], transition[2])  # surprised has that of happy
    assert (transition[:, [1, 7]] == 0).all()  # nothing ever becomes calm or surprised
    assert transition[0, 0] == pytest.approx(0.762, abs=5e-4)
    np.testing.assert_allclose(former_transition(EMOTIONS), crema_d_transition(EMOTIONS), atol=1e-12)
    with pytest.raises(UserError, match="contempt"):
        former_transition(("anger", "contempt"))


def test_a_corpus_of_version_0_1_takes_human_noise_on_classes_that_crema_d_lacks():
    rows = [(f"u{row:03d}", f"s{row % 4}", label) for row, label in enumerate(RAVDESS * 20)]
    table = pd.DataFrame(rows, columns=["utterance_id", "speaker", "label"])
    table["path"] = "/" + table["utterance_id"]
    corpus = Corpus("toy", table, RAVDESS)
    with pytest.raises(UserError, match="--classes"):
        corrupt_level(corpus, "noisy-B", 0)
    noisy = corrupt_level(choose_classes(corpus, FORMER), "noisy-B", 0)
    assert noisy.manifest["rate_realised"] == pytest.approx(0.4019, abs=0.005)
    assert choose_classes(corpus, FORMER).digest == corpus.digest
