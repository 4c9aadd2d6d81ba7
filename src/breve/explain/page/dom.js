// Elements, announcements, and formulas as MathML.

/** An element with properties and children; text is never taken as markup. */
function el(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  assign(element, properties);
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

function svg(tag, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function math(tag, ...children) {
  const element = document.createElementNS("http://www.w3.org/1998/Math/MathML", tag);
  element.append(...children);
  return element;
}

function assign(element, properties) {
  for (const [name, value] of Object.entries(properties)) {
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "class") element.className = value;
    else if (name === "style") element.style.cssText = value;
    else if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
}

function replaceIn(id, ...children) {
  document.getElementById(id).replaceChildren(...children.flat().filter((child) => child));
}

function announce(text) {
  document.getElementById("live").textContent = text;
}

/** A formula in the plain form of the explanations, as MathML: sums with their indices, subscripts, centred dots. */
function formula(text) {
  const root = math("math");
  root.setAttribute("display", "block");
  root.setAttribute("alttext", text);
  root.append(...formulaParts(text));
  return root;
}

const FORMULA_TOKENS = /sum over (.+?) of |(\([^()[\]*=]*[a-z]{2,} [^()[\]*=]*\))|([A-Za-zα-ω]+)\[([^\]]*)\]|([A-Za-zα-ω]+)|(\d+(?:\.\d+)?)|\s+|(.)/gu;

function formulaParts(text) {
  const parts = [];
  for (const [whole, over, phrase, name, subscript, word, digits, other] of text.matchAll(FORMULA_TOKENS)) {
    if (over) parts.push(math("munder", math("mo", "∑"), math("mtext", over)));
    else if (phrase) parts.push(math("mtext", phrase));
    else if (name) parts.push(math("msub", math("mi", name), math("mtext", subscript)));
    else if (word) parts.push(word.length > 2 ? math("mtext", `\u00a0${word}\u00a0`) : math("mi", word));
    else if (digits) parts.push(math("mn", digits));
    else if (other) parts.push(math("mo", { "*": "·", "-": "−" }[other] || other));
    else if (whole.includes("\n")) parts.push(math("mspace"));
  }
  return parts;
}

function at(index) {
  return `[${index.join(", ")}]`;
}

function times(shape) {
  return shape.length ? shape.join(" × ") : "one number";
}
