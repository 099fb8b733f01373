// The machine itself: its operating system, CPUs, and limits of the container.

import { setText } from "./dom.js";
import * as format from "./format.js";

const MAX_COLUMNS = 32;
const BUSY_PERCENT = 90;

const byId = (id) => document.getElementById(id);
const strip = byId("cores");

export function showHost({ host, timestamp, limits, cpuCoreUsage }) {
  const up = host.bootTime ? (Date.parse(timestamp) - Date.parse(host.bootTime)) / 1000 : null;
  const system = host.release?.replace(/ GNU\/Linux| \(.*\)/g, "") ?? host.system;
  setText(byId("system"), [system, up > 0 ? `up ${format.span(up)}` : ""].filter(Boolean).join(" · "));
  setText(byId("cpu-model"), host.cpuModel ?? "");
  for (const [id, limit] of [["cpu-limit", limits.cpuCores], ["memory-limit", limits.memoryBytes]]) {
    setText(byId(id), limit === null ? "" : "limit of the container");
  }
  showCores(cpuCoreUsage ?? []);
}

// A heat strip: one cell for each CPU, in rows of equal length.
function showCores(percents) {
  strip.hidden = percents.length < 2;
  if (strip.children.length !== percents.length) createCells(percents.length);
  percents.forEach((percent, index) => {
    const cell = strip.children[index];
    if (cell.dataset.load === String(percent)) return;
    cell.dataset.load = percent;
    cell.style.setProperty("--load", `${percent}%`);
  });
  const text = summary(percents);
  if (strip.ariaLabel !== text) strip.ariaLabel = text;
}

function createCells(count) {
  strip.replaceChildren(...Array.from({ length: count }, () => document.createElement("div")));
  strip.style.setProperty("--columns", Math.ceil(count / Math.ceil(count / MAX_COLUMNS)));
}

function summary(percents) {
  if (!percents.length) return "";
  const highest = Math.max(...percents);
  const busy = percents.filter((percent) => percent > BUSY_PERCENT).length;
  const median = percents.toSorted((a, b) => a - b)[Math.floor(percents.length / 2)];
  return `Usage of ${percents.length} CPUs: ${busy} above ${BUSY_PERCENT} %, half of them up to ${median} %, the highest is CPU ${percents.indexOf(highest)} with ${highest} %`;
}

strip.addEventListener("pointerover", ({ target }) => {
  const { load } = target.dataset;
  if (load !== undefined) target.title = `CPU ${[...strip.children].indexOf(target)}: ${load} %`;
});
