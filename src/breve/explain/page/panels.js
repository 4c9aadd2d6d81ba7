// The layer's arrays side by side: what it reads, its parameters, what it writes.

class Panels {
  constructor(handlers) {
    this.handlers = handlers;
    const choose = (view, index) => this.chooseIn(view, index);
    this.views = ["bottom", "param", "top"].map((side) => new SideView(side, { choose }));
    document.getElementById("panels").append(...this.views.map((view) => view.element));
  }

  show(state, sum) {
    this.state = state;
    const layer = page.layers[state.layer];
    const target = targetOf(layer, state.wrt);
    const best = leading(sum.terms);
    for (const view of this.views) {
      const isTarget = (view.side === "param") === target.isParam && view.side !== "top";
      if (isTarget) view.show(layer, sum, { number: target.number, which: "diff", index: state.index, chosen: state.index });
      else view.show(layer, sum, this.focusOf(view, sum, best));
    }
  }

  /** What another side shows: the largest term's cell. */
  focusOf(view, sum, best) {
    if (!best) return { which: view.side === "top" ? "diff" : "data" };
    if (view.side === "top") return { number: best.top, which: "diff", index: best.topIndex };
    if (sum.factorSide === view.side) return { number: view.side === "bottom" ? best.top : 0, which: "data", index: best.factorIndex };
    return { which: "data" };
  }

  /** A click: on the in side or on parameters it chooses that gradient; on the out side that of the layer above. */
  chooseIn(view, index) {
    const { layer } = this.state;
    if (view.side === "bottom") return this.handlers.choose(layer, `data${view.number || ""}`, index);
    if (view.side === "param") return this.handlers.choose(layer, view.blob.name, index);
    const next = readerOf(layer, view.number);
    return next && this.handlers.choose(next.layer, `data${next.bottom || ""}`, index);
  }

  light(term) {
    for (const view of this.views) view.light(term);
  }

  redraw() {
    for (const view of this.views) if (view.layer && !view.element.hidden) view.draw();
  }
}
