"""Datasets of Hugging Face on disk, with pyarrow alone, and loaded by their library."""

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import soundfile

from ser.audio import read_audio
from ser.corpora import from_dataset, load
from ser.features.store import open_store
from ser.utils.errors import DataErrors, UserError
from tests.helpers import corpus_trees

CLASSES = ["angry", "happy", "sad"]
RATE = 16000


def wav(number: int) -> bytes:
    """Audio of a constant length and level, whose loudest sample is at its number."""
    samples = np.random.default_rng(number).normal(0, 0.01, 3200).astype(np.float32)
    samples[number] = 0.5
    content = io.BytesIO()
    soundfile.write(content, samples, RATE, format="WAV", subtype="FLOAT")
    return content.getvalue()


def rows(numbers: Sequence[int], named: bool = True, embedded: bool = True) -> pa.Table:
    """A table as the library writes it: row n has audio n, class n modulo 3 and speaker n // 6."""
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    cells = [{"bytes": wav(n) if embedded else None, "path": f"{n:03}.wav" if named else None} for n in numbers]
    features = {
        "audio": {"_type": "Audio", "sampling_rate": RATE},
        "emotion": {"names": CLASSES, "_type": "ClassLabel"},
        "speaker_id": {"dtype": "int64", "_type": "Value"},
    }
    columns = {
        "audio": pa.array(cells, kind),
        "emotion": pa.array([n % 3 for n in numbers]),
        "speaker_id": pa.array([n // 6 for n in numbers]),
    }
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.table(columns).replace_schema_metadata(metadata)


def save_parquet(table: pa.Table, file: Path) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, file, row_group_size=5)


def save_to_disk(parts: Sequence[pa.Table], folder: Path) -> None:
    """Write what ``Dataset.save_to_disk`` writes."""
    folder.mkdir(parents=True)
    files = [f"data-{number:05}-of-{len(parts):05}.arrow" for number in range(len(parts))]
    for name, table in zip(files, parts, strict=True):
        with pa.ipc.new_stream(str(folder / name), table.schema) as writer:
            writer.write_table(table)
    (folder / "state.json").write_text(json.dumps({"_data_files": [{"filename": name} for name in files]}))
    (folder / "dataset_info.json").write_text("{}")


def number_of(path: str) -> int:
    """Return the number of the audio at a path, from its samples."""
    return int(np.argmax(read_audio(path)))


def check(corpus: Any, numbers: Sequence[int]) -> None:
    """Compare each row's audio, label and speaker with those of ``rows``."""
    heard = [number_of(path) for path in corpus.table["path"]]
    assert sorted(heard) == sorted(numbers)
    assert list(corpus.table["label"]) == [CLASSES[number % 3] for number in heard]
    assert list(corpus.table["speaker"]) == [str(number // 6) for number in heard]


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("form", ["file", "shards", "disk", "other"])
def test_every_row_has_its_audio_label_and_speaker(form: str, named: bool, tmp_path: Path) -> None:
    root = tmp_path
    first, last = rows(range(10), named), rows(range(10, 24), named)
    if form == "file":
        save_parquet(pa.concat_tables([first, last]), root := tmp_path / "my data.parquet")
    elif form == "shards":
        save_parquet(first, root / "data" / "train-00000-of-00002-1a2b3c.parquet")
        save_parquet(last, root / "data" / "train-00001-of-00002-4d5e6f.parquet")
        (root / "README.md").write_text("# A card")
    elif form == "disk":
        save_to_disk([first, last], root := tmp_path / "saved")
    else:  # as the hub converts datasets
        save_parquet(first, root / "default" / "train" / "0000.parquet")
        save_parquet(last, root / "default" / "train" / "0001.parquet")
    corpus = load("huggingface", root)
    check(corpus, range(24))
    assert "official_subset" not in corpus.table
    if named:
        assert list(corpus.table["utterance_id"]) == [f"{number:03}" for number in range(24)]


@pytest.mark.parametrize("form", ["shards", "converted", "disk", "folders"])
def test_train_validation_and_test_are_the_official_split(form: str, tmp_path: Path) -> None:
    parts = {"train": range(12), "validation": range(12, 18), "test": range(18, 24)}
    for split, numbers in parts.items():
        if form == "shards":
            save_parquet(rows(numbers), tmp_path / "data" / f"{split}-00000-of-00001.parquet")
        elif form == "converted":
            save_parquet(rows(numbers), tmp_path / "default" / split / "0000.parquet")
        elif form == "disk":
            save_to_disk([rows(numbers)], tmp_path / split)
            (tmp_path / "dataset_dict.json").write_text(json.dumps({"splits": list(parts)}))
        else:
            lines = ["file_name,emotion,speaker_id", *(f"{n:03}.wav,{CLASSES[n % 3]},{n // 6}" for n in numbers)]
            (tmp_path / split).mkdir()
            (tmp_path / split / "metadata.csv").write_text("\n".join(lines))
            for n in numbers:
                (tmp_path / split / f"{n:03}.wav").write_bytes(wav(n))
    corpus = load("huggingface", tmp_path)
    check(corpus, range(24))
    subsets = {split: set(part["speaker"]) for split, part in corpus.table.groupby("official_subset")}
    assert subsets == {"train": {"0", "1"}, "validation": {"2"}, "test": {"3"}}


def test_an_incomplete_split_is_said_and_its_rows_are_put_together(tmp_path: Path) -> None:
    save_parquet(rows(range(12)), tmp_path / "train-00000-of-00001.parquet")
    save_parquet(rows(range(12)), tmp_path / "test-00000-of-00001.parquet")  # of the same names
    corpus = load("huggingface", tmp_path)
    assert "official_subset" not in corpus.table
    assert any("test, train are put together" in note for note in corpus.notes)
    assert {id_[:5] for id_ in corpus.table["utterance_id"]} == {"train", "test/"}


def test_files_that_cells_name_are_read_where_they_are(tmp_path: Path) -> None:
    save_parquet(rows(range(12), embedded=False), tmp_path / "train.parquet")
    for number in range(12):
        (tmp_path / f"{number:03}.wav").write_bytes(wav(number))
    check(load("huggingface", tmp_path), range(12))


def test_columns_and_speakers_can_be_named(tmp_path: Path) -> None:
    table = rows(range(12)).rename_columns(["audio", "feeling", "actor number"])
    save_parquet(table, tmp_path / "a.parquet")
    with pytest.raises(UserError):
        load("huggingface", tmp_path)
    options = {"columns": "label=feeling,speaker=actor number"}
    assert set(load("huggingface", tmp_path, options=options).table["speaker"]) == {"0", "1"}
    options = {"columns": "label=feeling", "speaker": "/([^/]{2})[^/]*$"}
    assert set(load("huggingface", tmp_path, options=options).table["speaker"]) == {"00", "01"}
    with pytest.raises(UserError, match="--corpus-options"):
        load("huggingface", tmp_path, options={"columns": "label=feeling"})


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "no dataset of Hugging Face"),
        (["a/train-00000-of-00001.parquet", "b/train-00000-of-00001.parquet"], "several configurations"),
    ],
)
def test_what_is_no_dataset_or_several_is_an_error(files: list[str], message: str, tmp_path: Path) -> None:
    for name in files:
        save_parquet(rows(range(6)), tmp_path / name)
    with pytest.raises(UserError, match=message):
        load("huggingface", tmp_path)


@pytest.mark.parametrize("name", ["x.parquet", "x.arrow"])
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"PAR1 nothing else")
    with pytest.raises(UserError, match=f"{name}' cannot be read"):
        load("huggingface", tmp_path)


def test_a_name_on_the_hub_is_answered_with_the_commands_that_download_it() -> None:
    with pytest.raises(UserError, match=r"hf download owner/emotions .* describe huggingface --root emotions"):
        load("huggingface", "owner/emotions")


def test_faulty_audio_in_cells_is_named_by_its_utterance_and_can_be_excluded(tmp_path: Path) -> None:
    table = rows(range(18))
    cells = table.column("audio").to_pylist()
    cells[3]["bytes"], cells[4]["bytes"] = b"RIFF", None
    faulty = table.set_column(0, "audio", pa.array(cells, table.schema.field("audio").type))
    save_parquet(faulty, tmp_path / "a.parquet")
    with pytest.raises(DataErrors) as error:
        open_store(load("huggingface", tmp_path), "panns_16k", tmp_path / "store")
    assert sorted(name for name, _ in error.value.errors) == ["003", "004"]
    listed = tmp_path / "listed.txt"
    listed.write_text("\n".join(str(error.value).splitlines()[1:-1]), encoding="utf-8")
    assert len(load("huggingface", tmp_path, listed)) == 16


def test_a_dataset_that_is_moved_has_the_same_digest(tmp_path: Path) -> None:
    before = load("huggingface", corpus_trees.huggingface(tmp_path / "here"))
    (tmp_path / "here").rename(tmp_path / "there")
    after = load("huggingface", tmp_path / "there")
    assert (after.digest, after.audio_digest) == (before.digest, before.audio_digest)


@pytest.fixture
def loaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Loaded ``Dataset`` of 24 rows in two files, without names of audio."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    datasets.Dataset(rows(range(24), named=False)).save_to_disk(str(tmp_path / "saved"), num_shards=2)
    return datasets.load_from_disk(str(tmp_path / "saved"))


def test_a_loaded_dataset_is_a_corpus_without_decoding_or_copies(loaded: Any, tmp_path: Path) -> None:
    files = sorted(tmp_path.rglob("*.arrow"))
    corpus = from_dataset(loaded, name="mine")
    check(corpus, range(24))
    assert corpus.name == "mine"
    assert sorted(tmp_path.rglob("*.arrow")) == files


@pytest.mark.parametrize("change", ["shuffled", "selected", "sliced", "filtered", "joined", "renamed"])
def test_rows_of_a_changed_dataset_have_their_own_audio(change: str, loaded: Any) -> None:
    import datasets

    numbers: Sequence[int] = range(24)
    if change == "shuffled":  # audio has neither names nor different lengths
        loaded = loaded.shuffle(seed=1)
    elif change == "selected":
        loaded, numbers = loaded.select([20, 3, 7, 15, 1]), [20, 3, 7, 15, 1]
    elif change == "sliced":
        loaded, numbers = loaded.select(range(5, 15)), range(5, 15)
    elif change == "filtered":
        loaded = loaded.filter(lambda emotion: emotion != 1, input_columns="emotion")
        numbers = [number for number in range(24) if number % 3 != 1]
    elif change == "joined":
        loaded = datasets.concatenate_datasets([loaded.select(range(12, 24)), loaded.select(range(12))])
    else:
        loaded = loaded.rename_columns({"audio": "recording", "emotion": "feeling"})
    columns = {"label": "feeling"} if change == "renamed" else {}
    check(from_dataset(loaded, speaker="speaker_id", **columns), numbers)


def test_a_loaded_dict_has_its_splits(loaded: Any) -> None:
    import datasets

    parts = {"train": range(12), "validation": range(12, 18), "test": range(18, 24)}
    corpus = from_dataset(datasets.DatasetDict({name: loaded.select(part) for name, part in parts.items()}))
    check(corpus, range(24))
    subsets = {split: set(part["speaker"]) for split, part in corpus.table.groupby("official_subset")}
    assert subsets == {"train": {"0", "1"}, "validation": {"2"}, "test": {"3"}}


def test_a_dataset_in_memory_is_an_error_that_says_to_save_it(loaded: Any) -> None:
    import datasets

    in_memory = datasets.Dataset(rows(range(6)))
    with pytest.raises(UserError, match="save_to_disk"):
        from_dataset(in_memory)
