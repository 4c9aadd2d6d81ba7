// Numbers as the engine has them: shortest text that reads back as the same float32, exact sums, units in the last place.

function isFloat32(kind) {
  return kind === "f4";
}

/** The shortest decimal text that gives the very same number in its own precision. */
function shortest(value, kind) {
  if (value === undefined) return "?";
  if (!isFloat32(kind) || !Number.isFinite(value)) return written(value);
  for (let digits = 1; digits <= 9; digits++) {
    const found = Number(value.toPrecision(digits));
    if (Math.fround(found) === value) return written(found);
  }
  return written(value);
}

/** The text of a number: with an exponent where it is small, so that no zeros need counting. */
function written(value) {
  if (value === 0) return "0";
  return Math.abs(value) < 1e-4 ? value.toExponential() : String(value);
}

/** A count with its noun. */
function counted(n, noun) {
  return `${n.toLocaleString("en")} ${noun}${n === 1 ? "" : "s"}`;
}

/** A number in few digits, for labels. */
function brief(value, digits = 3) {
  if (value === undefined) return "";
  if (value === 0) return "0";
  const size = Math.abs(value);
  return size >= 1e-3 && size < 1e4 ? String(Number(value.toPrecision(digits))) : value.toExponential(digits - 1);
}

/** The sum rounded once, by Shewchuk's partial sums, as Python's math.fsum. */
function exactSum(values) {
  const partials = [];
  for (let x of values) {
    let used = 0;
    for (let y of partials) {
      if (Math.abs(x) < Math.abs(y)) [x, y] = [y, x];
      const high = x + y;
      const low = y - (high - x);
      if (low) partials[used++] = low;
      x = high;
    }
    partials.length = used;
    partials.push(x);
  }
  return roundedPartials(partials);
}

function roundedPartials(partials) {
  let n = partials.length;
  if (!n) return 0;
  let high = partials[--n];
  let low = 0;
  while (n > 0) {
    const x = high;
    const y = partials[--n];
    high = x + y;
    low = y - (high - x);
    if (low) break;
  }
  const doubled = low * 2; // half a unit away from a tie: the next partial decides
  if (n > 0 && ((low < 0 && partials[n - 1] < 0) || (low > 0 && partials[n - 1] > 0)) && high + doubled - high === doubled) {
    high += doubled;
  }
  return high;
}

/** How far a value lies from the exact one, in units in the last place of float32 or float64. */
function ulps(value, exact, kind) {
  if (value === exact) return 0;
  return (value - exact) / spacing(Math.abs(exact), kind);
}

function spacing(size, kind) {
  if (isFloat32(kind)) {
    const floats = new Float32Array([size]);
    new Int32Array(floats.buffer)[0] += 1;
    return floats[0] - Math.fround(size);
  }
  const floats = new Float64Array([size]);
  new BigInt64Array(floats.buffer)[0] += 1n;
  return floats[0] - size;
}
