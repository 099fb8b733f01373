// The table of models: a row each, with what it does now; a click selects one.

import { level, setLevel, setText } from "./dom.js";
import * as format from "./format.js";
import { ERRORS } from "./limits.js";

const body = document.getElementById("model-rows");
const template = document.getElementById("model-row");

const errorPercent = (m) => (m.successRate === null ? null : 100 - m.successRate);

// data-cell attribute → text of a model.
const CELLS = {
  server: (m) => m.server,
  loaded: (m) => (m.loaded === null ? "" : m.loaded ? "loaded" : "not loaded"),
  memory: (m) => format.text(format.bytes(m.memoryUsage)),
  rate: (m) => format.text(format.perSecond(m.requestsPerSecond)),
  inFlight: (m) => format.text(format.count(m.inFlight)),
  firstToken: (m) => format.text(format.milliseconds(m.timeToFirstToken)),
  tokens: (m) => format.text(format.tokensPerSecond(m.tokensPerSecond)),
  last: (m) => format.text(format.tokensPerSecond(m.lastStreamTokensPerSecond)),
  errors: (m) => format.text(format.percent(errorPercent(m))),
};

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
  constructor(model, onClick) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.cells = [...this.element.querySelectorAll("[data-cell]")];
    this.errors = this.cells.find((cell) => cell.dataset.cell === "errors");
    this.button = this.element.querySelector("button");
    this.button.textContent = model.model;
    this.element.addEventListener("click", onClick);
  }

  show(model, selected) {
    for (const cell of this.cells) setText(cell, CELLS[cell.dataset.cell](model));
    setLevel(this.errors, level(errorPercent(model), ERRORS.amber, ERRORS.red));
    this.button.setAttribute("aria-pressed", String(selected));
  }
}
