"""The command line: right use gives the answer, wrong use names the thing and exits with an error."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from kappawatt.cli.main import COMMANDS, main

ROWS = "AT,V,AP,RH,PE\n14.96,41.76,1024.07,73.17,463.26\n25.18,62.96,1020.04,59.08,444.37\n"


def call(*arguments: str) -> Result:
    return CliRunner().invoke(main, list(arguments), env={"KAPPAWATT_DATA": ""})


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.csv.gz"
    path.write_bytes(gzip.compress(ROWS.encode()))
    return path


def test_score_prints_one_json_line(rows: Path) -> None:
    result = call("score", "plant-power", "--data", str(rows), "--json")

    assert result.exit_code == 0, result.output
    (line,) = result.output.splitlines()
    scores = json.loads(line)
    assert scores["n"] == 2
    assert scores.keys() >= {"mae", "rmse", "r2", "coverage_90"}


def test_score_reads_columns_in_any_order_and_leaves_out_what_cannot_be_scored(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("PE,RH,AP,V,AT\n463.26,73.17,1024.07,41.76,14.96\n,73.17,1024.07,41.76,14.96\n1,2,1000,999,4\n")

    scores = json.loads(call("score", "plant-power", "--data", str(path), "--json").output)

    assert (scores["n"], scores["without_measurement"], scores["rejected"]) == (1, 1, 1)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("score", "plant-powr", "--data", __file__), "allowed gateway, hourly-load, mlp-regressor"),
        (("score", "plant-power", "--data", "nowhere.csv"), "nowhere.csv"),
        (("score", "gateway", "--data", __file__), "gateway has no model"),
        (("score", "plant-power", "--data", __file__), "allowed"),
        (("consume", "gateway"), "got gateway, which reads no topic, allowed"),
        (("train", "gateway"), "no model to train"),
        (("backtest", "sensor-ingestor"), "has no backtest"),
        (("topics", "--bus", "rabbit://x"), "allowed embedded:FILE or kafka://"),
        (("topics", "--bus", "kafka:/host:9092"), "allowed embedded:FILE or kafka://"),
        (("serve", "plant-power", "--port", "70000"), "65535"),
        (("ingest", __file__, "--rate", "-1"), "--rate"),
        (("replay", "plant-power", "--to", "x", "--from", "yesterday", "--bus", "BUS"), "--from: got 'yesterday'"),
        (("replay", "plant-power", "--to", "x", "--model", "9", "--bus", "BUS"), "version: got '9', allowed"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, tuple) else "",
)
def test_wrong_use_is_named_and_is_no_traceback(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    bus = f"embedded:{tmp_path}/bus.sqlite"
    call("topics", "--create", "--bus", bus)

    result = call(*(bus if a == "BUS" else a for a in arguments))

    assert result.exit_code != 0
    assert said in result.output
    assert "Traceback" not in result.output


def test_every_command_has_help() -> None:
    for name in COMMANDS:
        result = call(name, "--help")
        assert result.exit_code == 0
        assert len(result.output.splitlines()) > 5


def test_topics_are_created_and_listed(tmp_path: Path) -> None:
    bus = f"embedded:{tmp_path}/bus.sqlite"

    assert "missing" in call("topics", "--bus", bus).output
    call("topics", "--create", "--bus", bus)
    listed = call("topics", "--bus", bus).output

    assert "plant.readings " in listed
    assert "missing" not in listed
