"""Tests of checkpoints: complete, or recognised as torn."""

import errno

import pytest
import torch

from study.trial.checkpoints import DIGEST, checkpoints, load_newest, newest_checkpoint, save_checkpoint


def state(epoch):
    return {"epoch": epoch, "model": {"w": torch.full((50,), float(epoch))}}


def test_the_newest_is_loaded_and_the_oldest_are_removed(tmp_path):
    for epoch in (1, 2, 3):
        save_checkpoint(state(epoch), tmp_path)
    assert [path.name.partition("-")[0] for path in checkpoints(tmp_path)] == ["epoch_0003", "epoch_0002"]
    loaded, torn = load_newest(tmp_path)
    assert loaded["epoch"] == 3
    assert torn == []
    assert torch.equal(loaded["model"]["w"], torch.full((50,), 3.0))


@pytest.mark.parametrize("damage", ["truncated", "empty", "zeros", "flipped"])
def test_a_torn_file_is_recognised_and_the_one_before_it_is_used(tmp_path, damage):
    save_checkpoint(state(1), tmp_path)
    path = save_checkpoint(state(2), tmp_path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(
        {"truncated": path.read_bytes()[:-7], "empty": b"", "zeros": bytes(len(content)), "flipped": content}[damage]
    )
    loaded, torn = load_newest(tmp_path)
    assert loaded["epoch"] == 1
    assert torn == [path]


def test_each_attempt_removes_its_own_files_and_earlier_ones_alone(tmp_path):
    """Let a process that was taken for dead continue: its epochs neither hide nor remove those of its successor."""
    first = save_checkpoint(state(1), tmp_path, attempt=1)
    second = save_checkpoint(state(2), tmp_path, attempt=2)
    late = save_checkpoint(state(3), tmp_path, attempt=1, keep=1)
    assert second.exists()
    assert not first.exists()
    assert newest_checkpoint(tmp_path) == (second, [])
    save_checkpoint(state(3), tmp_path, attempt=2)
    assert not late.exists()


def test_checkpoints_of_earlier_versions_are_read(tmp_path):
    path = save_checkpoint(state(4), tmp_path)
    small = path.with_suffix(DIGEST)
    old = path.rename(path.with_name(f"epoch_0004-{small.read_text()}.pt"))
    small.unlink()
    assert load_newest(tmp_path)[0]["epoch"] == 4
    assert newest_checkpoint(tmp_path) == (old, [])


def test_a_file_is_written_under_its_own_name_alone(tmp_path, monkeypatch):
    """Make renames fail: a place where nodes meet need not have them."""
    monkeypatch.setattr("pathlib.Path.replace", lambda *_: pytest.fail("renamed"))
    monkeypatch.setattr("pathlib.Path.rename", lambda *_: pytest.fail("renamed"))
    assert save_checkpoint(state(1), tmp_path).exists()


def test_a_file_whose_digest_is_not_there_yet_is_torn(tmp_path):
    """Kill the process between the two files."""
    first, second = (save_checkpoint(state(epoch), tmp_path) for epoch in (1, 2))
    second.with_suffix(DIGEST).unlink()
    assert newest_checkpoint(tmp_path) == (first, [second])


def test_no_checkpoint_is_none(tmp_path):
    (tmp_path / ".writing-abc").write_bytes(b"half")
    assert load_newest(tmp_path) == (None, [])
    assert newest_checkpoint(tmp_path) == (None, [])


@pytest.mark.parametrize("where", ["torch.save", "study.trial.checkpoints.os.fsync"])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, where):
    save_checkpoint(state(1), tmp_path)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(where, full)
    with pytest.raises(OSError, match="No space left"):
        save_checkpoint(state(2), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["epoch_0001-0.blake2b", "epoch_0001-0.pt"]


def test_code_in_a_checkpoint_is_not_run(tmp_path):
    class Evil:
        def __reduce__(self):
            return (tmp_path.joinpath("ran").write_text, ("x",))

    save_checkpoint({"epoch": 1, "model": Evil()}, tmp_path)
    loaded, torn = load_newest(tmp_path)
    assert loaded is None
    assert len(torn) == 1
    assert not (tmp_path / "ran").exists()
