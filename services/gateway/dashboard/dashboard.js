// The dashboard: asks the gateway for a past, then follows its event stream from exactly there on.
// Whatever comes from outside is written with textContent, never as HTML.

import { ErrorChart, PowerChart, formatTime, isOutside } from "./charts.js";
import { showForecasts } from "./forecasts.js";
import { $, ask, duration, element, number, onSignedOut, rate, setConnection, setTile, table } from "./page.js";

const MOST_POINTS = 2000;
const EYES_PER_SECOND = 25; // more predictions a second nobody sees
const MOST_REJECTED = 50;
const MOST_BARS = 24;
const SLOW_MS = 30_000;
const PROBES = "kappawatt-doctor"; // what `kappawatt doctor` sends through is no plant
const state = {
  key: null, points: [], window: 200, cursor: null, source: null, lastId: null, reopen: null,
  keys: 0, rejectedTotal: null, version: null, lastEvent: 0, signedOut: false, service: "plant-power", services: null,
};
const power = new PowerChart($("power"));
const error = new ErrorChart($("error"));

// --- points ----------------------------------------------------------------------------------------------

function shown() {
  return state.points.slice(-state.window);
}

function toPoint(p) {
  const name = "net_power";
  const value = (v) => (typeof v === "number" && Number.isFinite(v) ? v : null);
  const moment = Date.parse(p.event_time);
  return {
    time: Number.isNaN(moment) ? p.published : moment,
    predicted: value(p[name]), lower: value(p[`${name}_lower`]), upper: value(p[`${name}_upper`]),
    measured: value(p[`measured_${name}`]), extrapolated: p.extrapolated === true,
  };
}

function draw() {
  const points = shown();
  const none = state.points.length === 0;
  $("empty").hidden = !none;
  for (const id of ["charts", "legend", "window"]) $(id).hidden = none;
  if (state.cursor !== null && state.cursor >= points.length) state.cursor = null;
  power.show(points, state.cursor);
  error.show(points, state.cursor);
  readOut(points);
}

function readOut(points) {
  const last = points.length - 1;
  if (last < 0) { $("readout").textContent = ""; return; }
  const p = points[state.cursor ?? last];
  const parts = [
    formatTime(p.time, true),
    p.measured === null ? "not measured" : `measured ${number(p.measured)} MW`,
    `predicted ${number(p.predicted)} MW`,
  ];
  if (p.lower !== null && p.upper !== null) parts.push(`interval ${number(p.lower)} to ${number(p.upper)}`);
  if (p.measured !== null) parts.push(`error ${number(p.predicted - p.measured)}${isOutside(p) ? " (outside)" : ""}`);
  if (p.extrapolated) parts.push("outside of the training range");
  $("readout").textContent = parts.join(" · ");
  $("power").setAttribute("aria-label", `Net power of ${state.key || "the plant"}, ${points.length} readings. ${parts.join(", ")}`);
}

function moveCursor(to) {
  const n = shown().length;
  state.cursor = to === null || n === 0 ? null : Math.min(n - 1, Math.max(0, to));
  draw();
}

for (const chart of [power, error]) {
  chart.canvas.addEventListener("pointermove", (event) => moveCursor(chart.nearest(event.offsetX)));
  chart.canvas.addEventListener("pointerleave", () => moveCursor(null));
}
$("power").addEventListener("keydown", (event) => {
  const n = shown().length, at = state.cursor ?? n - 1;
  const step = event.shiftKey ? 10 : 1;
  const to = { ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: n - 1, Escape: null }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  $("readout").setAttribute("aria-live", "polite");
  moveCursor(to);
});
$("power").addEventListener("blur", () => { $("readout").removeAttribute("aria-live"); moveCursor(null); });
$("window").addEventListener("change", (event) => { state.window = Number(event.target.value); state.cursor = null; draw(); });

// --- plants ----------------------------------------------------------------------------------------------

async function loadPlants() {
  const { predictions } = await ask("/api/latest");
  const keys = predictions.map((p) => p.key ?? "").slice(0, 500).sort((a, b) => a.localeCompare(b, [], { numeric: true }));
  if (state.key !== null && !keys.includes(state.key)) keys.push(state.key);
  $("plant").replaceChildren(...keys.map((key) => {
    const option = element("option", key || "(no key)");
    option.value = key;
    option.selected = key === state.key;
    return option;
  }));
  $("plant-field").hidden = keys.length === 0 || state.service !== "plant-power";
}

$("plant").addEventListener("change", (event) => start(event.target.value));

async function start(key) {
  close();
  const asked = key === null ? "" : `key=${encodeURIComponent(key)}&`;
  let recent;
  try {
    recent = await ask(`/api/recent?${asked}limit=${MOST_POINTS}`);
  } catch (problem) {
    if (!state.signedOut) { setConnection("reconnecting", "reconnecting"); state.reopen = setTimeout(() => start(key), 3000); }
    return;
  }
  state.key = recent.key;
  state.points = recent.event_time.map((moment, i) => ({
    time: moment, predicted: recent.predicted[i], lower: recent.lower[i], upper: recent.upper[i],
    measured: recent.measured[i], extrapolated: recent.extrapolated[i],
  }));
  state.lastId = recent.position;
  state.cursor = null;
  draw();
  open();
  loadPlants().catch(() => {});
}

// --- stream ----------------------------------------------------------------------------------------------

function close() {
  clearTimeout(state.reopen);
  state.source?.close();
  state.source = null;
}

function open() {
  const query = new URLSearchParams({ rate: EYES_PER_SECOND });
  if (state.key !== null) query.set("key", state.key);
  if (state.lastId) query.set("last_event_id", state.lastId);
  const source = (state.source = new EventSource(`/api/stream?${query}`));
  const seen = (event) => { state.lastId = event.lastEventId; state.lastEvent = Date.now(); };
  source.addEventListener("prediction", (event) => { seen(event); addPrediction(JSON.parse(event.data)); });
  source.addEventListener("rejection", (event) => { seen(event); loadRejections(); });
  source.addEventListener("summary", (event) => { seen(event); showSummary(JSON.parse(event.data)); });
  source.onerror = () => {
    setConnection("reconnecting", "reconnecting");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    close();
    state.reopen = setTimeout(() => ask("/api/session").then(resume, resume), 3000);
  };
}

async function resume() {
  try {
    const session = await ask("/api/session");
    if (session.keys_needed && !session.signed_in) showSignIn();
    else open();
  } catch { state.reopen = setTimeout(resume, 3000); }
}

let drawing = false;
function addPrediction(p) {
  const point = toPoint(p);
  if (point.predicted === null || (p.key ?? "").startsWith(PROBES)) return;
  if (state.key === null) { state.key = p.key ?? ""; loadPlants().catch(() => {}); }
  if ((p.key ?? "") !== state.key) return;
  state.points.push(point);
  if (state.points.length > MOST_POINTS) state.points.splice(0, state.points.length - MOST_POINTS);
  if (state.cursor !== null && state.points.length > state.window) state.cursor = Math.max(0, state.cursor - 1);
  if (!drawing) { drawing = true; requestAnimationFrame(() => { drawing = false; draw(); }); }
}

function showSummary(s) {
  if (s.view.connected) setConnection("live", "live");
  else setConnection("stale", s.view.poll_age_seconds === null ? "bus unreachable" : `bus unreachable, ${Math.round(s.view.poll_age_seconds)} s old`);
  $("empty-reason").textContent = s.view.error ? `The bus says: ${s.view.error}` : s.view.missing_topics.length ? `These topics do not exist yet: ${s.view.missing_topics.join(", ")}` : "";
  setTile("tile-readings", rate(s.readings_per_second));
  setTile("tile-predictions", rate(s.predictions_per_second));
  setTile("tile-mae", number(s.error.mae), "MW");
  $("tile-mae-note").textContent = s.error.count ? `RMSE ${number(s.error.rmse)}` : "not measured yet";
  setTile("tile-coverage", s.interval.coverage === null ? "–" : number(100 * s.interval.coverage, 1), "%");
  $("tile-mae").title = `${s.error.count.toLocaleString()} newest predictions with a measured value`;
  $("tile-coverage-note").textContent = `of ${Math.round(100 * s.interval.nominal)} % promised`;
  setTile("tile-p50", ...duration(s.latency.p50_ms));
  setTile("tile-p99", ...duration(s.latency.p99_ms));
  setTile("tile-lag", number(s.consumer_lag.messages, 0));
  const version = s.serving?.version ?? null;
  setTile("tile-version", version ?? "–");
  $("tile-version").title = version ?? "";
  $("tile-version-note").textContent = s.serving?.promoted_at ? "promoted replay" : "version";
  if (state.service === "plant-power") $("stream-name").textContent = s.serving ? `${s.serving.model ?? "plant-power"} on ${s.serving.topic}` : "plant power, measured and predicted";
  if (s.rejections.total !== state.rejectedTotal) loadRejections();
  if (version !== state.version) { state.version = version; loadModel(); }
  if (s.keys !== state.keys) { state.keys = s.keys; loadPlants().catch(() => {}); }
}

setInterval(() => {
  if (state.source && state.lastEvent && Date.now() - state.lastEvent > 10_000) setConnection("reconnecting", "reconnecting");
}, 2000);

// --- rejected readings -----------------------------------------------------------------------------------

let askingRejections = false;
async function loadRejections() {
  if (askingRejections) return;
  askingRejections = true;
  try {
    const { total, by_reason, newest } = await ask("/api/rejections");
    state.rejectedTotal = total;
    showRejections(total, by_reason, newest);
  } catch { /* the next summary asks again */ } finally { askingRejections = false; }
}

function showRejections(total, byReason, newest) {
  $("rejected-count").textContent = total ? `${total.toLocaleString()} rows` : "";
  $("rejected-none").hidden = total > 0;
  $("rejected").hidden = total === 0;
  $("rejected-reasons").replaceChildren(...Object.entries(byReason).map(([reason, n]) => element("li", `${reason.replaceAll("_", " ")} ${n.toLocaleString()}`)));
  const rows = newest.slice(0, MOST_REJECTED).map((letter) => {
    const row = element("tr");
    const got = letter.got === null || letter.got === undefined ? "nothing" : typeof letter.got === "string" ? letter.got : JSON.stringify(letter.got);
    const cells = [
      ["When", formatTime(letter.published), "when"], ["Key", letter.key ?? "–"],
      ["Reason", String(letter.reason).replaceAll("_", " "), "reason"], ["Field", letter.field ?? "–", "mono"],
      ["Got", got, "mono"], ["Allowed", letter.allowed ?? "–"],
    ];
    for (const [label, text, className] of cells) {
      const cell = element("td", null, className);
      cell.dataset.label = label;
      cell.append(element("span", text));
      row.append(cell);
    }
    row.title = `${letter.topic}[${letter.partition}]@${letter.offset}`;
    return row;
  });
  $("rejected").tBodies[0].replaceChildren(...rows);
}

// --- model card ------------------------------------------------------------------------------------------

const METRICS = {
  mae: "MAE", rmse: "RMSE", mape: "MAPE", smape: "sMAPE", rmae: "rMAE", r2: "R²", crps: "CRPS", rcrps: "rCRPS",
  pinball: "pinball", coverage_90: "coverage", width_90: "width",
};
const SMALLER_IS_BETTER = new Set(["mae", "rmse", "mape", "smape", "rmae", "crps", "rcrps", "pinball", "width_90"]);

async function loadModel() {
  const service = state.service;
  const none = () => {
    $("model").replaceChildren();
    $("model-kind").textContent = "";
    $("synthetic").hidden = true;
    $("model-none").hidden = false;
    $("model-none").textContent = `The ${service} service is not reachable, so its model card is not shown.`;
  };
  let card, baseline;
  try {
    if (!state.services?.includes(service)) { none(); return; } // known a moment after the page is there
    card = await ask(`/api/${service}/params`);
    const other = (card.versions ?? []).find((v) => v !== card.version && v.startsWith("baseline"));
    baseline = other ? await ask(`/api/${service}/params?version=${encodeURIComponent(other)}`).catch(() => null) : null;
  } catch { if (service === state.service) none(); return; }
  if (service === state.service) showModel(card, baseline);
}

function showModel(card, baseline) {
  $("model-none").hidden = true;
  $("model-kind").textContent = card.kind ?? "";
  const source = String(card.data?.source ?? "unknown");
  const synthetic = source.toUpperCase().startsWith("SYNTHETIC");
  $("synthetic").hidden = !synthetic;
  $("synthetic").textContent = synthetic ? `The model was trained on SYNTHETIC data (${source}). Its errors say nothing about a real plant.` : "";
  const facts = element("dl", null, "facts");
  const fact = (name, text, className) => facts.append(element("dt", name), element("dd", text, className));
  fact("Version", card.version, "mono");
  fact("Data", synthetic ? source : `${source}`, synthetic ? "bad" : "");
  if (typeof card.data?.rows === "number") fact("Rows", card.data.rows.toLocaleString());
  if (card.created) fact("Trained", String(card.created).slice(0, 10));
  $("model").replaceChildren(facts, ...metricTables(card, baseline), ...rangeTable(card));
}

function metricTables(card, baseline) {
  return Object.entries(card.metrics ?? {}).flatMap(([protocol, scores]) => {
    if (scores === null || typeof scores !== "object") return [];
    const names = Object.keys(METRICS).filter((name) => typeof scores[name] === "number");
    if (names.length === 0) return [];
    const theirs = baseline?.metrics?.[protocol];
    const head = ["", card.kind === "baseline" ? "baseline" : "model", ...(theirs ? ["baseline"] : [])];
    const rows = names.map((name) => {
      const mine = scores[name], their = theirs?.[name];
      const better = typeof their === "number" && (SMALLER_IS_BETTER.has(name) ? mine < their : name === "r2" && mine > their);
      const shown = [METRICS[name], [number(mine, 3), better]];
      if (theirs) shown.push(typeof their === "number" ? number(their, 3) : "–");
      return shown;
    });
    const measured = typeof scores.n === "number" ? `${protocol}, ${scores.n.toLocaleString()} rows` : protocol;
    return [element("h3", `Measured on ${measured.replaceAll("_", " ")}`), table(head, rows)];
  });
}

function rangeTable(card) {
  const rows = Object.entries(card.training_range ?? {}).filter(([, range]) => Array.isArray(range))
    .map(([name, [low, high]]) => [name.replaceAll("_", " "), number(low), number(high)]);
  return rows.length ? [element("h3", "Training range"), table(["", "from", "to"], rows)] : [];
}

// --- analytics -------------------------------------------------------------------------------------------

async function loadQueries() {
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

function columnText(name) {
  return name.replace(/_mw$/, " [MW]").replace(/^mae\b/, "mean absolute error").replaceAll("_", " ");
}

function showQuery({ title, sql, columns, rows }) {
  $("query-title").textContent = rows.length ? title : `${title}: no rows yet`;
  $("query-sql").textContent = sql;
  $("query-table").replaceChildren(...table(columns.map(columnText), rows.map((row) => row.map(cellText))).children);
  const at = valueColumn(columns, rows);
  const bars = [];
  if (at !== undefined) {
    const binned = columns.includes("from_degc");
    const most = Math.max(...rows.map((row) => Math.abs(row[at] ?? 0)), 1e-9);
    const versions = new Set(rows.map((row) => row[columns.indexOf("version")]));
    const isCurrent = (row) => row[columns.indexOf("version")] === state.version;
    const first = versions.size < 2 ? rows : [...rows.filter(isCurrent), ...rows.filter((row) => !isCurrent(row))];
    if (rows.length > MOST_BARS) $("query-title").textContent += ` (${MOST_BARS} of ${rows.length} rows)`;
    for (const row of first.slice(0, MOST_BARS)) {
      const text = columns.map((name, i) => [name, row[i], i]).filter(([name, value, i]) =>
        typeof value === "string" && i !== at && !/^(latest)$/.test(name) && !(name === "version" && versions.size < 2));
      const names = text.map(([, value]) => cellText(value));
      if (binned) names.push(`${cellText(row[columns.indexOf("from_degc")])} to ${cellText(row[columns.indexOf("to_degc")])} °C`);
      const meter = element("meter");
      meter.max = most;
      meter.value = Math.abs(row[at] ?? 0);
      meter.setAttribute("aria-label", `${names.join(", ")}: ${columns[at]}`);
      bars.push(element("span", names.join(" · "), "name"), meter, element("span", number(row[at], Number.isInteger(row[at]) && !/_mw$|coverage/.test(columns[at]) ? 0 : 2)));
    }
    $("query-title").textContent += `: ${columnText(columns[at])}`;
  }
  $("query-bars").replaceChildren(...bars);
}

$("query").addEventListener("change", loadQuery);

// --- services and session --------------------------------------------------------------------------------

async function loadServices() {
  const { services } = await ask("/api/services");
  const items = services.map((s) => {
    const item = element("li", s.ready ? s.name : `${s.name}: ${String(s.reason).replace(`${s.name}: `, "")}`, s.ready ? "ready" : "down");
    item.title = `circuit ${s.circuit}`;
    return item;
  });
  $("services").replaceChildren(...(items.length ? items : [element("li", "none yet")]));
  return services;
}

async function loadSlow() {
  try {
    const services = await loadServices();
    state.services = services.map((s) => s.name);
    if (services.some((s) => s.name === "sink")) await loadQueries();
    if (state.services.includes(state.service) && !$("model-none").hidden) await loadModel();
  } catch { /* asked again in a moment */ }
}

// --- views -----------------------------------------------------------------------------------------------

const VIEWS = { plant: "plant-power", load: "hourly-load", meters: "smart-meter" };

function showView() {
  const name = location.hash.slice(1);
  if (!(name in VIEWS) && name !== "") return; // a link to a place on the page
  const view = name in VIEWS ? name : "plant";
  for (const each of Object.keys(VIEWS)) {
    if (each === view) $(`tab-${each}`).setAttribute("aria-current", "page");
    else $(`tab-${each}`).removeAttribute("aria-current");
  }
  const changed = state.service !== VIEWS[view];
  state.service = VIEWS[view];
  $("view-plant").hidden = view !== "plant";
  $("view-forecast").hidden = view === "plant";
  $("plant-field").hidden = view !== "plant" || $("plant").options.length === 0;
  $("stream-name").textContent = { plant: "plant power, measured and predicted", load: "hourly load, forecast and measured", meters: "smart meters, forecast and measured" }[view];
  showForecasts(view === "plant" || state.signedOut ? null : view);
  if (view === "plant") draw();
  if (changed) { $("model").replaceChildren(); loadModel(); }
}

addEventListener("hashchange", showView);

function showSignIn() {
  state.signedOut = true;
  close();
  setConnection("reconnecting", "signed out");
  showForecasts(null);
  $("sign-in").hidden = false;
  $("content").hidden = true;
  $("sign-out").hidden = true;
  $("key").focus();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  const answer = await fetch("/api/session", {
    method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify({ key: $("key").value }),
  });
  $("key").value = "";
  if (!answer.ok) { $("sign-in-error").textContent = answer.status === 429 ? "Too many tries; wait a moment." : "This key is not known here."; return; }
  location.reload();
});

$("sign-out").addEventListener("click", async () => { await fetch("/api/session", { method: "DELETE" }); location.reload(); });

onSignedOut(showSignIn);

async function begin() {
  try {
    const session = await ask("/api/session");
    if (session.keys_needed && !session.signed_in) { showSignIn(); return; }
    $("sign-out").hidden = !session.signed_in;
  } catch { setTimeout(begin, 3000); return; }
  loadRejections();
  loadSlow();
  showView();
  setInterval(() => { if (!state.signedOut && !document.hidden) loadSlow(); }, SLOW_MS);
  await start(null);
}

begin();
