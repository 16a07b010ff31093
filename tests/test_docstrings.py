"""The language of code and documents: examples run, summary lines open with a verb, and the words are plain."""

import ast
import doctest
import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("ambivalent_ser", "analysis", "search_spaces", "ser", "study")
SOURCES = sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


WITH_EXAMPLES = [path for path in SOURCES if ">>>" in path.read_text(encoding="utf-8")]


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=module_name)
def test_the_examples_of_a_module_run(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    failed, run = doctest.testmod(importlib.import_module(module_name(path)), optionflags=doctest.ELLIPSIS)
    assert run
    assert not failed
    assert not list(tmp_path.iterdir()), "an example writes into the current folder"


# Summary lines


class Docstring(NamedTuple):
    """Docstring of a function, and where it is."""

    where: str
    name: str
    text: str

    @property
    def words(self) -> list[str]:
        """Return the words of the summary line."""
        return self.text.split("\n")[0].split()

    def __str__(self) -> str:
        return f"{self.where} {self.name}: {self.text.splitlines()[0]}"


def docstrings(path: Path, kinds: tuple[type, ...]) -> Iterator[Docstring]:
    """Yield the docstrings of functions or classes in a file, nested ones included."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, kinds) and (text := ast.get_docstring(node)):
            yield Docstring(f"{path.relative_to(ROOT)}:{node.lineno}", node.name, text)


FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
NO_VERBS = re.compile(
    "a|about|above|after|all|also|an|and|another|any|anything|as|at|before|below|between|both|but|by|each|either|every|"
    "everything|first|for|from|half|how|if|in|into|it|just|last|least|less|like|many|more|most|much|neither|never|next|"
    "no|none|not|nothing|of|on|once|one|only|or|other|our|out|over|own|same|several|she|so|some|such|than|that|the|"
    "their|them|then|there|they|this|two|under|until|we|what|when|where|whether|which|while|who|whose|why|with|"
    "without|you|your"
)
VERBS_IN_S = {"access", "address", "assess", "bias", "compress", "cross", "discuss", "dismiss", "express", "focus",
              "guess", "miss", "pass", "press", "process", "progress", "suppress"}  # fmt: skip
VERBS_IN_ED_OR_ING = {"bring", "embed", "exceed", "feed", "need", "proceed", "seed", "shed", "spread", "sing", "string"}


def opens_with_a_verb(docstring: Docstring) -> bool:
    """Decide by a summary's first words whether it is imperative; some nouns pass."""
    word = docstring.words[0]
    plain = word.lower().rstrip(",.:;")
    if not word[0].isupper() or not plain.isalpha() or NO_VERBS.fullmatch(plain):
        return False
    if plain.endswith("s") and plain not in VERBS_IN_S:
        return False
    if re.search(r"(ed|ing)$", plain) and plain not in VERBS_IN_ED_OR_ING:
        return False
    return not word.endswith((".", ":", ";")) and docstring.words[1:2] not in (["of"], ["per"])


@pytest.mark.parametrize(
    ("summary", "verb"),
    [
        ("Return the folds of a corpus.", True),
        ("Embed utterances.", True),
        ("Pass what is given.", True),
        ("Returns the folds.", False),
        ("What a search may expect.", False),
        ("Whether it is so.", False),
        ("The folds.", False),
        ("Number of folds.", False),
        ("Computed folds.", False),
        ("``folds`` of a corpus.", False),
    ],
)
def test_verbs_are_distinguished_from_other_openings(summary, verb):
    assert opens_with_a_verb(Docstring("", "", summary)) is verb


def measure() -> str:
    """Return the shares that STYLE measures: docstrings that open with a verb, and with an example."""
    found = [docstring for path in SOURCES for docstring in docstrings(path, FUNCTIONS)]
    verbs = sum(map(opens_with_a_verb, found))
    examples = sum(">>>" in docstring.text for docstring in found)
    return (
        f"{len(found)} function docstrings: {verbs} ({verbs / len(found):.1%}) open with a verb, "
        f"{examples} ({examples / len(found):.1%}) have an example"
    )


def test_summary_lines_of_functions_open_with_a_verb():
    print(measure())
    wrong = [
        docstring for path in SOURCES for docstring in docstrings(path, FUNCTIONS) if not opens_with_a_verb(docstring)
    ]
    assert not wrong, f"{len(wrong)} summary lines:\n" + "\n".join(map(str, wrong))


def test_summary_lines_of_classes_are_noun_phrases_or_commands():
    questions = {"how", "if", "what", "when", "where", "whether", "which", "who", "whose", "why"}
    wrong = [
        docstring
        for path in SOURCES
        for docstring in docstrings(path, (ast.ClassDef,))
        if docstring.words[0].lower() in questions
    ]
    assert not wrong, f"{len(wrong)} summary lines:\n" + "\n".join(map(str, wrong))


# Words

UNWANTED = {
    r"anew|afresh": "again",
    r"likewise": "also, the same",
    r"thereof|therein|wherein|whereof|lest": "of it, in it",
    r"by heart|learnt": "memorised, learned",
    r"mend(s|ed|ing)?": "fix, correct",
    r"(go|goes|going|gone|went) on": "resume, continue",
    r", for (a|each|he|it|its|no|she|such|the|their|there|they|this)": "because",
    r"so many": "n, this many",
    r"told|tells": "report, print",
    r"nothing to chance": "everything",
    r"at the door": "on load",
    r"is no time": "must be positive",
    r"beside": "next to",
    r"need be": "needed",
    r"make do|makes do": "",
    r"at hand": "available",
}
TEXTS = sorted(
    path
    for path in (
        *SOURCES,
        *(ROOT / "analysis").rglob("*.j2"),
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(path for folder in ("benchmarks", "cluster", "tests") for path in (ROOT / folder).rglob("*.*")),
    )
    if path.suffix in {".j2", ".md", ".py", ".sh", ".yaml"}
    and "fixtures" not in path.parts
    and path != Path(__file__).resolve()
)


@pytest.mark.parametrize("pattern", UNWANTED, ids=lambda pattern: pattern[:20])
def test_words_are_plain(pattern):
    whole = re.compile(rf"(?<!\w)(?:{pattern})(?!\w)", re.IGNORECASE)
    found = []
    for path in TEXTS:
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if whole.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()}")
    instead = f"; write instead: {UNWANTED[pattern]}" if UNWANTED[pattern] else ""
    assert not found, f"{len(found)} lines{instead}:\n" + "\n".join(found)
