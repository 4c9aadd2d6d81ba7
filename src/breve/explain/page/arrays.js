// Arrays of the page: blocks of cells, decoded from base64 when they are first looked at.

const VIEWS = { f4: Float32Array, f8: Float64Array, i4: Int32Array };

function decode(packed) {
  const text = atob(packed.data);
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  return new VIEWS[packed.kind](bytes.buffer);
}

function count(shape) {
  return shape.reduce((a, b) => a * b, 1);
}

function ravel(index, shape) {
  return index.reduce((position, i, axis) => position * shape[axis] + i, 0);
}

function unravel(position, shape) {
  const index = new Array(shape.length);
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    index[axis] = position % shape[axis];
    position = Math.floor(position / shape[axis]);
  }
  return index;
}

/** An array of which the page holds all cells or some blocks. */
class Cells {
  constructor(entry) {
    this.shape = entry.shape;
    this.kind = entry.kind;
    this.blocks = entry.blocks.map((block) => ({ ...block, kind: entry.kind, values: null }));
    this.whole = this.blocks.length === 1 && count(this.blocks[0].size) === count(this.shape);
  }

  /** The value at an index; undefined where the page does not hold it. */
  at(index) {
    for (const block of this.blocks) {
      let position = 0;
      let inside = true;
      for (let axis = 0; axis < index.length && inside; axis++) {
        const i = index[axis] - block.start[axis];
        inside = i >= 0 && i < block.size[axis];
        position = position * block.size[axis] + i;
      }
      if (!inside) continue;
      block.values ??= decode(block);
      return block.values[position];
    }
    return undefined;
  }

  /** The largest size among the cells that the page holds; with `first`, among those of that first index alone. */
  largest(first) {
    this.largestFound ??= new Map();
    if (!this.largestFound.has(first)) this.largestFound.set(first, Math.max(0, ...this.blocks.map((block) => largestIn(block, first))));
    return this.largestFound.get(first);
  }

  /** The first index that the page holds. */
  get first() {
    return this.blocks.length ? this.blocks[0].start : this.shape.map(() => 0);
  }
}

function largestIn(block, first) {
  block.values ??= decode(block);
  const inner = first === undefined ? block.values.length : block.values.length / block.size[0];
  const start = first === undefined ? 0 : (first - block.start[0]) * inner;
  let largest = 0;
  for (let i = Math.max(0, start); i < start + inner; i++) if (Math.abs(block.values[i]) > largest) largest = Math.abs(block.values[i]);
  return largest;
}

const store = [];

function openStore(entries) {
  for (const entry of entries) store.push(new Cells(entry));
}

function cells(number) {
  return number === null || number === undefined ? null : store[number];
}
