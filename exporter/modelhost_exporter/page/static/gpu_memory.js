// The memory of a GPU, divided by server and model: a stacked bar, and its legend.

import { setText } from "./dom.js";
import * as format from "./format.js";

const MAX_PARTS = 5; // with colours of their own; the rest is "other"
const SEPARATOR = " · "; // between a server and its model
const NEGLIGIBLE = 0.005; // of the memory in use

// Return [name, bytes] for each part of the memory in use, the largest first, then "other"; [] where it is not known.
export function memoryParts(gpu, models, gpus) {
  if (!gpu.memoryUsed || !gpu.memoryUsers?.length) return [];
  const parts = gpu.memoryUsers.flatMap((user) => ofModels(user, models, gpus));
  const shown = parts.sort((a, b) => b[1] - a[1]).slice(0, MAX_PARTS);
  const other = gpu.memoryUsed - shown.reduce((sum, [, bytes]) => sum + bytes, 0);
  return other > NEGLIGIBLE * gpu.memoryUsed ? [...shown, ["other", other]] : shown;
}

// Divide the memory of a server by its loaded models, where it reports the memory of each and is on one GPU only.
function ofModels({ name, bytes }, models, gpus) {
  const loaded = models.filter((model) => model.server === name && model.loaded === true);
  if (loaded.length === 1) return [[name + SEPARATOR + loaded[0].model, bytes]];
  const sizes = loaded.map((model) => model.memoryUsage);
  const sum = sizes.reduce((total, size) => total + size, 0);
  const places = gpus.filter((gpu) => gpu.memoryUsers.some((user) => user.name === name)).length;
  if (loaded.length < 2 || places !== 1 || sizes.some((size) => !size) || sum > bytes) return [[name, bytes]];
  const rest = bytes - sum > NEGLIGIBLE * bytes ? [[name, bytes - sum]] : [];
  return [...loaded.map((model) => [name + SEPARATOR + model.model, model.memoryUsage]), ...rest];
}

// A bar of at most MAX_PARTS + 1 parts, and a list of their names and sizes.
export class MemoryBar {
  constructor(bar, legend) {
    this.bar = bar;
    this.legend = legend;
    this.names = "";
  }

  show(gpu, models, gpus) {
    const known = memoryParts(gpu, models, gpus);
    const parts = known.length || !gpu.memoryUsed ? known : [["", gpu.memoryUsed]];
    const names = JSON.stringify(parts.map(([name]) => name));
    if (names !== this.names) this.#create(parts, names);
    parts.forEach(([, bytes], index) => {
      this.bar.children[index].style.flexGrow = gpu.memoryTotal ? bytes / gpu.memoryTotal : 0;
      const size = this.legend.children[index]?.querySelector("dd");
      if (size) setText(size, format.text(format.bytes(bytes)));
    });
  }

  #create(parts, names) {
    this.names = names;
    this.bar.replaceChildren(...parts.map(([name]) => part(name)));
    this.legend.replaceChildren(...parts.filter(([name]) => name).map(([name]) => entry(name)));
    this.legend.hidden = !this.legend.children.length;
  }
}

function isolated(text) {
  const element = document.createElement("bdi");
  element.textContent = text;
  return element;
}

function part(name) {
  const element = document.createElement("div");
  if (name === "other") element.className = "other";
  return element;
}

function entry(name) {
  const [row, term, value] = ["div", "dt", "dd"].map((tag) => document.createElement(tag));
  if (name === "other") row.className = "other";
  term.title = name;
  // each name has a direction of its own
  term.append(...name.split(SEPARATOR).flatMap((text, index) => [index ? SEPARATOR : "", isolated(text)]));
  row.append(term, value);
  return row;
}
