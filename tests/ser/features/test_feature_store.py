import errno
import json
import os
import pickle
import signal
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from filelock import FileLock
from numpy.typing import NDArray

from ser.audio import read_audio
from ser.corpora import Corpus, load, without
from ser.corpora.loaders.synthetic import load_synthetic
from ser.features.front_ends import Extractor, FrontEnd, log_mel
from ser.features.front_ends import front_end as named_front_end
from ser.features.store import FeatureStore, delete_store, deleted_store, expected_bytes, open_store, partial_store
from ser.utils.errors import DataErrors, UserError

RATE = 16000


def noise(seed: int, seconds: float = 0.5) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(0, 0.1, int(seconds * RATE)).astype(np.float32)


def spectrogram(samples: NDArray[np.float32], front_end: str = "panns_16k") -> NDArray[np.float32]:
    return log_mel(torch.from_numpy(samples)[None], front_end)[0].numpy()


def corpus_of(folder: Path, *files: str) -> Corpus:
    """Return a table corpus of these files, with file stems as ids and two labels in turn."""
    rows = [{"path": file, "speaker": "s", "label": "xy"[row % 2]} for row, file in enumerate(files)]
    pd.DataFrame(rows).to_csv(folder / "table.csv", index=False)
    return load("table", folder / "table.csv")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    for seed, name in enumerate(("d", "a", "c", "b")):
        soundfile.write(tmp_path / "data" / f"{name}.wav", noise(seed, 0.3 + 0.1 * seed), RATE)
    return tmp_path / "data"


@pytest.fixture
def corpus(data: Path) -> Corpus:
    return corpus_of(data, "d.wav", "a.wav", "c.wav", "b.wav")


@pytest.fixture
def stores(tmp_path: Path) -> Path:
    return tmp_path / "stores"


@pytest.fixture
def no_reading(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def refuse(*_: object) -> None:
        raise AssertionError("audio was read")

    return lambda: monkeypatch.setattr("ser.audio.read_samples", refuse)


def left_in(stores: Path) -> list[str]:
    return [path.name for path in stores.iterdir() if path.suffix != ".lock"]


@pytest.mark.parametrize("front_end", ["panns_16k", "panns_32k"])
def test_rows_are_the_tables_and_hold_the_log_mel_of_their_audio(corpus: Corpus, stores: Path, front_end: str) -> None:
    store = open_store(corpus, front_end, stores, workers=3)
    assert store.front_end.name == front_end
    assert len(store) == len(corpus)
    assert store.frames.dtype == np.float32
    assert store.frames.shape == (store.offsets[-1], 64)
    assert not store.frames.flags.writeable
    assert store.lengths.tolist() == [41, 61, 51, 31]  # a b c d, 100 frames per second
    for row, path in enumerate(corpus.table["path"]):
        samples = read_audio(path, rate=store.front_end.sample_rate)
        assert np.array_equal(store.utterance(row), spectrogram(samples, front_end))


def test_a_store_of_waveforms_holds_the_samples(corpus: Corpus, stores: Path) -> None:
    store = open_store(corpus, "waveform_16k", stores)
    assert store.frames.shape == (store.offsets[-1], 1)
    for row, path in enumerate(corpus.table["path"]):
        assert np.array_equal(store.utterance(row)[:, 0], read_audio(path))
    assert FeatureStore.open(store.path).front_end == store.front_end
    assert open_store(corpus, "panns_16k", stores).path != store.path


def test_a_second_opening_reads_no_audio(corpus: Corpus, stores: Path, no_reading: Callable[[], None]) -> None:
    built = open_store(corpus, "panns_16k", stores)
    no_reading()
    again = open_store(corpus, "panns_16k", stores)
    assert built.built
    assert not again.built
    assert again.path == built.path
    assert np.array_equal(again.frames, built.frames)


def test_the_number_of_workers_does_not_matter(corpus: Corpus, tmp_path: Path) -> None:
    one, four = (open_store(corpus, "panns_16k", tmp_path / str(n), workers=n) for n in (1, 4))
    for name in ("frames.f32", "offsets.npy", "content.npy"):
        assert (one.path / name).read_bytes() == (four.path / name).read_bytes()


def test_cuts_of_one_file_are_stored_apart(data: Path, stores: Path) -> None:
    (data / "cuts.csv").write_text("path,start,end,speaker,label\nb.wav,0,0.25,s,x\nb.wav,0.25,0.5,s,y\n")
    store = open_store(load("table", data / "cuts.csv"), "panns_16k", stores)
    whole = read_audio(data / "b.wav")
    for row, samples in enumerate((whole[:4000], whole[4000:8000])):
        assert np.array_equal(store.utterance(row), spectrogram(samples))


def test_equal_recordings_have_equal_content(data: Path, stores: Path) -> None:
    soundfile.write(data / "copy.flac", soundfile.read(data / "a.wav", dtype="int16")[0], RATE)
    content = open_store(corpus_of(data, "a.wav", "b.wav", "copy.flac"), "panns_16k", stores).content
    assert content[0] == content[2] != content[1]


@pytest.mark.parametrize("front_end", ["panns_16k", "panns_32k"])
def test_an_utterance_is_the_same_to_the_bit_among_others(data: Path, stores: Path, front_end: str) -> None:
    for seed in range(12):
        soundfile.write(data / f"n{seed}.wav", noise(seed, 0.1 + 0.07 * seed), RATE)
    files = [f"n{seed}.wav" for seed in range(12)]
    few = open_store(corpus_of(data, *files[5:7]), front_end, stores, workers=1)
    all_ = open_store(corpus_of(data, *files), front_end, stores, workers=3)
    ids = list(load("table", data / "table.csv").table["utterance_id"])
    for row, name in enumerate(("n5", "n6")):
        assert few.utterance(row).tobytes() == all_.utterance(ids.index(name)).tobytes()
        assert few.content[row] == all_.content[ids.index(name)]


def test_content_is_that_of_the_samples_whatever_holds_them(data: Path, stores: Path) -> None:
    narrow = soundfile.read(data / "a.wav", dtype="int16")[0]
    for subtype in ("PCM_16", "PCM_24", "FLOAT"):
        soundfile.write(data / f"{subtype}.wav", narrow / 2**15, RATE, subtype=subtype)
    soundfile.write(data / "above.wav", narrow / 2**15 + np.float32(2**-20), RATE, subtype="FLOAT")
    loud = np.where(np.arange(len(narrow)) == 9, 1.0, narrow / 2**15)  # 1 is beyond 16 bits, -1 is not
    soundfile.write(data / "loud.wav", loud, RATE, subtype="FLOAT")
    soundfile.write(data / "low.wav", np.where(loud == 1, -1, loud), RATE, subtype="FLOAT")
    names = ("a", "PCM_16", "PCM_24", "FLOAT", "above", "loud", "low")
    corpus = corpus_of(data, *(f"{name}.wav" for name in names))
    store = open_store(corpus, "panns_16k", stores)
    content = dict(zip(corpus.table["utterance_id"], store.content, strict=True))
    assert content["a"] == content["PCM_16"] == content["PCM_24"] == content["FLOAT"]
    assert len(set(content.values())) == 4


def test_synthesised_corpora_are_built_once_and_again_when_the_voice_changes(stores: Path) -> None:
    calls: list[str] = []

    def voice(volume: float) -> Callable[[str], NDArray[np.float32]]:
        def synthesize(name: str) -> NDArray[np.float32]:
            calls.append(name)
            return np.float32(volume) * noise(int(name))

        return synthesize

    def voiced(volume: float) -> Corpus:
        names = [str(number) for number in range(10, 40)]
        frame = pd.DataFrame({"utterance_id": names, "speaker": "s", "label": ["x", "y"] * 15})
        return Corpus("made", frame, ("x", "y"), synthesize=voice(volume))

    store = open_store(voiced(1.0), "panns_16k", stores, workers=2)
    for row, seed in enumerate(range(10, 40)):
        assert np.array_equal(store.utterance(row), spectrogram(noise(seed)))
    calls.clear()
    assert not open_store(voiced(1.0), "panns_16k", stores).built
    assert calls == ["10", "11"]  # one utterance of each label shows whether the voice is still the same
    assert open_store(voiced(0.5), "panns_16k", stores).built


def test_a_corpus_that_says_what_its_sounds_follow_from_is_not_asked_for_one(stores: Path) -> None:
    calls: list[str] = []

    def synthesize(name: str) -> NDArray[np.float32]:
        calls.append(name)
        return noise(int(name))

    def following_from(what: str) -> Corpus:
        frame = pd.DataFrame({"utterance_id": ["10", "11", "12"], "speaker": "s", "label": ["x", "y", "x"]})
        return Corpus("made", frame, ("x", "y"), synthesize=synthesize, synthesis=what)

    assert open_store(following_from("one"), "panns_16k", stores).built
    calls.clear()
    assert not open_store(following_from("one"), "panns_16k", stores).built
    assert not calls
    assert open_store(following_from("another"), "panns_16k", stores).built


def test_the_embedded_corpus_knows_what_its_sounds_follow_from_also_when_loaded_by_name() -> None:
    whole = load("synthetic")
    assert whole.synthesis == load_synthetic().synthesis != ""
    assert without(whole, [whole.table["utterance_id"][0]]).synthesis == whole.synthesis


def test_progress_counts_to_the_number_of_utterances(corpus: Corpus, stores: Path) -> None:
    reported: list[tuple[int, int]] = []
    open_store(corpus, "panns_16k", stores, progress=lambda done, total: reported.append((done, total)))
    assert reported == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_building_leaves_torchs_threads_as_they_were(corpus: Corpus, stores: Path) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        open_store(corpus, "panns_16k", stores)
        with ThreadPoolExecutor(1) as later:  # a new thread starts with the process's number
            assert later.submit(torch.get_num_threads).result() == torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_a_pickled_store_is_its_path(corpus: Corpus, stores: Path) -> None:
    store = open_store(corpus, "panns_16k", stores)
    pickled = pickle.dumps(store)
    assert len(pickled) < 1000
    assert np.array_equal(pickle.loads(pickled).frames, store.frames)


# Stale, damaged and leftover stores


def test_a_changed_file_gives_a_new_store_and_leaves_the_old_one_as_it_was(
    corpus: Corpus, data: Path, stores: Path
) -> None:
    old = open_store(corpus, "panns_16k", stores)
    before = old.frames.copy()
    soundfile.write(data / "b.wav", noise(99, 0.6), RATE)
    os.utime(data / "b.wav", ns=(0, 1))
    new = open_store(corpus, "panns_16k", stores)
    assert new.built
    assert new.path != old.path
    assert np.array_equal(new.utterance(1), spectrogram(read_audio(data / "b.wav")))
    assert np.array_equal(old.frames, before)
    assert np.array_equal(FeatureStore.open(old.path).frames, before)


def test_front_ends_and_excluded_utterances_have_their_own_stores(corpus: Corpus, stores: Path) -> None:
    paths = {
        open_store(corpus, "panns_16k", stores).path,
        open_store(corpus, "panns_32k", stores).path,
        open_store(without(corpus, ["a"]), "panns_16k", stores).path,
    }
    assert len(paths) == 3


@pytest.mark.parametrize("name", ["frames.f32", "offsets.npy", "content.npy", "meta.json"])
@pytest.mark.parametrize("damage", ["truncated", "emptied", "removed"])
def test_a_damaged_store_is_refused_and_built_again(corpus: Corpus, stores: Path, name: str, damage: str) -> None:
    store = open_store(corpus, "panns_16k", stores)
    frames = np.array(store.frames)
    path = store.path / name
    if damage == "removed":
        path.unlink()
    else:
        os.truncate(path, 0 if damage == "emptied" else path.stat().st_size - 4)
    with pytest.raises(UserError, match=r"incomplete|damaged"):
        FeatureStore.open(store.path)
    rebuilt = open_store(corpus, "panns_16k", stores)
    assert rebuilt.built
    assert np.array_equal(rebuilt.frames, frames)
    assert left_in(stores) == [store.path.name]


def test_a_store_that_is_missing_or_of_another_format_is_refused(corpus: Corpus, stores: Path) -> None:
    with pytest.raises(UserError, match="missing or damaged"):
        FeatureStore.open(stores / "nothing")
    path = open_store(corpus, "panns_16k", stores).path
    meta = json.loads((path / "meta.json").read_text())
    (path / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(UserError, match="format 99"):
        FeatureStore.open(path)


def test_what_a_builder_of_version_0_1_left_when_it_was_killed_is_removed(corpus: Corpus, stores: Path) -> None:
    path = open_store(corpus, "panns_16k", stores).path
    path.rename(partial := path.with_name(path.name + ".partial"))
    (partial / "meta.json").unlink()
    (partial / "frames.f32").write_bytes(b"half")
    assert open_store(corpus, "panns_16k", stores).built
    assert left_in(stores) == [path.name]


def interrupted(corpus: Corpus, stores: Path, after: int) -> Path:
    """Interrupt a build after some utterances, and return the folder that it leaves."""

    def interrupt(done: int, total: int) -> None:
        if done == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_store(corpus, "panns_16k", stores, progress=interrupt)
    (name,) = left_in(stores)
    return stores / name


def files_of(store: FeatureStore) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in store.path.iterdir()}


def test_an_interrupted_build_is_resumed_to_the_same_files(corpus: Corpus, stores: Path, tmp_path: Path) -> None:
    interrupted(corpus, stores, after=3)
    reported: list[tuple[int, int]] = []
    announced: list[str] = []
    store = open_store(
        corpus,
        "panns_16k",
        stores,
        progress=lambda *counts: reported.append(counts),
        announce=announced.append,
    )
    assert reported == [(4, 4)]
    assert announced == [
        f"features  panns_16k of 4 utterances, 1 min of audio (3 are there from an earlier call), about 46 kB in "
        f"{stores}"
    ]
    assert store.built
    assert left_in(stores) == [store.path.name]
    assert files_of(store) == files_of(open_store(corpus, "panns_16k", tmp_path / "uninterrupted"))


@pytest.mark.parametrize(
    ("name", "damage", "kept"),
    [
        ("frames.f32", lambda content: content + b"torn", 3),
        ("frames.f32", lambda content: content[:-1], 2),
        ("frames.f32", lambda content: b"", 0),
        ("complete.jsonl", lambda content: content[:-1], 2),
        ("complete.jsonl", lambda content: content[:-5], 2),
        ("complete.jsonl", lambda content: content + b'[41, "a', 3),
        ("complete.jsonl", lambda content: content[:-9] + b"\0" * 9, 2),
        ("complete.jsonl", lambda content: b"", 0),
    ],
)
def test_torn_ends_are_cut_off_and_computed_again(
    corpus: Corpus, stores: Path, tmp_path: Path, name: str, damage: Callable[[bytes], bytes], kept: int
) -> None:
    path = interrupted(corpus, stores, after=3) / name
    path.write_bytes(damage(path.read_bytes()))
    reported = []
    store = open_store(corpus, "panns_16k", stores, progress=lambda done, total: reported.append(done))
    assert reported[0] == kept + 1
    assert files_of(store) == files_of(open_store(corpus, "panns_16k", tmp_path / "uninterrupted"))


def test_a_killed_build_is_resumed_to_the_same_files(data: Path, stores: Path, tmp_path: Path) -> None:
    for seed in range(40):
        soundfile.write(data / f"n{seed:02}.wav", noise(seed, 0.1 + 0.01 * seed), RATE)
    corpus = corpus_of(data, *(f"n{seed:02}.wav" for seed in range(40)))
    code = (
        "import os, signal, sys; from ser.corpora import load; from ser.features import partial_store, store\n"
        "partial_store.FLUSH_SECONDS = 0\n"
        "def die(done, total): done == 21 and os.kill(os.getpid(), signal.SIGKILL)\n"
        "store.open_store(load('table', sys.argv[1]), 'panns_16k', sys.argv[2], progress=die)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code, data / "table.csv", stores], check=False)
    assert killed.returncode == -signal.SIGKILL
    reported = []
    store = open_store(corpus, "panns_16k", stores, progress=lambda done, total: reported.append(done))
    assert reported == list(range(22, 41))
    assert left_in(stores) == [store.path.name]
    assert files_of(store) == files_of(open_store(corpus, "panns_16k", tmp_path / "uninterrupted"))


def test_what_an_interrupted_build_left_is_removed_once_the_audio_has_changed(
    corpus: Corpus, data: Path, stores: Path
) -> None:
    interrupted(corpus, stores, after=3)
    os.utime(data / "a.wav", ns=(0, 1))
    store = open_store(corpus, "panns_16k", stores)
    assert left_in(stores) == [store.path.name]


def test_what_an_interrupted_build_left_is_deleted_with_its_store(corpus: Corpus, stores: Path) -> None:
    path = interrupted(corpus, stores, after=3).with_suffix("")
    assert partial_store(path).exists()
    assert delete_store(path, lambda: False)
    assert left_in(stores) == []


def test_an_interruption_after_a_fault_keeps_only_what_comes_before_it(
    corpus: Corpus, data: Path, stores: Path
) -> None:
    (data / "b.wav").write_bytes(b"")  # the second utterance
    interrupted(corpus, stores, after=3)
    reported = []
    with pytest.raises(DataErrors) as error:
        open_store(corpus, "panns_16k", stores, progress=lambda done, total: reported.append(done))
    assert reported == [2, 3, 4]
    assert [name for name, _ in error.value.errors] == ["b"]
    assert left_in(stores) == []


def test_after_a_fault_nothing_more_is_computed(corpus: Corpus, data: Path, stores: Path) -> None:
    (data / "a.wav").write_bytes(b"")  # the first utterance
    (data / "d.wav").write_bytes(b"")  # the last
    computed = []

    def compute(samples: NDArray[np.float32]) -> NDArray[np.float32]:
        computed.append(len(samples))
        return samples[:1, None]

    with pytest.raises(DataErrors) as error:
        open_store(corpus, Extractor(FrontEnd("first_sample", "vector", RATE, 1), lambda: compute), stores, workers=1)
    assert [name for name, _ in error.value.errors] == ["a", "d"]
    assert computed == []


def test_the_size_of_a_store_is_known_before_it_is_built(corpus: Corpus, data: Path, stores: Path) -> None:
    # 0.3, 0.4, 0.5 and 0.6 s: 28,800 samples of four bytes, or 100 frames a second of 64 bands.
    assert expected_bytes(corpus, named_front_end("waveform_16k")) == pytest.approx(4 * 28_800)
    assert expected_bytes(corpus, named_front_end("panns_16k")) == pytest.approx(4 * 64 * 180)
    assert expected_bytes(corpus, named_front_end("handcrafted_16k")) == 4 * 8 * 4
    built = open_store(corpus, "waveform_16k", stores)
    assert built.size == sum(path.stat().st_size for path in built.path.iterdir())
    assert 4 * 28_800 < built.size < 4 * 28_800 + 2_000
    cuts = {"path": "d.wav", "start": [0.05, 0.1], "end": [0.25, None], "speaker": "s", "label": ["x", "y"]}
    pd.DataFrame(cuts).to_csv(data / "cuts.csv", index=False)  # 0.2 s and the last 0.2 of 0.3 s
    assert expected_bytes(load("table", data / "cuts.csv"), named_front_end("waveform_16k")) == pytest.approx(4 * 6400)
    (data / "a.wav").write_bytes(b"")  # building reports it
    assert expected_bytes(corpus, named_front_end("waveform_16k")) < 4 * 28_800


def test_a_store_that_does_not_fit_is_not_begun(corpus: Corpus, stores: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=100_000))
    with pytest.raises(UserError, match="takes about 115 kB, and 100 kB are free there"):
        open_store(corpus, "waveform_16k", stores)
    assert not [path for path in stores.iterdir() if path.is_dir()]
    open_store(corpus, "panns_16k", stores)  # 46 kB


def test_a_store_is_deleted_unless_it_is_in_use_or_being_built(corpus: Corpus, stores: Path) -> None:
    store = open_store(corpus, "panns_16k", stores)
    aside = deleted_store(store.path)
    seen = []

    def in_use() -> bool:
        seen.append((store.path.exists(), aside.exists()))
        return True

    assert not delete_store(store.path, in_use)
    assert seen == [(False, True)]  # nobody could open it when the question was asked
    assert len(FeatureStore.open(store.path)) == len(corpus)
    with FileLock(f"{store.path}.lock"):
        assert not delete_store(store.path, lambda: False)
    assert store.path.exists()
    store.path.rename(aside)  # killed here
    assert delete_store(store.path, lambda: False)
    assert not aside.exists()
    again = open_store(corpus, "panns_16k", stores)
    assert delete_store(again.path, lambda: False)
    assert not [path for path in stores.iterdir() if path.is_dir()]
    assert len(again.utterance(0)) == 41  # what is open stays open


def test_files_that_change_while_they_are_read_are_reported(corpus: Corpus, data: Path, stores: Path) -> None:
    def change(done: int, total: int) -> None:
        os.utime(data / "a.wav", ns=(0, done))

    with pytest.raises(UserError, match="changed while they were read"):
        open_store(corpus, "panns_16k", stores, progress=change)
    assert left_in(stores) == []


def test_a_full_disk_is_reported_and_the_build_resumed_later(
    corpus: Corpus, stores: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(file: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as until_there_is_room:
        until_there_is_room.setattr("ser.features.partial_store.to_disk", full)
        with pytest.raises(UserError, match=r"No space left on device.*What has been computed is kept"):
            open_store(corpus, "panns_16k", stores)
    reported: list[int] = []
    store = open_store(corpus, "panns_16k", stores, progress=lambda done, total: reported.append(done))
    assert reported == []
    assert left_in(stores) == [store.path.name]


def test_a_folder_that_cannot_be_written_is_reported(corpus: Corpus, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        open_store(corpus, "panns_16k", tmp_path / "file" / "stores")


def test_of_two_builders_at_once_one_builds_and_both_have_the_store(data: Path, stores: Path) -> None:
    for seed in range(40):
        soundfile.write(data / f"n{seed:02}.wav", noise(seed), RATE)
    corpus_of(data, *(f"n{seed:02}.wav" for seed in range(40)))
    code = (
        "import sys, torch; from ser.corpora import load; from ser.features.store import open_store\n"
        "corpus = load('table', sys.argv[1]); print('ready', flush=True); input()\n"
        "store = open_store(corpus, 'panns_16k', sys.argv[2], workers=1)\n"
        "print(store.built, len(store), float(store.frames.sum(dtype='f8')))\n"
    )
    builders = [
        subprocess.Popen(
            [sys.executable, "-c", code, data / "table.csv", stores],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(2)
    ]
    for builder in builders:
        assert builder.stdout is not None
        assert builder.stdout.readline() == "ready\n"
    for builder in builders:  # both are let go within microseconds
        assert builder.stdin is not None
        builder.stdin.write("\n")
        builder.stdin.flush()
    reported = [builder.communicate()[0].split() for builder in builders]
    assert sorted(words[0] for words in reported) == ["False", "True"]
    assert reported[0][1:] == reported[1][1:]
    assert len(left_in(stores)) == 1


# Faults in the audio


@pytest.fixture
def faulty(data: Path) -> Corpus:
    whole = noise(5)
    (data / "zero.wav").write_bytes(b"")
    (data / "garbage.wav").write_bytes(b"no audio at all " * 100)
    for suffix in ("wav", "flac"):
        path = data / f"cut_{suffix}.{suffix}"
        soundfile.write(path, whole, RATE)
        os.truncate(path, path.stat().st_size // 2)
    soundfile.write(data / "nan.wav", np.where(np.arange(len(whole)) == 7, np.nan, whole), RATE, subtype="FLOAT")
    soundfile.write(data / "silent.wav", np.zeros(RATE), RATE)
    soundfile.write(data / "huge.wav", whole * 1e30, RATE, subtype="FLOAT")
    soundfile.write(data / "short.wav", whole[:100], RATE)
    names = ("zero", "garbage", "cut_wav", "nan", "silent", "huge", "short", "missing", "a", "b")
    return corpus_of(data, "cut_flac.flac", *(f"{name}.wav" for name in names))


def test_all_faults_are_listed_at_once_with_what_to_do(faulty: Corpus, stores: Path) -> None:
    with pytest.raises(DataErrors) as error:
        open_store(faulty, "panns_16k", stores)
    faults = dict(error.value.errors)
    expected = {
        "cut_flac": "cannot be decoded (Error : flac decoder lost sync)",
        "cut_wav": "truncated, ",
        "garbage": "cannot be decoded (Format not recognised)",
        "huge": "full scale is 1",
        "missing": "file is missing",
        "nan": "1 samples are NaN or infinite",
        "short": "shorter than",
        "silent": "silent",
        "zero": "empty (0 bytes)",
    }
    assert set(faults) == set(expected)
    for name, text in expected.items():
        assert text in faults[name]
        assert f"{name}." in faults[name]  # the file is named
    assert "--exclude" in str(error.value)
    assert left_in(stores) == []


def test_without_the_faulty_utterances_the_store_is_built(faulty: Corpus, stores: Path) -> None:
    with pytest.raises(DataErrors) as error:
        open_store(faulty, "panns_16k", stores)
    rest = without(faulty, [name for name, _ in error.value.errors])
    store = open_store(rest, "panns_16k", stores)
    assert list(rest.table["utterance_id"]) == ["a", "b"]
    assert store.lengths.tolist() == [41, 61]


def test_a_file_that_vanished_after_the_store_was_built_is_a_fault(corpus: Corpus, data: Path, stores: Path) -> None:
    open_store(corpus, "panns_16k", stores)
    (data / "c.wav").unlink()
    with pytest.raises(DataErrors) as error:
        open_store(corpus, "panns_16k", stores)
    assert [name for name, _ in error.value.errors] == ["c"]


@pytest.mark.skipif("SER_RAVDESS_ROOT" not in os.environ, reason="SER_RAVDESS_ROOT does not name RAVDESS's folder")
def test_the_real_ravdess_is_stored_whole(stores: Path) -> None:
    corpus = load("ravdess", os.environ["SER_RAVDESS_ROOT"], classes="all")
    store = open_store(corpus, "panns_16k", stores)
    assert len(store) == 1440
    assert store.lengths.min() > 200
    twice = pd.Series(store.content).duplicated(keep=False)
    assert list(corpus.table["utterance_id"][twice]) == ["03-01-03-01-02-01-07", "03-01-03-01-02-02-07"]
