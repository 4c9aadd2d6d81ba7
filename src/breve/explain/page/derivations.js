// The same number twice more, without the list of terms: by correlation and by columns.

const BLOCKS_SHOWN = 5;
const COLLISIONS = ["none stands for this cell", "the marked one alone stands for this cell"];

/** The derivations of a cell beside the chain rule's sum; empty for layers that have none. */
function derivationsOf(layer, wrt, index, sum) {
  const g = layer.geometry;
  const target = targetOf(layer, wrt);
  if (!g || !sum.complete) return [];
  if (g.kind === "dense") return denseDerivations(layer, target, index, sum);
  if (g.kernel.length !== 2) return [];
  if (!target.isParam) return g.bottom_is_image ? dataDerivations(layer, target, index) : mirrorDerivations(layer, target, index);
  return target.number ? [] : weightDerivations(layer, index, sum.rest);
}

function zeros(rows, columns) {
  return Array.from({ length: rows }, () => new Array(columns).fill(0));
}

/** A plane of values read through `at(row, column)`. */
function planeOf(rows, columns, at) {
  return Array.from({ length: rows }, (_, r) => Array.from({ length: columns }, (_, c) => at(r, c)));
}

/** A plane with step - 1 zeros between its neighbours. */
function spread(plane, steps) {
  const wide = zeros((plane.length - 1) * steps[0] + 1, (plane[0].length - 1) * steps[1] + 1);
  plane.forEach((row, r) => row.forEach((value, c) => { wide[r * steps[0]][c * steps[1]] = value; }));
  return wide;
}

/** The part of a plane of this size from a corner on, zero where it lies outside. */
function cut(plane, corner, size) {
  return planeOf(size[0], size[1], (r, c) => (plane[r + corner[0]] || [])[c + corner[1]] || 0);
}

function rotated(plane) {
  return [...plane].reverse().map((row) => [...row].reverse());
}

function products(a, b) {
  return a.flatMap((row, r) => row.map((value, c) => value * b[r][c]));
}

function extentOf(g) {
  return g.kernel.map((k, a) => g.dilation[a] * (k - 1) + 1);
}

/** What is done to dY before the rotated kernel is laid on it. */
function spaced(g) {
  const many = [...new Set(g.stride.map((s) => s - 1))].join(" and ");
  const zeros = g.stride.some((s) => s > 1) ? `${many} ${many === "1" ? "zero" : "zeros"} between its elements (stride − 1) and ` : "";
  const holes = g.dilation.some((d) => d > 1) ? " (the kernel with its holes)" : "";
  return `dY with ${zeros}a border of zeros${holes}`;
}

function labels(n, name = "") {
  return Array.from({ length: n }, (_, i) => `${name}${i}`);
}

function table(title, values, more = {}) {
  return { title, values, rows: labels(values.length), columns: labels(values.length ? values[0].length : 0), marked: [], ...more };
}

/** dY of one output channel under the kernel, and that kernel rotated, for a cell of dX. */
function rotatedPair(layer, target, index, k) {
  const g = layer.geometry;
  const { lead, channel, pixel } = placeOf(g, index);
  const extent = extentOf(g);
  const diff = cells(layer.tops[target.number].diff);
  const weight = cells(layer.params[0].data);
  const kernel = rotated(spread(planeOf(g.kernel[0], g.kernel[1], (r, s) => weight.at(weightIndex(g, channel, k, [r, s]))), g.dilation));
  const corner = pixel.map((p, a) => p + g.pad[a] - extent[a] + 1);
  const patch = planeOf(extent[0], extent[1], (r, c) => {
    const at = [corner[0] + r, corner[1] + c];
    if (at.some((p, a) => p % g.stride[a] || p < 0 || p / g.stride[a] >= g.out[a])) return 0;
    return diff.at([...lead, k, at[0] / g.stride[0], at[1] / g.stride[1]]);
  });
  return { patch, kernel };
}

/** The pair of planes for the channel that adds most, and the sum over all channels. */
function strongest(channels, pairOf) {
  let shown = null;
  const sums = [];
  for (const k of channels) {
    const pair = pairOf(k);
    const parts = products(pair.patch, pair.kernel);
    const size = parts.reduce((total, p) => total + Math.abs(p), 0);
    if (!shown || size > shown.size) shown = { ...pair, k, size };
    sums.push(...parts);
  }
  return { value: exactSum(sums), ...shown };
}

function dataDerivations(layer, target, index) {
  const g = layer.geometry;
  const { lead, channel } = placeOf(g, index);
  const best = strongest(outputsOf(g, channel), (k) => rotatedPair(layer, target, index, k));
  return [
    {
      name: "rotated_kernel",
      title: "Full correlation with the rotated kernel",
      value: best.value,
      text: `${spaced(g)}, under the kernel rotated by 180°; input and output channels change places. Shown for the output channel that adds most.`,
      matrices: [
        table(`dY[${[...lead, best.k]}] under the kernel`, best.patch),
        table(`W[${best.k}, ${channel % (g.channels / g.group)}] rotated by 180°`, best.kernel),
      ],
    },
    scattered(layer, target, index),
  ];
}

/** W^T . dY and col2im: the rows of the column matrix for this channel, and the entries that collide in the cell. */
function scattered(layer, target, index) {
  const g = layer.geometry;
  const { lead, channel, pixel } = placeOf(g, index);
  const diff = cells(layer.tops[target.number].diff);
  const weight = cells(layer.params[0].data);
  const outputs = outputsOf(g, channel);
  const taps = [...product(g.kernel.map((k) => range(0, k)))];
  const entry = (tap, out) => outputs.reduce((sum, k) => sum + weight.at(weightIndex(g, channel, k, tap)) * diff.at([...lead, k, ...out]), 0);
  const meets = new Map(taps.map((tap) => [String(tap), dataSolutions(g, pixel).map((s, a) => s.pairs.find((p) => p.tap === tap[a]))]));
  const outs = taps.filter((tap) => meets.get(String(tap)).every((p) => p)).map((tap) => meets.get(String(tap)).map((p) => p.there));
  const columns = outs; // in the order of their taps: the marked entries lie on the diagonal
  const values = taps.map((tap) => columns.map((out) => entry(tap, out)));
  const marked = taps.flatMap((tap, r) => columns.flatMap((out, c) => (meets.get(String(tap)).every((p, a) => p && p.there === out[a]) ? [[r, c]] : [])));
  const oneByOne = g.kernel.every((k) => k === 1) && g.stride.every((s) => s === 1) && g.pad.every((p) => p === 0);
  return {
    name: "gemm_col2im",
    title: "Wᵀ · dY, then col2im",
    value: exactSum(marked.map(([r, c]) => values[r][c])),
    text: `The rows of the column matrix that belong to channel ${channel}, one for each tap; of its columns, one for each output, those that matter. col2im adds each entry to the pixel that it stands for: ${COLLISIONS[marked.length] || `the ${marked.length} marked ones collide in this cell`}.` +
      (oneByOne ? " With a 1×1 kernel the column matrix is the input itself: col2im has nothing to add." : ""),
    matrices: [...(marked.length ? [{ title: "Wᵀ · dY", values, rows: taps.map((t) => `tap ${t}`), columns: columns.map((o) => `out ${o}`), marked }] : []), ...groupBlocks(g, channel)],
  };
}

/** The whole weight matrix in blocks, one for each group: how many weights join which channels to which outputs. */
function groupBlocks(g, channel) {
  if (g.group < 2) return [];
  const [fanIn, fanOut] = [g.channels / g.group, g.num_output / g.group];
  const own = Math.floor(channel / fanIn);
  const shown = Math.min(g.group, BLOCKS_SHOWN);
  const first = Math.max(0, Math.min(g.group - shown, own - (shown >> 1)));
  const groups = range(first, first + shown);
  const span = (name, size) => (i) => (size === 1 ? `${name} ${i}` : `${name} ${i * size}–${(i + 1) * size - 1}`);
  const values = groups.map((r) => groups.map((c) => (r === c ? fanIn * fanOut * count(g.kernel) : 0)));
  const title = `weights by group (${own} of ${g.group}): how many join which`;
  return [{ title, values, rows: groups.map(span("k", fanOut)), columns: groups.map(span("c", fanIn)), marked: [[own - first, own - first]] }];
}

function mirrorDerivations(layer, target, index) {
  const g = layer.geometry;
  const { lead, channel, pixel } = placeOf(g, index);
  const diff = cells(layer.tops[target.number].diff);
  const weight = cells(layer.params[0].data);
  const extent = extentOf(g);
  const best = strongest(outputsOf(g, channel), (k) => ({
    kernel: spread(planeOf(g.kernel[0], g.kernel[1], (r, s) => weight.at(weightIndex(g, channel, k, [r, s]))), g.dilation),
    patch: planeOf(extent[0], extent[1], (r, c) => {
      const at = [pixel[0] * g.stride[0] - g.pad[0] + r, pixel[1] * g.stride[1] - g.pad[1] + c];
      return at.some((p, a) => p < 0 || p >= g.image[a]) ? 0 : diff.at([...lead, k, ...at]);
    }),
  }));
  const rows = outputsOf(g, channel).flatMap((k) => [...product(g.kernel.map((n) => range(0, n)))].map((tap) => ({ k, tap })));
  const column = rows.map(({ k, tap }) => {
    const at = tap.map((t, a) => pixel[a] * g.stride[a] - g.pad[a] + t * g.dilation[a]);
    return at.some((p, a) => p < 0 || p >= g.image[a]) ? 0 : diff.at([...lead, k, ...at]);
  });
  const row = rows.map(({ k, tap }) => weight.at(weightIndex(g, channel, k, tap)));
  return [
    {
      name: "rotated_kernel",
      title: "Correlation with the kernel as it stands",
      value: best.value,
      text: "A deconvolution's forward pass is a convolution's backward pass, so its own backward pass is that convolution: nothing is rotated.",
      matrices: [table(`dY[${[...lead, best.k]}] under the kernel`, best.patch), table("the kernel as it stands", best.kernel)],
    },
    {
      name: "gemm_col2im",
      title: "W · im2col(dY)",
      value: exactSum(row.map((w, i) => w * column[i])),
      text: "The row of W for this channel times the column of im2col(dY) for this position.",
      matrices: [table("row and column", row.map((w, i) => [w, column[i]]), { rows: rows.map(({ k, tap }) => `k=${k} tap ${tap}`), columns: ["W", "im2col(dY)"] })],
    },
  ];
}

/** What the images that are not on this page add to a derivation, in words. */
function restTold(rest) {
  return rest ? ` Shown for the images on this page; the others add ${brief(rest, 9)}.` : "";
}

function weightDerivations(layer, index, rest) {
  const g = layer.geometry;
  const { channel, k } = channelsOf(g, index);
  const taps = index.slice(2);
  const sums = [];
  const rowSums = [];
  let shown = null;
  layer.tops.forEach((top, number) => {
    const diff = cells(top.diff);
    const data = cells(layer.bottoms[number].data);
    for (const lead of imagesOf(g, data.shape)) {
      const x = (r, c) => data.at([...lead, channel, r, c]);
      const dy = (r, c) => diff.at([...lead, k, r, c]);
      const picture = planeOf(g.image[0], g.image[1], g.bottom_is_image ? x : dy);
      const small = planeOf(g.out[0], g.out[1], g.bottom_is_image ? dy : x);
      const kernel = spread(small, g.stride);
      const patch = cut(picture, taps.map((r, a) => r * g.dilation[a] - g.pad[a]), [kernel.length, kernel[0].length]);
      sums.push(exactSum(products(patch, kernel)));
      const column = planeOf(g.out[0], g.out[1], (y, c) => patch[y * g.stride[0]][c * g.stride[1]]).flat();
      rowSums.push(exactSum(column.map((value, i) => value * small.flat()[i])));
      shown ??= { patch, kernel, column, lead, row: small.flat() };
    }
  });
  const [left, right] = g.bottom_is_image ? ["X", "dY"] : ["dY", "X"];
  const places = [...product(g.out.map((n) => range(0, n)))].map((p) => `at ${p}`);
  return [
    {
      name: "rotated_kernel",
      title: `Correlation of ${left} with ${right} as the kernel`,
      value: exactSum([...sums, rest]),
      text: `${right}, its elements stride apart, is laid on ${left} at the tap's place. Nothing is rotated; the images add up.${restTold(rest)}`,
      matrices: [table(`${left}[${[...shown.lead, channel]}] from tap ${taps} on`, shown.patch), table(`${right}[${[...shown.lead, k]}] as the kernel`, shown.kernel)],
    },
    {
      name: "gemm_col2im",
      title: `${right} · im2col(${left})ᵀ`,
      value: exactSum([...rowSums, rest]),
      text: `The row of ${right} for channel ${k} times the row (channel ${channel}, tap ${taps}) of the column matrix.${restTold(rest)}`,
      matrices: [table("both rows, side by side, first image", shown.row.map((value, i) => [value, shown.column[i]]), { rows: places, columns: [right, `im2col(${left})`] }), ...groupBlocks(g, channel)],
    },
  ];
}

function denseDerivations(layer, target, index, sum) {
  if (target.isParam && target.number) return [];
  const row = sum.terms.map((t) => t.topDiff);
  const column = sum.terms.map((t) => t.factor);
  const name = target.isParam ? "dYᵀ · X" : "dY · W";
  return [
    {
      name: "gemm_col2im",
      title: name,
      value: exactSum([...row.map((value, i) => value * column[i]), sum.rest]),
      text: `One element of the product of two matrices. Every input has a patch of its own, so there is nothing for col2im to add up.${restTold(sum.rest)}`,
      matrices: [table(name, row.map((value, i) => [value, column[i]]), { rows: sum.terms.map((t) => String(t.topIndex)), columns: ["dY", sum.factorName] })],
    },
  ];
}
