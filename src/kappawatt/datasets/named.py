"""Data sets by name: from a folder, else from the original publisher, else seeded synthetic - stated loudly.

The project ships no data. `KAPPAWATT_DATA` names a folder; without it the publisher's file is downloaded once,
its hash checked, and kept in the user's cache; without a network a synthetic plant stands in, and every log,
page and report says so. Of load zones and meters no download is known that will stay: without a folder they are
synthetic.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import logging
import os
import urllib.request
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kappawatt.columns.budget import FILES
from kappawatt.columns.codec import decode
from kappawatt.columns.content import CSV
from kappawatt.columns.schema import Schema
from kappawatt.datasets.reading.plain import is_cut_otherwise, plain_csv
from kappawatt.datasets.reading.read import read_file
from kappawatt.datasets.series import SeriesFile
from kappawatt.datasets.synthetic import synthetic_load, synthetic_meter
from kappawatt.errors import PayloadInvalid, SettingInvalid
from kappawatt.streams import load, meter
from kappawatt.streams.plant import READING
from kappawatt.streams.stream import Stream

__all__ = [
    "Dataset",
    "SeriesSet",
    "load_zones",
    "meters",
    "plant",
    "plant_readings",
    "plant_shuffles",
    "read_bytes",
    "read_table",
    "series_set",
    "synthetic_plant",
]

log = logging.getLogger(__name__)

UCI_URL = "https://archive.ics.uci.edu/static/public/294/combined+cycle+power+plant.zip"
UCI_SHA256 = "ddcda6f5ba01b3a9954eeceaae66d6fff5a0ee4cbf099dea42463579e912fecc"  # of Folds5x2_pp.xlsx inside
DOWNLOAD_SECONDS = 10
COLUMNS = ("ambient_temperature", "exhaust_vacuum", "ambient_pressure", "relative_humidity", "net_power")
SYNTHETIC_ROWS = 9_568
SEED = 294
LOAD_SEED = 2004
METER_SEED = 2022


@dataclass(frozen=True, slots=True)
class Dataset:
    """Rows as columns, and where they are from.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n,)
    source : str
        For a person: "real, folder: ccpp_shared.csv.gz", "real, publisher: UCI 294" or "SYNTHETIC, seed 294".
    sha256 : str
        Of the values, as float64 in the order of columns and rows: the same rows have the same hash whatever
        file they came in.
    """

    columns: dict[str, NDArray[Any]]
    source: str
    sha256: str

    @property
    def is_synthetic(self) -> bool:
        """Whether no plant ever said this."""
        return self.source.startswith("SYNTHETIC")

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def provenance(self) -> dict[str, Any]:
        """Return what a manifest says of its data."""
        return {"source": self.source, "sha256": self.sha256, "rows": len(self)}


@dataclass(frozen=True, slots=True)
class SeriesSet:
    """Measured series, and where they are from.

    Parameters
    ----------
    series : tuple of SeriesFile
        In order of key.
    source : str
        For a person: "real, folder: pjm_load (AEP, DAYTON, PJME)" or "SYNTHETIC, seed 2004".
    sha256 : str
        Of keys, starts and values: the same series have the same hash whatever files they came in.
    """

    series: tuple[SeriesFile, ...]
    source: str
    sha256: str

    @property
    def is_synthetic(self) -> bool:
        """Whether nobody ever measured this."""
        return self.source.startswith("SYNTHETIC")

    def __len__(self) -> int:
        return sum(len(one) for one in self.series)

    def provenance(self) -> dict[str, Any]:
        """Return what a manifest says of its data."""
        return {"source": self.source, "sha256": self.sha256, "rows": len(self)}


def read_bytes(path: Path) -> bytes:
    """Return a file's content, unpacked if it is gzip; PayloadInvalid names a file that cannot be read."""
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if content[:2] == b"\x1f\x8b" else content
    except (OSError, EOFError, zlib.error) as error:
        raise PayloadInvalid(f"{path}: {error}") from error


def read_table(path: Path, schema: Schema = READING) -> dict[str, NDArray[Any]]:
    """Read a CSV file (plain or gzip) as validated columns.

    Raises
    ------
    PayloadInvalid
        The file cannot be read, or a row breaks the schema; the message names file, row and field.
    """
    data = read_bytes(path)
    if is_cut_otherwise(data):
        data, _ = plain_csv(schema, data)
    batch = decode(data, CSV, schema, FILES).batch
    if batch.rejections:
        first = batch.rejections[0]
        raise PayloadInvalid(f"{path}: row {first.row + 1}: {first.message} ({len(batch.rejections)} such rows in all)")
    return dict(batch.columns)


def plant(folder: Path | None, *, events: bool = False) -> Dataset:
    """Return readings of the combined-cycle power plant, with measured power.

    Parameters
    ----------
    folder : Path or None
        A folder with `ccpp/` in it; None downloads, and if that fails makes a synthetic plant.
    events : bool
        Prefer the file of events, which has every reading in a live order and some twice.

    References
    ----------
    P. Tufekci, Int. J. Electrical Power & Energy Systems 60 (2014) 126-140; UCI data set 294, CC BY 4.0.
    """
    names = ("ccgt_events_shared.csv.gz", "ccpp_shared.csv.gz") if events else ("ccpp_shared.csv.gz",)
    if folder is not None:
        for name in names:
            path = folder / "ccpp" / name
            if path.exists():
                table = read_table(path)
                return _dataset({c: table[c] for c in COLUMNS}, f"real, folder: {name}")
        raise SettingInvalid(f"KAPPAWATT_DATA: got {str(folder)!r}, allowed a folder with ccpp/{names[0]}")
    try:
        sheets = _publisher_sheets()
    except (OSError, PayloadInvalid, SettingInvalid) as error:
        log.warning("the publisher's file is out of reach", extra={"error": str(error)})
        columns = synthetic_plant(SYNTHETIC_ROWS, SEED)
        return _dataset(columns, f"SYNTHETIC, seed {SEED}: no folder given and no network")
    columns = {name: sheets[0][:, i] for i, name in enumerate(COLUMNS)}
    return _dataset(columns, "real, publisher: UCI data set 294")


def plant_readings(folder: Path | None) -> Dataset:
    """Return the plant's readings as a stream of events has them; see `plant`."""
    return plant(folder, events=True)


def plant_shuffles(folder: Path | None) -> tuple[list[dict[str, NDArray[np.float64]]], str]:
    """Return the five shuffles of the same rows for the 5x2 cross-validation, and where they are from."""
    if folder is None:
        try:
            sheets = _publisher_sheets()
            source = "real, publisher: UCI data set 294"
        except (OSError, PayloadInvalid, SettingInvalid):
            columns = synthetic_plant(SYNTHETIC_ROWS, SEED)
            matrix = np.column_stack([columns[name] for name in COLUMNS])
            shuffler = np.random.default_rng(SEED)
            sheets = [shuffler.permutation(matrix) for _ in range(5)]
            source = f"SYNTHETIC, seed {SEED}"
        return [{name: s[:, i] for i, name in enumerate(COLUMNS)} for s in sheets], source
    path = folder / "ccpp" / "ccpp_5shuffles_shared.csv.gz"
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
    except OSError as error:
        raise SettingInvalid(f"KAPPAWATT_DATA: {path.name}: {error.strerror}") from error
    header = lines[0].split(",")
    matrix = np.array([line.split(",") for line in lines[1:]], dtype=np.float64)
    sheet = matrix[:, header.index("sheet")]
    fields = READING.by_header()
    wanted = [(fields[h].name, i) for i, h in enumerate(header) if h in fields]
    found = [{name: matrix[sheet == s, i] for name, i in wanted} for s in np.unique(sheet)]
    return found, f"real, folder: {path.name}"


def load_zones(folder: Path | None) -> SeriesSet:
    """Return hourly load by zone.

    Parameters
    ----------
    folder : Path or None
        A folder with `pjm_load/` in it; None makes a synthetic zone.

    Raises
    ------
    SettingInvalid
        The folder has no such files.
    PayloadInvalid
        One of them cannot be read.
    """
    if folder is not None:
        return _folder_of_series(folder, "pjm_load", load.STREAM)
    return _synthetic((synthetic_load("synthetic-zone-1", LOAD_SEED),), LOAD_SEED)


def meters(folder: Path | None) -> SeriesSet:
    """Return the energy smart meters counted.

    Parameters
    ----------
    folder : Path or None
        A folder with `smart_meter/` in it; None makes a synthetic household of quarter hours and one of half hours.

    Raises
    ------
    SettingInvalid, PayloadInvalid
        As `load_zones`.
    """
    if folder is not None:
        return _folder_of_series(folder, "smart_meter", meter.STREAM)
    one, other = (
        synthetic_meter("synthetic-meter-1", METER_SEED),
        synthetic_meter("synthetic-meter-2", METER_SEED + 1, 1800),
    )
    return _synthetic((one, other), METER_SEED)


def _folder_of_series(folder: Path, name: str, stream: Stream) -> SeriesSet:
    paths = sorted(path for path in (folder / name).glob("*.csv*") if path.suffixes[-2:] in ([".csv", ".gz"], [".csv"]))
    found = [series for path in paths for series in read_file(path).series if series.stream is stream]
    if not found:
        raise SettingInvalid(
            f"KAPPAWATT_DATA: got {str(folder)!r}, allowed a folder with {name}/*.csv.gz: {stream.title}"
        )
    for series in found:
        if series.problems:
            first = series.problems[0].message
            log.warning(
                "rows cannot be read", extra={"series": series.key, "rows": len(series.problems), "first": first}
            )
    ordered = tuple(sorted(found, key=lambda series: series.key))
    return series_set(ordered, f"real, folder: {name} ({', '.join(series.key for series in ordered)})")


def _synthetic(series: tuple[SeriesFile, ...], seed: int) -> SeriesSet:
    return series_set(series, f"SYNTHETIC, seed {seed}: no folder given, and no download is known that will stay")


def series_set(series: tuple[SeriesFile, ...], source: str) -> SeriesSet:
    """Return series as a set, with the hash of what they say."""
    digest = hashlib.sha256()
    for one in series:
        digest.update(one.key.encode())
        digest.update(one.starts.astype("datetime64[ms]").astype("<i8").tobytes())
        digest.update(np.ascontiguousarray(one.values, dtype="<f8").tobytes())
    return SeriesSet(series, source, digest.hexdigest())


def synthetic_plant(n: int, seed: int) -> dict[str, NDArray[np.float64]]:
    """Return n readings of a plant that never was.

    Temperature over the seasons, vacuum and humidity that follow it, and power by the linear regression
    commonly published for UCI data set 294 plus noise of 4 MW. It exercises the software; it says nothing
    about plants.
    """
    random = np.random.default_rng(seed)
    season = random.uniform(0, 2 * np.pi, n)
    temperature = np.clip(19.6 + 8.5 * np.sin(season) + random.normal(0, 3.5, n), 1.8, 37.1)
    vacuum = np.clip(25.5 + 1.45 * temperature + random.normal(0, 6.5, n), 25.4, 81.5)
    pressure = np.clip(1013.3 + random.normal(0, 5.9, n), 993, 1033)
    humidity = np.clip(100 - 1.36 * temperature + random.normal(0, 12, n), 25.6, 100.1)
    power = 454.61 - 1.977 * temperature - 0.234 * vacuum + 0.062 * pressure - 0.158 * humidity + random.normal(0, 4, n)
    columns = (temperature, vacuum, pressure, humidity, power)
    return {name: np.round(column, 2) for name, column in zip(COLUMNS, columns, strict=True)}


def _dataset(columns: dict[str, NDArray[Any]], source: str) -> Dataset:
    digest = hashlib.sha256()
    for name, column in columns.items():
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(column, dtype="<f8").tobytes())
    return Dataset(columns, source, digest.hexdigest())


def _cache() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "kappawatt"


def _publisher_sheets() -> list[NDArray[np.float64]]:
    """The five sheets of the publisher's workbook, downloaded once."""
    kept = _cache() / "Folds5x2_pp.xlsx"
    if kept.exists():
        content = kept.read_bytes()
    else:
        log.info("downloading", extra={"url": UCI_URL})
        with urllib.request.urlopen(UCI_URL, timeout=DOWNLOAD_SECONDS) as answer:
            archive = zipfile.ZipFile(io.BytesIO(answer.read()))
        inside = next(name for name in archive.namelist() if name.endswith("Folds5x2_pp.xlsx"))
        content = archive.read(inside)
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    if found != UCI_SHA256:
        raise PayloadInvalid(f"{kept.name}: got sha256 {found[:12]}…, allowed {UCI_SHA256[:12]}…")
    try:
        from openpyxl import load_workbook
    except ImportError as error:
        raise SettingInvalid("openpyxl is not installed: pip install 'kappawatt[data]'") from error
    book = load_workbook(io.BytesIO(content), read_only=True)
    return [np.array(list(sheet.iter_rows(min_row=2, values_only=True)), dtype=np.float64) for sheet in book]
