// The net as a picture: boxes are layers, lines are blobs.

const BOX = { width: 116, height: 46, gapX: 46, gapY: 24, margin: 14 };
const LEAST_SCALE = 0.78;
const FAMILIES = [
  [/onvolution|Im2col/, "convolution"],
  [/InnerProduct|Embed|LSTM|RNN/, "dense"],
  [/Pool|SPP|Unpool|Upsample|Interp|Resize/, "pooling"],
  [/ReLU|Sigmoid$|TanH|ELU|Swish|BNLL|AbsVal|Power|Exp|Log$|Clip|Dropout|Mish|HardS/, "activation"],
  [/Norm|LRN|Scale|Bias|MVN/, "normalisation"],
  [/Loss|Accuracy|Softmax/, "loss"],
  [/Data|Input|Parameter/, "source"],
];

/** Whether no gradient flows through a layer. */
function isClosed(layer) {
  return !Object.keys(layer.targets).length;
}

function familyOf(type) {
  return (FAMILIES.find(([pattern]) => pattern.test(type)) || [null, "other"])[1];
}

/** For every layer its column (how far from the inputs) and lane, and the lines between layers. */
function layout() {
  const producers = new Map();
  const places = [];
  const lines = [];
  const taken = new Set();
  page.layers.forEach((layer, number) => {
    const sources = layer.bottoms.map((b) => producers.get(b.blob)).filter((p) => p !== undefined);
    const column = sources.length ? Math.max(...sources.map((s) => places[s].column)) + 1 : 0;
    let lane = sources.length ? places[sources[0]].lane + (isClosed(layer) ? 1 : 0) : 0; // labels leave the top lane free
    while (taken.has(`${column},${lane}`)) lane++;
    taken.add(`${column},${lane}`);
    places.push({ column, lane });
    layer.bottoms.forEach((b) => producers.has(b.blob) && lines.push({ from: producers.get(b.blob), to: number, name: b.name }));
    layer.tops.forEach((t) => producers.set(t.blob, number));
  });
  return { places, lines };
}

function drawPicture(onChoose) {
  const { places, lines } = layout();
  const x = (place) => BOX.margin + place.column * (BOX.width + BOX.gapX);
  const y = (place) => BOX.margin + place.lane * (BOX.height + BOX.gapY);
  const width = Math.max(...places.map(x)) + BOX.width + BOX.margin;
  const height = Math.max(...places.map(y)) + BOX.height + BOX.gapY;
  const picture = svg("svg", { viewBox: `0 0 ${width} ${height}`, width, height });
  for (const line of lines) picture.append(drawLine(line, places, x, y));
  page.layers.forEach((layer, number) => picture.append(drawBox(layer, number, x(places[number]), y(places[number]), onChoose)));
  picture.style.minWidth = `${LEAST_SCALE * width}px`; // a net that nearly fits is shrunk, a longer one is scrolled
  document.getElementById("picture").append(picture);
}

function drawLine(line, places, x, y) {
  const [from, to] = [places[line.from], places[line.to]];
  const [x1, y1] = [x(from) + BOX.width, y(from) + BOX.height / 2];
  const [x2, y2] = [x(to), y(to) + BOX.height / 2];
  const group = svg("g", { class: "blob" });
  group.append(svg("path", { d: route(x1, y1, x2, y2, to.column - from.column) }));
  if (to.column - from.column === 1 && from.lane === to.lane) {
    const label = svg("text", { x: (x1 + x2) / 2, y: y1 - 6 });
    label.append(line.name.length > 8 ? `${line.name.slice(0, 7)}…` : line.name);
    group.append(label);
  }
  const title = svg("title");
  title.append(`blob ${line.name}`);
  group.append(title);
  return group;
}

/** A line to the next column; a longer one along the lower lane, or below its own, so that it crosses no box. */
function route(x1, y1, x2, y2, columns) {
  const half = BOX.gapX / 2;
  if (columns === 1) return `M${x1} ${y1} C${x1 + half} ${y1} ${x2 - half} ${y2} ${x2} ${y2}`;
  const y = y1 === y2 ? y1 + (BOX.height + BOX.gapY) / 2 : Math.max(y1, y2);
  return `M${x1} ${y1} C${x1 + half} ${y1} ${x1 + half} ${y} ${x1 + BOX.gapX} ${y} H${x2 - BOX.gapX} C${x2 - half} ${y} ${x2 - half} ${y2} ${x2} ${y2}`;
}

function drawBox(layer, number, x, y, onChoose) {
  const closed = isClosed(layer);
  const box = svg("g", {
    class: `layer ${familyOf(layer.type)}${closed ? " closed" : ""}`,
    transform: `translate(${x} ${y})`,
    role: "button",
    tabindex: 0,
    "data-layer": layer.name,
    "aria-label": `layer ${layer.name}, ${layer.type}${closed ? ", no gradient flows through it" : ""}`,
  });
  const name = svg("text", { x: 12, y: 19, class: "name" });
  name.append(layer.name.length > 13 ? `${layer.name.slice(0, 12)}…` : layer.name);
  const type = svg("text", { x: 12, y: 35, class: "type" });
  type.append(layer.type.length > 16 ? `${layer.type.slice(0, 15)}…` : layer.type);
  const title = svg("title");
  title.append(`${layer.name} (${layer.type})`);
  box.append(title, svg("rect", { width: BOX.width, height: BOX.height, rx: 8 }), svg("rect", { class: "stripe", width: 4, height: BOX.height - 16, x: 0, y: 8, rx: 2 }), name, type);
  box.addEventListener("click", () => onChoose(number));
  box.addEventListener("keydown", (event) => boxKey(event, number, onChoose));
  return box;
}

function boxKey(event, number, onChoose) {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (event.key === "Enter" || event.key === " ") onChoose(number);
  else if (step) document.querySelectorAll("#picture .layer")[number + step]?.focus();
  else return;
  event.preventDefault();
}

function markInPicture(number) {
  document.querySelectorAll("#picture .layer").forEach((box, i) => {
    box.classList.toggle("chosen", i === number);
    if (i === number) box.setAttribute("aria-current", "true");
    else box.removeAttribute("aria-current");
  });
  const box = document.querySelectorAll("#picture .layer")[number];
  const nav = document.getElementById("picture");
  const [seen, own] = [nav.getBoundingClientRect(), box.getBoundingClientRect()];
  if (own.left < seen.left || own.right > seen.right) nav.scrollLeft += (own.left + own.right - seen.left - seen.right) / 2;
}
