// The equation y stride - pad + r dilation = i along one axis, solved for any two of its three places, and over all axes.

const PADDING = "padding";
const STRIDE_HOLE = "stride hole";
const OUTSIDE = "beyond the output";
const DILATION_HOLE = "dilation hole";

/** One spatial axis of a convolution's geometry. */
function axisOf(g, a) {
  return { kernel: g.kernel[a], stride: g.stride[a], pad: g.pad[a], dilation: g.dilation[a], size: g.image[a], out: g.out[a] };
}

function axesOf(g) {
  return g.kernel.map((_, a) => axisOf(g, a));
}

/** Taps r and outputs y that meet at pixel i; lost without a tap are outputs that pass over it between two taps. */
function atPixel(axis, i) {
  const found = { pairs: [], lost: [] };
  for (let r = 0; r < axis.kernel; r++) {
    const reach = i + axis.pad - r * axis.dilation;
    const outside = reach < 0 || reach > (axis.out - 1) * axis.stride;
    if (outside || reach % axis.stride) found.lost.push({ tap: r, meets: reach / axis.stride, reason: outside ? OUTSIDE : STRIDE_HOLE });
    else found.pairs.push({ tap: r, there: reach / axis.stride });
  }
  for (let y = 0; y < axis.out; y++) {
    const offset = i + axis.pad - y * axis.stride;
    const spanned = offset >= 0 && offset <= axis.dilation * (axis.kernel - 1);
    if (spanned && offset % axis.dilation) found.lost.push({ tap: null, meets: y, reason: DILATION_HOLE });
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
  for (let y = 0; y < axis.out; y++) addPixel(found, axis, r, y, (i) => ({ tap: r, out: y, pixel: i, there: i }));
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

/** What the equation would pair over all axes but cannot, by reason: taps and the places that they would meet. */
function lostOf(solutions) {
  const lost = {};
  const found = (s) => s.pairs.map((p) => ({ tap: p.tap, meets: p.there, reason: "" }));
  for (const isTap of [true, false]) {
    for (const parts of product(solutions.map((s) => [...found(s), ...s.lost.filter((x) => (x.tap !== null) === isTap)]))) {
      const reason = parts.map((part) => part.reason).find((r) => r);
      if (reason) (lost[reason] ??= []).push({ tap: isTap ? parts.map((p) => p.tap) : null, meets: parts.map((p) => p.meets) });
    }
  }
  return lost;
}
