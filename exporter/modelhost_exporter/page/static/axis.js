// Axes of charts: steps in which people count, and labels that are neither cut nor overlap.

import { clock, text } from "./format.js";

const FONT = "11px system-ui, sans-serif";
const [SECOND, MINUTE, HOUR] = [1000, 60_000, 3_600_000];
const TIME_STEPS = [
  ...[1, 2, 5, 10, 15, 30].map((seconds) => seconds * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  HOUR,
];
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power);
const DURATIONS = [
  ...[0.01, 0.1, 1, 10, 100, 1000].flatMap((decade) => [1, 2, 5].map((step) => step * decade)),
  ...[10, 15, 30].map((seconds) => seconds * SECOND),
  ...[1, 2, 5, 10, 15, 30].map((minutes) => minutes * MINUTE),
  ...[1, 2, 5, 10, 20, 50].map((hours) => hours * HOUR),
];
const NARROWEST = 52; // px; axes with short labels have the same width
const GAP = 12; // px between labels
const EDGE = 4; // px by which a label may stand out of the plot
export const PADDING = [8, 8, 0, 0]; // px around the plot: top, right, bottom, left

const pen = document.createElement("canvas").getContext("2d");
pen.font = FONT;
const width = (label) => pen.measureText(label ?? "").width;

const minuteFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// Return the options of the axes. stroke and grid: uPlot's; format, binary, duration, bare: see Chart.
export function axes({ stroke, grid, format, binary, duration, bare }) {
  const common = { stroke, font: FONT, ticks: { show: false } };
  const label = duration ? durationLabel : (value) => plain(bare ? [format(value)[0], ""] : format(value));
  const incrs = duration ? DURATIONS : binary ? BINARY : undefined;
  return [
    { ...common, grid: { show: false }, size: 22, gap: 4, space: width("00:00:00") + GAP, incrs: TIME_STEPS, splits: ticks, values: times },
    { ...common, grid, size: valueAxisWidth, gap: 6, space: 32, values: (_, values) => values.map(label), ...(incrs && { incrs }) },
  ];
}

// Format a time of day, with seconds if step, the time between two labels, is less than a minute.
export function timeLabel(time, step) {
  return step < MINUTE ? clock(time) : minuteFormat.format(time);
}

// Return the multiples of step in local time between two times.
function ticks(_, __, from, to, step) {
  const offset = new Date(from).getTimezoneOffset() * MINUTE;
  const first = Math.ceil((from - offset) / step) * step + offset;
  return Array.from({ length: Math.max(Math.floor((to - first) / step) + 1, 0) }, (___, index) => first + index * step);
}

// Return the labels of the time axis; null for one that would be cut.
function times(plot, found) {
  const plotWidth = plot.bbox.width / uPlot.pxRatio;
  const step = found.length > 1 ? found[1] - found[0] : SECOND;
  return found.map((time) => {
    const label = timeLabel(time, step);
    const middle = plot.valToPos(time, "x");
    const half = width(label) / 2;
    return middle - half >= -EDGE && middle + half <= plotWidth + PADDING[1] - 1 ? label : null;
  });
}

function valueAxisWidth(_, labels) {
  return Math.ceil(Math.max(NARROWEST, ...(labels ?? []).map((label) => GAP + width(label))));
}

// Format a value of an axis without the decimals that are 0.
function plain(value) {
  return text(value).replace(/(\.\d*?)0+(?=\D|$)/, "$1").replace(/\.(?=\D|$)/, "");
}

// Format ms in the unit in which its steps are round.
function durationLabel(ms) {
  const [size, unit] = [[HOUR, "h"], [MINUTE, "min"], [SECOND, "s"]].find(([at]) => ms >= at) ?? [1, "ms"];
  return text([String(Number((ms / size).toFixed(2))), ms === 0 ? "" : unit]);
}
