// Readings that were refused, of all streams.

import { formatTime } from "./charts.js";
import { $, ask, element } from "./page.js";

const MOST_REJECTED = 50;
let shown = null; // how many there were

let askingRejections = false;
// Ask for them, unless there are as many as are shown.
export async function loadRejections(expected = null) {
  if (askingRejections || (expected !== null && expected === shown)) return;
  askingRejections = true;
  try {
    const { total, by_reason, newest } = await ask("/api/rejections");
    shown = total;
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
