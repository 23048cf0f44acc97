// Questions to the sink, and their answers as bars and a table.

import { $, ask, element, number, table } from "./page.js";
import { currentVersion } from "./predictions.js";

const MOST_BARS = 24;

export async function loadQueries() {
  const known = $("query").value;
  let queries = [];
  try { ({ queries } = await ask("/api/sink/queries")); } catch { /* the sink is not running */ }
  $("analytics").hidden = queries.length === 0;
  if (queries.length === 0) return;
  if (queries.length !== $("query").options.length) {
    $("query").replaceChildren(...queries.map(({ name, title }) => { const o = element("option", title); o.value = name; return o; }));
    if (known) $("query").value = known;
  }
  await loadQuery();
}

async function loadQuery() {
  const name = $("query").value;
  try {
    const answer = await ask(`/api/sink/queries/${encodeURIComponent(name)}`);
    if ($("query").value === name) showQuery(answer);
  } catch {
    $("query-title").textContent = "This question cannot be answered right now";
    $("query-bars").replaceChildren();
  }
}

// Which column is drawn: the mean error if there is one, else the last one with numbers that is no count.
function valueColumn(columns, rows) {
  const numeric = columns.map((_, i) => i).filter((i) => rows.some((row) => typeof row[i] === "number"));
  return numeric.find((i) => /^mae|^coverage|rejected_rows/.test(columns[i])) ?? numeric.at(-1);
}

function cellText(value) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "number") return Number.isInteger(value) ? value.toLocaleString() : number(value, 3);
  return String(value).replace(/^(\d{4}-\d\d-\d\d)T(\d\d:\d\d).*$/, "$1 $2");
}

// Units that end names of columns, as people write them.
const UNITS = { mw: "MW", kw: "kW", mwh: "MWh", kwh: "kWh", degc: "°C" };

const unitOf = (name) => UNITS[name.split("_").at(-1)];

function columnText(name) {
  const unit = unitOf(name);
  const text = unit ? `${name.slice(0, name.lastIndexOf("_"))} [${unit}]` : name;
  return text.replace(/^mae\b/, "mean absolute error").replaceAll("_", " ");
}

// Where the ends of bins stand (from_degc, to_degc), and their unit; null where rows are no bins.
function binsOf(columns) {
  const from = columns.findIndex((name) => /^from(_|$)/.test(name));
  const to = columns.findIndex((name) => /^to(_|$)/.test(name));
  if (from < 0 || to < 0) return null;
  const unit = columns[from].replace(/^from_?/, "");
  return { from, to, unit: UNITS[unit] ?? unit.replaceAll("_", " ") };
}

function showQuery({ title, sql, columns, rows }) {
  $("query-title").textContent = rows.length ? title : `${title}: no rows yet`;
  $("query-sql").textContent = sql;
  $("query-table").replaceChildren(...table(columns.map(columnText), rows.map((row) => row.map(cellText))).children);
  const at = valueColumn(columns, rows);
  const bars = [];
  if (at !== undefined) {
    const bins = binsOf(columns);
    const most = Math.max(...rows.map((row) => Math.abs(row[at] ?? 0)), 1e-9);
    const versions = new Set(rows.map((row) => row[columns.indexOf("version")]));
    const isCurrent = (row) => row[columns.indexOf("version")] === currentVersion();
    const first = versions.size < 2 ? rows : [...rows.filter(isCurrent), ...rows.filter((row) => !isCurrent(row))];
    if (rows.length > MOST_BARS) $("query-title").textContent += ` (${MOST_BARS} of ${rows.length} rows)`;
    for (const row of first.slice(0, MOST_BARS)) {
      const text = columns.map((name, i) => [name, row[i], i]).filter(([name, value, i]) =>
        typeof value === "string" && i !== at && !/^(latest)$/.test(name) && !(name === "version" && versions.size < 2));
      const names = text.map(([, value]) => cellText(value));
      if (bins) names.push(`${cellText(row[bins.from])} to ${cellText(row[bins.to])} ${bins.unit}`);
      const meter = element("meter");
      meter.max = most;
      meter.value = Math.abs(row[at] ?? 0);
      meter.setAttribute("aria-label", `${names.join(", ")}: ${columns[at]}`);
      bars.push(element("span", names.join(" · "), "name"), meter, element("span", number(row[at], Number.isInteger(row[at]) && !unitOf(columns[at]) && !/coverage/.test(columns[at]) ? 0 : 2)));
    }
    $("query-title").textContent += `: ${columnText(columns[at])}`;
  }
  $("query-bars").replaceChildren(...bars);
}

$("query").addEventListener("change", loadQuery);
