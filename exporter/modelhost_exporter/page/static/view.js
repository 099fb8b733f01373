// What all charts show: the range or a zoomed part of it, whether they stand still, and the time at the cursor.

export const RANGES = [300, 900, 3600]; // seconds
const SHORTEST = 60_000; // ms of the time axis while there is less history
const SHORTEST_ZOOM = 10_000; // ms

// Dispatches "window" when the charts show another time, and "cursor" when the cursor is at another one.
class View extends EventTarget {
  range = 3600; // seconds
  zoom = null; // [from, to] in ms since 1970; null: the newest values
  paused = false;
  held = null; // time of the held cursor in ms since 1970
  #pointed = null; // time of the cursor that is not held

  // The time at which charts show their values; null for none.
  get time() {
    return this.held ?? this.#pointed;
  }

  // Return [from, to], the time that a chart with these points shows.
  window(times, seconds = this.range) {
    if (this.zoom) return this.zoom;
    const end = times.at(-1) ?? Date.now();
    return [Math.min(Math.max(times[0] ?? end, end - seconds * 1000), end - SHORTEST), end];
  }

  setRange(seconds) {
    this.set({ range: seconds, zoom: null });
  }

  // Show what is between two times, as far as it is in [first, last].
  zoomTo(from, to, [first, last]) {
    const spare = Math.max(SHORTEST_ZOOM - (to - from), 0) / 2;
    const end = Math.min(Math.max(to + spare, first + SHORTEST_ZOOM), last);
    this.set({ zoom: [Math.max(Math.min(from - spare, end - SHORTEST_ZOOM), Math.min(first, end - SHORTEST_ZOOM)), end].map(Math.round) });
  }

  zoomOut() {
    this.set({ zoom: null });
  }

  setPaused(paused) {
    if (this.paused === paused) return;
    this.paused = paused;
    this.dispatchEvent(new Event("window"));
  }

  set({ range = this.range, zoom = this.zoom }) {
    if (range === this.range && String(zoom) === String(this.zoom)) return;
    Object.assign(this, { range, zoom });
    this.dispatchEvent(new Event("window"));
  }

  // Move the cursor that follows a pointer; it does not move one that is held.
  point(time) {
    if (this.#pointed === time) return;
    this.#pointed = time;
    if (this.held === null) this.dispatchEvent(new Event("cursor"));
  }

  hold(time) {
    if (this.held === time) return;
    this.held = time;
    this.dispatchEvent(new Event("cursor"));
  }
}

export const view = new View();
