// The card of recent requests. It is polled only while it is open and the tab is visible.

import { setLevel, setText } from "./dom.js";
import * as format from "./format.js";

const INTERVAL = 2000; // ms between two polls
const TICK = 500; // ms between two updates of the running times
const MAX_ROWS = 100; // the exported files have all requests
const ERRORS = ["server_error", "timeout", "upstream_unreachable", "stream_error", "proxy_error"];

const byId = (id) => document.getElementById(id);
const details = document.querySelector("#recent details");
const model = byId("recent-model");
const outcome = byId("recent-outcome");
const count = byId("recent-count");
const note = byId("recent-note");
const frame = byId("recent-frame");
const body = byId("recent-rows");
const template = byId("recent-row");

// data-cell attribute → text of a request.
const CELLS = {
  time: (r) => format.clock(Date.parse(r.time)),
  model: (r) => r.model,
  server: (r) => r.server,
  operation: (r) => r.operation,
  outcome: (r) => r.outcome ?? r.state,
  code: (r) => r.code ?? "",
  firstToken: (r) => format.text(format.milliseconds(r.timeToFirstToken)),
  duration: (r) => format.text(format.milliseconds(r.duration)),
  input: (r) => format.text(format.count(r.inputTokens)),
  output: (r) => format.text(format.count(r.outputTokens)),
  speed: (r) => format.text(format.tokensPerSecond(r.tokensPerSecond)),
  finish: (r) => r.finishReason ?? "",
  client: (r) => r.client ?? "",
};

export class RecentRequests {
  #rows = [];
  #timer = 0;
  #ticker = 0;
  #stop = new AbortController();
  #requests = [];
  #received = null; // when, on the clock of performance.now(); null while the exporter does not respond

  constructor() {
    details.addEventListener("toggle", () => this.#restart());
    document.addEventListener("visibilitychange", () => this.#restart());
    for (const select of [model, outcome]) select.addEventListener("change", () => this.#restart());
  }

  // Show how many requests are in progress, and offer the models in the filter; the chosen one stays.
  showModels(models) {
    const running = models.reduce((sum, each) => sum + (each.inFlight ?? 0), 0);
    setText(count, running ? `${running} in progress` : "");
    const ids = models.map((each) => each.id);
    const known = new Set();
    for (const option of [...model.options].slice(1)) {
      if (ids.includes(option.value) || option.selected) known.add(option.value);
      else option.remove();
    }
    for (const id of ids) if (!known.has(id)) model.add(new Option(id, id));
    for (const option of model.options) option.dir = "auto";
  }

  #restart() {
    clearTimeout(this.#timer);
    clearInterval(this.#ticker);
    this.#stop.abort();
    for (const name of ["json", "csv"]) byId(`recent-${name}`).href = address({ format: name });
    if (!details.open || document.hidden) return;
    this.#stop = new AbortController();
    this.#ticker = setInterval(() => this.#tick(), TICK);
    this.#poll(this.#stop.signal);
  }

  async #poll(signal) {
    try {
      const response = await fetch(address({ limit: MAX_ROWS }), { signal });
      const answer = await response.json();
      if (signal.aborted) return;
      this.#show(answer.requests ?? []);
      setText(note, answer.error ?? (this.#requests.length ? "" : "No such request yet."));
    } catch {
      if (signal.aborted) return;
      this.#received = null;
      setText(note, "The exporter does not respond.");
    }
    note.hidden = !note.textContent;
    this.#timer = setTimeout(() => this.#poll(signal), INTERVAL);
  }

  // Write the requests into the rows that are there, so that a selected text stays selected.
  #show(requests) {
    this.#requests = requests;
    this.#received = performance.now();
    while (this.#rows.length > requests.length) this.#rows.pop().element.remove();
    while (this.#rows.length < requests.length) {
      this.#rows.push(new Row());
      body.append(this.#rows.at(-1).element);
    }
    requests.forEach((request, index) => this.#rows[index].show(request));
    frame.hidden = requests.length === 0;
    frame.classList.toggle("without-client", requests.every((request) => request.client === null));
  }

  // Let the running times of requests in progress go on.
  #tick() {
    if (this.#received === null) return;
    const since = performance.now() - this.#received;
    this.#requests.forEach((request, index) => {
      if (request.outcome === null) this.#rows[index].showDuration({ ...request, duration: request.duration + since });
    });
  }
}

class Row {
  constructor() {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.cells = [...this.element.querySelectorAll("[data-cell]")];
    this.outcome = this.element.querySelector("[data-cell=outcome]");
    this.duration = this.element.querySelector("[data-cell=duration]");
  }

  show(request) {
    for (const cell of this.cells) setText(cell, CELLS[cell.dataset.cell](request));
    this.element.dataset.running = request.outcome === null;
    setLevel(this.outcome, ERRORS.includes(request.outcome) ? "alarm" : "");
  }

  showDuration(request) {
    setText(this.duration, CELLS.duration(request));
  }
}

// Return the address of the requests that the filters select.
function address(more) {
  return `api/requests?${new URLSearchParams({ model: model.value, outcome: outcome.value, ...more })}`;
}
