// The card of processes. It is polled, and they are measured, only while it is open and the tab is visible.

import { setText } from "./dom.js";
import * as format from "./format.js";

const INTERVAL = 3000; // ms between two polls

const byId = (id) => document.getElementById(id);
const details = document.querySelector("#processes details");
const note = byId("processes-note");
const template = byId("process-row");

// data-cell attribute → text of a process.
const CELLS = {
  name: (process) => process.name,
  user: (process) => process.user,
  cpu: (process) => format.text(format.percent(process.cpu)),
  memory: (process) => format.text(format.bytes(process.memory)),
};

export class Processes {
  #timer = 0;
  #stop = new AbortController();

  constructor() {
    details.addEventListener("toggle", () => this.#restart());
    document.addEventListener("visibilitychange", () => this.#restart());
  }

  #restart() {
    clearTimeout(this.#timer);
    this.#stop.abort();
    if (!details.open || document.hidden) return;
    this.#stop = new AbortController();
    this.#poll(this.#stop.signal);
  }

  async #poll(signal) {
    try {
      const response = await fetch("api/processes", { signal });
      const answer = await response.json();
      if (signal.aborted) return;
      this.#show(answer);
    } catch {
      if (signal.aborted) return;
      setText(note, "The exporter does not respond.");
    }
    note.hidden = !note.textContent;
    this.#timer = setTimeout(() => this.#poll(signal), INTERVAL);
  }

  #show({ error, processes, byCpu = [], byMemory = [] }) {
    setText(note, error ?? `${format.text(format.count(processes))} processes. 100 % is one CPU.`);
    byId("processes-body").hidden = Boolean(error);
    fill(byId("processes-cpu"), byCpu);
    fill(byId("processes-memory"), byMemory);
  }
}

// Write the processes into the rows that are there, so that a selected text stays selected.
function fill(body, processes) {
  while (body.children.length > processes.length) body.lastElementChild.remove();
  while (body.children.length < processes.length) body.append(template.content.firstElementChild.cloneNode(true));
  processes.forEach((process, index) => {
    for (const cell of body.children[index].querySelectorAll("[data-cell]")) {
      setText(cell, CELLS[cell.dataset.cell](process));
    }
  });
}
