import io
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile
from numpy.typing import NDArray

from ser.audio import AudioFault, probe, read_audio, read_samples
from ser.audio.embedded import Cell, cell_of, content_of, file_of, path_of
from ser.corpora.corpus import Corpus
from ser.description.summary import describe
from ser.features.store import FeatureStore, open_store
from ser.noise.label_files import check_copies
from ser.utils.errors import DataErrors

RATE = 16000
ROWS = 25
FORMS = ("parquet", "arrow", "stream")


def noise(row: int, rate: int = RATE) -> NDArray[np.float64]:
    return np.random.default_rng(row).normal(0, 0.1, rate // 4 + 100 * row)


def encoded(samples: NDArray[np.float64], rate: int = RATE, form: str = "WAV", subtype: str | None = "PCM_16") -> bytes:
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format=form, subtype=subtype)
    return file.getvalue()


def write(folder: Path, cells: list[bytes | None], form: str, *, struct: bool = True) -> Path:
    """Write cells in the shape of datasets: Parquet with row groups, an Arrow file, or the stream of save_to_disk."""
    if struct:
        kind = pa.struct({"bytes": pa.binary(), "path": pa.string()})
        audio = pa.array([{"bytes": cell, "path": f"{row}.wav"} for row, cell in enumerate(cells)], kind)
    else:
        audio = pa.array(cells, pa.binary())
    table = pa.table({"audio": audio, "label": list(range(len(cells)))})
    if form == "parquet":
        pq.write_table(table, folder / "data.parquet", row_group_size=10)
        return folder / "data.parquet"
    path = folder / "data-00000-of-00001.arrow"
    with (pa.ipc.new_file if form == "arrow" else pa.ipc.new_stream)(path, table.schema) as writer:
        writer.write_table(table, max_chunksize=10)
    return path


@pytest.fixture(params=FORMS)
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    return write(tmp_path, [encoded(noise(row)) for row in range(ROWS)], request.param)


def test_a_cell_is_read_as_the_file_that_it_holds(file: Path, tmp_path: Path) -> None:
    for row in (0, 9, 10, 24, 3):
        soundfile.write(tmp_path / "same.wav", noise(row), RATE, subtype="PCM_16")
        path = path_of(file, "audio", row)
        assert np.array_equal(read_samples(path), read_samples(tmp_path / "same.wav"))
        assert np.array_equal(read_audio(path, 0.1, 0.2, 8000), read_audio(tmp_path / "same.wav", 0.1, 0.2, 8000))
        assert probe(path) == probe(tmp_path / "same.wav")


def test_several_threads_read_the_cells_in_any_order(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ser.audio.embedded.CACHED_BYTES", 1)  # so that row groups are dropped while others are read
    rows = np.random.default_rng(0).integers(0, ROWS, 200).tolist()
    with ThreadPoolExecutor(4) as pool:
        read = list(pool.map(lambda row: content_of(path_of(file, "audio", row)), rows))
    assert read == [encoded(noise(row)) for row in rows]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("struct", [True, False])
def test_what_a_cell_lacks_is_said(tmp_path: Path, form: str, struct: bool) -> None:
    file = write(tmp_path, [None, encoded(noise(1))[:200], b"no audio", b""], form, struct=struct)
    for column, row, message in [
        ("audio", 0, "cell is empty"),
        ("audio", 1, "truncated, 156 of 8200 bytes"),
        ("audio", 2, "cannot be decoded"),
        ("audio", 3, "file is empty"),
        ("audio", 4, "has 4 rows, so there is no row 4"),
        ("label", 0, "cell holds int64, expected bytes"),
        ("sound", 0, "no column 'sound', but audio, label"),
    ]:
        with pytest.raises(AudioFault, match=message):
            read_samples(path_of(file, column, row))
    file.write_bytes(b"neither Parquet nor Arrow")
    with pytest.raises(AudioFault, match="cannot be read"):
        read_samples(path_of(file, "audio", 1))


def test_a_file_that_is_written_again_is_read_again(tmp_path: Path) -> None:
    for value in (b"one", b"two, longer"):
        file = write(tmp_path, [value], "parquet")
        assert content_of(path_of(file, "audio", 0)) == value


@pytest.mark.parametrize("column", ["audio", "50% #1/2", "Ton ü"])
def test_a_path_is_the_inverse_of_its_cell(tmp_path: Path, column: str) -> None:
    file = tmp_path / "a#1.Parquet"
    file.touch()
    path = path_of(file, column, 7)
    assert cell_of(path) == Cell(str(file), column, 7)
    assert cell_of(Path(path)) == cell_of(path)
    assert file_of(path) == str(file)


def test_number_signs_in_ordinary_names_go_on_working(tmp_path: Path) -> None:
    folder = tmp_path / "x.parquet#audio"  # there is no file x.parquet
    folder.mkdir()
    for path in (folder / "7", tmp_path / "#1.wav", tmp_path / "take#2/3"):
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, noise(0), RATE, format="WAV")
        assert file_of(path) == str(path)
        assert len(read_samples(path)) == len(noise(0))
    write(tmp_path, [b"never read"], "parquet").rename(tmp_path / "x.parquet")
    assert cell_of(folder / "7") is None  # a file of this name wins
    assert cell_of(folder / "8") == Cell(str(tmp_path / "x.parquet"), "audio", 8)
    with pytest.raises(AudioFault, match="missing"):
        read_samples(tmp_path / "y.parquet#audio/0")


def corpus_of(file: Path) -> Corpus:
    table = pd.DataFrame({
        "utterance_id": [f"u{row:02}" for row in range(ROWS)],
        "path": [path_of(file, "audio", row) for row in range(ROWS)],
        "speaker": [f"s{row % 5}" for row in range(ROWS)],
        "label": ["sad" if row % 2 else "angry" for row in range(ROWS)],
    })  # fmt: skip
    return Corpus("cells", table, ("angry", "sad"), file.parent)


def test_stores_and_descriptions_of_cells_are_those_of_files(file: Path, tmp_path: Path) -> None:
    corpus = corpus_of(file)
    assert corpus.relative_paths[3] == f"{file.name}#audio/3"
    for row in range(ROWS):
        soundfile.write(tmp_path / f"{row}.wav", noise(row), RATE, subtype="PCM_16")
    files = Corpus(
        "files", corpus.table.assign(path=[str(tmp_path / f"{row}.wav") for row in range(ROWS)]), corpus.classes
    )
    store, expected = (open_store(some, "waveform_16k", tmp_path / "stores") for some in (corpus, files))
    assert isinstance(store, FeatureStore)
    assert np.array_equal(store.frames, expected.frames)
    assert np.array_equal(store.content, expected.content)
    pd.testing.assert_frame_equal(describe(corpus).utterances, describe(files).utterances)
    write(
        file.parent,
        [encoded(noise(row + 1)) for row in range(ROWS)],
        "parquet" if file.suffix == ".parquet" else "arrow",
    )
    assert open_store(corpus, "waveform_16k", tmp_path / "stores").path != store.path


def test_copies_in_cells_of_different_subsets_are_found(tmp_path: Path) -> None:
    corpus = corpus_of(write(tmp_path, [encoded(noise(row % 20)) for row in range(ROWS)], "parquet"))
    check_copies(corpus, {"train": np.arange(0, 15), "test": np.arange(15, 20)})
    with pytest.raises(DataErrors, match=r"#audio/21: in test, is a copy of .*#audio/1 in train"):
        check_copies(corpus, {"train": np.arange(0, 15), "test": np.array([21])})


def test_empty_cells_are_copies_of_each_other(tmp_path: Path) -> None:
    corpus = corpus_of(write(tmp_path, [b"", b"", *(encoded(noise(row)) for row in range(2, ROWS))], "parquet"))
    with pytest.raises(DataErrors, match=r"#audio/1: in test, is a copy of .*#audio/0 in train"):
        check_copies(corpus, {"train": np.array([0]), "test": np.array([1])})
