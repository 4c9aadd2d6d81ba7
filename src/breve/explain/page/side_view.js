// One array of the layer on show: which plane of it, as a heat map, and all its channels as small ones.

const MOST_TILES = 144;
const TILE = 30;

/** How an array's last axes are laid out as a plane, and which axes before them are chosen by number. */
function arrangement(shape, isParam) {
  const n = shape.length;
  const vector = n >= 3 && shape[n - 1] === 1 && shape[n - 2] === 1 ? n - 2 : n;
  if (isParam && n === 2) return { lead: 0, rows: shape[0], columns: shape[1], vector: false };
  if (vector >= 3) return { lead: n - 2, rows: shape[n - 2], columns: shape[n - 1], vector: false };
  const length = vector ? shape[vector - 1] : 1;
  const columns = length <= 12 ? length : Math.ceil(Math.sqrt(length * 1.6));
  return { lead: Math.max(0, vector - 1), rows: Math.ceil(length / columns), columns, vector: true, length, tail: n - vector };
}

/** The plane of an array at the chosen numbers of its leading axes. */
function planeFor(array, shape, isParam, lead, marks, name) {
  const a = arrangement(shape, isParam);
  const index = (r, c) => {
    if (!a.vector) return [...lead, r, c];
    return shape.length ? [...lead, r * a.columns + c, ...new Array(a.tail).fill(0)] : [];
  };
  return {
    ...a,
    name,
    kind: array.kind,
    largest: array.largest(!isParam && lead.length > 1 ? lead[0] : undefined),
    key: `${name}${shape}`,
    index,
    first: placeIn(a, array.first) || [0, 0],
    holds: (r, c) => r >= 0 && c >= 0 && r < a.rows && c < a.columns && (!a.vector || r * a.columns + c < a.length),
    value: (r, c) => array.at(index(r, c)),
    marks: new Map(),
    chosen: null,
    lit: null,
  };
}

/** Row and column of an index in its plane. */
function placeIn(a, index) {
  if (!index) return null;
  if (!a.vector) return index.slice(a.lead);
  const i = index[a.lead] || 0;
  return [Math.floor(i / a.columns), i % a.columns];
}

class SideView {
  /** `side` is bottom, param or top. */
  constructor(side, handlers) {
    this.side = side;
    this.handlers = handlers;
    this.number = 0;
    this.which = side === "param" ? "data" : "diff";
    this.lead = [];
    this.element = el("section", { class: "panel", "data-side": side });
    this.map = new Heatmap(side, { choose: (index) => handlers.choose(this, index), page: (by) => this.move(this.lead.length - 1, by) });
    this.tiles = el("canvas", { class: "tiles", role: "img" });
    this.tiles.addEventListener("click", (event) => this.pickTile(event));
    this.tilesBox = el("div", { class: "tiles-box" }, this.tiles);
  }

  get blobs() {
    return { bottom: this.layer.bottoms, param: this.layer.params, top: this.layer.tops }[this.side];
  }

  get blob() {
    return this.blobs[this.number];
  }

  get isParam() {
    return this.side === "param";
  }

  get array() {
    return cells(this.which === "diff" ? this.blob.diff : this.blob.data) || cells(this.blob.data);
  }

  /** Show a layer, with the terms of a sum marked; `focus` is an index that must be seen. */
  show(layer, sum, focus) {
    this.layer = layer;
    this.sum = sum;
    this.element.hidden = !this.blobs.length;
    if (!this.blobs.length) return;
    this.number = Math.min(focus?.number ?? this.number, this.blobs.length - 1);
    if (focus?.which) this.which = focus.which;
    const a = arrangement(this.blob.shape, this.isParam);
    this.chosen = focus?.chosen || null;
    this.focus = focus?.index || null;
    this.lead = (focus?.index || this.array.first).slice(0, a.lead);
    this.render();
  }

  /** The indices of this side's cells in the sum's terms. */
  placeOfTerm(term) {
    if (this.side === "top") return term.top === this.number ? term.topIndex : null;
    return this.sum.factorSide === this.side && (this.side === "bottom" ? term.top === this.number : this.number === 0) ? term.factorIndex : null;
  }

  render() {
    const words = { bottom: "in", param: "parameters", top: "out" };
    const names = this.blobs.map((b, i) => el("button", { type: "button", class: i === this.number ? "on" : "", onclick: () => this.turnTo(i) }, b.name));
    const restoreFocus = this.focusKeeper();
    this.element.replaceChildren(
      el("header", {}, el("span", { class: "quiet" }, words[this.side]), el("span", { class: "switch names" }, names), el("small", { class: "quiet" }, times(this.blob.shape))),
      this.switches(),
      this.selectors(),
      this.map.element,
      this.tilesBox,
    );
    restoreFocus();
    this.draw();
  }

  /** Gives the focus back, after its element was made anew, to the one that took its place. */
  focusKeeper() {
    const active = document.activeElement;
    if (!this.element.contains(active)) return () => {};
    const label = active.getAttribute("aria-label");
    const again = () => [...this.element.querySelectorAll("button, input")].find((e) => e.getAttribute("aria-label") === label && e.textContent === active.textContent);
    return () => (active === this.map.canvas ? active : again() || this.map.canvas).focus({ preventScroll: true });
  }

  switches() {
    const word = { data: { param: "value", top: "data", bottom: "data" }[this.side], diff: "diff" };
    const button = (which) =>
      el("button", { type: "button", class: this.which === which ? "on" : "", "aria-pressed": String(this.which === which), disabled: which === "diff" && this.blob.diff === null, onclick: () => this.turn(which) }, word[which]);
    return el("p", { class: "switch" }, button("data"), button("diff"));
  }

  turn(which) {
    this.which = which;
    this.render();
  }

  turnTo(number) {
    this.number = number;
    this.chosen = null;
    this.lead = this.array.first.slice(0, arrangement(this.blob.shape, this.isParam).lead);
    this.render();
  }

  selectors() {
    const names = this.isParam ? ["output k", "input c"] : ["image", "channel", "depth"];
    if (this.isParam && this.layer.geometry && !this.layer.geometry.bottom_is_image) names.splice(0, 2, "input c", "output k");
    const fields = this.lead.map((value, axis) => {
      const limit = this.blob.shape[axis] - 1;
      const input = el("input", { type: "number", min: 0, max: limit, value, "aria-label": names[axis] || `axis ${axis}`, onchange: (event) => this.set(axis, Number(event.target.value)) });
      const step = (by, sign) => el("button", { type: "button", "aria-label": `${names[axis] || "axis"} ${by > 0 ? "up" : "down"}`, onclick: () => this.move(axis, by) }, sign);
      return el("label", {}, `${names[axis] || `axis ${axis}`} `, step(-1, "◀"), input, step(1, "▶"), el("small", { class: "quiet" }, ` of ${limit + 1}`));
    });
    return el("p", { class: "selectors" }, fields);
  }

  move(axis, by) {
    if (axis >= 0) this.set(axis, this.lead[axis] + by);
  }

  set(axis, value) {
    this.lead[axis] = Math.max(0, Math.min(this.blob.shape[axis] - 1, Math.round(value) || 0));
    this.render();
  }

  draw() {
    const prefix = { bottom: "X", param: this.number ? this.blob.name : "W", top: "Y" }[this.side];
    const plane = planeFor(this.array, this.blob.shape, this.isParam, this.lead, null, (this.which === "diff" ? "d" : "") + prefix);
    const seen = (index) => index && this.lead.every((n, axis) => index[axis] === n);
    const largest = Math.max(...this.sum.terms.map((t) => Math.abs(t.product)), 0);
    for (const term of this.sum.terms) {
      const place = this.placeOfTerm(term);
      if (seen(place)) plane.marks.set(String(placeIn(plane, place)), largest ? Math.abs(term.product) / largest : 0);
    }
    if (seen(this.chosen)) plane.chosen = placeIn(plane, this.chosen);
    if (seen(this.focus)) plane.focus = placeIn(plane, this.focus);
    this.map.show(plane);
    this.drawTiles();
  }

  /** Light one term's cell, turning to its plane. */
  light(term) {
    if (this.element.hidden) return;
    const place = this.placeOfTerm(term);
    if (!place) return;
    const lead = place.slice(0, this.lead.length);
    if (String(lead) !== String(this.lead)) {
      this.lead = lead;
      this.render();
    }
    this.map.plane.lit = placeIn(this.map.plane, place);
    this.map.draw();
  }

  /** The axis whose planes are shown small: channels of a map, outputs of a kernel. */
  get tileAxis() {
    return this.isParam ? 0 : this.lead.length - 1;
  }

  get tileRange() {
    const total = this.blob.shape[this.tileAxis];
    const shown = Math.min(total, MOST_TILES);
    const start = Math.max(0, Math.min(total - shown, this.lead[this.tileAxis] - (shown >> 1)));
    return { start, shown, total };
  }

  drawTiles() {
    this.tiles.hidden = !this.lead.length || this.blob.shape[this.tileAxis] < 2 || (!this.isParam && this.lead.length < 2);
    if (this.tiles.hidden) return;
    const { start, shown, total } = this.tileRange;
    const width = Math.max(TILE, this.map.element.clientWidth || 300);
    const columns = Math.max(1, Math.min(shown, Math.floor(width / (TILE + 4))));
    const rows = Math.ceil(shown / columns);
    const ratio = window.devicePixelRatio || 1;
    Object.assign(this.tiles, { width: columns * (TILE + 4) * ratio, height: rows * (TILE + 9) * ratio });
    this.tiles.style.width = `${columns * (TILE + 4)}px`;
    this.tiles.style.height = `${rows * (TILE + 9)}px`;
    this.tiles.setAttribute("aria-label", `${shown} of ${total} planes; the bars show how much each adds to the sum`);
    this.tileColumns = columns;
    const context = this.tiles.getContext("2d");
    context.scale(ratio, ratio);
    this.scrollToTile(Math.floor((this.lead[this.tileAxis] - start) / columns));
    const shares = this.shares();
    const colours = palette();
    for (let i = 0; i < shown; i++) this.drawTile(context, colours, start + i, (i % columns) * (TILE + 4) + 2, Math.floor(i / columns) * (TILE + 9) + 2, shares);
  }

  /** Scroll the small planes, not the page, until a row of them is seen. */
  scrollToTile(row) {
    const [top, box] = [row * (TILE + 9), this.tilesBox];
    if (top < box.scrollTop || top + TILE + 9 > box.scrollTop + box.clientHeight) box.scrollTop = top - box.clientHeight / 2 + TILE / 2;
  }

  /** How much the terms of each small plane add up to, relative to the largest. */
  shares() {
    const sums = new Map();
    for (const term of this.sum.terms) {
      const place = this.placeOfTerm(term);
      if (place && this.lead.every((n, axis) => axis === this.tileAxis || place[axis] === n)) {
        sums.set(place[this.tileAxis], (sums.get(place[this.tileAxis]) || 0) + term.product);
      }
    }
    const largest = Math.max(...[...sums.values()].map(Math.abs), 0);
    return { sums, largest };
  }

  drawTile(context, colours, number, x, y, { sums, largest }) {
    const lead = this.lead.map((n, axis) => (axis === this.tileAxis ? number : n));
    const plane = planeFor(this.array, this.blob.shape, this.isParam, lead, null, "");
    const pixels = Math.min(TILE, Math.max(plane.rows, plane.columns));
    const step = Math.max(plane.rows, plane.columns) / pixels;
    const dot = TILE / pixels;
    for (let r = 0; r < Math.min(pixels, plane.rows / step); r++) {
      for (let c = 0; c < Math.min(pixels, plane.columns / step); c++) {
        context.fillStyle = colour(colours, plane.value(Math.floor(r * step), Math.floor(c * step)), plane.largest);
        context.fillRect(x + c * dot, y + r * dot, dot + 0.3, dot + 0.3);
      }
    }
    const total = sums.get(number);
    if (total !== undefined && largest) {
      context.fillStyle = colours.mark;
      context.fillRect(x, y + TILE + 1, TILE * (Math.abs(total) / largest), 3);
    }
    if (number === this.lead[this.tileAxis]) {
      context.strokeStyle = colours.chosen;
      context.lineWidth = 2;
      context.strokeRect(x - 1, y - 1, TILE + 2, TILE + 2);
    }
  }

  pickTile(event) {
    const { start, shown } = this.tileRange;
    const i = Math.floor(event.offsetY / (TILE + 9)) * this.tileColumns + Math.floor(event.offsetX / (TILE + 4));
    if (i < shown) this.set(this.tileAxis, start + i);
  }
}
