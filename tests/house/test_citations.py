"""Every "mathematics N" in the code and the documents names a section of docs/mathematics.md."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ("hrmas_sparse", "data_prep", "runs", "tests", "docs")
SECTION = re.compile(r"^##+ (\d+[a-z]?)\. ", re.MULTILINE)
NUMBER = r"\d+[a-z]?"
CITATION = re.compile(rf"\bmathematics ({NUMBER}(?:(?:-|, | and ){NUMBER})*)")


def sections():
    """Numbers of the sections, such as "5" and "12a"."""
    return set(SECTION.findall((ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")))


def cited(text):
    """Section numbers that a text cites; a range counts with all between its ends."""
    found = []
    for numbers in CITATION.findall(re.sub(r"\s+", " ", text)):
        for part in re.split(", | and ", numbers):
            first, _, last = part.partition("-")
            found += [str(n) for n in range(int(first), int(last) + 1)] if last else [part]
    return found


def citations():
    """(file, section) of every citation but those in the document itself and here."""
    own = {ROOT / "docs" / "mathematics.md", Path(__file__)}
    paths = [*ROOT.glob("*.md"), *(path for folder in FOLDERS for end in ("py", "md", "toml")
                                   for path in (ROOT / folder).rglob(f"*.{end}") if "out" not in path.parts)]
    return [(path.relative_to(ROOT).as_posix(), number) for path in paths if path not in own
            for number in cited(path.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("text, numbers", [
    ("(mathematics 5)", ["5"]), ("mathematics 5, 6 say", ["5", "6"]), ("mathematics 8 and 9", ["8", "9"]),
    ("mathematics 1, 4-6.", ["1", "4", "5", "6"]), ("mathematics 12a", ["12a"]), ("mathematics\n    7", ["7"]),
    ("mathematics of 5 neurons", []), ("docs/mathematics.md", [])])
def test_what_a_citation_is(text, numbers):
    assert cited(text) == numbers


def test_the_sections_are_numbered_in_order():
    text = (ROOT / "docs" / "mathematics.md").read_text(encoding="utf-8")
    whole = [int(number) for number in SECTION.findall(text) if number.isdigit()]
    assert whole == list(range(1, len(whole) + 1)) and len(whole) >= 14


def test_every_citation_names_a_section():
    found, there = citations(), sections()
    assert len({path for path, _ in found}) > 20, "the citations of the code were not found"
    assert not [(path, number) for path, number in found if number not in there]
