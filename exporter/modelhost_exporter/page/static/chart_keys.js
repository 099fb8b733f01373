// Keys of the focused chart.

import { nearest } from "./history.js";
import { view } from "./view.js";

const MANY = 10; // points that the cursor moves with Shift
const STEPS = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
const ZOOMS = { "+": 0.5, "=": 0.5, "-": 2 };

// Apply a key to the cursor or the zoom of a chart with these points. Returns whether the cursor moved.
export function applyKey(event, times) {
  if (event.ctrlKey || event.metaKey || event.altKey || !times.length) return false;
  const step = STEPS[event.key];
  const zoom = ZOOMS[event.key];
  if (step === undefined && zoom === undefined && event.key !== "Enter") return false;
  event.preventDefault();
  if (step) move(times, event.shiftKey ? MANY * step : step);
  else if (zoom) scale(times, zoom);
  else if (view.time !== null) view.hold(view.held === null ? view.time : null);
  return step !== undefined;
}

// Move the cursor by a number of points within the time that is shown; the first step goes to the newest point.
function move(times, by) {
  const [from, to] = view.window(times);
  const first = times.findIndex((time) => time >= from);
  const last = times.findLastIndex((time) => time <= to);
  const at = view.time === null ? last - Math.sign(by) : times.indexOf(nearest(times, view.time));
  const time = times[Math.min(Math.max(at + by, first), last)];
  if (view.held === null) view.point(time);
  else view.hold(time);
}

// Zoom around the cursor, or else the newest point.
function scale(times, factor) {
  const [from, to] = view.window(times);
  const width = (to - from) * factor;
  if (width >= view.range * 1000) return view.zoomOut();
  const middle = view.time ?? to;
  const share = (middle - from) / (to - from); // the cursor stays where it is
  view.zoomTo(middle - width * share, middle + width * (1 - share), [times[0], times.at(-1)]);
}
