// Two small charts on canvas that share one x axis: one place a reading, in the order of arrival.

export const LEFT = 46, RIGHT = 8, TOP = 8, BOTTOM = 22;

export const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

const time = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hour12: false });
const day = new Intl.DateTimeFormat([], { year: "numeric", month: "short", day: "numeric" });

export function formatTime(ms, withDay = false) {
  return withDay ? `${day.format(ms)} ${time.format(ms)}` : time.format(ms);
}

// Round steps for about `count` grid lines between `low` and `high`.
function ticks(low, high, count) {
  const raw = (high - low) / count;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= raw);
  const first = Math.ceil(low / step);
  const last = Math.floor(high / step + 1e-9);
  const digits = Math.max(0, -Math.floor(Math.log10(step)));
  return Array.from({ length: last - first + 1 }, (_, i) => [(first + i) * step, ((first + i) * step).toFixed(digits)]);
}

export class Chart {
  constructor(canvas, span) {
    this.canvas = canvas;
    this.span = span; // points -> [low, high] of the y axis
    this.points = [];
    this.cursor = null;
    this.waiting = false;
    new ResizeObserver(() => this.redraw()).observe(canvas);
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.redraw());
  }

  show(points, cursor) {
    this.points = points;
    this.cursor = cursor;
    this.canvas.dataset.points = points.length;
    this.redraw();
  }

  redraw() {
    if (this.waiting) return;
    this.waiting = true;
    requestAnimationFrame(() => { this.waiting = false; this.draw(); });
  }

  x(i) {
    const n = this.points.length;
    return LEFT + (n < 2 ? 0.5 : i / (n - 1)) * (this.width - LEFT - RIGHT);
  }

  y(value) {
    return TOP + (1 - (value - this.low) / (this.high - this.low)) * (this.height - TOP - this.bottom);
  }

  // The place of the point nearest to a pixel.
  nearest(offsetX) {
    const n = this.points.length;
    if (n === 0) return null;
    const part = (offsetX - LEFT) / Math.max(1, this.width - LEFT - RIGHT);
    return Math.min(n - 1, Math.max(0, Math.round(part * (n - 1))));
  }

  draw() {
    const { canvas } = this;
    this.width = canvas.clientWidth;
    this.height = canvas.clientHeight;
    if (!this.width || !this.height) return;
    const ratio = window.devicePixelRatio || 1;
    canvas.width = Math.round(this.width * ratio);
    canvas.height = Math.round(this.height * ratio);
    const pen = canvas.getContext("2d");
    pen.scale(ratio, ratio);
    pen.font = "12px system-ui, sans-serif";
    if (this.points.length === 0) return;
    [this.low, this.high] = this.span(this.points);
    this.drawGrid(pen);
    this.drawPoints(pen);
    if (this.cursor !== null && this.cursor < this.points.length) this.drawCursor(pen);
  }

  drawGrid(pen) {
    const grid = color("--line"), text = color("--soft");
    pen.lineWidth = 1;
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const [value, label] of ticks(this.low, this.high, this.height > 160 ? 5 : 4)) {
      const y = Math.round(this.y(value)) + 0.5;
      pen.strokeStyle = grid;
      pen.beginPath(); pen.moveTo(LEFT, y); pen.lineTo(this.width - RIGHT, y); pen.stroke();
      pen.fillStyle = text;
      pen.fillText(label, LEFT - 8, y);
    }
    if (this.bottom === BOTTOM) this.drawTimes(pen);
  }

  drawTimes(pen) {
    const n = this.points.length;
    const labels = Math.max(2, Math.min(n, Math.floor((this.width - LEFT) / 130)));
    pen.textBaseline = "alphabetic";
    const days = Math.abs(this.points[n - 1].time - this.points[0].time) > 86_400_000;
    for (let k = 0; k < labels; k++) {
      const i = Math.round((k * (n - 1)) / Math.max(1, labels - 1));
      pen.textAlign = k === 0 ? "left" : k === labels - 1 ? "right" : "center";
      pen.fillText(days ? day.format(this.points[i].time) : time.format(this.points[i].time), this.x(i), this.height - 4);
      if (n === 1) break;
    }
  }

  drawCursor(pen) {
    const x = Math.round(this.x(this.cursor)) + 0.5;
    pen.strokeStyle = color("--soft");
    pen.setLineDash([3, 3]);
    pen.beginPath(); pen.moveTo(x, TOP); pen.lineTo(x, this.height - this.bottom); pen.stroke();
    pen.setLineDash([]);
  }
}

export class PowerChart extends Chart {
  bottom = BOTTOM;

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
      const room = Math.max((high - low) * 0.06, 0.5);
      return [low - room, high + room];
    });
  }

  drawPoints(pen) {
    const { points } = this;
    const dense = points.length > (this.width - LEFT) / 3;
    pen.lineJoin = "round";
    pen.fillStyle = color("--band");
    let start = null;
    for (let i = 0; i <= points.length; i++) {
      const has = i < points.length && points[i].lower !== null && points[i].upper !== null;
      if (has && start === null) start = i;
      if (!has && start !== null) { this.drawBand(pen, start, i - 1); start = null; }
    }
    pen.strokeStyle = color("--predicted");
    pen.lineWidth = dense ? 1.2 : 2;
    pen.beginPath();
    points.forEach((p, i) => (i ? pen.lineTo(this.x(i), this.y(p.predicted)) : pen.moveTo(this.x(i), this.y(p.predicted))));
    pen.stroke();
    pen.fillStyle = color("--measured");
    const radius = dense ? 1.2 : points.length > 150 ? 1.9 : 2.6;
    points.forEach((p, i) => {
      if (p.measured === null) return;
      pen.beginPath(); pen.arc(this.x(i), this.y(p.measured), radius, 0, 7); pen.fill();
    });
    if (points.length === 1) { pen.fillStyle = color("--predicted"); pen.fillRect(this.x(0) - 8, this.y(points[0].predicted) - 1, 16, 2); }
  }

  drawBand(pen, first, last) {
    if (first === last) {
      const { lower, upper } = this.points[first];
      pen.fillRect(this.x(first) - 4, this.y(upper), 8, this.y(lower) - this.y(upper));
      return;
    }
    pen.beginPath();
    for (let i = first; i <= last; i++) pen.lineTo(this.x(i), this.y(this.points[i].upper));
    for (let i = last; i >= first; i--) pen.lineTo(this.x(i), this.y(this.points[i].lower));
    pen.fill();
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

export class ErrorChart extends Chart {
  bottom = 4;

  constructor(canvas, least = 1) {
    super(canvas, (points) => {
      let most = least;
      for (const p of points) if (p.measured !== null && p.predicted !== null) most = Math.max(most, Math.abs(p.predicted - p.measured));
      return [-most * 1.1, most * 1.1];
    });
  }

  drawPoints(pen) {
    const usual = color("--predicted"), outside = color("--bad");
    const width = Math.max(1, Math.min(8, ((this.width - LEFT - RIGHT) / this.points.length) * 0.6));
    const zero = this.y(0);
    this.points.forEach((p, i) => {
      if (p.measured === null || p.predicted === null) return;
      pen.fillStyle = isOutside(p) ? outside : usual;
      const y = this.y(p.predicted - p.measured);
      pen.fillRect(this.x(i) - width / 2, Math.min(y, zero), width, Math.max(1, Math.abs(zero - y)));
    });
  }
}

export function isOutside(p) {
  return p.measured !== null && p.lower !== null && p.upper !== null && (p.measured < p.lower || p.measured > p.upper);
}
