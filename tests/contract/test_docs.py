"""Pages made from code are not stale, and what the README promises is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kappawatt.cli.main import COMMANDS
from kappawatt.serving.service import service_names
from tools.render_docs import PAGES

ROOT = Path(__file__).parents[2]
WRITTEN = [
    *ROOT.glob("*.md"),
    *ROOT.glob("docs/**/*.md"),
    *ROOT.glob("services/*/README.md"),
    ROOT / "bench/README.md",
]


@pytest.mark.parametrize("name", PAGES)
def test_a_page_made_from_code_is_up_to_date(name: str) -> None:
    assert (ROOT / "docs" / name).read_text() == PAGES[name](), "run `make docs`"


def test_the_readme_names_every_service_and_every_command() -> None:
    readme = (ROOT / "README.md").read_text()

    for name in (*service_names(), *COMMANDS):
        assert f"`{name}" in readme or f"kappawatt {name}" in readme, name


def test_every_link_between_pages_leads_somewhere() -> None:
    for page in WRITTEN:
        for target in re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", page.read_text()):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.relative_to(ROOT)} links to {target}"


def test_every_make_target_the_readme_names_exists() -> None:
    targets = set(re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))

    for name in re.findall(r"make ([a-z][a-z0-9-]+)", (ROOT / "README.md").read_text()):
        assert name in targets, name


def test_every_path_a_page_names_is_there() -> None:
    path = re.compile(r"(?<![\w/.-])((?:src|tests|services|tools|docker|bench|examples|serverless)/[\w./-]*[\w/])")
    elsewhere = {"docker/config.json"}  # of a user's home
    for page in WRITTEN:
        for name in path.findall(page.read_text()):
            assert name in elsewhere or (ROOT / name).exists(), f"{page.relative_to(ROOT)} names {name}"
