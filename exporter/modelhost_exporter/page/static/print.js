// Print whole charts, in the light theme. The layout of the paper is set first, since charts are drawn for a size.

import { drawAll, recolour } from "./charts.js";
import { setText } from "./dom.js";
import { clock } from "./format.js";
import { chosenTheme } from "./theme.js";
import { view } from "./view.js";

const printed = document.getElementById("printed");
const day = new Intl.DateTimeFormat([], { dateStyle: "medium" });

addEventListener("beforeprint", () => {
  const now = new Date();
  const period = view.zoom ? view.zoom.map(clock).join(" – ") : `last ${view.range / 60} min`;
  setText(printed, `${day.format(now)}, ${clock(now)} · ${period}`);
  document.documentElement.dataset.printing = "";
  draw("light");
});

addEventListener("afterprint", () => {
  delete document.documentElement.dataset.printing;
  draw(chosenTheme());
});

function draw(theme) {
  globalThis.setTheme(theme);
  recolour();
  drawAll();
}
