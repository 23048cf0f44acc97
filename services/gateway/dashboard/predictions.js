// The view of a stream of predictions: asks the gateway for a past, then follows its event stream from exactly there on.

import { ErrorChart, PowerChart, formatTime, isOutside } from "./charts.js";
import { $, address, ask, duration, element, isSignedOut, number, rate, setConnection, setTile, titled } from "./page.js";
import { loadRejections } from "./rejections.js";

const MOST_POINTS = 2000;
const EYES_PER_SECOND = 25; // more predictions a second nobody sees
const PROBES = "kappawatt-doctor"; // what `kappawatt doctor` sends through is nobody's
const state = {
  view: null, shown: false, key: null, points: [], window: 200, cursor: null, source: null, lastId: null, reopen: null,
  keys: 0, version: null, lastEvent: 0,
};
const power = new PowerChart($("power"));
const error = new ErrorChart($("error"), 0.001);
let versionChanged = () => {};
let needsKey = () => {};

// What serves now; the callback is told when that changes.
export const currentVersion = () => state.version;
export function onVersion(callback) { versionChanged = callback; }
export function onNoKey(callback) { needsKey = callback; }

// --- view ------------------------------------------------------------------------------------------------

// Show a view, or none. The stream of the last one, or of the first there is, stays open: it says whether the gateway is
// live, and what was rejected.
export function showPredictions(view, first) {
  state.shown = view !== null;
  $("view-predictions").hidden = !state.shown;
  $("plant-field").hidden = !state.shown || $("plant").options.length === 0;
  const wanted = view ?? state.view ?? first;
  if (wanted !== null && wanted.name !== state.view?.name) follow(wanted);
  else if (state.shown) draw();
}

function follow(view) {
  Object.assign(state, { view, points: [], cursor: null, lastId: null, keys: 0, version: null });
  const title = titled(view.target);
  $("plant-noun").textContent = titled(view.key.noun);
  $("power-title").textContent = title;
  $("error-unit").textContent = view.unit;
  $("tile-mae-note").textContent = view.unit;
  $("power").setAttribute("aria-label", title);
  start(null);
}

// --- points ----------------------------------------------------------------------------------------------

function shown() {
  return state.points.slice(-state.window);
}

function toPoint(p) {
  const name = state.view.target;
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
  const { unit, target, key } = state.view;
  const parts = [
    formatTime(p.time, true),
    p.measured === null ? "not measured" : `measured ${number(p.measured)} ${unit}`,
    `predicted ${number(p.predicted)} ${unit}`,
  ];
  if (p.lower !== null && p.upper !== null) parts.push(`interval ${number(p.lower)} to ${number(p.upper)}`);
  if (p.measured !== null) parts.push(`error ${number(p.predicted - p.measured)}${isOutside(p) ? " (outside)" : ""}`);
  if (p.extrapolated) parts.push("outside of the training range");
  $("readout").textContent = parts.join(" · ");
  $("power").setAttribute("aria-label", `${titled(target)} of ${state.key || `the ${key.noun}`}, ${points.length} readings. ${parts.join(", ")}`);
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

// --- keys ------------------------------------------------------------------------------------------------

async function loadKeys() {
  const { view } = state;
  const { predictions } = await ask(view.paths.all);
  if (view !== state.view) return;
  const keys = predictions.map((p) => p.key ?? "").slice(0, 500).sort((a, b) => a.localeCompare(b, [], { numeric: true }));
  if (state.key !== null && !keys.includes(state.key)) keys.push(state.key);
  $("plant").replaceChildren(...keys.map((key) => {
    const option = element("option", key || "(no key)");
    option.value = key;
    option.selected = key === state.key;
    return option;
  }));
  $("plant-field").hidden = keys.length === 0 || !state.shown;
}

$("plant").addEventListener("change", (event) => start(event.target.value));

async function start(key) {
  close();
  const { view } = state;
  let recent;
  try {
    recent = await ask(address(view.paths.recent, { key, limit: MOST_POINTS }));
  } catch {
    if (!isSignedOut()) { setConnection("reconnecting", "reconnecting"); state.reopen = setTimeout(() => start(key), 3000); }
    return;
  }
  if (view !== state.view) return;
  state.key = recent.key;
  state.points = recent.event_time.map((moment, i) => ({
    time: moment, predicted: recent.predicted[i], lower: recent.lower[i], upper: recent.upper[i],
    measured: recent.measured[i], extrapolated: recent.extrapolated[i],
  }));
  state.lastId = recent.position;
  state.cursor = null;
  draw();
  open();
  loadKeys().catch(() => {});
}

// --- stream ----------------------------------------------------------------------------------------------

export function close() {
  clearTimeout(state.reopen);
  state.source?.close();
  state.source = null;
}

function open() {
  const { view } = state;
  const asked = { rate: EYES_PER_SECOND, key: state.key, last_event_id: state.lastId };
  const source = (state.source = new EventSource(address(view.paths.stream, asked)));
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
    if (session.keys_needed && !session.signed_in) needsKey();
    else open();
  } catch { state.reopen = setTimeout(resume, 3000); }
}

let drawing = false;
function addPrediction(p) {
  const point = toPoint(p);
  if (point.predicted === null || (p.key ?? "").startsWith(PROBES)) return;
  if (state.key === null) { state.key = p.key ?? ""; loadKeys().catch(() => {}); }
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
  setTile("tile-mae", number(s.error.mae), state.view.unit);
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
  const { service, meaning } = state.view;
  if (state.shown) $("stream-name").textContent = s.serving ? `${s.serving.model ?? service} on ${s.serving.topic}` : `${meaning}, measured and predicted`;
  loadRejections(s.rejections.total);
  if (version !== state.version) { state.version = version; versionChanged(); }
  if (s.keys !== state.keys) { state.keys = s.keys; loadKeys().catch(() => {}); }
}

setInterval(() => {
  if (state.source && state.lastEvent && Date.now() - state.lastEvent > 10_000) setConnection("reconnecting", "reconnecting");
}, 2000);
