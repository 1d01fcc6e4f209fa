"""The pages about the core say what is so: their examples run, their links lead somewhere, their names exist."""

import importlib
import re
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1]
DOCS = PACKAGE.parent / "docs"
PAGES = [PACKAGE / "README.md", DOCS / "conventions.md", DOCS / "training.md", DOCS / "clusters.md"]


def text_of(page):
    return page.read_text(encoding="utf-8")


def examples():
    for page in PAGES:
        for match in re.finditer(r"^```python\n(.*?)^```", text_of(page), re.DOTALL | re.MULTILINE):
            line = text_of(page)[: match.start()].count("\n") + 2
            yield pytest.param(match[1], id=f"{page.name}:{line}")


def anchors(page):
    headings = re.findall(r"^#+ (.*)$", text_of(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("code", list(examples()))
def test_an_example_runs_as_it_stands(code, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "example", "exec"), {"__name__": "example"})


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_of_a_page_leads_to_a_file_and_heading(page):
    for target in re.findall(r"(?<!!)\[[^\]]*\]\(([^)]+)\)", text_of(page)):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target}"
        assert not anchor or anchor in anchors(file), f"{page.name}: {target}"


def test_every_module_in_the_table_can_be_imported():
    modules = re.findall(r"^\| `(posecore\.\w+)` \|", text_of(PACKAGE / "README.md"), re.MULTILINE)
    assert len(modules) >= 10
    for module in modules:
        importlib.import_module(module)


def test_every_name_in_the_changelog_exists():
    text = re.sub(r"\n  ", " ", text_of(PACKAGE / "CHANGELOG.md"))
    lists = re.findall(r"`(posecore\.\w+)`: ([^\n]*?)(?:\.\s|\.$|;)", text, re.MULTILINE)
    assert len(lists) >= 10
    for module, names in lists:
        for name in re.findall(r"`(\w+)`", names):
            found = importlib.import_module(module)
            if not hasattr(found, name):
                importlib.import_module(f"{module}.{name}")
