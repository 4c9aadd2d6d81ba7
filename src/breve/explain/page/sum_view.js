// The sum: its formula, its numbers beside the engine's, and every term in a table.

const ROWS_SHOWN = 25;
const PLACES_SHOWN = 3;

function gradientName(wrt) {
  return { data: "dX", weights: "dW", bias: "db" }[wrt] || `d ${wrt}`;
}

function number(value, kind, properties = {}) {
  return el("span", { class: "number", ...properties }, shortest(value, kind));
}

/** What was chosen, and the engine's number. */
function showHeadline(state, sum) {
  const layer = page.layers[state.layer];
  const name = `${gradientName(state.wrt)}${at(state.index)}`;
  replaceIn(
    "headline",
    el("h2", { id: "cell-name" }, name, el("small", {}, ` of ${layer.name} (${layer.type})`)),
    el("p", { id: "value", class: "value" }, number(sum.value, sum.kind)),
    el("p", { class: "quiet" }, "the engine's value; the sum of the terms below is ", number(sum.sum, "f8", { id: "sum-value" }), closeness(sum)),
  );
}

function closeness(sum) {
  if (!sum.complete || sum.value === undefined) return "";
  const apart = ulps(sum.value, sum.sum, sum.kind);
  return apart === 0 ? ": the very same number" : `: ${apart > 0 ? "+" : ""}${apart.toFixed(2)} units in the last place away`;
}

class SumView {
  constructor(handlers) {
    this.handlers = handlers;
    this.byOrder = true;
    this.first = 0;
  }

  show(state, sum) {
    this.state = state;
    this.sum = sum;
    this.first = 0;
    this.layer = page.layers[state.layer];
    this.running = [];
    sum.terms.reduce((total, term, i) => (this.running[i] = total + term.product), 0);
    this.rows = el("div", { class: "scroll" });
    replaceIn(
      "sum",
      el("h3", { id: "sum-title" }, `The sum: ${counted(sum.terms.length, "term")}`),
      el("div", { class: "formula" }, formula(this.layer.targets[state.wrt].formula)),
      this.equations(),
      this.remarks(),
      this.incomplete(),
      this.tools(),
      this.rows,
    );
    this.showRows();
  }

  equations() {
    const lines = equationsOf(this.layer, this.state.wrt, this.state.index);
    return lines.length ? el("p", { class: "equations" }, lines.map((line) => el("code", {}, line))) : null;
  }

  remarks() {
    const lost = Object.entries(this.sum.lost).map(([reason, places]) => lostRemark(reason, places));
    const group = this.layer.geometry && this.layer.geometry.group > 1 ? [groupRemark(this.layer, this.state)] : [];
    const all = [...(this.sum.remarks || []), ...group, ...lost].filter((x) => x);
    return all.length ? el("ul", { class: "remarks" }, all.map((said) => el("li", {}, said))) : null;
  }

  incomplete() {
    if (this.sum.complete && !this.sum.rest) return null;
    const others = page.net.batch - (page.net.images[1] - page.net.images[0]);
    if (this.sum.complete) return el("p", { class: "notice" }, `The other ${others} images of the batch, which are not on this page, add `, number(this.sum.rest, "f8"), ".");
    return el("p", { class: "notice" }, "Not all terms of this cell are on this page. All of them: ", el("code", {}, commandFor(this.state)));
  }

  tools() {
    const select = el(
      "select",
      { "aria-label": "order of the terms", onchange: (event) => this.reorder(event.target.value === "order") },
      el("option", { value: "order", selected: this.byOrder }, "in order"),
      el("option", { value: "size", selected: !this.byOrder }, "largest first"),
    );
    this.place = el("span", { class: "quiet" });
    const turn = (by) => () => this.turn(by);
    return el(
      "p",
      { class: "tools" },
      select,
      el("button", { type: "button", onclick: turn(-1), "aria-label": "previous terms" }, "◀"),
      el("button", { type: "button", onclick: turn(1), "aria-label": "next terms" }, "▶"),
      this.place,
    );
  }

  reorder(byOrder) {
    this.byOrder = byOrder;
    this.first = 0;
    this.showRows();
  }

  turn(by) {
    const last = Math.max(0, this.sum.terms.length - 1);
    this.first = Math.max(0, Math.min(last - (last % ROWS_SHOWN), this.first + by * ROWS_SHOWN));
    this.showRows();
  }

  showRows() {
    const order = this.sum.terms.map((_, i) => i);
    if (!this.byOrder) order.sort((a, b) => Math.abs(this.sum.terms[b].product) - Math.abs(this.sum.terms[a].product));
    const shown = order.slice(this.first, this.first + ROWS_SHOWN);
    const largest = this.sum.terms.reduce((most, t) => Math.max(most, Math.abs(t.product)), 0);
    this.place.textContent = order.length > ROWS_SHOWN ? `${this.first + 1} to ${this.first + shown.length} of ${order.length.toLocaleString("en")}` : "";
    const headings = ["", "dY at", "dY", `${this.sum.factorName} at`, this.sum.factorName, "product", "running sum"];
    this.rows.replaceChildren(
      el(
        "table",
        { class: "terms" },
        el("thead", {}, el("tr", {}, headings.map((h) => el("th", { scope: "col" }, h)))),
        el("tbody", {}, shown.map((i) => this.row(i, largest))),
      ),
    );
  }

  row(i, largest) {
    const term = this.sum.terms[i];
    const diffKind = cells(this.layer.tops[term.top].diff).kind;
    const share = largest ? Math.round((100 * Math.abs(term.product)) / largest) : 0;
    const side = term.product < 0 ? "var(--negative)" : "var(--positive)";
    const bar = `background: linear-gradient(to left, color-mix(in srgb, ${side} 38%, transparent) ${share}%, transparent ${share}%)`;
    const name = this.layer.tops.length > 1 ? this.layer.tops[term.top].name : "";
    return el(
      "tr",
      { tabIndex: 0, onmouseenter: () => this.handlers.light(term), onfocus: () => this.handlers.light(term) },
      el("td", { class: "quiet" }, String(i + 1)),
      el("td", {}, name + at(term.topIndex)),
      el("td", {}, shortest(term.topDiff, diffKind)),
      el("td", {}, term.factorIndex ? at(term.factorIndex) : ""),
      el("td", {}, shortest(term.factor, this.sum.factorKind)),
      el("td", { style: bar }, brief(term.product, 9)),
      el("td", {}, brief(this.running[i], 9)),
    );
  }
}

/** What a reason takes away: the first places at once, the others on request. */
function lostRemark(reason, places) {
  const brief = (x) => Number(x.toPrecision(3));
  const told = places.map(({ tap, meets }) => (tap ? `tap ${tap} at ${meets.map(brief)}` : `output ${meets}`));
  const head = `${places.length} lost to ${reason}: ${told.slice(0, PLACES_SHOWN).join("; ")}`;
  if (told.length <= PLACES_SHOWN) return head;
  const more = told.slice(PLACES_SHOWN, 400).join("; ") + (told.length > 400 ? "; …" : "");
  return el("details", {}, el("summary", {}, `${head}; …`), more);
}

function groupRemark(layer, state) {
  const g = layer.geometry;
  const target = targetOf(layer, state.wrt);
  if (target.isParam && target.number) return "";
  const channel = target.isParam ? channelsOf(g, state.index).channel : placeOf(g, state.index).channel;
  const fanIn = g.channels / g.group;
  const outputs = outputsOf(g, channel);
  const group = Math.floor(channel / fanIn);
  return `group ${group} of ${g.group}: channels ${group * fanIn} to ${(group + 1) * fanIn - 1} meet outputs ${outputs[0]} to ${outputs[outputs.length - 1]} alone`;
}

/** What to type for the whole story of a cell. */
function commandFor(state) {
  return `breve explain --model … --layer ${page.layers[state.layer].name} --wrt ${state.wrt} --at ${state.index.join(",")}`;
}
