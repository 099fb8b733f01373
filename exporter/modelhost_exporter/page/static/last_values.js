// The last known values of models and of the API, which stay on the page while there are no requests.

import { modelColumn } from "./history.js";

const MODEL = ["avgResponseTime", "timeToFirstToken", "successRate", "p50", "p95", "p99"];
const API = ["avgResponseTime", "errorRate", "p50", "p95", "p99"];
const ALL = ""; // the id of the API

export class LastValues {
  #values = new Map(); // id of a model → Map of name → [value, time in ms since 1970]

  // Remember the known values of a message; models that it does not have are forgotten.
  add({ models, apiStats, timestamp }) {
    const time = Date.parse(timestamp);
    const ids = new Set([ALL, ...models.map((model) => model.id)]);
    for (const id of this.#values.keys()) if (!ids.has(id)) this.#values.delete(id);
    for (const model of models) this.#put(model.id, MODEL, model, time);
    this.#put(ALL, API, apiStats, time);
  }

  // Add the last values of the history for models without newer ones.
  addHistory(history) {
    for (const [id, values] of this.#values) {
      for (const name of MODEL) {
        const column = values.has(name) ? undefined : history.columns.get(modelColumn(id, name));
        const index = column?.findLastIndex((value) => value !== null) ?? -1;
        if (index >= 0) values.set(name, [column[index], history.times[index]]);
      }
    }
  }

  // Return [value, time] of what a model (without id: the API) has now, or had last. The time is null for a value of now.
  of(object, name, id = ALL) {
    const value = object[name];
    return value === null ? (this.#values.get(id)?.get(name) ?? [null, null]) : [value, null];
  }

  #put(id, names, object, time) {
    if (!this.#values.has(id)) this.#values.set(id, new Map());
    const values = this.#values.get(id);
    for (const name of names) if (object[name] !== null) values.set(name, [object[name], time]);
  }
}
