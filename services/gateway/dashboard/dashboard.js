// The dashboard: a tab for each view there is, and what stands below all of them.
// Whatever comes from outside is written with textContent, never as HTML.

import { loadQueries } from "./analytics.js";
import { showForecasts } from "./forecasts.js";
import { loadModel, servicesAre, showModelOf } from "./model.js";
import { $, ask, element, isSignedOut, onSignedOut, setConnection } from "./page.js";
import { close, onNoKey, onVersion, showPredictions } from "./predictions.js";
import { loadRejections } from "./rejections.js";

const SLOW_MS = 30_000;
const FORMS = ["predictions", "forecasts"]; // of views that can be drawn here
let views = [];

// --- views -----------------------------------------------------------------------------------------------

async function loadViews() {
  views = (await ask("/api/views")).views.filter((view) => FORMS.includes(view.form));
  $("tabs").replaceChildren(...views.map((view) => {
    const tab = element("a", view.title);
    tab.id = `tab-${view.name}`;
    tab.href = `#${encodeURIComponent(view.name)}`;
    return tab;
  }));
}

// The view that the address names: by name, or by title as links of former days do. None is a place on the page.
function named(hash) {
  if (hash === "") return views[0] ?? null;
  return views.find((view) => view.name === hash) ?? views.find((view) => view.title.toLowerCase() === hash.toLowerCase()) ?? null;
}

function showView() {
  if (isSignedOut()) return;
  const view = named(decodeURIComponent(location.hash.slice(1)));
  if (view === null) return;
  for (const tab of $("tabs").children) {
    if (tab.id === `tab-${view.name}`) tab.setAttribute("aria-current", "page");
    else tab.removeAttribute("aria-current");
  }
  const predicts = view.form === "predictions";
  $("stream-name").textContent = `${view.meaning}, ${predicts ? "measured and predicted" : "forecast and measured"}`;
  const first = views.find((each) => each.form === "predictions") ?? null;
  showForecasts(predicts ? null : view, first === null);
  showPredictions(predicts ? view : null, first);
  showModelOf(view.service);
}

addEventListener("hashchange", showView);
onVersion(loadModel);

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
    const services = (await loadServices()).map((s) => s.name);
    loadRejections();
    if (services.includes("sink")) await loadQueries();
    await servicesAre(services);
  } catch { /* asked again in a moment */ }
}

function showSignIn() {
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
onNoKey(showSignIn);

async function open() {
  try {
    const session = await ask("/api/session");
    if (session.keys_needed && !session.signed_in) { showSignIn(); return; }
    $("sign-out").hidden = !session.signed_in;
    await loadViews();
  } catch { if (!isSignedOut()) setTimeout(open, 3000); return; }
  loadSlow();
  showView();
  setInterval(() => { if (!isSignedOut() && !document.hidden) loadSlow(); }, SLOW_MS);
}

open();
