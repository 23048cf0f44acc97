// The card of the model that answers a stream.

import { $, ask, element, number, table } from "./page.js";

const state = { service: null, services: null };

const METRICS = {
  mae: "MAE", rmse: "RMSE", mape: "MAPE", smape: "sMAPE", rmae: "rMAE", r2: "R²", crps: "CRPS", rcrps: "rCRPS",
  pinball: "pinball", coverage_90: "coverage", width_90: "width",
};
const SMALLER_IS_BETTER = new Set(["mae", "rmse", "mape", "smape", "rmae", "crps", "rcrps", "pinball", "width_90"]);

// Show the card of a service's model.
export function showModelOf(service) {
  if (state.service === service) return;
  state.service = service;
  $("model").replaceChildren();
  loadModel();
}

// Which services there are; the card is asked for once its service is among them.
export async function servicesAre(services) {
  state.services = services;
  if (!$("model-none").hidden) await loadModel();
}

export async function loadModel() {
  const { service } = state;
  if (service === null) return;
  const none = () => {
    $("model").replaceChildren();
    $("model-kind").textContent = "";
    $("synthetic").hidden = true;
    $("model-none").hidden = false;
    $("model-none").textContent = `The ${service} service is not reachable, so its model card is not shown.`;
  };
  let card, baseline;
  try {
    if (state.services === null) return; // known a moment after the page is there
    if (!state.services.includes(service)) { none(); return; }
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
  $("synthetic").textContent = synthetic ? `The model was trained on SYNTHETIC data (${source}). Its errors say nothing about real ones.` : "";
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
