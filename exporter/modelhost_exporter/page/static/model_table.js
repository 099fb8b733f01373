// The table of models: a row each, with what it does now; a click selects one.

import { level, setLevel, setText } from "./dom.js";
import * as format from "./format.js";
import { modelColumn } from "./history.js";
import { ERRORS } from "./limits.js";
import { Sparkline } from "./sparkline.js";

const body = document.getElementById("model-rows");
const template = document.getElementById("model-row");

const MOSTLY = 0.02; // a smaller share of a model's memory is not shown

const errorPercent = (m) => (m.successRate === null ? null : 100 - m.successRate);

// data-cell attribute → text of a model, or a text and a second one.
const CELLS = {
  server: (m) => m.server,
  loaded: (m) => [m.loaded === null ? "" : m.loaded ? "loaded" : "not loaded", idle(m)],
  memory: (m) => memory(m),
  context: (m) => [format.text(format.tokens(m.contextLength)), use(m)],
  rate: (m) => format.text(format.perSecond(m.requestsPerSecond)),
  inFlight: (m) => format.text(format.count(m.inFlight)),
  queue: (m) => format.text(format.count(m.requestsWaiting)),
  firstToken: (m) => format.text(format.milliseconds(m.timeToFirstToken)),
  tokens: (m) => format.text(format.tokensPerSecond(m.tokensPerSecond)),
  last: (m) => format.text(format.tokensPerSecond(m.lastStreamTokensPerSecond)),
  errors: (m) => format.text(format.percent(errorPercent(m))),
};
const OF_LAST = ["firstToken", "last", "errors"]; // grey while the model is idle

export class ModelTable {
  #rows = new Map();

  // onChoice is called with the id of a model whose row is clicked.
  constructor(onChoice) {
    this.onChoice = onChoice;
  }

  show(models, selected) {
    const ids = new Set(models.map((model) => model.id));
    for (const [id, row] of this.#rows) if (!ids.has(id)) this.#remove(id, row);
    for (const model of models) this.#row(model).show(model, model.id === selected);
  }

  // grown: only newer points were added.
  draw(history, grown) {
    for (const [id, row] of this.#rows) row.draw(history, id, grown);
  }

  #row(model) {
    if (!this.#rows.has(model.id)) {
      const row = new Row(model, () => this.onChoice(model.id));
      this.#rows.set(model.id, row);
      body.append(row.element);
    }
    return this.#rows.get(model.id);
  }

  #remove(id, row) {
    row.element.remove();
    this.#rows.delete(id);
  }
}

class Row {
  #column = "requestsPerSecond";

  constructor(model, onClick) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.cells = Object.fromEntries(
      [...this.element.querySelectorAll("[data-cell]")].map((cell) => [cell.dataset.cell, cell]),
    );
    this.sparkline = new Sparkline(this.element.querySelector("svg"));
    this.button = this.element.querySelector("button");
    this.button.textContent = this.button.title = model.model;
    this.element.addEventListener("click", onClick);
  }

  show(model, selected) {
    const shown = { ...model, ...lastKnown(model) };
    for (const [name, cell] of Object.entries(this.cells)) showCell(cell, CELLS[name](shown));
    for (const name of OF_LAST) this.cells[name].classList.toggle("past", Boolean(model.last));
    setLevel(this.cells.errors, level(errorPercent(model), ERRORS.amber, ERRORS.red));
    this.button.setAttribute("aria-pressed", String(selected));
    this.element.classList.toggle("selected", selected);
    this.#choose(model.tokensPerSecond === null ? "requestsPerSecond" : "tokensPerSecond");
  }

  draw(history, id, grown) {
    if (!grown) this.sparkline.reset();
    const [times, values] = history.data([modelColumn(id, this.#column)]);
    const [title, show] =
      this.#column === "tokensPerSecond" ? ["Output", format.tokensPerSecond] : ["Requests", format.perSecond];
    this.sparkline.draw(times, values, (highest, last) =>
      `${title} of the last 10 min: up to ${format.text(show(highest))}, now ${format.text(show(last))}`,
    );
  }

  #choose(column) {
    if (column === this.#column) return;
    this.#column = column;
    this.sparkline.reset();
  }
}

function showCell(cell, text) {
  const [first, second] = Array.isArray(text) ? text : [text, ""];
  const extra = cell.querySelector(".extra");
  if (extra) setText(extra, second);
  setText(extra ? cell.firstElementChild : cell, first);
  cell.classList.toggle("none", !second && (first === "" || first === format.NONE[0]));
}

// Return the numbers before a pause, which stay while the model is idle.
function lastKnown({ last }) {
  return last ? { timeToFirstToken: last.timeToFirstToken, successRate: last.successRate } : {};
}

function idle({ last }) {
  return last ? `idle ${format.span(last.secondsAgo)}` : "";
}

// Format the memory on GPUs, and what is in the host's memory besides; only the sum where it is not known which it is.
function memory({ memoryUsage, gpuMemoryUsage }) {
  if (memoryUsage === null || gpuMemoryUsage === null) return format.text(format.bytes(gpuMemoryUsage ?? memoryUsage));
  const onHost = memoryUsage - gpuMemoryUsage;
  const [vram, ram] = [`${format.text(format.bytes(gpuMemoryUsage))} VRAM`, `${format.text(format.bytes(onHost))} RAM`];
  if (onHost < memoryUsage * MOSTLY) return vram;
  return gpuMemoryUsage < memoryUsage * MOSTLY ? ram : [vram, `+ ${ram}`];
}

// Format how much of the KV cache is in use.
function use({ kvCacheUsage }) {
  return kvCacheUsage === null ? "" : `KV ${format.text(format.percent(kvCacheUsage))}`;
}
