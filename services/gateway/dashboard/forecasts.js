// The view of a stream of forecasts: fan against measured, live score, day by day, all series.

import { ErrorChart, isOutside } from "./charts.js";
import { Clock, FanChart } from "./fan.js";
import { $, address, ask, element, keyed, number, setConnection, titled } from "./page.js";

const REFRESH_MS = 1_000; // however fast events come
const LIST_MS = 10_000;
const DAY = 86_400_000;
const MOST_OPTIONS = 500;
const MOST_ROWS = 100;

const state = {
  view: null, alone: false, key: null, series: [], one: null, chosen: null, days: 4, points: [], cursor: null,
  source: null, timer: null, asking: false, again: false, listed: 0, keys: {}, reopen: null,
};
const fan = new FanChart($("fan"));
const error = new ErrorChart($("fan-error"), 0.001);

// Digits that matter, whether it is a city or a lamp.
function amount(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  return number(value, size >= 1000 ? 0 : size >= 100 ? 1 : size >= 10 ? 2 : 3);
}

const share = (value, digits = 1) => (value === null || value === undefined ? "–" : `${number(100 * value, digits)} %`);

// --- view ------------------------------------------------------------------------------------------------

// Show a view, or none; `alone` if no other stream says whether the gateway is live.
export function showForecasts(view, alone = false) {
  close();
  Object.assign(state, { view, alone });
  $("view-forecast").hidden = view === null;
  $("series-field").hidden = true;
  if (view === null) return;
  Object.assign(state, { key: state.keys[view.name] ?? null, series: [], one: null, chosen: null, points: [], cursor: null, listed: 0 });
  $("series-noun").textContent = titled(view.key.noun);
  $("series-title").textContent = `All ${view.key.noun}s`;
  $("fan-tables").classList.toggle("wide", view.day_figures.length > 0);
  $("forecast-notice").hidden = true;
  $("forecast-tiles").replaceChildren();
  refresh();
}

function close() {
  clearTimeout(state.timer);
  clearTimeout(state.reopen);
  state.timer = null;
  state.source?.close();
  state.source = null;
}

function open() {
  const { alone } = state;
  const source = (state.source = new EventSource(address(state.view.paths.stream, { key: state.key })));
  if (alone) source.onopen = () => setConnection("live", "live");
  for (const kind of ["state", "forecast", "forecast-error", "reading"]) source.addEventListener(kind, soon);
  source.onerror = () => {
    if (alone) setConnection("reconnecting", "reconnecting");
    if (source.readyState !== EventSource.CLOSED) return; // the browser tries again by itself
    source.close();
    if (state.source === source) { state.source = null; state.reopen = setTimeout(refresh, 3000); }
  };
}

function soon() {
  if (state.timer === null) state.timer = setTimeout(() => { state.timer = null; refresh(); }, REFRESH_MS);
}

async function refresh() {
  if (state.asking) { state.again = true; return; }
  state.asking = true;
  const view = state.view;
  try {
    await load(view);
  } catch {
    if (state.view === view && view !== null) { clearTimeout(state.timer); state.timer = setTimeout(() => { state.timer = null; refresh(); }, 3000); }
  } finally { state.asking = false; }
  if (state.again) { state.again = false; if (state.view !== null) refresh(); }
}

async function load(view) {
  if (view === null) return;
  if (Date.now() - state.listed > LIST_MS || state.key === null) {
    const { series, streams } = await ask(view.paths.all);
    if (state.view !== view) return;
    state.listed = Date.now();
    series.sort((a, b) => a.key.localeCompare(b.key, [], { numeric: true }));
    state.series = series;
    if (state.key === null || !series.some((s) => s.key === state.key)) {
      state.key = series.reduce((best, s) => (best === null || (s.published ?? 0) > (best.published ?? 0) ? s : best), null)?.key ?? null;
      state.chosen = null;
    }
    showList(streams[0] ?? {});
  }
  const key = state.key;
  const one = key === null ? null : await ask(keyed(view.paths.one, key), true);
  if (state.view !== view || state.key !== key) return;
  state.one = one;
  show();
  if (state.source === null) open();
  if (key === null && state.timer === null) soon();
}

function choose(key) {
  close();
  Object.assign(state, { key, one: null, chosen: null, cursor: null });
  state.keys[state.view.name] = key;
  refresh();
}

$("series").addEventListener("change", (event) => choose(event.target.value));
$("issue").addEventListener("change", (event) => { state.chosen = event.target.value || null; state.cursor = null; show(); });
$("days").addEventListener("change", (event) => { state.days = Number(event.target.value); state.cursor = null; show(); });
$("find").addEventListener("input", () => showRows());

// --- all series ------------------------------------------------------------------------------------------

function showList(stream) {
  const { noun } = state.view.key, { meaning, service } = state.view;
  const shown = state.series.slice(0, MOST_OPTIONS);
  if (state.key !== null && !shown.some((s) => s.key === state.key)) shown.push({ key: state.key });
  $("series").replaceChildren(...shown.map(({ key }) => {
    const option = element("option", key);
    option.value = key;
    option.selected = key === state.key;
    return option;
  }));
  $("series-field").hidden = shown.length === 0;
  const n = state.series.length, score = stream.score;
  $("series-note").textContent = score
    ? `${n.toLocaleString()} series, ${score.n.toLocaleString()} intervals scored: MAE ${amount(score.mae)} ${state.series[0]?.unit ?? ""}, rMAE ${number(score.rmae)}, coverage ${share(score.coverage_90)}`
    : `${n.toLocaleString()} series, nothing scored yet`;
  const trouble = stream.error ? `The bus says: ${stream.error}` : stream.skipped_messages ? `This view fell behind and left out ${stream.skipped_messages.toLocaleString()} messages; the score lacks them.` : "";
  $("forecast-notice").hidden = !trouble;
  $("forecast-notice").textContent = trouble;
  $("fan-empty-title").textContent = `No ${noun} yet`;
  $("fan-empty-text").textContent = stream.missing_topics?.length
    ? `These topics do not exist yet: ${stream.missing_topics.join(", ")}. Make them with kappawatt topics --create, or start all:`
    : `Send the ${meaning}, and start ${service} (serve and consume) to have it forecast:`;
  $("fan-empty-command").firstChild.textContent = stream.missing_topics?.length ? "kappawatt run" : "kappawatt ingest FILE --rate 1";
  showRows();
}

function showRows() {
  const find = $("find").value.trim().toLowerCase();
  const found = state.series.filter((s) => s.key.toLowerCase().includes(find));
  const made = document.createDocumentFragment();
  const head = element("thead"), top = head.insertRow();
  const unit = state.series[0]?.unit ?? "";
  for (const [i, text] of [titled(state.view.key.noun), `MAE [${unit}]`, "rMAE", "Coverage", "Scored"].entries()) {
    const cell = element("th", text, i ? "number" : "");
    cell.scope = "col";
    top.append(cell);
  }
  const body = element("tbody");
  for (const s of found.slice(0, MOST_ROWS)) {
    const row = body.insertRow();
    if (s.key === state.key) row.setAttribute("aria-current", "true");
    const name = row.insertCell();
    const button = element("button", s.key, "plain");
    button.type = "button";
    button.addEventListener("click", () => choose(s.key));
    name.append(button);
    if (s.fallback) name.append(" ", element("small", "naive"));
    if (!s.issue_time) name.append(" ", element("small", "no forecast yet"));
    const good = s.score && s.score.rmae !== null && s.score.rmae < 1;
    for (const [text, className] of [
      [amount(s.score?.mae), ""], [number(s.score?.rmae), good ? " better" : ""], [share(s.score?.coverage_90), ""], [s.score ? s.score.n.toLocaleString() : "–", ""],
    ]) row.append(element("td", text, `number${className}`));
  }
  made.append(head, body);
  $("series-table").replaceChildren(made);
  if (found.length > MOST_ROWS) body.insertRow().append(Object.assign(element("td", `and ${(found.length - MOST_ROWS).toLocaleString()} more: search by name`, "quiet"), { colSpan: 5 }));
}

// --- one series ------------------------------------------------------------------------------------------

function forecasts() {
  return state.one?.forecast ? [state.one.forecast, ...state.one.earlier] : [];
}

const begin = (f) => Date.parse(f.target_time[0]);
const issued = (f) => Date.parse(f.issue_time);

// For each day the forecast that was issued at the chosen one's time of day, else the last.
function byDay(chosen, clock) {
  const days = new Map();
  for (const f of [...forecasts()].sort((a, b) => issued(a) - issued(b))) {
    const known = days.get(begin(f));
    const same = clock.minutes(issued(f)) === clock.minutes(issued(chosen));
    if (!known || same || clock.minutes(issued(known)) !== clock.minutes(issued(chosen))) days.set(begin(f), f);
  }
  days.set(begin(chosen), chosen);
  return days;
}

function show() {
  const { one } = state;
  const all = forecasts();
  const { view } = state, title = titled(view.target);
  const has = one !== null && (all.length > 0 || one.measured.value.length > 0);
  $("fan-empty").hidden = has;
  for (const id of ["fan-charts", "fan-legend", "days", "fan-tables", "forecast-tiles"]) $(id).hidden = !has;
  $("issue-field").hidden = all.length === 0;
  $("badges").replaceChildren();
  if (!has) { $("fan-title").textContent = title; $("fan-readout").textContent = ""; state.points = []; fan.show([], null); return; }
  const clock = clockOf(one.time_zone);
  const chosen = all.find((f) => f.issue_time === state.chosen) ?? all[0] ?? null;
  if (chosen === null || chosen === all[0]) state.chosen = null;
  $("fan-title").textContent = `${title} of ${one.key}`;
  $("fan-unit").textContent = one.unit;
  showIssues(all, chosen, clock);
  showBadges(chosen, one.score);
  state.points = pointsOf(one, chosen, clock);
  const places = state.points.flatMap((p, i) => (chosen && p.fan === chosen.id ? [i] : []));
  Object.assign(fan, {
    clock, step: one.step_seconds * 1000, chosen: chosen?.id ?? null, issued: chosen ? issued(chosen) : null,
    target: places.length ? [places[0], places.at(-1)] : null,
  });
  draw();
  showTiles(one, chosen, clock);
  showDays(one, chosen, clock);
}

let clock = null, clockZone;
function clockOf(zone) {
  if (clock === null || clockZone !== zone) { clock = new Clock(zone); clockZone = zone; }
  return clock;
}

function showIssues(all, chosen, clock) {
  const select = $("issue");
  const text = (f) => `${clock.date.format(begin(f))}, issued ${clock.dateShort.format(issued(f))} ${clock.hour.format(issued(f))}${f === all[0] ? " (newest)" : ""}`;
  const wanted = all.map((f, i) => [i === 0 ? "" : f.issue_time, text(f)]);
  const now = [...select.options].map((o) => [o.value, o.text]);
  if (JSON.stringify(now) !== JSON.stringify(wanted)) {
    select.replaceChildren(...wanted.map(([value, label]) => { const o = element("option", label); o.value = value; return o; }));
  }
  select.value = chosen === all[0] ? "" : chosen?.issue_time ?? "";
}

// Weeks of hours, or days of quarter hours, before the naive may be said to be better.
const SCORED_ENOUGH = 168;

function showBadges(f, score) {
  const badges = [];
  if (f === null) badges.push(["no forecast yet", "The first comes when readings pass the time of day at which forecasts are issued.", "warn"]);
  if (f?.fallback) badges.push(["seasonal naive", `The model did not answer: ${f.fallback_reason ?? "the same local time a week before stands in"}`, "warn"]);
  const unknown = f?.trusted_until ? Date.parse(f.issue_time) - Date.parse(f.trusted_until) : 0;
  if (unknown > 0) badges.push([`newest ${(unknown / 3_600_000).toLocaleString(undefined, { maximumFractionDigits: 2 })} h missing`, `Nothing is known, or trusted, after ${f.trusted_until}; the interval is as wide as forecasts from then deserve.`, "warn"]);
  if (f?.filled) badges.push([`${f.filled.toLocaleString()} filled`, "Intervals of the history that were missing and were filled before the model saw them.", "warn"]);
  if (f?.suspect) badges.push([`${f.suspect.toLocaleString()} suspect`, `Measurements that cannot be right were taken for missing: ${(f.suspect_spans ?? []).map((s) => `${s.why} ${s.start}, ${s.count} in a row`).join("; ")}`, "warn"]);
  if (score && score.rmae !== null && score.rmae >= 1 && score.n >= SCORED_ENOUGH) badges.push(["naive closer when scored", `Over the ${score.n.toLocaleString()} intervals that are scored, the same local time a week before was closer than the model: rMAE ${number(score.rmae)}.`, "warn"]);
  for (const { code, detail } of f?.warnings ?? []) if (!["suspect", "late"].includes(code)) badges.push([code.replaceAll("_", " "), detail, "warn"]);
  if (f?.corrected) badges.push(["corrected", `Late data changed what was known; available at ${f.available_at}.`, ""]);
  $("badges").replaceChildren(...badges.map(([text, title, kind]) => { const made = element("li", text, kind); made.title = title; return made; }));
}

function pointsOf(one, chosen, clock) {
  const step = one.step_seconds * 1000;
  const measured = new Map(one.measured.target_time.map((text, i) => [Date.parse(text), one.measured.value[i]]));
  const newest = Math.max(...[...measured.keys()].slice(-1), -Infinity);
  const end = chosen ? Date.parse(chosen.target_time.at(-1)) + step : newest + step;
  const from = (chosen ? begin(chosen) : end - DAY) - (state.days - 1) * DAY;
  const fans = new Map();
  if (chosen) {
    for (const f of byDay(chosen, clock).values()) {
      if (begin(f) > begin(chosen)) continue;
      f.target_time.forEach((text, i) => fans.set(Date.parse(text), [f, i]));
    }
  }
  const points = [];
  for (let time = Math.ceil(from / step) * step; time < end; time += step) {
    const [f, i] = fans.get(time) ?? [null, 0];
    const q = (level) => f?.quantiles[level]?.[i] ?? null, [lower, upper] = f ? ends(f.quantiles) : [[], []];
    points.push({
      time, measured: measured.get(time) ?? null, fan: f?.id ?? null, fallback: f?.fallback === true,
      predicted: q("0.50"), lower: lower[i] ?? null, upper: upper[i] ?? null,
      quarter: q("0.25") ?? q("0.50"), threeQuarters: q("0.75") ?? q("0.50"),
    });
  }
  return points;
}

function draw() {
  if (state.cursor !== null && state.cursor >= state.points.length) state.cursor = null;
  fan.show(state.points, state.cursor);
  error.show(state.points, state.cursor);
  readOut();
}

function readOut() {
  const { points, one } = state;
  if (!one || points.length === 0) { $("fan-readout").textContent = ""; return; }
  let at = state.cursor;
  if (at === null) { at = points.length - 1; while (at > 0 && points[at].measured === null) at--; if (points[at].measured === null) at = points.length - 1; }
  const p = points[at], unit = one.unit, clock = clockOf(one.time_zone);
  const parts = [
    `${clock.year.format(p.time)} ${clock.hour.format(p.time)} to ${clock.hour.format(p.time + one.step_seconds * 1000)} ${clock.zoneName(p.time)}`,
    p.measured === null ? "not measured yet" : `measured ${amount(p.measured)} ${unit}`,
  ];
  if (p.predicted !== null) {
    parts.push(`forecast ${amount(p.predicted)} ${unit}`, `90 % interval ${amount(p.lower)} to ${amount(p.upper)}`);
    if (p.measured !== null) parts.push(`error ${amount(p.predicted - p.measured)}${isOutside(p) ? " (outside)" : ""}`);
  }
  $("fan-readout").textContent = parts.join(" · ");
  $("fan").setAttribute("aria-label", `${$("fan-title").textContent}, ${points.length} intervals. ${parts.join(", ")}`);
}

function moveCursor(to) {
  const n = state.points.length;
  state.cursor = to === null || n === 0 ? null : Math.min(n - 1, Math.max(0, to));
  draw();
}

for (const chart of [fan, error]) {
  chart.canvas.addEventListener("pointermove", (event) => moveCursor(chart.nearest(event.offsetX)));
  chart.canvas.addEventListener("pointerleave", () => moveCursor(null));
}
$("fan").addEventListener("keydown", (event) => {
  const n = state.points.length, at = state.cursor ?? n - 1;
  const step = event.shiftKey ? 10 : 1;
  const to = { ArrowLeft: at - step, ArrowRight: at + step, Home: 0, End: n - 1, Escape: null }[event.key];
  if (to === undefined) return;
  event.preventDefault();
  $("fan-readout").setAttribute("aria-live", "polite");
  moveCursor(to);
});
$("fan").addEventListener("blur", () => { $("fan-readout").removeAttribute("aria-live"); moveCursor(null); });

const named = ({ name, how }) => ({ sum: "total", max: "peak" })[how] ?? name.replaceAll("_", " ");

// --- tiles -----------------------------------------------------------------------------------------------

function tile(name, value, unit, note, title = "", className = "") {
  const made = element("div"), shown = element("dd", value, className);
  if (unit && value !== "–") shown.append(" ", element("small", unit));
  if (title) made.title = title;
  made.append(element("dt", name), shown, element("p", note));
  return made;
}

// The lowest and the highest quantile of a fan or figure, whatever levels its forecaster has.
function ends(quantiles) {
  const levels = Object.keys(quantiles);
  return [quantiles[levels[0]], quantiles[levels.at(-1)]];
}

function figureTile(name, label, f, unit) {
  const figure = f?.day?.[name], what = f?.day_measured;
  if (!figure) return tile(label, "–", unit, "of the day forecast");
  const measured = what?.[name] ?? null, whole = what && what.intervals === what.of;
  const [low, high] = ends(figure);
  const note = `${amount(low)} to ${amount(high)}${measured === null ? "" : whole ? `; measured ${amount(measured)}` : `; so far ${amount(measured)}`}`;
  return tile(label, amount(figure["0.50"]), unit, note, "Median and 90 % interval of the day that is forecast, and what was measured of it");
}

function showTiles(one, chosen, clock) {
  const s = one.score, { unit } = one;
  const naive = s && s.rmae !== null ? (s.rmae < 1 ? `${number(100 * (1 - s.rmae), 0)} % better than naive` : "not better than naive") : "relative to the naive";
  const tiles = [tile("Error (MAE)", amount(s?.mae), unit, s ? `RMSE ${amount(s.rmse)}` : "not measured yet", "Mean absolute error of the last forecast before each interval")];
  if (state.view.percent) tiles.push(tile("MAPE", s?.mape === null || !s ? "–" : number(100 * s.mape, 2), "%", s ? `sMAPE ${share(s.smape, 2)}` : "of what was measured", "Mean absolute percentage error, where what was measured is not zero"));
  tiles.push(
    tile("rMAE", number(s?.rmae), "", naive, "Error relative to the seasonal naive: the same local time a week before"),
    tile("Interval coverage", s ? number(100 * s.coverage_90, 1) : "–", "%", "of 90 % promised", s ? `Mean width ${amount(s.width_90)} ${unit}` : ""),
    tile("CRPS", amount(s?.crps), unit, s && s.rcrps !== null ? `${number(s.rcrps)} of the naive's` : "all quantiles", "Continuous ranked probability score over 19 quantiles"),
    tile("Scored", s ? s.n.toLocaleString() : "–", "", s?.fallback ? `intervals, ${s.fallback.toLocaleString()} by naive` : "intervals"),
  );
  const figures = state.view.day_figures;
  if (figures.length === 0) tiles.push(tile("Newest issue", one.issue_time ? clock.hour.format(Date.parse(one.issue_time)) : "–", "", one.issue_time ? `${clock.date.format(Date.parse(one.issue_time))}, ${one.time_zone}` : "no forecast yet"));
  else tiles.push(...figures.map((figure) => figureTile(figure.name, `Day ${named(figure)}`, chosen, unit)));
  tiles.push(tile("Model", one.version ?? "–", "", one.model ?? "version", one.version ?? "", "text"));
  $("forecast-tiles").replaceChildren(...tiles);
}

// --- day by day ------------------------------------------------------------------------------------------

function showDays(one, chosen, clock) {
  const rows = chosen ? [...byDay(chosen, clock).values()].sort((a, b) => begin(b) - begin(a)) : [];
  const figures = state.view.day_figures.map((figure) => [figure.name, titled(named(figure))]);
  const columns = [
    ["Day", (f) => [clock.date.format(begin(f)), "day"]],
    ["Issued", (f) => [`${clock.dateShort.format(issued(f))} ${clock.hour.format(issued(f))}`, "day"]],
    ...figures.flatMap(([name, label]) => [
      [`${label} [${one.unit}]`, (f) => [f.day[name] ? `${amount(f.day[name]["0.50"])} (${ends(f.day[name]).map(amount).join(" to ")})` : "–", "number"]],
      ["measured", (f) => {
        const value = f.day_measured[name], q = f.day[name];
        if (value === null || value === undefined) return ["–", "number"];
        if (f.day_measured.intervals < f.day_measured.of) return [`${amount(value)} so far`, "number quiet"];
        const [low, high] = q ? ends(q) : [-Infinity, Infinity], outside = value < low || value > high;
        return [`${amount(value)}${outside ? " outside" : ""}`, `number${outside ? " bad" : ""}`];
      }],
    ]),
    [`MAE [${one.unit}]`, (f) => [amount(f.score?.mae), "number"]],
    ...(!state.view.percent ? [] : [["MAPE", (f) => [share(f.score?.mape, 2), "number"]]]),
    ["Inside 90 %", (f) => [f.score ? share(f.score.coverage_90, 0) : "–", "number"]],
    ["Notes", (f) => [[f.fallback && "naive", f.filled && `${f.filled} filled`, f.suspect && `${f.suspect} suspect`, f.corrected && "corrected"].filter(Boolean).join(", ") || "–"]],
  ];
  const head = element("thead"), top = head.insertRow(), body = element("tbody");
  columns.forEach(([text], i) => { const cell = element("th", text, i > 1 && text !== "Notes" ? "number" : ""); cell.scope = "col"; top.append(cell); });
  for (const f of rows) {
    const row = body.insertRow();
    if (f === chosen) row.setAttribute("aria-current", "true");
    for (const [label, make] of columns) {
      const [text, className] = make(f);
      const cell = element("td", null, className);
      cell.dataset.label = label;
      cell.append(element("span", text));
      row.append(cell);
    }
  }
  $("day-table").replaceChildren(head, body);
  $("days-note").textContent = rows.length ? `${rows.length} days, ${one.time_zone}` : "no forecast yet";
}

// The list and its scores, for whoever looks on without anything happening.
setInterval(() => { if (state.view !== null && !document.hidden) refresh(); }, LIST_MS);
