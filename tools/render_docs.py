"""Pages made from code: `python -m tools.render_docs docs` writes them, and a test fails when they are stale."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from kappawatt.bus.topic import DAY, Topic
from kappawatt.services.sink.queries import QUERIES
from kappawatt.services.sink.tables import LAYOUT
from kappawatt.serving.service import find_service, service_names
from kappawatt.settings import settings_table
from kappawatt.streams.rules import rules_of
from kappawatt.streams.stream import Form, Stream, resolve
from kappawatt.streams.table import STREAMS, TOPICS

__all__ = ["EXAMPLES", "PAGES", "RESULTS", "analytics_page", "backtest_arguments", "events_page", "settings_page"]

MADE = "<!-- Made by `make docs`; edit the code it comes from instead. -->\n"


def events_page() -> str:
    """Return the page on topics and messages, from `kappawatt.streams` and the schemas."""
    lines = [
        MADE,
        "# Topics and messages\n",
        "Made from `src/kappawatt/streams/`, one record a stream. `kappawatt topics` shows what a bus holds now.\n",
        "| topic | key | message | partitions | kept | written by | read by |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for t in TOPICS:
        message = f"[{t.message.name}](#{t.message.name.lower()})" if t.message else "document"
        lines.append(
            f"| `{t.name}` | {t.key} | {message} | {t.partitions} | {_kept(t)} | {', '.join(t.producers)} "
            f"| {', '.join(t.consumers)} |"
        )
    lines += [
        "",
        "Two encodings, told apart by the header `content-type`: single events as `application/json` (or one CSV",
        "row, `text/csv`), and blocks of many rows as `application/vnd.apache.arrow.stream`. Without the header the",
        "first bytes decide. Where `KAPPAWATT_ENVELOPES` says that a topic's messages are wrapped, those with the",
        "header `kappawatt-envelope: none`, as kappawatt's own are written, are not.",
        "",
    ]
    lines += ["A page a stream: " + ", ".join(f"[{s.name}](streams/{s.name}.md)" for s in STREAMS) + ".\n"]
    for schema in dict.fromkeys(t.message for t in TOPICS if t.message):
        lines += [f"## {schema.name}\n", f"{schema.meaning}\n", schema.markdown_table(), ""]
    lines += [PREDICTION, FORECAST, DEAD_LETTER]
    return "\n".join(lines).rstrip() + "\n"


def stream_page(stream: Stream) -> str:
    """Return the page on one stream, from its record."""
    key, door = stream.key, f"/api/sensor-ingestor/{stream.path}"
    body = json.dumps(stream.example_row())
    lines = [
        MADE,
        f"# Stream: {stream.name}\n",
        f"One row is {stream.title}; `{key.name}` tells one {key.noun} from another. `{stream.service}` answers.\n",
        "| topic | holds | partitions | kept |",
        "| --- | --- | --- | --- |",
        *(f"| `{t.name}` | {form}: {t.meaning} | {t.partitions} | {_kept(t)} |" for t, form in stream.forms),
        "",
        "## Rows in\n",
        stream.schema.markdown_table(),
        "",
        f"At the door, for one {key.noun}" + (", or with its name in each row:\n" if stream.names_key else ":\n"),
        "```sh",
        f"curl localhost:8000{door}/{key.example} -H 'content-type: application/json' -d '{body}'",
        "```\n",
    ]
    rules = rules_of(stream)
    if rules:
        lines += ["Beyond the schema a row is refused unless:\n"]
        lines += [f"- {(rule.__doc__ or rule.__name__).splitlines()[0]}" for rule in rules] + [""]
    if stream.files:
        known = ", ".join(layout.name for layout in resolve(stream.files))
        lines += [f"Files are read in any layout; known by name are {known} ([your own file](../your-own-file.md)).\n"]
    lines += ["## Answers out\n"]
    if stream.form is Form.PREDICTIONS:
        lines += [stream.answer.markdown_table(), ""]
        lines += ["and what [every prediction](../events.md#predictions-on-the-bus) says.\n"]
    else:
        lines += ["[Forecasts](../events.md#forecasts-on-the-bus) of whole days in quantiles, and their errors.\n"]
    lines += [f"The gateway shows it as *{stream.view.title}*; the sink keeps it in `{stream.readings_name}`."]
    return "\n".join(lines).rstrip() + "\n"


def _kept(topic: Topic) -> str:
    return "newest of each key" if topic.retention is None else f"{topic.retention // DAY} days"


PREDICTION = """## Predictions on the bus

Each prediction also says which reading it answers and who answered: `id`, `key`, `event_time`, `measured_TARGET`
(`measured_net_power` of a plant; null if it was not measured), `model`, `version`, `source_topic`,
`source_log`, `source_partition`, `source_offset`, `source_row`. In a block, what is the same for all rows stands in
the headers `model`, `model-version`, `source-topic`, `source-log` and `source-partition`.

The id is `TOPIC:LOG-PARTITION-OFFSET-ROW@VERSION`: whoever answers the same reading with the same version writes the
same id, so a crash or a replay overwrites and never doubles. `LOG` is the identity of the topic's log: Kafka's topic
id, which `kafka-topics.sh --describe` shows, or one of its own in a file of the embedded bus. A topic that is deleted
and made again, or stands in another cluster, counts its offsets from 0 once more, but has another log, so nothing of
it overwrites what was. Kafka before 2.8 has no topic ids: there, and in what a release before wrote, `:LOG` is absent
and `source_log` empty.
"""

FORECASTS = " and ".join(f"`{stream.answers.name}`" for stream in STREAMS if stream.errors)
ERRORS = " and ".join(f"`{stream.errors.name}`" for stream in STREAMS if stream.errors)
FORECAST = f"""## Forecasts on the bus

One JSON document for each series and issue time on {FORECASTS}: `id`, `key`, `issue_time`, `available_at`,
`corrected`, `time_zone`, `step_seconds`, `target`, `unit`, `target_time` (a list: the start of each interval of a
local day, 23, 24 or 25 hours; with `KAPPAWATT_FORECAST_UPDATES` of all intervals from the issue time to the end of
tomorrow, or of up to seven days), `lead_time_hours` (for each interval the hours from `trusted_until` to its end: 1 of
the next hour), `quantiles` (a list of the same length for each level of the stream, 19 of `"0.05"` to `"0.95"` as
shipped), `day` (quantiles of figures of the whole day, where a stream has them), `filled` (intervals of the history
that were missing and filled), `trusted_until` (end of the newest value that is known and not suspect), `suspect` and
`suspect_spans` (values taken for missing, [why](forecasts.md#suspect-values)), `warnings` (a list of `code` and
`detail`, [which](forecasts.md#warnings)), `fallback` and `fallback_reason` (the seasonal naive stood in), `model`,
`version`, and `source_topic`, `source_log`, `source_partition`, `source_offset` of the reading that made it due. The
id is `SERVICE:LOG/SERIES/ISSUE_TIME/AVAILABLE_AT@VERSION`: the same log gives the same ids. When late data changes what
would have been known, a correction follows with the same `issue_time` and a later `available_at`.

Once an interval is measured its error follows on {ERRORS}: `id` (the
forecast's, `/`, the interval's start), `key`, `issue_time`, `available_at`, `target_time`, `lead_time_hours`,
`measured`, `forecast` (the median), `error`, `naive` and `naive_error` (null where the seasonal naive has nothing),
`lower` and `upper` (quantiles 0.05 and 0.95), `covered`, `crps`, `fallback`, model and origin. The same id again is a
revision of what was measured. (`lead_hours` of the analytics store's views is another thing: from the issue time to the
start of the interval.)
"""

DEAD_LETTER = """## Dead letters

One for each message with refused rows: `id`, `reason`, `field`, `got`, `allowed`, `message` of the first refusal, all
of them in `errors` (at most 100 rows; `rejected_rows` is the count), the origin as `topic`, `log`, `partition`,
`offset`, `timestamp`, `key`, `content_type`, and the original bytes as `original` (or `original_base64` if they are not
UTF-8, or would take more than the topic has room for; a message above 2.5 MB is cut, and `original_bytes` says how
long it was). The gateway shows the first 4,000 characters of an original. The reason `internal` is an error of ours and
not of the message: the worker answered everything around it, and its log has the rest.

## What is read

Anything may lie on a topic. Whoever reads it takes what is well-formed and leaves out the rest, and no message stops
anybody:

- JSON is UTF-8 (RFC 8259): half of a surrogate pair (`"\\ud800"`), in a value or in a name, more than 64 levels of
  lists and objects, NaN and Infinity are refused, at every door as on the bus. Whole numbers beyond 64 bits are read
  as decimals.
- Times are in the years 1970 to 2261: Kafka has no earlier ones, and the nanoseconds of pandas, Arrow and Parquet end
  in April 2262. A reading without a time of its own has that of its record, which has to be one of those years.
- A key that is text names its series as it is. One that is not UTF-8, or holds control characters as Kafka's
  integers do, is `hex:` and its bytes in hexadecimal digits (`hex:0000002a`); so is a text that begins with `hex:`.
  It has at most 200 characters so. Headers that go on to an answer (`traceparent`, `tracestate`)
  have at most 1,024 bytes.
- A worker refuses what it cannot answer, as a dead letter with its bytes. Should answering a poll fail in a way that
  nobody thought of, the poll is halved until the message is found; a worker that can answer none of ten messages in a
  row says so at `/readyz`.
- Of predictions, forecasts, errors, dead letters and promotions each field is looked at: one that is another thing
  makes the document none. The sink keeps it as a rejection, views and comparisons leave it out. A promotion to a
  version or topic that is not there leaves the worker as it was, not ready, until the next one.
"""


def analytics_page() -> str:
    """Return the page on the analytics store, from the sink's tables and queries."""
    lines = [
        MADE,
        "# The analytics store\n",
        "`kappawatt consume sink` lands what passes on the bus in these tables, upserted by id, so a crash or a replay",
        "doubles nothing. Up to where it has landed it keeps in the store, so an empty one is built again from the",
        "beginning of each log, a restored one from where the backup ends, and `--from-beginning` does it on demand. A",
        "store of another version is brought up to date at the start, and the log says what was done; a column that it",
        "cannot use is named. `KAPPAWATT_DATABASE=duckdb:FILE` is the default, `postgresql://...` the other choice.\n",
        "| table | a row is |",
        "| --- | --- |",
        *(f"| `{made.name}` | {made.meaning} |" for made in (*LAYOUT.tables, *LAYOUT.views)),
        "",
        "Every stream has a table of readings, and one of predictions where its answers are predictions; the other",
        "tables hold what all streams share. `key` is the plant, zone or meter a row is of, `available_at` when what a",
        "forecast rests on was known, `source_log` the log that the message is of (empty in rows of a release before,",
        "whose ids name none): a topic that was made again lands beside what was.\n",
        "`*_scored` of a stream's own sets predictions beside measurements.\n",
        "A correction is another forecast, with a later `available_at`; an error is of the last forecast that was",
        "known before its interval began. Of an hour measured again the newest error stands; its readings stay, each",
        "with its message's coordinates. What the sink cannot read (`malformed`) or no database takes (`not_storable`:",
        "a time outside the years 1 to 9999, a number beyond 1e150, a row that a constraint of your own refuses) is in",
        "`rejections` with the message's bytes, `original_base64` where they are no text, and the rest lands.\n",
        "Quantiles are columns `quantile_05` to `quantile_95`.\n",
        "The DuckDB file is open only while a batch is written, about once a second, so that it can be queried beside:",
        "",
        "```sh",
        "duckdb .run/kappawatt.duckdb 'FROM scored LIMIT 5'",
        "```",
        "",
        "The sink also answers these queries itself (`GET /queries/NAME`), and the dashboard shows them.\n",
    ]
    for query in QUERIES:
        lines += [f"## {query.title}\n", f"`{query.name}`\n", "```sql", query.sql, "```", ""]
    return "\n".join(lines).rstrip() + "\n"


def settings_page() -> str:
    """Return the page on settings, from `kappawatt.settings`."""
    return f"""{MADE}
# Settings

Made from `src/kappawatt/settings.py`. Every process reads these from its environment at start; command line options
stand above them. A value that cannot be used stops the process with a message that names the variable.

{settings_table()}

Kafka client settings pass through under Kafka's own names: `KAPPAWATT_KAFKA_SECURITY_PROTOCOL=SASL_SSL` is
`security.protocol`. A name that ends in `_FILE` is read from that file, so that a secret never stands in the
environment: `KAPPAWATT_KAFKA_SASL_PASSWORD_FILE=/run/secrets/kafka`.

## Ports

| service | `serve` | probes of `consume` |
| --- | --- | --- |
{_ports()}
"""


def _ports() -> str:
    services = [find_service(name) for name in service_names()]
    lines = [f"| {s.name} | {'' if s.is_one_process else s.port} | {s.work_port if s.work else ''} |" for s in services]
    return "\n".join(lines)


RESULTS = Path(__file__).parents[1] / "docs" / "results"
EXAMPLES = {"hourly-load": "PJME-1200", "smart-meter": "MAC000002"}  # the run whose report is kept
RESULTS_INTRO = """# Forecasts: backtests

Made from the `scores.json` of each run. Each local day is forecast whole, trained only on what lies before;
[how](../forecasts.md). MAPE and sMAPE in percent; rMAE and rCRPS over the seasonal naive (the same local time
last week); coverage of the interval from quantile 0.05 to 0.95. Files are PJM's hourly load to 2016, London households
of 2013 and a Smart Meter Texas export of 2022, each by itself.

One report a service is kept: %s.
`make reports` makes that of every run from the files in `KAPPAWATT_DATA`, by the commands below; the runs took %d
minutes in all.
"""


def results_page() -> str:
    """Return the page of all committed backtests, from their score files."""
    every = {
        service: [(path, json.loads(path.read_text())) for path in sorted(RESULTS.glob(f"{service}/*/scores.json"))]
        for service in EXAMPLES
    }
    seconds = sum(run["seconds"] for runs in every.values() for _, run in runs)
    kept = ", ".join(f"[{service}, {name}]({service}/{name}/report.html)" for service, name in EXAMPLES.items())
    lines = [MADE, RESULTS_INTRO % (kept, round(seconds / 60))]
    for service, runs in every.items():
        lines += [f"## {service}\n", RUN_HEAD, "| " + " | ".join(["---"] * 14) + " |"]
        lines += [_run_row(path, run) for path, run in runs]
        if len(runs) > 1 and service == "smart-meter":
            mean = sum(run["rmae"] for _, run in runs) / len(runs)
            lines.append(f"\nMean rMAE over the {len(runs)} meters: **{mean:.3f}**.")
        lines.append("")
        lines += _day_figures(runs)
        lines += ["```sh", *(_command(run) for _, run in runs), "```", ""]
    return "\n".join(lines).rstrip() + "\n"


RUN_HEAD = (
    "| run | days | issued | retrained | n | MAE | RMSE | MAPE | sMAPE | rMAE | CRPS | rCRPS | coverage "
    "| months in 88 to 92 % |"
)


def _run_row(path: Path, run: dict[str, Any]) -> str:
    name = path.parent.name
    months = [month["coverage_90"] for month in run["months"].values()]
    inside = sum(0.88 <= share <= 0.92 for share in months)
    cells = [
        f"[{name}]({path.relative_to(RESULTS)})",
        f"{run['from']} to {run['to']}",
        run["issue"],
        run["retrain"],
        f"{run['n']:,}",
        f"{run['mae']:,.4g}",
        f"{run['rmse']:,.4g}",
        f"{run['mape']:.2f}" if run["mape"] is not None else "",
        f"{run['smape']:.2f}",
        f"{run['rmae']:.3f}",
        f"{run['crps']:,.4g}",
        f"{run['rcrps']:.3f}",
        f"{run['coverage_90']:.3f}",
        f"{inside} of {len(months)}",
    ]
    return "| " + " | ".join(cells) + " |"


def _day_figures(runs: list[tuple[Path, dict[str, Any]]]) -> list[str]:
    rows = [
        f"| {path.parent.name} | {name.replace('_', ' ')} | {f['n']} | {f['mae']:.4g} | {f['rmae']:.3f} "
        f"| {f['crps']:.4g} | {f['coverage_90']:.3f} |"
        for path, run in runs
        for name, f in run["day_figures"].items()
    ]
    if not rows:
        return []
    head = "| meter | figure of the day | days | MAE | rMAE | CRPS | coverage |"
    return [head, "| " + " | ".join(["---"] * 7) + " |", *rows, ""]


def _command(run: dict[str, Any]) -> str:
    return " ".join(["kappawatt", *backtest_arguments(run, Path(run["data"]["file"]))])


def backtest_arguments(run: Mapping[str, Any], data: Path) -> list[str]:
    """Return the arguments of `kappawatt` that repeat a run, from its scores and its file of measurements."""
    options = {"data": data, "from": run["from"], "to": run["to"], "issue": run["issue"], "retrain": run["retrain"]}
    return [
        "backtest",
        run["service"],
        *(word for name, value in options.items() for word in (f"--{name}", str(value))),
    ]


PAGES = {
    "analytics.md": analytics_page,
    "events.md": events_page,
    "settings.md": settings_page,
    "results/forecasts.md": results_page,
    **{f"streams/{stream.name}.md": partial(stream_page, stream) for stream in STREAMS},
}


def main(folder: Path) -> None:
    """Write all pages into `folder`."""
    for name, page in PAGES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(page())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
