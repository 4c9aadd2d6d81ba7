// The way from a cell to the loss, along the largest term of each sum.

/** The layer, and its bottom, that reads a layer's top next. */
function readerOf(number, top) {
  const blob = page.layers[number].tops[top].blob;
  for (let later = number + 1; later < page.layers.length; later++) {
    const bottom = page.layers[later].bottoms.findIndex((b) => b.blob === blob);
    if (bottom >= 0) return { layer: later, bottom };
  }
  return null;
}

function leading(terms) {
  return terms.reduce((best, t) => (!best || Math.abs(t.product) > Math.abs(best.product) ? t : best), null);
}

/** Stations: a cell of a blob, its diff, and the layer that reads it (null at the loss). */
function chainFrom(number, wrt, index, sum) {
  const stations = [];
  if (/^data/.test(wrt)) stations.push(station(number, wrt, index, sum));
  let terms = sum.terms;
  while (terms.length) {
    const term = leading(terms);
    const next = readerOf(number, term.top);
    if (!next) {
      const top = page.layers[number].tops[term.top];
      return [...stations, { blob: top.name, index: term.topIndex, diff: term.topDiff, layer: null, terms: 0, share: 1 }];
    }
    const target = `data${next.bottom || ""}`;
    const layer = page.layers[next.layer];
    if (!(target in layer.targets) || !isOpen(layer, target, term.topIndex)) return stations;
    const following = sumOf(layer, target, term.topIndex);
    stations.push(station(next.layer, target, term.topIndex, following));
    if (!following.complete) return stations;
    [number, terms] = [next.layer, following.terms];
  }
  return stations;
}

function station(number, wrt, index, sum) {
  const layer = page.layers[number];
  const total = sum.terms.reduce((all, t) => all + Math.abs(t.product), 0);
  const best = leading(sum.terms);
  return {
    blob: targetOf(layer, wrt).side.name,
    index,
    diff: sum.value,
    layer: number,
    wrt,
    terms: sum.terms.length,
    complete: sum.complete,
    share: total && best ? Math.abs(best.product) / total : 0,
  };
}
