"""A disk that is really full: a small one of memory, seen only by the process that fills it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

SIZE = "3m"


def on_a_small_disk(folder: Path, script: str) -> str:
    """Run a script whose `disk` is a file system of 3 MB in memory; return what it printed."""
    folder.mkdir()
    names = ["-m"] if os.geteuid() == 0 else ["-rm"]
    mount = f"mount -t tmpfs -o size={SIZE} tmpfs {folder}"
    tried = subprocess.run(["unshare", *names, "sh", "-c", mount], capture_output=True, text=True, check=False)
    if tried.returncode:
        pytest.skip(f"no file system can be mounted here: {tried.stderr.strip()}")
    told = f"from pathlib import Path\ndisk = Path({str(folder)!r})\n{textwrap.dedent(script)}"
    run = subprocess.run(
        ["unshare", *names, "sh", "-c", f'{mount} && exec "$0" -c "$1"', sys.executable, told],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=Path(__file__).parents[2],
    )
    assert run.returncode == 0, run.stderr[-3000:]
    return run.stdout


pytestmark = pytest.mark.skipif(shutil.which("unshare") is None, reason="unshare (util-linux) is not installed")


@pytest.mark.parametrize("key", ["", "once"], ids=["plain", "with an Idempotency-Key"])
def test_an_ingestor_on_a_full_disk_says_so_and_goes_on_when_there_is_room(tmp_path: Path, key: str) -> None:
    said = on_a_small_disk(
        tmp_path / "disk",
        f"""
        from tests.conftest import wait_until
        from tests.fleet import fleet_settings, opened

        settings = fleet_settings(disk)
        row = b"14.96,41.76,1024.07,73.17\\n"
        with opened("sensor-ingestor", settings) as app:
            client = app.test_client()

            def post(n, rows):
                headers = {{"Content-Type": "text/csv"}} | ({{"Idempotency-Key": f"n-{{n}}"}} if {key!r} else {{}})
                return client.post("/readings/plant-1", data=row * rows, headers=headers)

            assert post(0, 1).status_code == 202
            (disk / "filler").write_bytes(b"x" * 1_000_000)
            accepted = [post(n, 500).status_code for n in range(1, 300)].count(202)
            answer = post(999, 500)
            print(answer.status_code, answer.content_type, answer.get_json()["detail"])
            print(accepted, client.get("/healthz").status_code)
            wait_until(lambda: client.get("/readyz").status_code == 503, what="unready")
            print(client.get("/readyz").get_json()["detail"])
            (disk / "filler").unlink()
            print(post(1000, 1).status_code)
        """,
    ).splitlines()

    assert said[0].startswith("503 application/problem+json ")
    assert "disk full" in said[0]
    accepted, health = said[1].split()
    assert int(accepted) > 0
    assert health == "200"
    assert "disk full" in said[2]
    assert said[3] == "202"


def test_an_artifact_that_finds_no_room_says_so_and_leaves_the_one_before(tmp_path: Path) -> None:
    said = on_a_small_disk(
        tmp_path / "disk",
        """
        from dataclasses import replace
        from kappawatt.errors import NotStored
        from kappawatt.models.artifact import find_artifact, save_artifact
        from kappawatt.models.publish import make_current
        from kappawatt.serving.service import find_service

        shipped = find_artifact(find_service("mlp-regressor").folder / "artifacts")
        files = {name: shipped.read(name) for name in shipped.manifest.files}
        first = save_artifact(disk / "a" / shipped.manifest.version, files, shipped.manifest)
        make_current(disk / "a", first)
        (disk / "filler").write_bytes(b"x" * 2_900_000)
        for folder, content in ((first.path, files), (disk / "a" / "b", {"model.npz": b"x" * 1_000_000})):
            try:
                for _ in range(1_000):
                    (disk / "more").open("ab").write(b"x" * 256)
            except OSError:
                pass
            try:
                save_artifact(folder, content, shipped.manifest)
            except NotStored as error:
                print(error.status, error)
        try:
            make_current(disk / "a", first)
        except NotStored as error:
            print(error.status, error)
        print(find_artifact(disk / "a").manifest.version == shipped.manifest.version)
        """,
    ).splitlines()

    assert len(said) == 4
    assert all(line.startswith("507 ") and "disk full" in line for line in said[:3]), said
    assert said[3] == "True"
