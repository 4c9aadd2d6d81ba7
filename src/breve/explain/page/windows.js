// The equation y stride - pad + r dilation = i along one axis, solved for any two of its three places, and over all axes.

const PADDING = "padding";
const STRIDE_HOLE = "stride hole";
const OUTSIDE = "beyond the output";

/** One spatial axis of a convolution's geometry. */
function axisOf(g, a) {
  return { kernel: g.kernel[a], stride: g.stride[a], pad: g.pad[a], dilation: g.dilation[a], size: g.image[a], out: g.out[a] };
}

function axesOf(g) {
  return g.kernel.map((_, a) => axisOf(g, a));
}

/** Taps r and outputs y that meet at pixel i. */
function atPixel(axis, i) {
  const found = { pairs: [], lost: [] };
  for (let r = 0; r < axis.kernel; r++) {
    const reach = i + axis.pad - r * axis.dilation;
    const outside = reach < 0 || reach > (axis.out - 1) * axis.stride;
    if (outside || reach % axis.stride) found.lost.push({ tap: r, meets: reach / axis.stride, reason: outside ? OUTSIDE : STRIDE_HOLE });
    else found.pairs.push({ tap: r, there: reach / axis.stride });
  }
  return found;
}

/** Taps r and pixels i that meet at output y. */
function atOutput(axis, y) {
  const found = { pairs: [], lost: [] };
  for (let r = 0; r < axis.kernel; r++) addPixel(found, axis, r, y, (i) => ({ tap: r, there: i }));
  return found;
}

/** Outputs y and pixels i that tap r joins. */
function atTap(axis, r) {
  const found = { pairs: [], lost: [] };
  for (let y = 0; y < axis.out; y++) addPixel(found, axis, r, y, (i) => ({ tap: r, out: y, pixel: i }));
  return found;
}

function addPixel(found, axis, r, y, pair) {
  const i = y * axis.stride - axis.pad + r * axis.dilation;
  if (i >= 0 && i < axis.size) found.pairs.push(pair(i));
  else found.lost.push({ tap: r, meets: i, reason: PADDING });
}

/** All combinations of one item from each list. */
function* product(lists, from = 0) {
  if (from === lists.length) {
    yield [];
    return;
  }
  for (const item of lists[from]) for (const rest of product(lists, from + 1)) yield [item, ...rest];
}

/** How many taps (or places) each reason takes away, over all axes. */
function countLost(solutions) {
  const counts = {};
  const lists = solutions.map((s) => [...s.pairs.map(() => ""), ...s.lost.map((x) => x.reason)]);
  for (const reasons of product(lists)) {
    const reason = reasons.find((x) => x);
    if (reason) counts[reason] = (counts[reason] || 0) + 1;
  }
  return counts;
}
