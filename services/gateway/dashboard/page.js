// What every part of the page uses. Whatever comes from outside is written with textContent, never as HTML.

export const $ = (id) => document.getElementById(id);

export function element(tag, text, className) {
  const made = document.createElement(tag);
  if (text !== undefined && text !== null) made.textContent = text;
  if (className) made.className = className;
  return made;
}

export const number = (value, digits = 2) =>
  value === null || value === undefined ? "–" : value.toLocaleString([], { minimumFractionDigits: digits, maximumFractionDigits: digits });

export const rate = (value) => number(value, value !== null && value !== undefined && value < 10 ? 1 : 0);

export function duration(ms) {
  if (ms === null || ms === undefined) return ["–", ""];
  if (ms < 1000) return [number(ms, ms < 10 ? 1 : 0), "ms"];
  return ms < 120_000 ? [number(ms / 1000, 1), "s"] : [number(ms / 60_000, 0), "min"];
}

export function setTile(id, text, unit = "") {
  const tile = $(id);
  tile.replaceChildren(document.createTextNode(text));
  if (unit && text !== "–") tile.append(" ", element("small", unit));
}

// net_power: Net power.
export const titled = (name) => name.replaceAll("_", " ").replace(/^./, (first) => first.toUpperCase());

// A path with more in its query; what is null is left out.
export function address(path, query = {}) {
  const url = new URL(path, location.origin);
  for (const [name, value] of Object.entries(query)) if (value !== null) url.searchParams.set(name, value);
  return url.pathname + url.search;
}

// A path with a key in the place of {key}.
export const keyed = (path, key) => path.replace("{key}", () => encodeURIComponent(key).replaceAll("%2F", "/"));

let signedOut = () => {};
export function onSignedOut(callback) { signedOut = callback; }
export const isSignedOut = () => !$("sign-in").hidden;

// What a path answers; null where nothing is there, if that is no surprise.
export async function ask(path, maybeNone = false) {
  const answer = await fetch(path, { headers: { Accept: "application/json" } });
  if (answer.status === 401) { signedOut(); throw new Error("signed out"); }
  if (maybeNone && answer.status === 404) return null;
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

export function setConnection(name, text) {
  const pill = $("connection");
  if (pill.dataset.state === name && pill.textContent === text) return;
  pill.dataset.state = name;
  pill.textContent = text;
}

// Cells are text, or [text, whether it is the better one].
export function table(head, rows) {
  const made = element("table");
  const top = made.createTHead().insertRow();
  head.forEach((text, i) => { const cell = element("th", text, i ? "number" : ""); cell.scope = "col"; top.append(cell); });
  const body = made.createTBody();
  for (const cells of rows) {
    const row = body.insertRow();
    cells.forEach((cell, i) => {
      const [text, better] = Array.isArray(cell) ? cell : [cell, false];
      row.append(element("td", text, `${i ? "number" : ""}${better ? " better" : ""}`));
    });
  }
  return made;
}
