"""What in the chart follows from the rest of it: `[--check]`.

The tables of values in its README.md, from the comments in values.yaml; and the services in values.schema.json, from
the aliases in Chart.yaml.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import yaml

CHART = Path(__file__).parents[1] / "charts" / "kappawatt"
PAGE = CHART / "README.md"
SCHEMA = CHART / "values.schema.json"
SERVICE = {"type": "object", "description": "See charts/service/values.schema.json."}
TABLES = {
    "shared": (CHART / "values.yaml", ("global", "kafka", "grafana", "tests")),
    "service": (CHART / "charts/service/values.yaml", None),
}
KEY = re.compile(r"(?P<indent> *)(?P<key>[\w-]+):(?: (?P<value>.*))?")


def rows(path: Path, sections: tuple[str, ...] | None) -> Iterator[tuple[str, str, str]]:
    """Yield key, default and meaning (the comment above it) of every value that holds no others."""
    above: list[tuple[int, str]] = []
    comment: list[str] = []
    lines = path.read_text().splitlines()
    for line in lines:
        text = line.strip()
        found = KEY.fullmatch(line)
        if text.startswith("#"):
            comment.append(text[1:].strip())
        elif found is None:
            comment = []
        else:
            indent = len(found["indent"])
            above = [*(each for each in above if each[0] < indent), (indent, found["key"])]
            name = ".".join(key for _, key in above)
            if sections is None or above[0][1] in sections:
                if found["value"] is not None:
                    yield name, found["value"], " ".join(comment)
                elif comment:
                    yield f"{name}.*", "", " ".join(comment)
            comment = []


def page() -> str:
    """Return the page with its tables made anew between their marks."""
    text = PAGE.read_text()
    for name, (path, sections) in TABLES.items():
        table = "\n".join(
            f"| `{key}` | {f'`{value}`' if value else ''} | {said} |" for key, value, said in rows(path, sections)
        )
        head = "| value | default | meaning |\n| --- | --- | --- |"
        made = f"<!-- {name}: made by `make render` -->\n{head}\n{table}\n<!-- end -->"
        text, count = re.subn(rf"<!-- {name}: .*?<!-- end -->", made.replace("\\", r"\\"), text, flags=re.DOTALL)
        assert count == 1, name
    return text


def schema() -> str:
    """Return the umbrella's schema with an entry for each service that it includes, and for no other."""
    found = json.loads(SCHEMA.read_text())
    services = [each["alias"] for each in yaml.safe_load((CHART / "Chart.yaml").read_text())["dependencies"]]
    shared = {name: each for name, each in found["properties"].items() if each != SERVICE}
    found["properties"] = shared | dict.fromkeys(services, SERVICE)
    return json.dumps(found, indent=2) + "\n"


def stale() -> list[Path]:
    """Return the files that are not what they are to be."""
    return [path for path, made in ((PAGE, page()), (SCHEMA, schema())) if path.read_text() != made]


@click.command(help=(__doc__ or "").split("\n\n")[0])
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if a file is stale.")
def main(check: bool) -> None:
    if check:
        old = stale()
        for path in old:
            click.echo(f"charts/kappawatt/{path.name} is stale", err=True)
        sys.exit(1 if old else 0)
    PAGE.write_text(page())
    SCHEMA.write_text(schema())


if __name__ == "__main__":
    main()
