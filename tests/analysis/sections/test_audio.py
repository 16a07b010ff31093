"""Audio of suspicious labels: it is what was recorded, and included only if the licence permits it."""

import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from analysis.common.section import NamedSound, Section, write
from analysis.sections.corrections import audio
from analysis.sections.corrections.audio import LONGEST, RATE, encode, snippets
from ser.corpora import NAMES
from ser.corpora.corpus import Corpus
from ser.corpora.fetch import DOWNLOADS
from ser.corpora.licences import LICENCES, licence_of
from ser.utils.errors import UserError
from study.options import StudyOptions
from study.tracking.trained_runs import TrialFolder

RECORDS = SimpleNamespace(
    client=None, uri="sqlite:///m.db", own_command=lambda script: f"python {script}", once=lambda _, compute: compute()
)  # fmt: skip


def decoded(content):
    samples, rate = soundfile.read(io.BytesIO(content))
    assert rate == RATE
    return samples


@pytest.fixture
def study(tones, tmp_path, monkeypatch):
    """Make a trial of a study on the tones, written as files, under a corpus's name, and return the corpus."""

    def make(name="ravdess", seconds=6.0):
        paths = []
        for utterance in tones.table["utterance_id"]:
            noise = np.random.default_rng(len(paths)).uniform(-0.5, 0.5, (int(seconds * 22050), 2))
            paths.append(str(tmp_path / f"{utterance}.wav"))
            soundfile.write(paths[-1], noise, 22050)
        corpus = Corpus("tones", tones.table.assign(path=paths), tones.classes)
        trial = TrialFolder(Path(), StudyOptions(corpus=name), Path(), 1)
        monkeypatch.setattr(TrialFolder, "load_corpus", lambda self: corpus)
        monkeypatch.setattr(audio, "find_trial", lambda *_: trial)
        return corpus

    return make


def test_a_snippet_is_the_utterances_beginning_in_one_channel(study):
    corpus = study()
    first, second = corpus.table["utterance_id"][:2]
    found = snippets(RECORDS, "run", [second, first])
    assert list(found.flac) == [second, first]
    assert found.licence == "ravdess: CC BY-NC-SA 4.0"
    assert not found.missing
    samples = decoded(found.flac[first])
    assert samples.shape == (LONGEST * RATE,)
    from ser.audio import read_audio

    np.testing.assert_allclose(samples, read_audio(corpus.table["path"][0])[: len(samples)], atol=1e-4)
    assert found.flac == snippets(RECORDS, "run", [second, first]).flac


def test_a_cut_is_cut_and_too_loud_samples_are_clipped(study, monkeypatch):
    corpus = study()
    cut = replace(corpus, table=corpus.table.assign(start=1.0, end=2.5))
    monkeypatch.setattr(TrialFolder, "load_corpus", lambda self: cut)
    name = corpus.table["utterance_id"][0]
    assert len(decoded(snippets(RECORDS, "run", [name]).flac[name])) == 1.5 * RATE
    assert decoded(encode(np.array([0, 3, -3] * 100, dtype=np.float32))).max() == pytest.approx(1, abs=1e-4)


def test_generated_audio_is_heard_as_it_was_generated(tones, monkeypatch):
    monkeypatch.setattr(TrialFolder, "load_corpus", lambda self: tones)
    monkeypatch.setattr(audio, "find_trial", lambda *_: TrialFolder(Path(), StudyOptions(), Path(), 1))
    name = tones.table["utterance_id"][0]
    np.testing.assert_allclose(decoded(snippets(RECORDS, "run", [name]).flac[name]), tones.synthesize(name), atol=1e-4)


@pytest.mark.parametrize("name", ["iemocap", "iemocap-4", "msp-podcast", "esd", "table"])
def test_what_may_not_be_passed_on_is_heard_only_by_who_asks(study, name):
    corpus = study(name)
    first = corpus.table["utterance_id"][0]
    silent = snippets(RECORDS, "run", [first])
    assert not silent.flac
    assert "--audio always" in silent.missing[0]
    assert list(snippets(RECORDS, "run", [first], "always").flac) == [first]


def test_never_is_never_and_says_nothing(study):
    corpus = study()
    found = snippets(RECORDS, "run", list(corpus.table["utterance_id"]), "never")
    assert (found.flac, found.missing) == ({}, ())


def test_missing_files_are_reported_and_the_others_have_audio(study):
    corpus = study()
    first, second = corpus.table["utterance_id"][:2]
    Path(corpus.table["path"][0]).unlink()
    found = snippets(RECORDS, "run", [first, "stranger", second])
    assert list(found.flac) == [second]
    assert found.missing[0].startswith(f"No audio of {first}: file is missing")
    assert "no longer in the corpus" in found.missing[1]


def test_a_missing_corpus_is_reported(study, monkeypatch):
    study()

    def gone(self):
        raise UserError("corpus root '/gone' does not exist.")

    monkeypatch.setattr(TrialFolder, "load_corpus", gone)
    assert snippets(RECORDS, "run", ["a"]).missing == ("No audio: corpus root '/gone' does not exist.",)


def test_licences_are_of_known_corpora_and_agree_with_those_of_downloads():
    assert set(LICENCES) <= set(NAMES)
    assert not licence_of("table").passes_on
    for name, download in DOWNLOADS.items():
        assert download.terms.startswith(LICENCES[name].name)


def test_sounds_are_written_and_fit_into_a_page(tmp_path):
    sound = NamedSound("suspicious-01", "a word", encode(np.zeros(1600, dtype=np.float32)))
    assert sound.data_uri.startswith("data:audio/flac;base64,ZkxhQ")  # fLaC
    assert tmp_path / "suspicious-01.flac" in write(Section("s", "S", sounds=(sound,)), tmp_path)
    assert (tmp_path / "suspicious-01.flac").read_bytes() == sound.flac
