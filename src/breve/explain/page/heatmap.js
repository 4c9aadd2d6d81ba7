// A heat map of one plane: a window of cells around the cursor, marks on those that take part in the sum.

const MOST_SHOWN = 40;

/** Colours of the theme, read once for each drawing. */
function palette() {
  const style = getComputedStyle(document.documentElement);
  const read = (name) => style.getPropertyValue(name).trim();
  return {
    zero: rgb(read("--zero")),
    positive: rgb(read("--positive")),
    negative: rgb(read("--negative")),
    missing: read("--missing"),
    mark: read("--mark"),
    chosen: read("--ink"),
    text: read("--ink"),
    paper: read("--paper"),
  };
}

function rgb(hex) {
  return [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16));
}

/** The colour of a value between -largest and largest: its root, so that small values can be told from zero. */
function colour(colours, value, largest) {
  if (value === undefined) return colours.missing;
  const t = largest ? Math.sqrt(Math.min(1, Math.abs(value) / largest)) : 0;
  const end = value < 0 ? colours.negative : colours.positive;
  return `rgb(${colours.zero.map((z, i) => Math.round(z + (end[i] - z) * t)).join(" ")})`;
}

/** Whether text on a value's colour must be light. */
function isStrong(value, largest) {
  return largest > 0 && Math.abs(value || 0) / largest > 0.45;
}

function firstMark(plane) {
  const [first] = plane.marks.keys();
  return first ? first.split(",").map(Number) : null;
}

class Heatmap {
  constructor(label, handlers) {
    this.handlers = handlers;
    this.cursor = [0, 0];
    this.canvas = el("canvas", { class: "heatmap", tabIndex: 0, role: "application", "aria-roledescription": "heat map" });
    this.readout = el("p", { class: "readout" });
    this.label = label;
    this.element = el("div", { class: "map" }, this.canvas, this.readout);
    this.canvas.addEventListener("click", (event) => this.pick(this.cellAt(event)));
    this.canvas.addEventListener("pointermove", (event) => this.tell(this.cellAt(event)));
    this.canvas.addEventListener("pointerleave", () => this.tell(this.cursor));
    this.canvas.addEventListener("keydown", (event) => this.key(event));
    this.canvas.addEventListener("focus", () => this.draw());
    this.canvas.addEventListener("blur", () => this.draw());
  }

  /** Show a plane; the window moves to its chosen cell, its strongest or its first mark. */
  show(plane) {
    const moved = !this.plane || this.plane.key !== plane.key;
    this.plane = plane;
    const focus = plane.chosen || plane.focus || firstMark(plane);
    if (focus) this.cursor = focus;
    else if (moved) this.cursor = [...plane.first];
    this.draw();
    this.tell(this.cursor);
  }

  get window() {
    const span = (size, centre) => {
      const shown = Math.min(size, MOST_SHOWN);
      return [Math.max(0, Math.min(size - shown, centre - (shown >> 1))), shown];
    };
    const [top, rows] = span(this.plane.rows, this.cursor[0]);
    const [left, columns] = span(this.plane.columns, this.cursor[1]);
    return { top, rows, left, columns };
  }

  draw() {
    if (!this.plane) return;
    const w = this.window;
    const available = Math.max(120, this.element.clientWidth || 300);
    const size = Math.max(5, Math.min(44, Math.floor(available / w.columns), Math.max(12, Math.floor(520 / w.rows))));
    const ratio = window.devicePixelRatio || 1;
    this.size = size;
    Object.assign(this.canvas.dataset, { cell: size, marks: this.plane.marks.size });
    Object.assign(this.canvas, { width: w.columns * size * ratio, height: w.rows * size * ratio });
    this.canvas.style.width = `${w.columns * size}px`;
    this.canvas.style.height = `${w.rows * size}px`;
    const context = this.canvas.getContext("2d");
    context.scale(ratio, ratio);
    const colours = palette();
    for (let r = 0; r < w.rows; r++) for (let c = 0; c < w.columns; c++) this.drawCell(context, colours, w, r, c);
    this.drawRings(context, colours, w);
  }

  drawCell(context, colours, w, r, c) {
    const [row, column] = [r + w.top, c + w.left];
    if (!this.plane.holds(row, column)) return;
    const value = this.plane.value(row, column);
    const [x, y, size] = [c * this.size, r * this.size, this.size];
    context.fillStyle = colour(colours, value, this.plane.largest);
    context.fillRect(x, y, size, size);
    if (size >= 8) {
      context.strokeStyle = colours.paper;
      context.lineWidth = 1;
      context.strokeRect(x + 0.5, y + 0.5, size - 1, size - 1);
    }
    if (size >= 34 && value !== undefined) {
      context.fillStyle = isStrong(value, this.plane.largest) ? "#fff" : colours.text;
      context.font = `${size >= 42 ? 11 : 9}px ui-monospace, monospace`;
      context.textAlign = "center";
      context.textBaseline = "middle";
      context.fillText(brief(value, 2), x + size / 2, y + size / 2, size - 4);
    }
  }

  drawRings(context, colours, w) {
    const ring = (row, column, style, width) => {
      const [r, c] = [row - w.top, column - w.left];
      if (r < 0 || c < 0 || r >= w.rows || c >= w.columns) return;
      context.strokeStyle = style;
      context.lineWidth = width;
      context.strokeRect(c * this.size + width / 2, r * this.size + width / 2, this.size - width, this.size - width);
    };
    for (const [key, strength] of this.plane.marks) {
      const [row, column] = key.split(",").map(Number);
      context.globalAlpha = 0.45 + 0.55 * strength;
      ring(row, column, colours.mark, this.size >= 14 ? 3 : 2);
    }
    context.globalAlpha = 1;
    if (this.plane.lit) ring(...this.plane.lit, colours.chosen, 2);
    if (this.plane.chosen) {
      ring(...this.plane.chosen, colours.paper, this.size >= 14 ? 5 : 3);
      ring(...this.plane.chosen, colours.chosen, this.size >= 14 ? 3 : 2);
    }
    if (document.activeElement === this.canvas) {
      context.setLineDash([3, 2]);
      ring(...this.cursor, colours.chosen, 1.5);
      context.setLineDash([]);
    }
  }

  cellAt(event) {
    const w = this.window;
    const row = w.top + Math.floor(event.offsetY / this.size);
    const column = w.left + Math.floor(event.offsetX / this.size);
    return [Math.min(row, this.plane.rows - 1), Math.min(column, this.plane.columns - 1)];
  }

  pick(cell) {
    if (!this.plane.holds(...cell)) return;
    this.cursor = cell;
    this.handlers.choose(this.plane.index(...cell));
  }

  tell(cell) {
    if (!this.plane.holds(...cell)) return;
    const text = `${this.plane.name}${at(this.plane.index(...cell))} = ${shortest(this.plane.value(...cell), this.plane.kind)}`;
    this.readout.textContent = text;
    this.canvas.setAttribute("aria-label", `${this.label}. ${text}`);
  }

  key(event) {
    const moves = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
    if (event.key in moves) {
      const next = moves[event.key].map((d, a) => this.cursor[a] + d);
      if (this.plane.holds(...next)) this.cursor = next;
      this.draw();
      this.tell(this.cursor);
      announce(this.readout.textContent);
    } else if (event.key === "Enter" || event.key === " ") this.pick(this.cursor);
    else if (event.key === "PageUp" || event.key === "PageDown") this.handlers.page(event.key === "PageDown" ? 1 : -1);
    else return;
    event.preventDefault();
  }
}
