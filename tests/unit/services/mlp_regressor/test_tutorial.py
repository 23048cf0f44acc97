"""docs/adding-a-service.md shows this service as it is, and what it says of places is true."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import yaml

from kappawatt.serving.app import create_app
from kappawatt.serving.service import Service
from kappawatt.settings import Settings

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs/adding-a-service.md").read_text()
FOLDER = ROOT / "services/mlp_regressor"
NAME = re.compile(r"mlp[-_]regressor")
# What a person writes; everything else that names the service is made from these, or tests and explains it.
PLACES = {
    "services/mlp_regressor": "services/mlp_regressor/",
    "pyproject.toml": "pyproject.toml",
    "charts/kappawatt": "charts/kappawatt/",
    "docker/compose.yaml": "docker/compose.yaml",
    "README.md": "README.md",
}
MADE = ("marathon/", "k8s/", "docs/settings.md")  # by `make render` and `make docs`


def test_every_file_stands_in_the_tutorial_as_it_is() -> None:
    found = re.findall(r"^`services/mlp_regressor/([\w.]+)`\n\n(`{3,4})\w+\n(.*?)^\2\n", PAGE, re.MULTILINE | re.DOTALL)
    blocks = {name: text for name, _, text in found}

    assert blocks.keys() == {"README.md", "features.py", "model.py", "train.py", "service.py"}
    for name, text in blocks.items():
        assert text == (FOLDER / name).read_text(), name


def test_every_file_of_the_stream_of_its_own_stands_there_as_it_is() -> None:
    found = re.findall(r"^`examples/wind_power/([\w./]+)`\n\n(`{3,4})\w+\n(.*?)^\2\n", PAGE, re.MULTILINE | re.DOTALL)
    shown = {name: text for name, _, text in found}
    folder = ROOT / "examples/wind_power"
    files = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.suffix in (".py", ".toml", ".md")}

    assert shown.keys() == files - {"wind_power/__init__.py"}
    for name, text in shown.items():
        assert text == (folder / name).read_text(), name


def test_the_route_it_shows_is_published_with_the_right_it_names() -> None:
    _, _, section = PAGE.partition("\n## Who may ask\n")
    code = re.findall(r"```python\n(.*?)```", section, re.DOTALL)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    app = create_app(Service(name="any", summary="Any.", port=1, routes=names["add_routes"]), Settings())

    described = app.test_client().get("/openapi.json").get_json()["paths"]["/explain"]["post"]

    assert (described["x-kappawatt-access"], described["x-kappawatt-repeatable"]) == ("read", True)


def test_the_extras_it_shows_are_those_of_the_project() -> None:
    shown, *_ = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]

    for name, packages in tomllib.loads(shown).items():
        assert extras.get(name) == packages, name


def test_the_chart_lines_it_shows_are_those_of_the_chart() -> None:
    alias, values = (yaml.safe_load(block) for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL))
    chart = yaml.safe_load((ROOT / "charts/kappawatt/Chart.yaml").read_text())

    assert alias[0] in chart["dependencies"]
    for name, own in values.items():
        assert yaml.safe_load((ROOT / "charts/kappawatt/values.yaml").read_text()).get(name) == own


def test_at_most_five_places_are_touched_by_hand() -> None:
    code = [
        path
        for folder in ("src", "services", "charts", "marathon", "docker", "tools")
        for path in (ROOT / folder).rglob("*")
    ]
    named = set()
    for path in (*code, ROOT / "pyproject.toml", ROOT / "README.md", ROOT / "Makefile"):
        relative = str(path.relative_to(ROOT))
        if not path.is_file() or "__pycache__" in relative or path.suffix in (".npz", ".ubj", ".pyc"):
            continue
        if NAME.search(relative) or NAME.search(path.read_text(errors="replace")):
            named.add(relative)

    by_hand = {name for name in named if name == "marathon/values.yaml" or not name.startswith(MADE)}
    assert len(PLACES) == 5
    assert not [name for name in by_hand if not name.startswith(tuple(PLACES.values()))]
    for place in PLACES:
        assert f"`{place}" in PAGE
