"""Tables in the formats that users have, with short audio: 24 utterances of four speakers in three classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

import numpy as np
import pandas as pd
import soundfile

RATE = 16000
SECONDS = 0.5
SPEAKERS = ("s1", "s2", "s3", "s4")
SUBSETS = {"s1": "train", "s2": "train", "s3": "validation", "s4": "test"}
GENDERS = {"s1": "female", "s2": "male", "s3": "female", "s4": "male"}
CLASSES = ("angry", "happy", "sad")
UTTERANCES = [(f"{who}_{name}_{take}", who, name) for who in SPEAKERS for name in CLASSES for take in (1, 2)]

Built = tuple[Path, dict[str, str]]
"""The table, and the options to load it with."""


def votes_of(number: int, label: str, raters: int = 5) -> dict[str, int]:
    """Return the votes for an utterance: at least three for its class, the others for the next ones."""
    votes = dict.fromkeys(CLASSES, 0)
    votes[label] = raters - number % 3
    for extra in range(number % 3):
        votes[CLASSES[(CLASSES.index(label) + 1 + extra) % 3]] += 1
    return votes


def record(folder: Path, names: list[str] | None = None, seconds: float = SECONDS) -> None:
    """Write noise into the audio files of all utterances, or of these names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names or [f"{id_}.wav" for id_, _, _ in UTTERANCES]:
        noise = np.random.default_rng(crc32(name.encode())).normal(0, 0.1, round(seconds * RATE))
        soundfile.write(folder / name, noise.astype(np.float32), RATE)


def frame(**names: str) -> pd.DataFrame:
    """Return the utterances under other names of columns; an empty name leaves a column out."""
    rows = [(f"{id_}.wav", who, label, GENDERS[who], SUBSETS[who]) for id_, who, label in UTTERANCES]
    columns = ("path", "speaker", "label", "gender", "split")
    table = pd.DataFrame(rows, columns=list(columns))
    return table.drop(columns=[name for name, new in names.items() if not new]).rename(columns=names)


def own(root: Path) -> Built:
    """The format of this project, in CSV."""
    record(root / "audio")
    table = frame(split="official_subset").assign(path=[f"audio/{id_}.wav" for id_, _, _ in UTTERANCES])
    table.to_csv(root / "mine.csv", index=False)
    return root / "mine.csv", {}


def emo_superb(root: Path) -> Built:
    """Label file of EMO-SUPERB: shares of ten raters with 5 % label smoothing, means, and audio elsewhere."""
    record(root / "CREMA-D" / "Audios")
    names = (*CLASSES, "fear")
    rows = []
    for number, (id_, who, label) in enumerate(UTTERANCES):
        votes = {**votes_of(number, label, raters=10), "fear": 0}
        shares = {name: round(0.05 / 3 + (1 - 0.05 * 4 / 3) * votes[name] / 10, 6) for name in names}
        means = {"EmoAct": 3.333333, "EmoVal": 2.0, "EmoDom": 3.0}
        words = {"train": "Train", "validation": "Development", "test": "Test"}
        rows.append(
            {"FileName": f"{id_}.wav", **shares, **means, "SpkrID": who, "Gender": GENDERS[who].title(),
             "Split_Set": words[SUBSETS[who]]}
        )  # fmt: skip
    folder = root / "CREMA-D" / "Primary"
    folder.mkdir()
    pd.DataFrame(rows).to_csv(folder / "labels_consensus_1.csv", index=False)
    return folder / "labels_consensus_1.csv", {"audio": str(root / "CREMA-D" / "Audios")}


def nkululeko(root: Path) -> Built:
    """CSV of nkululeko: audformat's segmented index, with whole files as 0 days to NaT."""
    record(root / "audio", seconds=2.0)
    table = frame(path="file", label="emotion", split="").assign(duration=2.0)
    table["file"] = "audio/" + table["file"]
    cut = [number % 2 == 0 for number in range(len(table))]
    table["start"] = pd.to_timedelta([0.25 if cut_ else 0.0 for cut_ in cut], unit="s")
    table["end"] = pd.to_timedelta([1.75 if cut_ else np.nan for cut_ in cut], unit="s")
    table.set_index(["file", "start", "end"]).to_csv(root / "emodb.csv")
    return root / "emodb.csv", {}


def emobox(root: Path) -> Built:
    """JSON lines of EmoBox: codes of classes, and speakers in another file; paths begin at the project's folder."""
    record(root / "downloads" / "mine" / "wav")
    folder = root / "data" / "mine"
    folder.mkdir(parents=True)
    codes = {"angry": "c", "happy": "j", "sad": "t"}
    (folder / "label_map.json").write_text(json.dumps({code: name.title() for name, code in codes.items()}, indent=4))
    records, speakers = [], []
    for id_, who, label in UTTERANCES:
        name = f"downloads/mine/wav/{id_}.wav"
        records.append(
            {"key": f"mine-{id_}", "dataset": "mine", "wav": name, "type": "raw", "sample_rate": RATE,
             "num_frame": RATE * SECONDS, "task": "category", "length": SECONDS, "emo": codes[label], "channel": 1}
        )  # fmt: skip
        speakers.append(f"mine-{id_} 1 {who} 0 {SECONDS} <id=mine-{id_},lang=en,spk={who},emotion=x> {codes[label]}")
    (folder / "mine.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    (folder / "data.seg.wrd.stm").write_text("\n".join(speakers) + "\n")
    return folder / "mine.jsonl", {}


def excel(root: Path) -> Built:
    """CSV of a German Excel: semicolons, decimal commas, a byte order mark, CRLF, quoted fields, a blank last row."""
    record(root, seconds=2.0)
    lines = ["File Name;Speaker ID;Emotion;Begin;Duration;Sex;Comment"]
    lines += [f'{id_}.wav;{who};{name};0,25;1,5;{GENDERS[who][0]};"a, b; c"' for id_, who, name in UTTERANCES]
    (root / "table.csv").write_bytes(("\ufeff" + "\r\n".join([*lines, ";;;;;;"]) + "\r\n").encode())
    return root / "table.csv", {}


def unicode_text(root: Path) -> Built:
    """Excel's "Unicode text": UTF-16 with tabs; names of files without their suffix."""
    record(root)
    table = frame(path="utterance", label="class", split="subset")
    table["utterance"] = [id_ for id_, _, _ in UTTERANCES]
    (root / "table.txt").write_bytes(table.to_csv(sep="\t", index=False).encode("utf-16"))
    return root / "table.txt", {}


def rater_columns(root: Path) -> Built:
    """TSV with a column for each rater, who may have judged nothing or something else, and no label."""
    record(root)
    table = frame(path="wav", speaker="spk", label="", split="")
    for rater in range(5):
        table[f"rater_{rater + 1}"] = [
            [word for word, count in votes_of(number, label).items() for _ in range(count)][rater]
            for number, (_, _, label) in enumerate(UTTERANCES)
        ]
    table.loc[0, ["rater_4", "rater_5"]] = ["", "bored"]
    table.to_csv(root / "table.tsv", sep="\t", index=False)
    return root / "table.tsv", {}


def counted(root: Path) -> Built:
    """CSV as pandas writes it, with its index, and counts in columns that are called like the classes."""
    record(root)
    table = frame(path="filename", speaker="actor", label="emotion", split="")
    votes = pd.DataFrame([votes_of(number, label) for number, (_, _, label) in enumerate(UTTERANCES)])
    pd.concat([table, votes], axis=1).to_csv(root / "table.csv")
    return root / "table.csv", {}


def long(root: Path) -> Built:
    """JSON list with a record for each utterance and worker, and no consensus."""
    record(root)
    records = [
        {"file": f"{id_}.wav", "speaker": who, "worker": f"w{worker}", "emotion": word, "gender": GENDERS[who]}
        for number, (id_, who, label) in enumerate(UTTERANCES)
        for worker, word in enumerate(word for word, count in votes_of(number, label).items() for _ in range(count))
    ]
    (root / "table.json").write_text(json.dumps(records))
    return root / "table.json", {}


def parquet(root: Path) -> Built:
    """Parquet with shares of votes, the number of raters, and Timedeltas."""
    record(root, seconds=2.0)
    table = frame(path="audio_path", label="category", split="partition").assign(num_annotators=5)
    table["start"], table["end"] = pd.to_timedelta(0.5, unit="s"), pd.to_timedelta(1.5, unit="s")
    votes = pd.DataFrame([votes_of(number, label) for number, (_, _, label) in enumerate(UTTERANCES)])
    pd.concat([table, votes / 5], axis=1).to_parquet(root / "table.parquet")
    return root / "table.parquet", {}


FORMATS: dict[str, Callable[[Path], Built]] = {
    "own": own,
    "emo_superb": emo_superb,
    "nkululeko": nkululeko,
    "emobox": emobox,
    "excel": excel,
    "unicode_text": unicode_text,
    "rater_columns": rater_columns,
    "counted": counted,
    "long": long,
    "parquet": parquet,
}
"""Builder of each format; the folder must exist."""
