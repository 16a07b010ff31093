"""Tests of what training imports: a machine for benchmarks needs only torch, torchaudio and NumPy."""

import subprocess
import sys
from pathlib import Path

from ser.features.store import FORMAT

ROOT = Path(__file__).resolve().parents[3]
OTHERS = (
    "filelock", "krippendorff", "pandas", "pooch", "pyarrow", "requests", "rich", "safetensors", "scipy", "sklearn",
    "soundfile", "soxr", "tyro", "yaml",
)  # fmt: skip


def run(code: str, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return done.stdout.strip()


def test_epochs_before_the_last_need_torch_torchaudio_and_numpy_alone(tmp_path: Path) -> None:
    code = f"""
import sys
for name in {OTHERS}: sys.modules[name] = None
import json, numpy as np
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from ser.config import Config
from ser.features import FRONT_ENDS
from ser.training import Subset, Task, train
folder = Path(sys.argv[1])
(folder / "frames.f32").write_bytes(np.random.default_rng(0).normal(-40, 10, (800, 64)).astype("<f4").tobytes())
np.save(folder / "offsets.npy", np.arange(9) * 100)
np.save(folder / "content.npy", np.array(list("abcdefgh")))
np.save(folder / "levels.npy", np.zeros((8, 2), np.float32))
sizes = {{path.name: path.stat().st_size for path in folder.iterdir()}}
meta = {{"format": {FORMAT}, "front_end": asdict(FRONT_ENDS["panns_16k"]), "sizes": sizes}}
(folder / "meta.json").write_text(json.dumps(meta))
def subset(*rows):
    names = tuple(map(str, rows))
    return Subset(np.array(rows), names, np.array(rows) % 2, np.array(rows) % 2, None, names, ("unknown",) * len(rows))
task = Task(("high", "low"), folder, subset(0, 1, 2, 3, 4, 5), subset(6, 7), {{"classes": ["high", "low"]}})
settings = {{"model.width": 1 / 32, "training.epochs": 2, "training.batch_size": 4, "training.crop_seconds": 0.5}}
print([record.epoch for record in islice(train(Config.from_dotted(settings), task, seed=0), 1)])
"""
    assert run(code, str(tmp_path)) == "[1]"


def test_readers_of_results_do_not_import_torch() -> None:
    code = "import sys, ser.training.task, ser.training.utterance_table; print('torch' in sys.modules)"
    assert run(code) == "False"
