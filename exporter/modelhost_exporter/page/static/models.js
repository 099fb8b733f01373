// The card of the selected model.

import { Chart } from "./charts.js";
import { prepare, show, showAge } from "./dom.js";
import * as format from "./format.js";
import { modelColumn } from "./history.js";
import { lastValue } from "./last_value.js";
import { ModelTable } from "./model_table.js";

const FORMATS = {
  requestsPerSecond: format.perSecond,
  avgResponseTime: format.milliseconds,
  timeToFirstToken: format.milliseconds,
  tokensPerSecond: format.tokensPerSecond,
  lastStreamTokensPerSecond: format.tokensPerSecond,
  successRate: format.percent,
  inFlight: format.count,
  memoryUsage: format.bytes,
  p50: format.milliseconds,
  p95: format.milliseconds,
  p99: format.milliseconds,
};
const QUANTILES = ["p50", "p95", "p99"];

export class Models {
  #models = [];
  #choice = null; // id of the model that was chosen last; it may not exist (yet)
  #table = new ModelTable((id) => this.#choose(id));
  #select = document.getElementById("model");
  #values = [...document.querySelectorAll("[data-model]")];

  // onChoice is called when another model is selected.
  constructor(onChoice) {
    prepare(this.#values);
    this.latency = new Chart(document.querySelector("[data-chart=latency]"), {
      title: "Response time",
      series: QUANTILES.map((name) => ({ label: name, colour: `--${name}` })),
      format: format.milliseconds,
      duration: true,
      stays: true,
    });
    this.tokens = new Chart(document.querySelector("[data-chart=tokens]"), {
      title: "Output tokens per second",
      series: [{ label: "Output", colour: "--tokens" }],
      format: format.tokensPerSecond,
      bare: true,
    });
    this.#select.addEventListener("change", () => {
      this.#choice = this.#select.value;
      this.#showSelected();
      onChoice();
    });
  }

  get choice() {
    return this.#choice;
  }

  // Select a model, or the first one while there is none of this id.
  set choice(id) {
    this.#choice = id;
    this.#select.selectedIndex = 0;
    this.#selectChoice();
    this.#showSelected();
  }

  show(models) {
    this.#models = models;
    this.#updateOptions(models.map((model) => model.id));
    this.#showSelected();
    document.getElementById("model-frame").hidden = models.length === 0;
  }

  draw(history, seconds, grown) {
    this.#table.draw(history, grown);
    const { id } = this.selected ?? {};
    if (id === undefined) return;
    this.latency.draw(history.data(QUANTILES.map((name) => modelColumn(id, name))), seconds, grown);
    this.tokens.draw(history.data([modelColumn(id, "tokensPerSecond")]), seconds, grown);
  }

  #choose(id) {
    this.#select.value = id;
    this.#select.dispatchEvent(new Event("change"));
  }

  // The model that is shown, or undefined.
  get selected() {
    return this.#models.find((model) => model.id === this.#select.value);
  }

  // Append new models at the end, so that an open list does not change order. The selection stays while its model exists.
  #updateOptions(ids) {
    const options = [...this.#select.options];
    for (const option of options) if (!ids.includes(option.value)) option.remove();
    const known = new Set(options.map((option) => option.value));
    for (const id of ids) {
      if (known.has(id)) continue;
      const option = new Option(id, id);
      option.dir = "auto";
      this.#select.add(option);
    }
    this.#selectChoice();
    for (const [id, hidden] of [["no-models", ids.length > 0], ["model-body", !ids.length], ["model-choice", !ids.length]]) {
      document.getElementById(id).hidden = hidden;
    }
  }

  #selectChoice() {
    if (this.#models.some((model) => model.id === this.#choice)) this.#select.value = this.#choice;
  }

  #showSelected() {
    const model = this.selected;
    this.#table.show(this.#models, model?.id);
    if (!model) return;
    for (const element of this.#values) {
      const name = element.dataset.model;
      const [value, age] = lastValue(model, name);
      show(element, FORMATS[name](value));
      showAge(element, age);
    }
    this.latency.past = QUANTILES.map((name) => lastValue(model, name)[0]);
  }
}
