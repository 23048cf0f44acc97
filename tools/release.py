"""One version of everything: where it stands, whether all places agree, and what a release is made of.

`python -m tools.release build | check | set | notes`; pyproject.toml has the version, every other place repeats it.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from tools.images import REQUIREMENTS, ROOT, engine, epoch, image_names, project, run, tag_of

__all__ = ["PARTS", "PLACES", "Place", "disagreements", "main", "notes_of", "set_version"]

NUMBER = r"(\d+\.\d+\.\d+)"  # what PEP 440, SemVer (charts) and image tags all allow, written the same
CHART = ROOT / "charts" / "kappawatt"
CHANGELOG = ROOT / "CHANGELOG.md"
IMAGE = rf"\bkappawatt/[\w-]+:{NUMBER}"
COPY_BYTES = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Place:
    """Files that repeat the version, and how it stands in them.

    Parameters
    ----------
    files : str
        Pattern below the checkout.
    patterns : tuple of str
        Regular expressions of one line; the version is their first group. Each must be found in one of the files.
    left_out : str
        Start of paths with versions of something else.
    """

    files: str
    patterns: tuple[str, ...]
    left_out: str = "no such path"

    def paths(self, root: Path) -> Iterator[Path]:
        """Yield the files."""
        for path in sorted(root.glob(self.files)):
            if not path.relative_to(root).as_posix().startswith(self.left_out):
                yield path


PLACES = (
    Place("charts/kappawatt/Chart.yaml", (f"^version: {NUMBER}$", f"^appVersion: {NUMBER}$")),
    Place("charts/kappawatt/Chart.yaml", (rf"\bname: service, version: {NUMBER}",)),
    Place("charts/kappawatt/charts/service/Chart.yaml", (f"^version: {NUMBER}$", f"^appVersion: {NUMBER}$")),
    Place("docker/compose.yaml", (f"KAPPAWATT_TAG:-{NUMBER}",)),
    Place("docker/.env", (f"KAPPAWATT_TAG={NUMBER}$",)),
    Place("k8s/**/*.yaml", (IMAGE,)),
    Place("k8s/**/*.yaml", (f"app.kubernetes.io/version: {NUMBER}$",), left_out="k8s/kafka/"),
    Place("k8s/README.md", (rf"newTag: {NUMBER}",)),
    Place("marathon/**/*.json", (IMAGE,)),
    Place(
        "docs/*.md",
        (IMAGE, rf"`NAME:{NUMBER}", rf"'s/[\w-]+:{NUMBER}/", rf"\bname: service, version: {NUMBER}"),
    ),
)


def found(root: Path = ROOT) -> Iterator[tuple[str, str]]:
    """Yield (path:line, version) wherever the version is repeated; a place without one as (files, pattern)."""
    for place in PLACES:
        unseen = dict.fromkeys(place.patterns)
        for path in place.paths(root):
            for number, line in enumerate(path.read_text().splitlines(), start=1):
                for pattern in place.patterns:
                    for match in re.finditer(pattern, line):
                        unseen.pop(pattern, None)
                        yield f"{path.relative_to(root)}:{number}", match[1]
        for pattern in unseen:
            yield place.files, f"nothing like {pattern}"


def disagreements(version: str, root: Path = ROOT) -> list[str]:
    """Return each place whose version is another one, as a sentence."""
    return [f"{where}: got {got}, allowed {version}" for where, got in found(root) if got != version]


def set_version(version: str, root: Path = ROOT) -> list[str]:
    """Write the version into pyproject.toml and wherever it is repeated, and return the paths of changed files."""
    places = (Place("pyproject.toml", (f'^version = "{NUMBER}"$',)), *PLACES)
    changed = []
    for place in places:
        for path in place.paths(root):
            old = new = path.read_text()
            for pattern in place.patterns:
                new = re.sub(pattern, lambda match: match[0].replace(match[1], version, 1), new, flags=re.MULTILINE)
            if new != old:
                path.write_text(new)
                changed.append(str(path.relative_to(root)))
    return list(dict.fromkeys(changed))


def notes_of(version: str, changelog: str) -> str:
    """Return what CHANGELOG.md says of a version; empty if it does not know it."""
    match = re.search(rf"^## \[{re.escape(version)}\][^\n]*\n(.*?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    return match[1].strip() + "\n" if match else ""


def _build_python(folder: Path, version: str) -> None:
    """Wheel and source, the wheel from the source, by the locked build backend."""
    lock = REQUIREMENTS / "build.txt"
    options = ["--quiet", "--build-constraints", str(lock), "--require-hashes", "--out-dir", str(folder)]
    run(sys.executable, "-m", "uv", "build", *options, env=os.environ | {"SOURCE_DATE_EPOCH": str(epoch())})
    (folder / ".gitignore").unlink(missing_ok=True)


def _build_images(folder: Path, version: str) -> None:
    """All images, saved in one file so that what they share is in it once."""
    run(sys.executable, "-m", "tools.images", "build")
    tags = [tag_of(name) for name in image_names()]
    path = folder / f"kappawatt-images-{version}.tar.gz"
    with subprocess.Popen([engine(), "save", *tags], stdout=subprocess.PIPE) as saving:  # noqa: S603
        assert saving.stdout is not None
        with path.open("wb") as file, gzip.GzipFile("", "wb", 6, file, mtime=0) as packed:
            shutil.copyfileobj(saving.stdout, packed, COPY_BYTES)
    if saving.returncode:
        sys.exit(f"{engine()} save ended with {saving.returncode}")


def _build_sbom(folder: Path, version: str) -> None:
    """The bill of materials of each image."""
    from tools.sbom import write_bill

    for name in image_names():
        write_bill(tag_of(name), engine(), folder / f"{name}-{version}.cdx.json")


def _build_chart(folder: Path, version: str) -> None:
    """The chart as `helm install` takes it."""
    run("helm", "package", str(CHART), "--destination", str(folder), stdout=subprocess.DEVNULL)


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a release: how it is made, and a command that tells whether what it needs is there."""

    build: Callable[[Path, str], None]
    needs: tuple[str, ...]


def _parts() -> dict[str, Part]:
    docker = (engine(), "info")
    return {
        "python": Part(_build_python, (sys.executable, "-m", "uv", "--version")),
        "images": Part(_build_images, docker),
        "sbom": Part(_build_sbom, docker),
        "chart": Part(_build_chart, ("helm", "version")),
    }


PARTS = tuple(_parts())


def _is_there(command: tuple[str, ...]) -> bool:
    if shutil.which(command[0]) is None:
        return False
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603


def _agreed(version: str | None) -> str:
    """Return the version of pyproject.toml; end if another one is wanted or a place has another one."""
    own: str = project()["version"]
    if version is not None and version != own:
        raise click.ClickException(f"VERSION: got {version}, allowed {own}, the version of pyproject.toml")
    wrong = disagreements(own)
    if wrong:
        more = f"\n{len(wrong)} places; `python -m tools.release set {own}` writes them"
        raise click.ClickException("\n".join(wrong[:20]) + more)
    return own


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """One version of everything."""


@main.command()
@click.option("--version", help="Refuse if this is not the version.")
def check(version: str | None) -> None:
    """Say whether every place has the version of pyproject.toml."""
    click.echo(f"{_agreed(version)} everywhere")


@main.command("set")
@click.argument("version")
def set_(version: str) -> None:
    """Write VERSION into pyproject.toml and every place that repeats it."""
    if not re.fullmatch(NUMBER, version):
        raise click.ClickException(f"VERSION: got {version!r}, allowed three numbers: 1.2.3")
    for path in set_version(version):
        click.echo(path)


@main.command()
@click.argument("version")
def notes(version: str) -> None:
    """Print what CHANGELOG.md says of VERSION."""
    text = notes_of(version, CHANGELOG.read_text())
    if not text:
        raise click.ClickException(f"VERSION: got {version}, allowed one with a section in {CHANGELOG.name}")
    click.echo(text, nl=False)


@main.command()
@click.option("--version", help="Refuse if this is not the version.")
@click.argument("wanted", nargs=-1, metavar="[PART]...", type=click.Choice(PARTS))
def build(version: str | None, wanted: tuple[str, ...]) -> None:
    """Build the parts of a release into dist/release: python, images, sbom, chart; all if none is named.

    What cannot be built here is left out and said, and it ends with 1: whoever wants less than all names the parts.
    """
    version = _agreed(version)
    parts = {name: part for name, part in _parts().items() if name in (wanted or PARTS)}
    folder = ROOT / "dist" / "release"
    shutil.rmtree(folder, ignore_errors=True)
    left_out = []
    for name, part in parts.items():
        if not _is_there(part.needs):
            left_out.append(name)
            click.echo(f"{name}: LEFT OUT, `{' '.join(part.needs)}` does not work here", err=True)
            continue
        (folder / name).mkdir(parents=True)
        part.build(folder / name, version)
        for path in sorted((folder / name).iterdir()):
            click.echo(f"{path.relative_to(ROOT)}  {path.stat().st_size / 1e6:.1f} MB")
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    # By their names alone, as they lie side by side where they are downloaded.
    lines = [f"{_sha256(path)}  {path.name}\n" for path in files]
    if lines:
        (folder / "SHA256SUMS").write_text("".join(lines))
        (folder / "NOTES.md").write_text(notes_of(version, CHANGELOG.read_text()))
    if left_out:
        rest = " ".join(name for name in parts if name not in left_out)
        advice = f"; RELEASE_PARTS='{rest}' asks for the rest alone" if rest else ""
        sys.exit(f"not a whole release: without {', '.join(left_out)}{advice}")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
