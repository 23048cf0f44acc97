"""The tables of values in charts/kappawatt/README.md, from the comments in values.yaml: `[--check]`."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import click

CHART = Path(__file__).parents[1] / "charts" / "kappawatt"
PAGE = CHART / "README.md"
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


@click.command(help=__doc__)
@click.option("--check", is_flag=True, help="Write nothing; exit 1 if the page is stale.")
def main(check: bool) -> None:
    made = page()
    if check and made != PAGE.read_text():
        click.echo(f"{PAGE.name} of the chart is stale", err=True)
        sys.exit(1)
    PAGE.write_text(made)


if __name__ == "__main__":
    main()
