// Three derivations side by side, worked in matrices; the engine's number and its proof; the way to the loss; symbols.

const MOST_DRAWN = 26;

function showDerivations(state, sum) {
  const layer = page.layers[state.layer];
  const others = derivationsOf(layer, state.wrt, state.index, sum);
  const text = `The sum of ${counted(sum.terms.length, "term")}: each output that the element moved, times how much. The largest:`;
  const chainRule = { name: "chain_rule", title: "Chain rule", value: sum.sum, text, matrices: [], more: largestTerms(sum) };
  const title = el("h3", { id: "derivations-title" }, `The same number, ${others.length === 1 ? "two" : "three"} ways`);
  replaceIn("derivations", others.length ? [title, el("div", { class: "columns" }, [chainRule, ...others].map(derivationCard))] : []);
}

function largestTerms(sum) {
  const largest = [...sum.terms].sort((a, b) => Math.abs(b.product) - Math.abs(a.product)).slice(0, 8);
  const line = (t) => `dY[${t.topIndex}] · ${t.factorIndex ? `${sum.factorName}[${t.factorIndex}]` : "1"} = ${brief(t.topDiff)} · ${brief(t.factor)}`;
  return el("ul", { class: "largest" }, largest.map((t) => el("li", {}, el("code", {}, line(t)))));
}

function derivationCard(d) {
  return el(
    "article",
    { class: "card", "data-derivation": d.name },
    el("h4", {}, d.title),
    el("p", { class: "value small" }, number(d.value, "f8")),
    el("p", { class: "quiet" }, d.text),
    d.more,
    d.matrices.map(matrixTable),
  );
}

function matrixTable(m) {
  const rows = rowsDrawn(m);
  const columns = columnsDrawn(m, rows);
  const marked = new Set(m.marked.map(String));
  const largest = Math.max(0, ...rows.flatMap((r) => columns.map((c) => Math.abs(m.values[r][c]))));
  const whole = rows.length === m.values.length && columns.length === (m.values[0] || []).length;
  const caption = whole ? m.title : `${m.title} (${rows.length} × ${columns.length} of ${m.values.length} × ${m.values[0].length})`;
  const head = el("tr", {}, el("th", {}), columns.map((c) => el("th", { scope: "col" }, m.columns[c])));
  const body = rows.map((r) =>
    el("tr", {}, el("th", { scope: "row" }, m.rows[r]), columns.map((c) => matrixCell(m.values[r][c], largest, marked.has(`${r},${c}`)))),
  );
  return el("div", { class: "scroll" }, el("table", { class: "matrix" }, el("caption", {}, caption), el("thead", {}, head), el("tbody", {}, body)));
}

function rowsDrawn(m) {
  return range(0, Math.min(MOST_DRAWN, m.values.length));
}

/** All columns if they fit, else those of the marked cells in the rows that are drawn. */
function columnsDrawn(m, rows) {
  const whole = (m.values[0] || []).length <= MOST_DRAWN;
  const wanted = whole ? [] : m.marked.filter(([r]) => rows.includes(r)).map(([, c]) => c);
  const all = wanted.length ? [...new Set(wanted)].sort((a, b) => a - b) : range(0, (m.values[0] || []).length);
  return all.slice(0, MOST_DRAWN);
}

function matrixCell(value, largest, isMarked) {
  const colours = palette();
  const strong = isStrong(value, largest);
  const style = `background: ${colour(colours, value, largest)}${strong ? "; color: #fff" : ""}`;
  return el("td", { class: isMarked ? "marked" : "", style, title: String(value) }, brief(value));
}

/** The engine's algorithm, its error, and the numeric derivative where it was computed. */
function showProof(state, sum) {
  const target = page.layers[state.layer].targets[state.wrt];
  const isStart = state.layer === page.start.layer_number && state.wrt === page.start.wrt && String(state.index) === String(page.start.index);
  const rows = [
    ["engine's value", number(sum.value, sum.kind)],
    ["sum of the terms", number(sum.sum, "f8")],
    ["computed by", target.algorithm],
  ];
  if (sum.complete && sum.value !== undefined) rows.push(["difference", `${ulps(sum.value, sum.sum, sum.kind).toFixed(2)} units in the last place`]);
  if (target.error !== null) rows.push(["algorithm's error", `${brief(target.error, 2)} of the largest element, in all of this gradient, against float64`]);
  if (isStart) rows.push(["by differences", numericTold()]);
  const list = el("dl", {}, rows.flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value)]));
  replaceIn("proof", el("h3", { id: "proof-title" }, "The engine's number, and its proof"), list, isStart ? null : numericElsewhere(state));
}

function numericTold() {
  const { value, step, verdict } = page.start.numeric;
  return el("span", { id: "numeric" }, `${value} at step ${brief(step, 1)}: ${verdict}`);
}

/** Differences take many forward passes: the page has them for the cell that it was written for, and says so. */
function numericElsewhere(state) {
  const { layer, layer_number: number, wrt, index } = page.start;
  const back = el("button", { type: "button", onclick: () => choose(number, wrt, index) }, `${gradientName(wrt)}${at(index)} of ${layer}`);
  const told = el("p", { class: "quiet" }, "The derivative by differences, in float64, was taken for the cell that this page was written for, ", back, ": ", numericTold());
  return el("div", {}, told, el("p", { class: "quiet" }, "For this one: ", el("code", {}, commandFor(state))));
}

/** How many terms a station's sum has, and how much the largest is of it. */
function termsTold(station) {
  if (!station.complete) return "not all of its terms are on this page";
  const share = station.share < 0.01 ? "under 1" : Math.round(100 * station.share);
  return counted(station.terms, "term") + (station.terms > 1 ? `, the largest ${share} %` : "");
}

function showWay(state, sum, choose) {
  const stations = chainFrom(state.layer, state.wrt, state.index, sum);
  const item = (s) => {
    const text = s.layer === null ? "the objective" : `${page.layers[s.layer].name} (${page.layers[s.layer].type}): ${termsTold(s)}`;
    const label = [el("code", {}, `${s.blob}${at(s.index)}`), " diff ", number(s.diff, "f4"), el("small", {}, ` → ${text}`)];
    return el("li", {}, s.layer === null ? el("span", { class: "station" }, label) : el("button", { type: "button", class: "station", onclick: () => choose(s.layer, s.wrt, s.index) }, label));
  };
  replaceIn("way", el("h3", { id: "way-title" }, "The way to the loss, along the largest term of each sum"), el("ol", {}, stations.map(item)));
}

/** Text with what follows a ^ as a superscript. */
function raised(text) {
  return text.split(/\^(\([^)]*\)|\w)/).map((part, i) => (i % 2 ? el("sup", {}, part.replace(/[()]/g, "").replace("-", "−")) : part));
}

function showTexts(state) {
  const symbols = page.layers[state.layer].symbols;
  const rows = symbols.map((s) => el("tr", {}, el("th", { scope: "row" }, raised(s.symbol)), el("td", {}, s.meaning), el("td", {}, el("code", {}, raised(s.here)))));
  const table = el("table", { class: "symbols" }, el("thead", {}, el("tr", {}, ["symbol", "in the texts", "here"].map((h) => el("th", { scope: "col" }, h)))), el("tbody", {}, rows));
  replaceIn("texts", symbols.length ? [el("h3", { id: "texts-title" }, "What texts call it"), el("div", { class: "scroll" }, table)] : []);
}
