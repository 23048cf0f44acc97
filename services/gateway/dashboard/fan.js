// The fan of a forecast over what was measured: one place an interval, so a day of 23 hours is that much shorter.

import { BOTTOM, Chart, LEFT, RIGHT, TOP, color } from "./charts.js";

const QUARTER = 900_000;

// Text in the local time of a series. A zone this browser does not know is shown in UTC, and says so.
export class Clock {
  constructor(zone) {
    const make = (options) => {
      try { return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: zone || "UTC" }); }
      catch { return new Intl.DateTimeFormat("en-GB", { ...options, timeZone: "UTC" }); }
    };
    this.hour = make({ hour: "2-digit", minute: "2-digit", hour12: false });
    this.date = make({ weekday: "short", day: "numeric", month: "short" });
    this.dateShort = make({ day: "numeric", month: "short" });
    this.year = make({ weekday: "short", day: "numeric", month: "short", year: "numeric" });
    this.zones = [zoneIn("en-US", zone), zoneIn("en-GB", zone)];
    this.known = new Map();
  }

  // Minutes since local midnight.
  minutes(ms) {
    let found = this.known.get(ms);
    if (found === undefined) {
      const [h, m] = this.hour.format(ms).split(":").map(Number);
      found = (h % 24) * 60 + m;
      if (this.known.size > 20_000) this.known.clear();
      this.known.set(ms, found);
    }
    return found;
  }

  // EDT, BST; GMT-4 only where no short name is known.
  zoneName(ms) {
    const names = this.zones.map((zone) => zone.formatToParts(ms).find((part) => part.type === "timeZoneName")?.value ?? "UTC");
    return names.find((name) => !/^GMT./.test(name)) ?? names[0];
  }
}

function zoneIn(language, zone) {
  const options = { timeZoneName: "short", hour: "2-digit" };
  try { return new Intl.DateTimeFormat(language, { ...options, timeZone: zone || "UTC" }); }
  catch { return new Intl.DateTimeFormat(language, { ...options, timeZone: "UTC" }); }
}

export class FanChart extends Chart {
  bottom = BOTTOM + 14;

  constructor(canvas) {
    super(canvas, (points) => {
      let low = Infinity, high = -Infinity;
      for (const p of points) {
        for (const value of [p.predicted, p.lower, p.upper, p.measured]) {
          if (value === null) continue;
          if (value < low) low = value;
          if (value > high) high = value;
        }
      }
      if (low > high) return [0, 1];
      const room = (high - low) * 0.06 || Math.abs(high) * 0.1 || 1;
      return [low >= 0 && low < 0.35 * high ? 0 : low - room, high + room];
    });
    this.clock = new Clock("UTC");
    this.step = 3_600_000;
    this.issued = null; // ms
    this.target = null; // [first, last] place of the day that is forecast
  }

  // The place of a moment, also between intervals.
  place(ms) { return (ms - this.points[0].time) / this.step - 0.5; }

  drawGrid(pen) {
    if (this.target) {
      const [first, last] = this.target;
      const left = Math.max(LEFT, this.x(first - 0.5)), right = Math.min(this.width - RIGHT, this.x(last + 0.5));
      pen.fillStyle = color("--sunken");
      pen.fillRect(left, TOP, right - left, this.height - TOP - this.bottom);
    }
    super.drawGrid(pen);
    this.drawTimes(pen);
  }

  drawTimes(pen) {
    const { points, clock } = this;
    const first = points[0].time, last = points.at(-1).time + this.step;
    const hour = ((this.width - LEFT - RIGHT) / (last - first)) * 3_600_000;
    const every = [1, 2, 3, 6, 12, 24].find((hours) => hours * hour >= 44) ?? 24;
    const base = this.height - this.bottom + 14;
    pen.textBaseline = "alphabetic";
    let days = Infinity; // left edge of the last date drawn
    for (let ms = Math.ceil(first / QUARTER) * QUARTER; ms <= last; ms += QUARTER) {
      const minutes = clock.minutes(ms);
      if (minutes % 60 !== 0 || (minutes / 60) % every !== 0) continue;
      const x = Math.round(Math.max(this.x(this.place(ms)), ms === first ? LEFT : 0)) + 0.5; // the first half interval has no room
      if (x < LEFT - 1 || x > this.width - RIGHT + 1) continue;
      const midnight = minutes === 0;
      pen.strokeStyle = midnight ? color("--soft") : color("--line");
      pen.globalAlpha = midnight ? 0.5 : 0.6;
      pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, this.height - this.bottom); pen.stroke();
      pen.globalAlpha = 1;
      pen.fillStyle = color("--soft");
      pen.textAlign = "center";
      if (every < 24 && x > LEFT + 14 && x < this.width - RIGHT - 14) pen.fillText(clock.hour.format(ms), x, base);
      if (midnight && ms < last && (days === Infinity || x - days > 60)) {
        const room = Math.min(this.width - RIGHT, this.x(this.place(ms + 86_400_000))) - x;
        const text = room > 74 ? clock.date.format(ms) : clock.dateShort.format(ms);
        if (room > pen.measureText(text).width) { pen.textAlign = "left"; pen.fillText(text, x + 3, base + 14); days = x; }
      }
    }
  }

  drawPoints(pen) {
    const { points } = this;
    pen.lineJoin = "round";
    for (const [first, last] of runs(points, (p) => p.predicted !== null, (p) => p.fan)) {
      pen.globalAlpha = points[first].fan === this.chosen ? 1 : 0.75;
      this.drawBand(pen, first, last, "lower", "upper", color("--band"));
      this.drawBand(pen, first, last, "quarter", "threeQuarters", color("--band-inner"));
      this.drawLine(pen, first, last, "predicted", color("--predicted"), 1.8, points[first].fallback ? [6, 4] : []);
      pen.globalAlpha = 1;
    }
    for (const [first, last] of runs(points, (p) => p.measured !== null)) {
      this.drawLine(pen, first, last, "measured", color("--measured"), points.length > this.width ? 1 : points.length > 300 ? 1.4 : 2, []);
    }
    if (this.issued !== null) this.drawIssued(pen);
  }

  drawLine(pen, first, last, name, stroke, width, dash) {
    pen.strokeStyle = stroke; pen.lineWidth = width; pen.setLineDash(dash);
    pen.beginPath();
    for (let i = first; i <= last; i++) pen.lineTo(this.x(i), this.y(this.points[i][name]));
    if (first === last) { pen.moveTo(this.x(first) - 3, this.y(this.points[first][name])); pen.lineTo(this.x(first) + 3, this.y(this.points[first][name])); }
    pen.stroke();
    pen.setLineDash([]);
  }

  drawBand(pen, first, last, low, high, fill) {
    pen.fillStyle = fill;
    pen.beginPath();
    for (let i = first; i <= last; i++) pen.lineTo(this.x(i), this.y(this.points[i][high]));
    for (let i = last; i >= first; i--) pen.lineTo(this.x(i), this.y(this.points[i][low]));
    pen.fill();
  }

  drawIssued(pen) {
    const x = Math.round(this.x(this.place(this.issued))) + 0.5;
    if (x < LEFT || x > this.width - RIGHT) return;
    pen.strokeStyle = color("--ink"); pen.lineWidth = 1; pen.setLineDash([2, 3]);
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, this.height - this.bottom); pen.stroke();
    pen.setLineDash([]);
    pen.fillStyle = color("--ink");
    pen.textBaseline = "top";
    const text = `issued ${this.clock.hour.format(this.issued)}`;
    const fits = x + 5 + pen.measureText(text).width < this.width - RIGHT;
    pen.textAlign = fits ? "left" : "right";
    pen.fillText(text, fits ? x + 5 : x - 5, TOP + 2);
  }

  drawCursor(pen) {
    super.drawCursor(pen);
    const p = this.points[this.cursor];
    for (const [value, name] of [[p.predicted, "--predicted"], [p.measured, "--measured"]]) {
      if (value === null) continue;
      pen.fillStyle = color("--card"); pen.strokeStyle = color(name); pen.lineWidth = 2;
      pen.beginPath(); pen.arc(this.x(this.cursor), this.y(value), 4.5, 0, 7); pen.fill(); pen.stroke();
    }
  }
}

// First and last place of each run of points that have something and are of one kind.
function* runs(points, has, kind = () => 0) {
  let start = null;
  for (let i = 0; i <= points.length; i++) {
    const goes = i < points.length && has(points[i]);
    if (start !== null && (!goes || kind(points[i]) !== kind(points[start]))) { yield [start, i - 1]; start = null; }
    if (goes && start === null) start = i;
  }
}
