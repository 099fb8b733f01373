// The distribution of response times as bars.

import { setMeter, setText } from "./dom.js";
import { count, percent, text } from "./format.js";

const RANGES = { "<100ms": "< 100 ms", "100-500ms": "100–500 ms", "500ms-1s": "500 ms–1 s", "1-5s": "1–5 s", ">5s": "> 5 s" };

function row(label) {
  const line = document.createElement("tr");
  const [name, picture, share, number] = ["th", "td", "td", "td"].map((tag) => document.createElement(tag));
  name.scope = "row";
  name.textContent = label;
  picture.ariaHidden = "true";
  const meter = document.createElement("div");
  meter.className = "meter";
  meter.append(document.createElement("div"));
  picture.append(meter);
  line.append(name, picture, share, number);
  document.getElementById("distribution").append(line);
  return { meter, share, number };
}

const rows = Object.entries(RANGES).map(([range, label]) => [range, row(label)]);

// Show the counts since the exporter started; the largest count has the full width.
export function showDistribution({ responseTimeDistribution: counts, maxDistributionCount: max }) {
  const total = Object.values(counts).reduce((sum, one) => sum + one, 0);
  for (const [range, { meter, share, number }] of rows) {
    setMeter(meter, max ? (100 * counts[range]) / max : 0);
    setText(share, total ? text(percent((100 * counts[range]) / total)) : "");
    setText(number, text(count(counts[range])));
  }
}
