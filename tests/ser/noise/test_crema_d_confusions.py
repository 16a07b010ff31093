import numpy as np
import pytest

from ser.noise.crema_d_confusions import EMOTIONS, VOTE_SHARES, crema_d_transition
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
    with pytest.raises(UserError, match=r"each once, and not 'happy'\..*NEW=OLD\+OLD"):
        crema_d_transition(("happy", "joy", "sad"))
