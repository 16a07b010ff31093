import pickle
import re
from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest

from ser.corpora.loaders import synthetic
from ser.corpora.loaders.synthetic import (
    CLASSES,
    SAMPLE_RATE,
    cast_votes,
    delivery,
    load_synthetic,
    render,
    synthesize,
)
from ser.utils.errors import UserError

CORPUS = load_synthetic()
TABLE = CORPUS.table
VOTES = np.array(TABLE["votes"].tolist())
SOME_IDS = list(TABLE["utterance_id"][::7])
AUDIO = {utterance_id: synthesize(utterance_id) for utterance_id in SOME_IDS}


def rms_db(samples):
    return 10 * np.log10(np.mean(np.square(samples, dtype=np.float64)))


def brightness(samples):
    power = np.square(np.abs(np.fft.rfft(samples)))
    hz = np.linspace(0, SAMPLE_RATE / 2, len(power))
    return 10 * np.log10(power[hz > 1500].sum() / power[hz <= 1500].sum())


def frames_above(samples, db, length=640):
    frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), length)[:: length // 2]
    energy = np.square(frames).sum(axis=1)
    return frames[energy > 10 ** (db / 10) * energy.max()]


def measured_pitch(samples):
    lags = np.arange(SAMPLE_RATE // 500, SAMPLE_RATE // 60)
    pitches = []
    for frame in frames_above(samples, -6):
        correlation = np.correlate(frame, frame, "full")[len(frame) - 1 :]
        pitches.append(SAMPLE_RATE / lags[correlation[lags].argmax()])
    return np.median(pitches)


def mean_over(label, value, gender="F"):
    return np.mean([value(f"Ses0{s}{gender}_{label}_{n:02d}") for s in range(1, 6) for n in range(4)])


def test_480_utterances_are_balanced_over_ten_speakers_and_six_classes():
    assert len(CORPUS) == 480
    assert CORPUS.classes == ("ang", "exc", "fru", "hap", "neu", "sad")
    assert set(TABLE.groupby(["speaker", "label"]).size()) == {8}
    assert TABLE["speaker"].nunique() == 10
    assert "Ses01F_ang_03" in set(TABLE["utterance_id"])


def test_each_session_has_one_woman_and_one_man():
    speakers = TABLE[["session", "speaker", "gender"]].drop_duplicates().sort_values("speaker")
    assert list(speakers.itertuples(index=False, name=None)) == [
        (str(session), f"Ses0{session}{letter}", gender)
        for session in range(1, 6)
        for letter, gender in (("F", "female"), ("M", "male"))
    ]


def test_three_annotators_vote_and_the_strict_plurality_is_the_label():
    assert VOTES.shape == (480, 6)
    assert set(VOTES.sum(axis=1)) == {3}
    ordered = np.sort(VOTES, axis=1)
    assert (ordered[:, -1] > ordered[:, -2]).all()
    assert [CLASSES[index] for index in VOTES.argmax(axis=1)] == list(TABLE["label"])


def test_about_two_thirds_have_a_dissenting_vote_and_every_session_enough_for_noisy_b():
    dissent = VOTES.max(axis=1) < 3
    assert 0.60 < dissent.mean() < 0.75
    assert (TABLE.assign(dissent=dissent).groupby("session")["dissent"].mean() >= 0.45).all()
    for pair in combinations("12345", 2):
        assert dissent[TABLE["session"].isin(pair)].mean() >= 0.45


@pytest.mark.parametrize(
    ("true", "heard", "rate"),
    [
        ("ang", "fru", 0.32),
        ("fru", "ang", 0.22),
        ("exc", "hap", 0.31),
        ("hap", "exc", 0.34),
        ("hap", "neu", 0.17),
        ("neu", "fru", 0.22),
        ("neu", "exc", 0.10),
        ("fru", "neu", 0.13),
        ("sad", "fru", 0.16),
        ("sad", "neu", 0.14),
    ],
)
def test_dissenting_votes_give_iemocaps_transition_at_noisy_b(true, heard, rate):
    votes = np.array([cast_votes(f"Ses01F_{true}_{n}") for n in range(800)])
    flipped = 0.6 * (votes[:, CLASSES.index(heard)] > 0).mean()
    assert flipped == pytest.approx(rate, abs=0.04)


def test_confusion_rows_are_probabilities():
    assert tuple(synthetic.CONFUSION) == CLASSES
    for row in synthetic.CONFUSION.values():
        assert len(row) == 6
        assert min(row) >= 0
        assert sum(row) == pytest.approx(1)


def test_audio_is_mono_float32_in_range_and_one_to_two_seconds_long():
    for samples in AUDIO.values():
        assert samples.dtype == np.float32
        assert samples.ndim == 1
        assert np.isfinite(samples).all()
        assert np.abs(samples).max() <= 1
        assert 1.0 * SAMPLE_RATE <= len(samples) <= 2.2 * SAMPLE_RATE


def test_audio_is_never_digitally_silent():
    for samples in AUDIO.values():
        frames = samples[: len(samples) // 160 * 160].reshape(-1, 160).astype(np.float64)
        assert 10 * np.log10(np.square(frames).mean(axis=1).min()) > -80
        assert rms_db(samples) > -55


def test_audio_and_table_depend_on_nothing_but_the_id():
    votes = TABLE.set_index("utterance_id")["votes"]
    for utterance_id in reversed(SOME_IDS[:12]):
        np.testing.assert_array_equal(synthesize(utterance_id), AUDIO[utterance_id])
        assert cast_votes(utterance_id) == votes[utterance_id]
    again = load_synthetic()
    assert (again.digest, again.audio_digest) == (CORPUS.digest, CORPUS.audio_digest)


def test_audio_leaves_the_global_random_state_alone():
    np.random.seed(0)
    before = np.random.get_state()[1].copy()
    synthesize("Ses01F_ang_03")
    load_synthetic()
    np.testing.assert_array_equal(np.random.get_state()[1], before)


def test_distinct_utterances_sound_distinct():
    assert len({samples.tobytes() for samples in AUDIO.values()}) == len(AUDIO)
    first, second = (AUDIO[i] for i in SOME_IDS[:2])
    shared = min(len(first), len(second))
    assert abs(np.corrcoef(first[:shared], second[:shared])[0, 1]) < 0.3


def test_another_version_changes_audio_votes_and_both_digests(monkeypatch):
    monkeypatch.setattr(synthetic, "VERSION", synthetic.VERSION + 1)
    other = load_synthetic()
    assert other.digest != CORPUS.digest
    assert other.audio_digest != CORPUS.audio_digest
    assert list(other.table["votes"]) != list(TABLE["votes"])
    samples = synthesize(SOME_IDS[0])
    assert len(samples) != len(AUDIO[SOME_IDS[0]]) or not np.array_equal(samples, AUDIO[SOME_IDS[0]])


def test_the_corpus_and_its_synthesizer_can_be_pickled():
    copy = pickle.loads(pickle.dumps(CORPUS))
    assert copy.digest == CORPUS.digest
    np.testing.assert_array_equal(copy.synthesize(SOME_IDS[0]), AUDIO[SOME_IDS[0]])


@pytest.mark.parametrize("utterance_id", SOME_IDS[::6])
def test_the_fundamental_by_autocorrelation_is_the_deliverys_pitch(utterance_id):
    how = replace(delivery(utterance_id), pitch_range=0.0, contour=0.0)
    assert measured_pitch(render(how, seed=1)) == pytest.approx(how.pitch_hz, rel=0.04)


@pytest.mark.parametrize("seed", range(3))
def test_pitch_level_rate_and_tilt_each_do_what_they_say(seed):
    how = delivery("Ses02M_neu_00")
    plain = render(how, seed)
    flat = replace(how, pitch_range=0.0, contour=0.0)
    octave_up = replace(flat, pitch=flat.pitch + 12)
    ratio = measured_pitch(render(octave_up, seed)) / measured_pitch(render(flat, seed))
    assert ratio == pytest.approx(2, rel=0.05)
    louder = render(replace(how, level=how.level + 6), seed)
    assert rms_db(louder) - rms_db(plain) == pytest.approx(6, abs=0.1)
    assert len(render(replace(how, rate=how.rate * 2), seed)) < len(plain)
    assert brightness(render(replace(how, tilt=how.tilt + 8), seed)) < brightness(plain) - 2


@pytest.mark.parametrize("label", CLASSES)
def test_women_speak_higher_than_men(label):
    def pitch(utterance_id):
        return delivery(utterance_id).pitch_hz

    assert mean_over(label, pitch, "F") > 1.4 * mean_over(label, pitch, "M")


@pytest.mark.parametrize("gender", ["F", "M"])
def test_anger_is_higher_louder_faster_and_brighter_than_sadness(gender):
    def contrast(value):
        return mean_over("ang", value, gender) - mean_over("sad", value, gender)

    assert contrast(lambda i: delivery(i).pitch) > 2
    assert contrast(lambda i: delivery(i).rate) > 0.5
    assert contrast(lambda i: rms_db(synthesize(i))) > 8
    assert contrast(lambda i: brightness(synthesize(i))) > 2
    assert contrast(lambda i: np.log2(measured_pitch(synthesize(i)))) > 0.15


def test_the_voice_has_the_deliverys_level():
    for utterance_id in SOME_IDS[:20]:
        measured = rms_db(frames_above(AUDIO[utterance_id], -25))
        assert measured == pytest.approx(delivery(utterance_id).level, abs=2)


@pytest.mark.parametrize("tilt", [0.5, 3.0, 10.0, 24.0])
def test_the_tilt_filter_attenuates_3_khz_by_what_was_asked(tilt):
    pole = synthetic._tilt_pole(tilt)
    response = (1 - pole) / (1 - pole * np.exp(-2j * np.pi * 3000 / SAMPLE_RATE))
    assert 0 < pole < 1
    assert -20 * np.log10(abs(response)) == pytest.approx(tilt)


def test_the_glottal_pulse_opens_peaks_and_is_closed_for_the_rest_of_the_cycle():
    flow = synthetic._rosenberg(np.array([0.0, 0.2, 0.4, 0.48, 0.56, 0.8]))
    np.testing.assert_allclose(flow, [0.0, 0.5, 1.0, np.sqrt(0.5), 0.0, 0.0], atol=1e-12)


def test_the_fundamental_of_a_delivery_at_twelve_semitones_is_200_hz():
    assert synthetic.Delivery(pitch=12.0).pitch_hz == pytest.approx(200.0)


@pytest.mark.parametrize("utterance_id", ["", "Ses01X_ang_00", "Ses01F_joy_00", "Ses01F_ang", "x/Ses01F_ang_00"])
@pytest.mark.parametrize("function", [synthesize, delivery, cast_votes])
def test_an_unknown_utterance_is_refused_by_name(function, utterance_id):
    with pytest.raises(UserError, match=re.escape(f"{utterance_id!r} is not in corpus 'synthetic'")):
        function(utterance_id)


def test_version_1_is_the_same_on_every_machine():
    # If these values change, the corpus changes: increase VERSION and update them.
    assert synthetic.VERSION == 1
    samples = synthesize("Ses01F_ang_03")
    assert len(samples) == 22290
    np.testing.assert_allclose(samples[[2000, 8000, 12000]], [0.161057, 0.020367, 0.064080], atol=1e-4)
    assert rms_db(samples) == pytest.approx(-20.41700, abs=1e-3)
    assert cast_votes("Ses01F_ang_03") == (2, 0, 1, 0, 0, 0)
    assert cast_votes("Ses05M_hap_07") == (0, 1, 0, 2, 0, 0)
