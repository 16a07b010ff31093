import numpy as np
import pytest

from ser.noise.crema_d_confusions import crema_d_transition
from ser.utils.errors import UserError

RAVDESS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")


def test_human_rows_of_ravdess():
    transition = crema_d_transition(RAVDESS)
    calm = [0.762, 0, 0.020, 0.070, 0.039, 0.050, 0.059, 0]
    surprised = [0.450, 0, 0.290, 0.033, 0.070, 0.082, 0.075, 0]
    assert transition[1] == pytest.approx(np.array(calm) / sum(calm))
    assert transition[0] == pytest.approx(transition[1])
    assert transition[7] == pytest.approx(np.array(surprised) / sum(surprised))
    assert transition.sum(axis=1) == pytest.approx(np.ones(8))


def test_human_drops_columns_without_a_class_and_knows_abbreviations():
    transition = crema_d_transition(("ANG", "exc", "fru", "hap", "neu", "sad"))
    anger = np.array([0.532, 0, 0, 0.019, 0.176, 0.011])
    assert transition[0] == pytest.approx(anger / 0.738)
    assert transition[2] == pytest.approx(transition[0])
    assert transition[1] == pytest.approx(np.array([0.070, 0, 0, 0.290, 0.450, 0.033]) / 0.843)


def test_a_neighbour_owns_the_column_of_a_missing_class_and_the_first_one_wins():
    transition = crema_d_transition(("calm", "boredom", "excited", "sadness"))
    assert transition[0] == pytest.approx(np.array([0.762, 0, 0.020, 0.070]) / 0.852)
    assert transition[1] == pytest.approx(transition[0])
    assert transition[2] == pytest.approx(np.array([0.450, 0, 0.290, 0.033]) / 0.773)


def test_unknown_emotions_are_all_listed_with_what_is_known():
    with pytest.raises(UserError, match=r"'contempt', 'other'.*anger.*surprised.*symmetric:RATE"):
        crema_d_transition(("angry", "contempt", "other"))
