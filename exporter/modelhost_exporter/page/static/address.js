// Range, zoom and model in the page's address, so that a link, the back button and the next visit show the same.

import { recall, remember } from "./storage.js";
import { RANGES, view } from "./view.js";

const RANGE_NAMES = new Map(RANGES.map((seconds) => [seconds < 3600 ? `${seconds / 60}m` : `${seconds / 3600}h`, seconds]));
const LAST_TIME = 8.64e15; // ms since 1970: the last that a Date can have
const nameOf = (seconds) => [...RANGE_NAMES].find(([, one]) => one === seconds)[0];

// Return {range, zoom, model} of an address; undefined or null for what is missing or wrong there.
function parse(parameters) {
  const [from, to] = ["from", "to"].map((name) => Number(parameters.get(name)));
  const isZoom = Number.isInteger(from) && Number.isInteger(to) && 0 < from && from < to && to <= LAST_TIME;
  return { range: RANGE_NAMES.get(parameters.get("range")), zoom: isZoom ? [from, to] : null, model: parameters.get("model") };
}

export class Address {
  #choice;

  // Show what the address has, or else what was chosen last. models: has the choice of a model; onReturn is called when
  // the browser went back or forward.
  constructor(models, onReturn) {
    this.models = models;
    const { range, zoom, model } = parse(new URLSearchParams(location.search));
    this.#apply({ range: range ?? RANGE_NAMES.get(recall("range")), zoom, model: model ?? recall("model") });
    history.replaceState(this.#choice, "");
    view.addEventListener("window", () => this.save());
    addEventListener("popstate", ({ state }) => {
      this.#apply(state ?? parse(new URLSearchParams(location.search)));
      onReturn();
    });
  }

  // Add an entry to the browser's history where another range, zoom or model was chosen.
  save() {
    const choice = this.#now();
    if (JSON.stringify(choice) === JSON.stringify(this.#choice)) return;
    this.#choice = choice;
    remember("range", nameOf(choice.range));
    if (choice.model) remember("model", choice.model);
    const parameters = new URLSearchParams({ range: nameOf(choice.range) });
    if (choice.zoom) parameters.set("from", choice.zoom[0]), parameters.set("to", choice.zoom[1]);
    if (choice.model) parameters.set("model", choice.model);
    history.pushState(choice, "", `?${parameters}`);
  }

  #apply({ range, zoom, model }) {
    this.#choice = { range: range ?? view.range, zoom: zoom ?? null, model: model ?? null };
    this.models.choice = this.#choice.model;
    view.set(this.#choice);
  }

  #now() {
    return { range: view.range, zoom: view.zoom, model: this.models.choice };
  }
}
