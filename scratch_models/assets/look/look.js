"use strict";
const figures = JSON.parse(document.getElementById("figures").textContent);
const tokens = figures.texts.length;
const place = (id) => document.getElementById(id);

function element(tag, properties, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

// Spaces and line breaks are tokens too: they must be seen.
const shown = (text) => text.replaceAll(" ", "·").replaceAll("\n", "⏎").replaceAll("\t", "⇥");
const percent = (share) => (100 * share).toFixed(share < 0.001 ? 4 : 1) + " %";

// ---- tokens, and what is expected after the marked one
let marked = tokens - 1;

function mark(token) {
  marked = token;
  [...place("tokens").children].forEach((button, index) => button.setAttribute("aria-pressed", index === token));
  const largest = figures.next[token][0].probability;
  place("next").replaceChildren(...figures.next[token].map(({ id, text, probability }) => {
    const bar = element("i");
    bar.style.width = 100 * probability / largest + "%";
    return element("div", { className: "bar", title: "id " + id }, element("code", { textContent: shown(text) }), bar,
      element("span", { textContent: percent(probability) }));
  }));
  document.querySelectorAll("#lens thead th").forEach((head, index) => head.classList.toggle("marked", index === token + 1));
}

place("tokens").append(...figures.texts.map((text, index) => element("button", {
  type: "button", textContent: shown(text), title: "token " + index + ", id " + figures.ids[index],
  onclick: () => mark(index),
})));

// ---- attention: lower triangles of float32, layer by layer, head by head
function weightsOf({ weights }) {
  const bytes = Uint8Array.from(atob(weights), (character) => character.charCodeAt(0));
  const view = new DataView(bytes.buffer);
  return (layer, head, reader, read) => {
    const triangle = tokens * (tokens + 1) / 2;
    const index = (layer * figures.attention.heads + head) * triangle + reader * (reader + 1) / 2 + read;
    return read > reader ? 0 : view.getFloat32(4 * index, true);
  };
}

function paint(canvas, weight) {
  canvas.width = canvas.height = tokens;
  const context = canvas.getContext("2d");
  const image = context.createImageData(tokens, tokens);
  for (let reader = 0; reader < tokens; reader++) {
    for (let read = 0; read < tokens; read++) {
      // The square root lets weak weights be seen beside strong ones.
      const strength = Math.sqrt(weight(reader, read));
      const colour = read > reader ? [244, 244, 244] : [31, 95, 191].map((full) => 255 - strength * (255 - full));
      image.data.set([...colour, 255], 4 * (reader * tokens + read));
    }
  }
  context.putImageData(image, 0, 0);
}

function enlarge(title, weight) {
  const cell = Math.max(3, Math.min(28, Math.floor(Math.min(innerWidth - 320, innerHeight - 260) / tokens)));
  const labels = cell >= 9 ? 110 : 8;
  const canvas = element("canvas", { width: labels + cell * tokens + 8, height: labels + cell * tokens + 8 });
  const context = canvas.getContext("2d");
  const small = element("canvas");
  paint(small, weight);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, labels, labels, cell * tokens, cell * tokens);
  context.font = Math.min(13, cell) + "px ui-monospace, monospace";
  context.textBaseline = "middle";
  for (let token = 0; labels > 8 && token < tokens; token++) {
    const text = shown(figures.texts[token]).slice(0, 12);
    const middle = labels + (token + 0.5) * cell;
    context.textAlign = "right";
    context.fillText(text, labels - 4, middle);
    context.save();
    context.translate(middle, labels - 4);
    context.rotate(-Math.PI / 2);
    context.textAlign = "left";
    context.fillText(text, 0, 0);
    context.restore();
  }
  const said = element("p", { textContent: "Point at a square to read its weight." });
  canvas.onmousemove = (event) => {
    const [read, reader] = [event.offsetX, event.offsetY].map((along) => Math.floor((along - labels) / cell));
    if (read >= 0 && reader >= 0 && read <= reader && reader < tokens) {
      said.textContent = `“${shown(figures.texts[reader])}” (token ${reader}) reads ${percent(weight(reader, read))} `
        + `from “${shown(figures.texts[read])}” (token ${read})`;
    }
  };
  const close = element("form", { method: "dialog" }, element("button", { textContent: "Close" }));
  const dialog = element("dialog", { onclose: () => dialog.remove() }, close,
    element("p", {}, element("strong", { textContent: title })), said, canvas);
  document.body.append(dialog);
  dialog.showModal();
}

if (figures.attention) {
  const weight = weightsOf(figures.attention);
  const { layers, heads } = figures.attention;
  const side = Math.max(36, Math.min(96, Math.floor(860 / heads) - 6, layers > 12 ? 56 : 96));
  const numbers = (count) => [...Array(count).keys()];
  const header = element("tr", {}, element("th"), ...numbers(heads).map((head) => element("th", { textContent: "head " + (head + 1) })));
  const rows = numbers(layers).map((layer) => element("tr", {}, element("th", { textContent: "layer " + (layer + 1) }),
    ...numbers(heads).map((head) => {
      const canvas = element("canvas");
      canvas.style.width = canvas.style.height = side + "px";
      const title = `Layer ${layer + 1}, head ${head + 1}`;
      const of = (reader, read) => weight(layer, head, reader, read);
      paint(canvas, of);
      const button = element("button", { type: "button", title, onclick: () => enlarge(title, of) }, canvas);
      button.setAttribute("aria-label", "enlarge " + title);
      return element("td", {}, button);
    })));
  place("attention").append(element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows)));
}

// ---- logit lens
if (figures.lens.length) {
  const header = element("tr", {}, element("th"), ...figures.texts.map((text) => element("th", { textContent: shown(text) })));
  const rows = figures.lens.map((stage, layer) => element("tr", {},
    element("th", { textContent: layer ? "after layer " + layer : "embedding" }),
    ...stage.map(({ top, actual }, token) => {
      const lines = top.map(({ text, probability }) => `${shown(text)}  ${percent(probability)}`);
      if (actual !== null) lines.push("", `really “${shown(figures.texts[token + 1])}”  ${percent(actual)}`);
      const cell = element("td", { textContent: shown(top[0].text), title: lines.join("\n"), onclick: () => mark(token) });
      cell.style.background = `rgba(46, 160, 67, ${actual === null ? 0 : 0.85 * Math.sqrt(actual)})`;
      return cell;
    })));
  place("lens").append(element("table", {}, element("thead", {}, header), element("tbody", {}, ...rows)));
}

mark(marked);
