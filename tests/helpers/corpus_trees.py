"""Small folders in the layout of each corpus, with real audio: short noise, different in every file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from zlib import crc32

import numpy as np
import soundfile

from tests.helpers import iemocap_tree

RATE = 16000


def _record(paths: Iterable[Path]) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        noise = np.random.default_rng(crc32(path.name.encode())).normal(0, 0.1, RATE // 2)
        soundfile.write(path, noise.astype(np.float32), RATE)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def ravdess(root: Path) -> Path:
    _record(
        root / f"Actor_{actor:02}" / f"03-01-{emotion:02}-01-01-01-{actor:02}.wav"
        for actor in range(1, 5)
        for emotion in range(1, 9)
    )
    return root


def iemocap(root: Path) -> Path:
    return iemocap_tree.build(root, per_class=2, audio="tones")


def crema_d(root: Path) -> Path:
    codes = ("ANG", "DIS", "FEA", "HAP", "NEU", "SAD")
    clips = [f"{actor}_IEO_{code}_HI" for actor in (1001, 1002, 1003) for code in codes]
    _record(root / "AudioWAV" / f"{clip}.wav" for clip in clips)
    _write(root / "VideoDemographics.csv", ["ActorID,Age,Sex", "1001,51,Male", "1002,21,Female", "1003,21,Female"])
    lines = [",A,D,F,H,N,S,fileName"]
    for condition in (1, 2, 3):
        for number, clip in enumerate(clips):
            votes = [0] * 6
            votes[codes.index(clip[9:12])] += 3
            votes[(number + condition) % 6] += 2
            lines.append(f"{condition}{number + 1:05},{','.join(map(str, votes))},{clip}")
    _write(root / "processedResults" / "tabulatedVotes.csv", lines)
    return root


def emodb(root: Path) -> Path:
    clips = [f"{speaker}a01{letter}a" for speaker in ("03", "08", "10") for letter in "WLEAFTN"]
    _record(root / "wav" / f"{clip}.wav" for clip in clips)
    rows = [f"{number}\t{clip}.wav\t95,00\t80,00" for number, clip in enumerate(clips, start=1)]
    _write(root / "erkennung.txt", ["Nr.\tSatz\terkannt\tnatuerlich", *rows])
    return root


def msp_podcast(root: Path) -> Path:
    classes = {"A": "Angry", "H": "Happy", "N": "Neutral", "S": "Sad"}
    names = [f"MSP-PODCAST_{show:04}_{number:04}.wav" for show in (1, 2, 3) for number in range(8)]
    _record(root / "Audios" / name for name in names)
    consensus = ["FileName,EmoClass,EmoAct,EmoVal,EmoDom,SpkrID,Gender,Split_Set"]
    detailed = ["FileName,WorkerID,EmoClass_Major,EmoClass_Second,EmoAct,EmoVal,EmoDom"]
    for number, name in enumerate(names):
        code = list(classes)[number % 4]
        speaker = "Unknown" if name[12:16] == "0003" else name[12:16]
        consensus.append(f"{name},{code},3,4,5,{speaker},Female,Train")
        said = [classes[code], classes[code], list(classes.values())[number // 4 % 4]]
        detailed += [f"{name},WORKER{worker},{word},{word},3,4,5" for worker, word in enumerate(said)]
    _write(root / "Labels" / "labels_consensus.csv", consensus)
    _write(root / "Labels" / "labels_detailed.csv", detailed)
    return root


def esd(root: Path) -> Path:
    folders = ("Angry", "Happy", "Neutral", "Sad", "Surprise")
    _record(
        root / speaker / folder / f"{speaker}_{350 * number + take:06}.wav"
        for speaker in ("0011", "0012", "0013")
        for number, folder in enumerate(folders)
        for take in (1, 2)
    )
    return root


def table(root: Path) -> Path:
    names = [f"{speaker}-{number}.wav" for speaker in "abcd" for number in range(6)]
    _record(root / "audio" / name for name in names)
    lines = ["path,speaker,label,votes_low,votes_high"]
    for number, name in enumerate(names):
        votes = ("2,1", "0,3")[number % 2] if number % 4 else "3,0"
        lines.append(f"audio/{name},{name[0]},{('low', 'high')[number % 2]},{votes}")
    _write(root / "mine.csv", lines)
    return root / "mine.csv"


def folders(root: Path) -> Path:
    _record(
        root / speaker / label / f"{speaker}-{label}-{take}.wav"
        for speaker in ("ann", "bob", "cid", "dan")
        for label in ("angry", "happy", "sad")
        for take in (1, 2)
    )
    return root


def kaldi(root: Path) -> Path:
    ids = [f"{speaker}-{number}" for speaker in ("ann", "bob", "cid", "dan") for number in range(6)]
    _record(root / "wav" / f"{id_}.wav" for id_ in ids)
    data = root / "data"
    _write(data / "wav.scp", [f"{id_} wav/{id_}.wav" for id_ in ids])
    _write(data / "utt2spk", [f"{id_} {id_[:3]}" for id_ in ids])
    _write(data / "utt2emo", [f"{id_} {('angry', 'happy', 'sad')[int(id_[-1]) % 3]}" for id_ in ids])
    _write(data / "spk2gender", ["ann f", "bob m", "cid m", "dan m"])
    return data


def audformat(root: Path) -> Path:
    """Build a database in the shape of EmoDB's: gold standards in three tables, speakers in another."""
    import audformat as library

    emotions = {"W": "anger", "F": "happiness", "N": "neutral", "T": "sadness"}
    clips = [
        f"wav/{speaker}a0{text}{letter}a.wav"
        for speaker in ("03", "08", "10", "11")
        for text in (1, 2)
        for letter in emotions
    ]
    _record(root / clip for clip in clips)
    database = library.Database("emodb", languages=["deu"])
    database.splits["train"] = library.Split("train")
    database.splits["test"] = library.Split("test")
    database.raters["gold"] = library.Rater()
    database.schemes["emotion"] = library.Scheme("str", labels=list(emotions.values()))
    database.schemes["confidence"] = library.Scheme("float", minimum=0, maximum=1)
    people = {3: "male", 8: "female", 10: "male", 11: "male"}
    database.schemes["speaker"] = library.Scheme("int", labels={who: {"gender": people[who]} for who in people})
    in_split = {"train": clips[:16], "test": clips[16:], None: clips}
    for split, files in in_split.items():
        name = f"emotion.categories.{split}.gold_standard" if split else "emotion"
        table = database[name] = library.Table(library.filewise_index(files), split_id=split)
        for column, values in {
            "emotion": [emotions[file[9]] for file in files],
            "confidence": [0.9] * len(files),
        }.items():
            table[column] = library.Column(scheme_id=column, rater_id="gold")
            table[column].set(values)
    table = database["files"] = library.Table(library.filewise_index(clips))
    table["speaker"] = library.Column(scheme_id="speaker")
    table["speaker"].set([int(clip[4:6]) for clip in clips])
    database.save(str(root))
    return root


def huggingface(root: Path) -> Path:
    """Build a folder of Parquet shards as the hub has them: bytes of audio in cells, classes as numbers."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    names = ["angry", "happy", "sad"]
    features = {"audio": {"_type": "Audio"}, "emotion": {"names": names, "_type": "ClassLabel"}}
    info = {"info": {"features": {**features, "speaker_id": {"dtype": "string", "_type": "Value"}}}}
    (root / "data").mkdir(parents=True)
    for shard, speakers in enumerate((("ann", "bob"), ("cid", "dan"))):
        rows = [(f"{speaker}-{number}.wav", number % 3, speaker) for speaker in speakers for number in range(6)]
        _record(root / name for name, _, _ in rows)
        cells = [{"bytes": (root / name).read_bytes(), "path": name} for name, _, _ in rows]
        for name, _, _ in rows:
            (root / name).unlink()
        kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
        columns = {
            "audio": pa.array(cells, kind),
            "emotion": [row[1] for row in rows],
            "speaker_id": [row[2] for row in rows],
        }
        table = pa.table(columns).replace_schema_metadata({"huggingface": json.dumps(info)})
        pq.write_table(table, root / "data" / f"train-{shard:05}-of-00002.parquet")
    return root


BUILDERS: dict[str, Callable[[Path], Path]] = {
    "iemocap": iemocap,
    "iemocap-4": iemocap,
    "crema-d": crema_d,
    "ravdess": ravdess,
    "emodb": emodb,
    "msp-podcast": msp_podcast,
    "esd": esd,
    "table": table,
    "folders": folders,
    "kaldi": kaldi,
    "audformat": audformat,
    "huggingface": huggingface,
}
