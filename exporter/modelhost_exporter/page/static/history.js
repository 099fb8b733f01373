// The last hour: columns of numbers (null: not known), as long as the column of times (ms since 1970).

const HOUR = 3_600_000;
const TRIM_ROWS = 30; // old rows are removed this many at a time, since that moves every column
const GPU = ["usage"];
const MODEL = ["p50", "p95", "p99", "requestsPerSecond", "tokensPerSecond"];

// Return the one of the ascending times that is nearest to a time; undefined if there are none.
export function nearest(times, time) {
  let [low, high] = [0, times.length - 1];
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (times[middle] < time) low = middle;
    else high = middle;
  }
  return time - times[low] < times[high] - time ? times[low] : times[high];
}

export const gpuColumn = (id, name) => `gpu/${name}/${id}`;
export const modelColumn = (id, name) => `model/${name}/${id}`;

export class History {
  constructor() {
    this.times = [];
    this.columns = new Map();
  }

  // Insert the history of the server, which replaces what this page received in the same time.
  load({ interval, timestamps, series, gpus, models }) {
    if (!timestamps.length) return;
    const loaded = new Map(Object.entries(series));
    for (const gpu of gpus) for (const name of GPU) loaded.set(gpuColumn(gpu.id, name), gpu[name]);
    for (const [id, columns] of Object.entries(models)) for (const name of MODEL) loaded.set(modelColumn(id, name), columns[name]);
    openGaps(timestamps, [...loaded.values()], interval * 1000);
    const before = this.times.findIndex((time) => time >= timestamps[0]);
    const head = before < 0 && this.times.at(-1) < timestamps[0] ? this.times.length : Math.max(before, 0);
    const after = this.times.findIndex((time) => time > timestamps.at(-1));
    const tail = after < 0 ? this.times.length : after;
    const join = (own, middle) => [...own.slice(0, head), ...middle, ...own.slice(tail)];
    for (const name of new Set([...this.columns.keys(), ...loaded.keys()])) {
      const own = this.columns.get(name) ?? nulls(this.times.length);
      this.columns.set(name, join(own, loaded.get(name) ?? nulls(timestamps.length)));
    }
    this.times = join(this.times, timestamps);
    this.#trim();
  }

  // Return a copy that later messages do not change.
  copy() {
    const copy = new History();
    copy.times = [...this.times];
    copy.columns = new Map([...this.columns].map(([name, column]) => [name, [...column]]));
    return copy;
  }

  // Append the numbers of a message; after a gap, first a row of nulls, so that no line is drawn across it. Returns
  // whether only rows at the end were added.
  append(message) {
    const time = Date.parse(message.timestamp);
    const last = this.times.at(-1);
    const gap = message.interval * 1000;
    const isSetBack = time < last - gap; // the exporter's clock
    if (isSetBack) this.#shiftBack(last + gap - time);
    else if (time <= last) return true; // already in the history
    if (isGap(last, time, gap)) this.#push(last + gap, new Map());
    this.#push(time, row(message));
    return !this.#trim() && !isSetBack;
  }

  // Return [times, one column for each name], the format of uPlot.
  data(names) {
    return [this.times, ...names.map((name) => this.columns.get(name) ?? nulls(this.times.length))];
  }

  #shiftBack(by) {
    this.times = this.times.map((time) => time - by);
  }

  #push(time, values) {
    for (const name of values.keys()) if (!this.columns.has(name)) this.columns.set(name, nulls(this.times.length));
    this.times.push(time);
    for (const [name, column] of this.columns) column.push(values.get(name) ?? null);
  }

  // Returns whether rows were removed.
  #trim() {
    const start = this.times.at(-1) - HOUR;
    const old = this.times.findIndex((time) => time >= start);
    if (old < TRIM_ROWS) return false;
    this.times.splice(0, old);
    for (const [name, column] of this.columns) {
      column.splice(0, old);
      if (column.every((value) => value === null)) this.columns.delete(name); // for example of a removed model
    }
    return true;
  }
}

function row(message) {
  const values = new Map([
    ["cpuUsage", message.cpuUsage],
    ["memoryUsage", message.memoryUsage],
    ["networkIn", message.networkStats?.bytesInPerSecond],
    ["networkOut", message.networkStats?.bytesOutPerSecond],
  ]);
  for (const gpu of message.gpus) for (const name of GPU) values.set(gpuColumn(gpu.id, name), gpu[name]);
  for (const model of message.models) for (const name of MODEL) values.set(modelColumn(model.id, name), model[name]);
  return values;
}

// Return whether messages are missing between two; interval is in ms.
function isGap(before, after, interval) {
  return after > before + 3 * interval;
}

// Insert a row of nulls into each gap, for example while the machine slept, so that no line is drawn across it.
function openGaps(times, columns, interval) {
  for (let at = times.length - 1; at > 0; at--) {
    if (!isGap(times[at - 1], times[at], interval)) continue;
    times.splice(at, 0, times[at - 1] + interval);
    for (const column of columns) column.splice(at, 0, null);
  }
}

function nulls(length) {
  return new Array(length).fill(null);
}
