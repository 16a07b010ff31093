"""Names resolve to our entries or to the user's own import paths; every mistake gets a readable message."""

import sys
from pathlib import Path

import pytest

from ser.utils.errors import UserError
from ser.utils.registry import resolve


class Shape:
    pass


class Square(Shape):
    pass


KNOWN: dict[str, type] = {"square": Square}


@pytest.fixture
def own_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A user's package in the current folder, which is not on ``sys.path``; returns its name."""
    name = f"package_of_{tmp_path.name}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / name / "shapes.py").write_text(
        "from tests.ser.utils.test_registry import Shape\n"
        "class Circle(Shape):\n    pass\n"
        "def draw():\n    from . import later\n    return later.VALUE\n"
        "NUMBER = 3\n"
    )
    (tmp_path / name / "later.py").write_text("VALUE = 7\n")
    (tmp_path / name / "broken.py").write_text("raise RuntimeError('no licence')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry not in ("", str(tmp_path))])
    return name


def test_a_known_name_is_the_entry() -> None:
    assert resolve("shape", "square", KNOWN, base=Shape) is Square


def test_an_import_path_is_looked_up_in_the_current_folder_too(own_package: str) -> None:
    circle = resolve("shape", f"{own_package}.shapes.Circle", KNOWN, base=Shape)
    assert circle.__name__ == "Circle"
    assert issubclass(circle, Shape)


def test_the_imported_code_may_import_more_of_its_package_later(own_package: str) -> None:
    assert resolve("function", f"{own_package}.shapes.draw", {"length": len})() == 7  # type: ignore[call-arg]


def test_a_known_name_with_dots_wins_over_an_import(own_package: str) -> None:
    name = f"{own_package}.shapes.Circle"
    assert resolve("shape", name, {name: Square}) is Square


def test_the_current_folder_hides_none_of_our_packages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "ser" / "utils").mkdir(parents=True)
    (tmp_path / "ser" / "utils" / "hashing.py").write_text("derived_seed = None\n")
    (tmp_path / "statistics.py").write_text("median = None\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    for module in ("ser.utils.hashing", "statistics"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert resolve("function", "ser.utils.hashing.derived_seed", {"length": len}) is not None
    assert resolve("function", "statistics.median", {"length": len})([1, 2, 3]) == 2  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["sqare", ".square", "square.", "a..b", "0.5"])
def test_what_is_no_import_path_is_an_unknown_name(name: str) -> None:
    with pytest.raises(UserError, match=r"unknown shape .* Known: square\."):
        resolve("shape", name, KNOWN)


def test_a_module_that_is_not_found_is_named_with_what_to_do() -> None:
    with pytest.raises(UserError, match=r"'no_such_package'.*install it, add its folder to PYTHONPATH"):
        resolve("shape", "no_such_package.Circle", KNOWN)


def test_a_module_that_fails_on_import_is_named_with_its_error(own_package: str) -> None:
    with pytest.raises(UserError, match=rf"'{own_package}.broken' cannot be imported \(RuntimeError: no licence\)"):
        resolve("shape", f"{own_package}.broken.Circle", KNOWN)


def test_a_missing_attribute_names_the_nearest(own_package: str) -> None:
    with pytest.raises(UserError, match=r"has no 'Cirle'\. Did you mean 'Circle'"):
        resolve("shape", f"{own_package}.shapes.Cirle", KNOWN)


@pytest.mark.parametrize("attribute", ["draw", "NUMBER"])
def test_what_is_no_subclass_is_refused(own_package: str, attribute: str) -> None:
    with pytest.raises(UserError, match=r"must be a subclass of tests\.ser\.utils\.test_registry\.Shape"):
        resolve("shape", f"{own_package}.shapes.{attribute}", KNOWN, base=Shape)


def test_what_is_not_callable_is_refused_without_a_base(own_package: str) -> None:
    with pytest.raises(UserError, match="must be a class or a function, got 3"):
        resolve("shape", f"{own_package}.shapes.NUMBER", KNOWN)
