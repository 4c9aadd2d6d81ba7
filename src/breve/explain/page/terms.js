// Every term of a cell's sum: an element of a top's diff times a factor. Convolutions and products of matrices are solved
// here, from their geometry; of all other layers the page carries the terms of the cells that it holds.

/** The targets of a layer that are bottoms are called data, data1, ...; the others are parameters. */
function targetOf(layer, wrt) {
  const bottom = /^data(\d*)$/.exec(wrt);
  if (bottom) return { isParam: false, number: Number(bottom[1] || 0), side: layer.bottoms[Number(bottom[1] || 0)] };
  const number = layer.params.findIndex((param) => param.name === wrt);
  return { isParam: true, number, side: layer.params[number] };
}

/** The sum of one cell: its terms, what is missing of them on this page, and what it comes to. */
function sumOf(layer, wrt, index) {
  const target = targetOf(layer, wrt);
  const rule = layer.geometry ? layer.geometry.kind : "rows";
  const found = RULES[rule](layer, wrt, target, index);
  found.terms = found.terms.filter((t) => t.topDiff !== undefined && t.factor !== undefined);
  found.missing = found.total - found.terms.length;
  const rest = cells(target.side.rest);
  found.rest = rest ? rest.at(index) : found.rest || 0;
  for (const term of found.terms) term.product = term.topDiff * term.factor;
  const products = found.terms.map((t) => t.product);
  found.sum = exactSum(found.rest ? [...products, found.rest] : products);
  const diff = cells(target.side.diff);
  found.value = diff ? diff.at(index) : undefined;
  found.kind = diff ? diff.kind : "f4";
  const allImages = !target.isParam || !layer.geometry || rest || page.net.images[1] - page.net.images[0] === page.net.batch;
  found.complete = found.missing === 0 && found.total >= 0 && found.rest !== undefined && Boolean(allImages);
  return found;
}

/** Whether the page holds a cell and all that its sum needs; without listing the terms, where that is possible. */
function isOpen(layer, wrt, index) {
  const target = targetOf(layer, wrt);
  const diff = cells(target.side.diff);
  if (!diff || diff.at(index) === undefined) return false;
  if (layer.geometry) return true;
  return rowNumber(layer.targets[wrt].rows, ravel(index, target.side.shape)) >= 0;
}

const RULES = { convolution: convolutionTerms, dense: denseTerms, rows: listedTerms };

function convolutionTerms(layer, wrt, target, index) {
  if (!target.isParam) return convolutionDataTerms(layer, target, index);
  return target.number ? biasTerms(layer, index) : convolutionWeightTerms(layer, index);
}

/** Image indices, channel and pixel of an index of a bottom. */
function placeOf(g, index) {
  return { lead: index.slice(0, g.axis), channel: index[g.axis], pixel: index.slice(g.axis + 1) };
}

function outputsOf(g, channel) {
  const fanIn = g.channels / g.group;
  const fanOut = g.num_output / g.group;
  const first = Math.floor(channel / fanIn) * fanOut;
  return Array.from({ length: fanOut }, (_, i) => first + i);
}

/** The index of the weight that joins a bottom's channel and a top's at a tap. */
function weightIndex(g, channel, k, tap) {
  const fanIn = g.channels / g.group;
  const fanOut = g.num_output / g.group;
  return g.bottom_is_image ? [k, channel % fanIn, ...tap] : [channel, k % fanOut, ...tap];
}

function dataSolutions(g, pixel) {
  return axesOf(g).map((axis, a) => (g.bottom_is_image ? atPixel : atOutput)(axis, pixel[a]));
}

function convolutionDataTerms(layer, target, index) {
  const g = layer.geometry;
  const { lead, channel, pixel } = placeOf(g, index);
  const solutions = dataSolutions(g, pixel);
  const pairs = [...product(solutions.map((s) => s.pairs))];
  const diff = cells(layer.tops[target.number].diff);
  const weight = cells(layer.params[0].data);
  const terms = [];
  for (const k of outputsOf(g, channel)) {
    for (const pair of pairs) {
      const topIndex = [...lead, k, ...pair.map((p) => p.there)];
      const factorIndex = weightIndex(g, channel, k, pair.map((p) => p.tap));
      terms.push({ top: target.number, topIndex, topDiff: diff.at(topIndex), factorIndex, factor: weight.at(factorIndex) });
    }
  }
  return { terms, total: terms.length, factorName: "W", factorSide: "param", factorKind: weight.kind, lost: lostOf(solutions) };
}

/** The bottom's and the top's channel that a weight joins. */
function channelsOf(g, index) {
  const [first, second] = index;
  const fanIn = g.channels / g.group;
  const fanOut = g.num_output / g.group;
  if (g.bottom_is_image) return { channel: Math.floor(first / fanOut) * fanIn + second, k: first };
  return { channel: first, k: Math.floor(first / fanIn) * fanOut + second };
}

/** Indices of the images on this page, for the axes before the channels. */
function* imagesOf(g, shape) {
  const [start, stop] = page.net.images;
  const lead = shape.slice(0, g.axis);
  const ranges = lead.map((d, a) => range(a === 0 && d === page.net.batch ? start : 0, a === 0 && d === page.net.batch ? stop : d));
  yield* product(ranges);
}

function range(start, stop) {
  return Array.from({ length: stop - start }, (_, i) => start + i);
}

function convolutionWeightTerms(layer, index) {
  const g = layer.geometry;
  const { channel, k } = channelsOf(g, index);
  const solutions = axesOf(g).map((axis, a) => atTap(axis, index[2 + a]));
  const pairs = [...product(solutions.map((s) => s.pairs))];
  const terms = [];
  layer.tops.forEach((top, number) => {
    const diff = cells(top.diff);
    const data = cells(layer.bottoms[number].data);
    for (const lead of imagesOf(g, data.shape)) {
      for (const pair of pairs) {
        const pixels = pair.map((p) => p.pixel);
        const outs = pair.map((p) => p.out);
        const topIndex = [...lead, k, ...(g.bottom_is_image ? outs : pixels)];
        const factorIndex = [...lead, channel, ...(g.bottom_is_image ? pixels : outs)];
        terms.push({ top: number, topIndex, topDiff: diff.at(topIndex), factorIndex, factor: data.at(factorIndex) });
      }
    }
  });
  const factorKind = cells(layer.bottoms[0].data).kind;
  return { terms, total: terms.length, factorName: "X", factorSide: "bottom", factorKind, lost: lostOf(solutions) };
}

function biasTerms(layer, index) {
  const g = layer.geometry;
  const terms = [];
  layer.tops.forEach((top, number) => {
    const diff = cells(top.diff);
    for (const lead of imagesOf(g, diff.shape)) {
      for (const place of product(diff.shape.slice(g.axis + 1).map((d) => range(0, d)))) {
        const topIndex = [...lead, index[0], ...place];
        terms.push({ top: number, topIndex, topDiff: diff.at(topIndex), factorIndex: null, factor: 1 });
      }
    }
  });
  return { terms, total: terms.length, factorName: "factor", factorSide: "", factorKind: "f8", lost: {} };
}

function denseTerms(layer, wrt, target, index) {
  const g = layer.geometry;
  const diff = cells(layer.tops[0].diff);
  const top = (n, o) => unravel(n * g.outputs + o, diff.shape);
  if (!target.isParam) {
    const position = ravel(index, target.side.shape);
    const [n, i] = [Math.floor(position / g.inputs), position % g.inputs];
    const weight = cells(layer.params[0].data);
    const terms = range(0, g.outputs).map((o) => joined(diff, top(n, o), weight, g.transpose ? [i, o] : [o, i]));
    return { terms, total: terms.length, factorName: "W", factorSide: "param", factorKind: weight.kind, lost: {} };
  }
  const rows = rowsOnPage(g);
  if (target.number) {
    const terms = rows.map((n) => ({ top: 0, topIndex: top(n, index[0]), topDiff: diff.at(top(n, index[0])), factorIndex: null, factor: 1 }));
    return { terms, total: terms.length, factorName: "factor", factorSide: "", factorKind: "f8", lost: {} };
  }
  const [o, i] = g.transpose ? [index[1], index[0]] : index;
  const data = cells(layer.bottoms[0].data);
  const terms = rows.map((n) => joined(diff, top(n, o), data, unravel(n * g.inputs + i, data.shape)));
  return { terms, total: terms.length, factorName: "X", factorSide: "bottom", factorKind: data.kind, lost: {} };
}

function joined(diff, topIndex, factors, factorIndex) {
  return { top: 0, topIndex, topDiff: diff.at(topIndex), factorIndex, factor: factors.at(factorIndex) };
}

function rowsOnPage(g) {
  const [start, stop] = page.net.images;
  return g.rows === page.net.batch ? range(start, stop) : range(0, g.rows);
}

/** The place of a cell among those whose terms are listed; -1 where they are not. */
function rowNumber(rows, position) {
  rows.cellsDecoded ??= decode(rows.cells);
  let low = 0;
  let high = rows.cellsDecoded.length - 1;
  while (low <= high) {
    const middle = (low + high) >> 1;
    if (rows.cellsDecoded[middle] === position) return middle;
    if (rows.cellsDecoded[middle] < position) low = middle + 1;
    else high = middle - 1;
  }
  return -1;
}

function listedTerms(layer, wrt, target, index) {
  const rows = layer.targets[wrt].rows;
  const position = ravel(index, target.side.shape);
  const row = rowNumber(rows, position);
  const common = { factorName: rows.factor_name, factorSide: "", factorKind: rows.factor_kind, lost: {} };
  if (row < 0) return { terms: [], total: -1, ...common };
  rows.decoded ??= Object.fromEntries(["ends", "top", "top_position", "factor", "factor_position", "rest"].map((n) => [n, rows[n] && decode(rows[n])]));
  const d = rows.decoded;
  const [start, stop] = d.ends ? [row ? d.ends[row - 1] : 0, d.ends[row]] : [row, row + 1];
  const terms = range(start, stop).map((t) => {
    const top = d.top ? d.top[t] : 0;
    const topIndex = unravel(d.top_position[t], layer.tops[top].shape);
    const topDiff = cells(layer.tops[top].diff).at(topIndex);
    const factorIndex = d.factor_position && unravel(d.factor_position[t], rows.factor_shape);
    return { top, topIndex, topDiff, factorIndex, factor: d.factor[t] };
  });
  return { terms, total: terms.length, rest: d.rest ? d.rest[row] : 0, remarks: rows.remarks[position] || [], ...common };
}

/** The index equation with the cell's own numbers, one line for each axis. */
function equationsOf(layer, wrt, index) {
  const g = layer.geometry;
  const target = targetOf(layer, wrt);
  if (!g || g.kind !== "convolution" || (target.isParam && target.number)) return [];
  const known = target.isParam ? index.slice(2) : placeOf(g, index).pixel;
  const which = target.isParam ? 2 : g.bottom_is_image ? 0 : 1;
  return known.map((value, a) => {
    const names = ["hwd", "yxz", "rsq"].map((letters) => letters[a]);
    names[which] = String(value);
    return `${names[1]} · ${g.stride[a]} − ${g.pad[a]} + ${names[2]} · ${g.dilation[a]} = ${names[0]}`;
  });
}
