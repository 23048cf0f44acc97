"""What a DuckDB store says when it cannot be written: what really is busy, full, refused or broken."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pytest

from kappawatt.columns.batch import Columns
from kappawatt.errors import SettingInvalid
from kappawatt.store import duckdb as store_module
from kappawatt.store.cleaning import afterwards
from kappawatt.store.duckdb import DuckDBStore
from kappawatt.store.interface import Guard, RowsRefused, StoreBusy, StoreChanged, StoreFailed, StoreFull
from kappawatt.store.limits import checked
from kappawatt.store.migration import holds
from kappawatt.store.table import Column, Layout, Table, Type

VALUES = Table(
    "values_of",
    (Column("id", Type.TEXT), Column("value", Type.NUMBER), Column("moment", Type.TIME), Column("words", Type.TEXT)),
)
LAYOUT = Layout((VALUES,))


def rows(n: int, words: str = "w") -> dict[str, Columns]:
    columns = {
        "id": np.array([f"i{i}" for i in range(n)], dtype=object),
        "value": np.arange(n, dtype=float),
        "words": np.array([words] * n, dtype=object),
    }
    return {"values_of": checked(VALUES, columns, n)[0]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store.duckdb"


def count(path: Path) -> int:
    with duckdb.connect(str(path)) as connection:
        [(n,)] = connection.execute("SELECT count(*) FROM values_of").fetchall()
    return int(n)


def test_an_error_while_cleaning_up_never_hides_the_first(caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise RuntimeError("second")

    with pytest.raises(ValueError, match="first"), afterwards(fail):
        raise ValueError("first")
    with afterwards(fail):
        pass

    assert len(caplog.records) == 2


def test_a_value_that_the_database_refuses_is_said_as_such_though_the_transaction_is_aborted(path: Path) -> None:
    """What follows in an aborted transaction fails with that word; it was taken for a busy store."""
    store = DuckDBStore(str(path), LAYOUT)
    columns = rows(3)["values_of"]
    far = {**columns, "moment": np.array([0, 2**63 - 1, 0], dtype="datetime64[us]")}  # beyond what DuckDB holds

    with pytest.raises(RowsRefused, match=r"table values_of: .*[Tt]imestamp"):
        store.write({"values_of": far})
    store.write({"values_of": columns})

    assert count(path) == 3


def test_text_that_is_no_unicode_is_refused(path: Path) -> None:
    columns = rows(2)["values_of"]

    with pytest.raises(RowsRefused):
        DuckDBStore(str(path), LAYOUT).write(
            {"values_of": {**columns, "words": np.array(["a", "\ud800"], dtype=object)}}
        )


def test_a_constraint_of_somebodys_own_refuses_rows(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(VALUES.ddl[:-1] + ", CHECK (value < 2))")
    store = DuckDBStore(str(path), LAYOUT)

    with pytest.raises(RowsRefused, match="values_of"):
        store.write(rows(3))
    store.write(rows(2))

    assert count(path) == 2


HOLD = "import duckdb, sys; c = duckdb.connect(sys.argv[1]); print('held', flush=True); sys.stdin.read()"


def test_a_file_that_another_process_holds_is_busy(path: Path) -> None:
    store = DuckDBStore(str(path), LAYOUT)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"

    with pytest.raises(StoreBusy, match="locked by another process"):
        store.write(rows(1))
    holder.communicate()
    store.write(rows(1))

    assert count(path) == 1


def test_a_file_that_is_no_database_is_broken_and_not_busy(path: Path) -> None:
    path.write_bytes(b"no database" * 1000)

    with pytest.raises(StoreFailed):
        DuckDBStore(str(path), LAYOUT).write(rows(1))


def test_a_folder_that_cannot_be_made_is_broken_and_not_busy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(StoreFailed, match="file"):
        DuckDBStore(str(tmp_path / "file" / "store.duckdb"), LAYOUT).prepare()


LIMITED = """
import resource, signal, sys
from tests.unit.store.test_duckdb import LAYOUT, rows
from kappawatt.store.duckdb import DuckDBStore
from kappawatt.store.interface import StoreFull
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
store = DuckDBStore(sys.argv[1], LAYOUT)
store.write(rows(10))
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
try:
    for i in range(100):
        store.write(rows(5_000, str(i) * 200))
except StoreFull as error:
    print(error)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
store.write(rows(11))
print("taken again")
"""


def test_a_file_that_may_not_grow_is_full_and_is_written_again_when_it_may(path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, timeout=120, check=False
    )

    assert "disk full" in ended.stdout, ended.stderr
    assert ended.stdout.endswith("taken again\n"), ended.stderr
    assert count(path) >= 11


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of four megabytes."""
    folder = tmp_path / "disk"
    folder.mkdir()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mount(b"tmpfs", str(folder).encode(), b"tmpfs", 0, b"size=4m") != 0:
        pytest.skip(f"mount: {os.strerror(ctypes.get_errno())}")
    yield folder
    libc.umount(str(folder).encode())


def test_a_full_disk_is_said_and_nothing_of_the_write_stands(small_disk: Path) -> None:
    store = DuckDBStore(str(small_disk / "store.duckdb"), LAYOUT)
    store.write(rows(10))
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        file.write(b"x" * 2_000_000)

    def fill() -> None:
        for i in range(40):
            store.write(rows(5_000, f"{i}" * 300))

    with pytest.raises(StoreFull, match="disk full"):
        fill()
    filler.unlink()
    store.write(rows(10, "after"))

    with duckdb.connect(str(small_disk / "store.duckdb")) as connection:
        assert connection.execute("SELECT count(*) FROM values_of WHERE words = 'after'").fetchall() == [(10,)]


def test_a_guard_holds_back_what_rests_on_something_else(path: Path) -> None:
    table = Table("places", (Column("id", Type.TEXT), Column("place", Type.BIGINT)))
    store = DuckDBStore(str(path), Layout((table,)))

    def at(value: int) -> dict[str, Columns]:
        return {"places": {"id": np.array(["a"], dtype=object), "place": np.array([value])}}

    store.write(at(1), Guard("places", "place", {"a": None}))
    for wrong in (None, 2):
        with pytest.raises(StoreChanged, match="places a"):
            store.write(at(5), Guard("places", "place", {"a": wrong}))
    store.write(at(2), Guard("places", "place", {"a": 1, "b": None}))

    assert store.query("SELECT place FROM places", 9).rows == [(2,)]


def make(path: Path, columns: str) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute(f"CREATE TABLE values_of ({columns})")


def test_missing_columns_are_added(path: Path) -> None:
    make(path, "id TEXT PRIMARY KEY, value DOUBLE, mine INTEGER")

    DuckDBStore(str(path), LAYOUT).write(rows(3))

    with duckdb.connect(str(path)) as connection:
        assert connection.execute("SELECT count(words), count(mine) FROM values_of").fetchall() == [(3, 0)]


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ("id TEXT PRIMARY KEY, value TEXT", "database: table values_of, column value: got type VARCHAR"),
        ("id TEXT PRIMARY KEY, moment TIMESTAMP", "database: table values_of, column moment: got type TIMESTAMP"),
        ("id BIGINT PRIMARY KEY", "database: table values_of, column id: got type BIGINT"),
        ("id TEXT PRIMARY KEY, mine TEXT NOT NULL", "database: table values_of, column mine: got NOT NULL"),
        (
            "id TEXT PRIMARY KEY, value DECIMAL(18, 3)",
            "database: table values_of, column value: got type DECIMAL(18,3), allowed DOUBLE PRECISION",
        ),
        ("id TEXT, value DOUBLE", "database: table values_of, column id: got "),
        (
            "id TEXT PRIMARY KEY, value DOUBLE AS (1.0)",
            "database: table values_of, column value: got GENERATED, allowed",
        ),
        ('id TEXT PRIMARY KEY, "Value" DOUBLE', "database: table values_of, column: got Value, allowed value"),
    ],
)
def test_a_column_that_cannot_be_used_is_named_in_one_line(path: Path, columns: str, said: str) -> None:
    make(path, columns)

    with pytest.raises(SettingInvalid) as error:
        DuckDBStore(str(path), LAYOUT).prepare()

    assert str(error.value).startswith(said)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("columns", ["id TEXT UNIQUE", "id TEXT PRIMARY KEY, twice TEXT AS (id || id)"])
def test_a_table_that_takes_rows_is_used_as_it_is(path: Path, columns: str) -> None:
    make(path, columns)

    DuckDBStore(str(path), LAYOUT).write(rows(3))


def test_a_migration_that_fails_names_its_table_in_one_line(path: Path) -> None:
    make(path, "id TEXT PRIMARY KEY, value DOUBLE, was TEXT")
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE INDEX mine ON values_of (was)")
    table = Table("values_of", (Column("id", Type.TEXT), Column("words", Type.TEXT, ("was",))))

    with pytest.raises(SettingInvalid, match=r"^database: table values_of: got .*RENAME COLUMN.*$") as error:
        DuckDBStore(str(path), Layout((table,))).prepare()

    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("type_", "given", "is_right"),
    [
        (Type.BIGINT, ("numeric", 20, 0), True),
        (Type.BIGINT, ("numeric", 20, 2), False),
        (Type.BIGINT, ("decimal", 4, 0), False),
        (Type.INTEGER, ("decimal", 10, 0), True),
        (Type.NUMBER, ("numeric", None, None), True),
        (Type.NUMBER, ("numeric", 38, 10), False),
        (Type.NUMBER, ("double precision", 53, None), True),
    ],
)
def test_a_decimal_holds_whole_numbers_that_fit_and_no_other(
    type_: Type, given: tuple[str, int | None, int | None], is_right: bool
) -> None:
    assert holds(type_, *given) == is_right


def test_a_view_in_the_place_of_a_table_is_named(path: Path) -> None:
    with duckdb.connect(str(path)) as connection:
        connection.execute("CREATE VIEW values_of AS SELECT 1 AS id")

    with pytest.raises(SettingInvalid, match="values_of"):
        DuckDBStore(str(path), LAYOUT).prepare()


def test_a_column_may_say_what_rows_hold_that_were_there_before_it(path: Path) -> None:
    make(path, "id TEXT PRIMARY KEY, value DOUBLE")
    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO values_of VALUES ('old', 1)")
    table = Table("values_of", (*VALUES.columns, Column("log", Type.TEXT, before="''")))

    DuckDBStore(str(path), Layout((table,))).prepare()

    with duckdb.connect(str(path)) as connection:
        connection.execute("INSERT INTO values_of (id) VALUES ('new')")
        assert connection.execute("SELECT id, log FROM values_of ORDER BY id").fetchall() == [
            ("new", None),
            ("old", ""),
        ]


def test_a_connection_that_cannot_be_closed_fails_no_write_that_is_committed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = duckdb.connect

    class Stuck:
        def __init__(self, connection: Any) -> None:
            self._connection = connection

        def __getattr__(self, name: str) -> Any:
            return getattr(self._connection, name)

        def close(self) -> None:
            self._connection.close()
            raise RuntimeError("cannot be closed")

    monkeypatch.setattr(store_module.duckdb, "connect", lambda path: Stuck(connect(path)))

    DuckDBStore(str(path), LAYOUT).write(rows(3))

    monkeypatch.undo()
    assert count(path) == 3


def test_the_limit_of_the_process_is_as_it_was() -> None:
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] == resource.RLIM_INFINITY
