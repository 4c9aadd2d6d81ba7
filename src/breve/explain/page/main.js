// The state of the page: one layer, one gradient, one cell; everything on show follows from it.

const state = { layer: 0, wrt: "data", index: null };
const panels = new Panels({ choose });
const sumView = new SumView({ light: (term) => panels.light(term) });

/** Choose a cell of a gradient of a layer, if the page holds it. */
function choose(layer, wrt, index, push = true) {
  const found = page.layers[layer];
  if (!(wrt in found.targets)) return explainAbsence(layer, wrt);
  if (!isOpen(found, wrt, index)) {
    notice(`${gradientName(wrt)}${at(index)} of ${found.name} is not on this page: ${commandFor({ layer, wrt, index })}`);
    return;
  }
  Object.assign(state, { layer, wrt, index: [...index] });
  if (push) history.pushState(null, "", hash());
  show();
}

function show() {
  const layer = page.layers[state.layer];
  const sum = sumOf(layer, state.wrt, state.index);
  notice("");
  markInPicture(state.layer);
  showHeadline(state, sum);
  panels.show(state, sum);
  sumView.show(state, sum);
  showDerivations(state, sum);
  showProof(state, sum);
  showWay(state, sum, choose);
  showTexts(state);
  announce(`${gradientName(state.wrt)}${at(state.index)} of ${layer.name}: ${shortest(sum.value, sum.kind)}, ${sum.terms.length} terms`);
}

/** Why a layer or an input has no gradient, said above the panels. */
function explainAbsence(layer, wrt) {
  const found = page.layers[layer];
  const why = found.no_gradient || `no gradient flows to ${wrt} of this layer: it is a label, a statistic, or cut off in the prototxt`;
  notice(`${found.name} (${found.type}): ${why}`);
  markInPicture(layer);
}

function notice(text) {
  let box = document.getElementById("notice");
  if (!box) document.getElementById("headline").before((box = el("p", { id: "notice", class: "notice", role: "status" })));
  box.textContent = text;
  box.hidden = !text;
}

/** Turn to a layer: to its strongest cell among those that the page holds. */
function chooseLayer(number, push = true) {
  const layer = page.layers[number];
  const wrt = state.wrt in layer.targets ? state.wrt : Object.keys(layer.targets)[0];
  if (!wrt) return explainAbsence(number, "data");
  const index = strongestCell(layer, wrt);
  if (index) choose(number, wrt, index, push);
  else notice(`No cell of ${layer.name} is on this page.`);
}

function strongestCell(layer, wrt) {
  const diff = cells(targetOf(layer, wrt).side.diff);
  let best = null;
  let size = -1;
  for (const block of diff.blocks) {
    block.values ??= decode(block);
    block.values.forEach((value, i) => {
      if (Math.abs(value) <= size) return;
      const index = unravel(i, block.size).map((n, axis) => n + block.start[axis]);
      if (isOpen(layer, wrt, index)) [best, size] = [index, Math.abs(value)];
    });
  }
  return best;
}

function hash() {
  const { name } = page.layers[state.layer];
  return `#layer=${encodeURIComponent(name)}&wrt=${state.wrt}&at=${state.index.join(",")}`;
}

/** Go where the address says; false where it says nothing. */
function followHash() {
  const asked = new URLSearchParams(location.hash.slice(1));
  const layer = page.layers.findIndex((l) => l.name === asked.get("layer"));
  if (layer < 0) return false;
  const index = (asked.get("at") || "").split(",").filter((x) => x !== "").map(Number);
  choose(layer, asked.get("wrt") || "data", index, false);
  return true;
}

/** The cell that the page was written for; where no gradient flows to it, why, and another layer's strongest cell. */
function openAtStart() {
  const { layer_number: number, wrt, index } = page.start;
  if (wrt in page.layers[number].targets) {
    Object.assign(state, { layer: number, wrt, index });
    return show();
  }
  const other = page.layers.findIndex((layer) => Object.keys(layer.targets).length);
  if (other >= 0) chooseLayer(other, false);
  explainAbsence(number, wrt);
}

const THEMES = ["auto", "light", "dark"];

function setTheme(theme) {
  document.documentElement.dataset.theme = theme;
  const button = document.getElementById("theme");
  button.textContent = { auto: "◐ auto", light: "○ light", dark: "● dark" }[theme];
  button.onclick = () => {
    setTheme(THEMES[(THEMES.indexOf(theme) + 1) % THEMES.length]);
    if (state.index) show();
  };
}

function open() {
  openStore(page.arrays);
  document.getElementById("net-name").textContent = page.net.name || "net";
  document.getElementById("objective").textContent = `${page.net.phase} phase, batch of ${page.net.batch}; the objective is ${page.net.objective}`;
  setTheme("auto");
  drawPicture((number) => chooseLayer(number));
  openAtStart();
  followHash();
  window.addEventListener("popstate", followHash);
  window.addEventListener("resize", () => panels.redraw());
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => state.index && show());
  document.documentElement.dataset.ready = "true";
}

open();
