"""A study knows its spaces by content: a changed one is an error that names the differences, or a widening."""

import json
import sys

import pytest
import ray

from ser.utils.command_line import run_command
from ser.utils.errors import UserError
from study.commands import session
from study.options import SPACES, StudyOptions
from study.run import main
from study.setup.prepare import load_spaces
from study.setup.space_content import COMPUTED, differences, is_widened
from study.setup.spaces import load_space

TEXT = """'''Mine, 2026.'''
from ray import tune
SPACE = {
    "loss.name": "elr",
    "loss.strength": tune.loguniform(1, 9),
    "loss.momentum": tune.quniform(0.5, 0.9, 0.1),
    "training.batch_size": tune.choice([8, 16]),
}
POINTS = [{"loss.strength": 3.0, "loss.momentum": 0.7, "training.batch_size": 8}]
"""
CONDITIONAL = """'''Mine, 2026.'''
POINTS = []
def SPACE(trial):
    if trial.suggest_categorical("loss.name", ["elr", "focal"]) == "elr":
        return {"loss.strength": trial.suggest_float("loss.strength", 1, 9), "loss.momentum": 0.5}
    return {"loss.gamma": 2.0}
"""


def space(folder, text=TEXT, fixed=None, name="mine"):
    (folder / f"{name}.py").write_text(text)
    return load_space(str(folder / f"{name}.py"), fixed or {})


def edited(text, *changes):
    for old, new in changes:
        assert old in text
        text = text.replace(old, new)
    return text


def test_the_content_is_that_of_the_file_whatever_is_fixed_or_written_around_it(tmp_path):
    first = space(tmp_path)
    assert space(tmp_path, fixed={"loss.name": "focal", "loss.strength": 2.0}).digest == first.digest
    assert space(tmp_path, TEXT + "# a remark\n", name="other").digest == first.digest
    assert json.loads(json.dumps(first.content)) == first.content
    assert first.emptied().record == first.record
    assert first.content["constants"] == {"loss.name": ["elr"]}
    assert sorted(first.content["domains"]) == ["loss.momentum", "loss.strength", "training.batch_size"]


def test_the_content_of_a_conditional_space_is_what_its_samples_show(tmp_path):
    first = space(tmp_path, CONDITIONAL)
    assert first.content["constants"] == {"loss.momentum": [0.5], "loss.gamma": [2.0]}
    assert sorted(first.content["domains"]) == ["loss.name", "loss.strength"]
    later = space(tmp_path, edited(CONDITIONAL, ("9", "8"), ("2.0", "3.0")))
    assert differences(first.content, later.content) == ["loss.gamma: = 2 → = 3", "loss.strength: 1 to 9 → 1 to 8"]
    assert first.digest != later.digest


def test_values_that_are_computed_from_others_are_not_compared_one_by_one(tmp_path):
    text = "'''Mine, 2026.'''\nPOINTS = []\ndef SPACE(trial):\n"
    text += "    return {'optimizer.weight_decay': 2 * trial.suggest_float('optimizer.lr', 0.1, 0.2)}\n"
    assert space(tmp_path, text).content["constants"] == {"optimizer.weight_decay": [COMPUTED]}


@pytest.mark.parametrize(
    ("changes", "said", "wider"),
    [
        ([], [], True),
        ([('"elr"', '"focal"')], ["loss.name: = 'elr' → = 'focal'"], False),
        ([("(1, 9)", "(0.5, 9)")], ["loss.strength: 1 to 9, logarithmic → 0.5 to 9, logarithmic"], True),
        ([("(1, 9)", "(2, 20)")], ["loss.strength: 1 to 9, logarithmic → 2 to 20, logarithmic"], False),
        ([("loguniform(1, 9)", "uniform(1, 9)")], ["loss.strength: 1 to 9, logarithmic → 1 to 9"], False),
        (
            [("loguniform(1, 9)", "randint(1, 99)"), ("3.0", "3")],
            ["loss.strength: 1 to 9, logarithmic → 1 to 98"],
            False,
        ),
        (
            [("0.5, 0.9, 0.1", "0.3, 0.9, 0.1")],
            ["loss.momentum: 0.5 to 0.9 in steps of 0.1 → 0.3 to 0.9 in steps of 0.1"],
            True,
        ),
        (
            [("0.5, 0.9, 0.1", "0.4, 1.0, 0.2"), ("0.7", "0.8")],
            [
                "loss.momentum: 0.5 to 0.9 in steps of 0.1 → 0.4 to 1 in steps of 0.2",
                "point 1: loss.strength 3, loss.momentum 0.7, training.batch_size 8 → "
                "loss.strength 3, loss.momentum 0.8, training.batch_size 8",
            ],
            False,
        ),
        (
            [("[8, 16]", "[8, 16, 32]")],
            ["training.batch_size: one of 8, 16 → one of 8, 16, 32"],
            False,  # Optuna does not take it
        ),
        (
            [('"loss.momentum": tune.quniform(0.5, 0.9, 0.1),', ""), (' "loss.momentum": 0.7,', "")],
            [
                "loss.momentum: 0.5 to 0.9 in steps of 0.1 → not there",
                "point 1: loss.strength 3, loss.momentum 0.7, training.batch_size 8 → "
                "loss.strength 3, training.batch_size 8",
            ],
            False,
        ),
        ([("(1, 9)", "(1.0, 9.0)"), ("3.0", "3")], [], True),
        (
            [("[8, 16]", "['8', '16']"), ('size": 8', "size\": '8'")],
            [
                "point 1: loss.strength 3, loss.momentum 0.7, training.batch_size 8 → "
                "loss.strength 3, loss.momentum 0.7, training.batch_size '8'",
                "training.batch_size: one of 8, 16 → one of '8', '16'",
            ],
            False,
        ),
        ([("(1, 9)", "(1, 9.0000001)")], ["loss.strength: 1 to 9, logarithmic → 1 to 9.0000001, logarithmic"], True),
    ],
)
def test_every_difference_is_named_and_only_wider_ranges_are_a_widening(tmp_path, changes, said, wider):
    old, new = space(tmp_path).content, space(tmp_path, edited(TEXT, *changes)).content
    assert differences(old, new) == said
    assert is_widened(old, new) == wider
    assert differences(new, new) == []


def study_of(folder, path, **options):
    return StudyOptions(name="a", storage_path=folder, space=(str(path),), **options)


def begun(folder):
    """Begin a study of the space as it is in its file."""
    options = study_of(folder, folder / "mine.py")
    options.folder.mkdir(parents=True)
    (found,) = load_spaces(options)
    options.write("digest", (), {"mine": found.record})
    return found


def test_a_study_resumes_with_an_unchanged_space_alone(tmp_path):
    first = space(tmp_path)
    begun(tmp_path)
    options = study_of(tmp_path, tmp_path / "mine.py", resume=True)
    assert load_spaces(options)[0].digest == first.digest
    space(tmp_path, edited(TEXT, ('"elr"', '"focal"'), ("(1, 9)", "(1, 8)")))
    with pytest.raises(UserError) as caught:
        load_spaces(options)
    assert str(caught.value).splitlines() == [
        "space 'mine' has changed since study 'a' began:",
        "  loss.name: = 'elr' → = 'focal'",
        "  loss.strength: 1 to 9, logarithmic → 1 to 8, logarithmic",
        f"Restore '{tmp_path / 'mine.py'}', or start a new study under another --name.",
    ]


def test_a_study_is_widened_on_purpose_and_keeps_the_digest_that_it_began_with(tmp_path):
    space(tmp_path)
    first = begun(tmp_path)
    wide = space(tmp_path, edited(TEXT, ("(1, 9)", "(0.5, 20)")))
    with pytest.raises(UserError, match="--widen"):
        load_spaces(study_of(tmp_path, tmp_path / "mine.py", resume=True))
    options = study_of(tmp_path, tmp_path / "mine.py", resume=True, widen=True)
    (found,) = load_spaces(options)
    assert found.domains["loss.strength"].high == 20
    assert found.digest == first.digest != wide.digest
    options.write("digest", (), {"mine": found.record})
    # From then on the wider file is that of the study.
    (again,) = load_spaces(study_of(tmp_path, tmp_path / "mine.py", resume=True))
    assert again.record == {"digest": first.digest, "content": wide.content}
    space(tmp_path)
    with pytest.raises(UserError, match=r"0\.5 to 20, logarithmic → 1 to 9, logarithmic"):
        load_spaces(study_of(tmp_path, tmp_path / "mine.py", resume=True, widen=True))


def test_a_study_of_an_earlier_version_has_its_content_recorded_when_it_resumes(tmp_path):
    space(tmp_path)
    options = study_of(tmp_path, tmp_path / "mine.py", resume=True)
    options.folder.mkdir(parents=True)
    options.write("digest")
    record = json.loads((options.folder / "study.json").read_text())
    assert record.pop(SPACES) == {}
    (options.folder / "study.json").write_text(json.dumps(record))
    (found,) = load_spaces(options)
    assert found.record == space(tmp_path).record


def test_a_confirmation_uses_constants_and_points_alone(tmp_path):
    space(tmp_path)
    begun(tmp_path)
    options = study_of(tmp_path, tmp_path / "mine.py", resume=True)
    space(tmp_path, edited(TEXT, ("(1, 9)", "(2, 8)")))
    assert load_spaces(options, ranges=False)
    space(tmp_path, edited(TEXT, ("3.0", "4.0")))
    with pytest.raises(UserError, match=r"(?s)has changed.*point 1: .*strength 3.*strength 4") as caught:
        load_spaces(options, ranges=False)
    assert "--widen" not in str(caught.value)


def test_a_space_of_the_project_is_restored_with_its_version(tmp_path):
    found = load_space("elr", {})
    record = {"digest": "0", "content": {**found.content, "points": []}}
    with pytest.raises(UserError, match=r"(?s)point 1: not there → .*Use the version of this project"):
        found.began_as(record, "study 'a' began", "start a new one")


def test_widening_belongs_to_a_resumed_study():
    with pytest.raises(UserError, match=r"--widen .*--resume"):
        StudyOptions(widen=True)


def test_the_command_says_what_has_changed_before_anything_starts(tmp_path, monkeypatch, capsys):
    path = tmp_path / "mine.py"
    space(tmp_path)
    begun(tmp_path)
    space(tmp_path, edited(TEXT, ("[8, 16]", "[8, 16, 32]")))
    monkeypatch.setattr(session, "start_ray", lambda *_: pytest.fail("a study has begun"))
    arguments = ["--storage-path", str(tmp_path), "--tracking-uri", f"sqlite:///{tmp_path}/m.db", "--name", "a"]
    for more in ([], ["--plan"], ["--widen"]):
        monkeypatch.setattr(sys, "argv", ["run.py", "--resume", *arguments, *more])
        assert run_command(main) == 2
        assert not ray.is_initialized()
        message = " ".join(capsys.readouterr().err.split())
        assert "training.batch_size: one of 8, 16 → one of 8, 16, 32" in message
        assert f"Restore '{path}', or start a new study under another --name." in message
        assert ("--widen is for ranges that include the former ones" in message) == (more == ["--widen"])
