// The controls of all charts: range, pause, names in legends, help; and what the charts show other than the newest values.

import { chartIn } from "./charts.js";
import { announce, setText } from "./dom.js";
import { clock } from "./format.js";
import { view } from "./view.js";

const byId = (id) => document.getElementById(id);
const pause = byId("pause");
const help = byId("help");
const state = byId("chart-state");
const ranges = [...document.getElementsByName("range")];
const legends = [...document.querySelectorAll("[data-series]")]; // CHART/LABEL

export class ChartControls {
  #pausedAt = 0; // time of the newest value when the page was paused

  constructor() {
    for (const radio of ranges) radio.addEventListener("click", () => view.setRange(Number(radio.value)));
    for (const button of legends) button.addEventListener("click", () => toggleSeries(button));
    pause.addEventListener("click", () => view.setPaused(!view.paused));
    byId("resume").addEventListener("click", () => view.setPaused(false));
    byId("zoom-out").addEventListener("click", () => view.zoomOut());
    byId("release").addEventListener("click", () => view.hold(null));
    byId("help-button").addEventListener("click", () => help.showModal());
    byId("help-close").addEventListener("click", () => help.close());
    document.addEventListener("keydown", press);
    view.addEventListener("cursor", () => this.#showHeld());
  }

  // Show range, zoom and pause. newest: the time of the newest value.
  show(newest) {
    for (const radio of ranges) radio.checked = Number(radio.value) === view.range;
    if (!view.paused) this.#pausedAt = newest;
    setText(pause.querySelector("span"), view.paused ? "Resume" : "Pause");
    pause.dataset.paused = view.paused;
    pause.title = `${view.paused ? "Resume" : "Pause"} (P)`;
    showState("resume", view.paused, () => `Paused at ${clock(this.#pausedAt)}`);
    showState("zoom-out", view.zoom !== null, () => view.zoom.map(clock).join(" – "));
    this.#showHeld();
  }

  #showHeld() {
    showState("release", view.held !== null, () => `Cursor at ${clock(view.held)}`);
    state.hidden = !view.paused && !view.zoom && view.held === null;
    document.documentElement.toggleAttribute("data-chart-state", !state.hidden);
  }
}

// Show or hide a button of the state, with a text before it; new texts are announced.
function showState(id, isShown, text) {
  const part = byId(id).parentElement;
  const label = part.querySelector("span");
  const said = isShown ? text() : "";
  if (said && said !== label.textContent) announce(said);
  setText(label, said);
  part.hidden = !isShown;
}

function toggleSeries(button) {
  const [name, label] = button.dataset.series.split("/");
  const shown = button.getAttribute("aria-pressed") !== "true";
  button.setAttribute("aria-pressed", String(shown));
  button.closest("div").classList.toggle("off", !shown);
  chartIn(document.querySelector(`[data-chart=${name}]`))?.setShown(label, shown);
}

// Keys of the page, except where text is typed or an option is chosen.
function press(event) {
  const isTyping = event.target.matches("input:not([type=radio]), select, textarea");
  if (isTyping || help.open || event.defaultPrevented || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") goBack();
  else if (event.key === "p" || event.key === "P") view.setPaused(!view.paused);
  else if (event.key === "?") help.showModal();
}

// Undo one thing: a held cursor, a zoom, a pause.
function goBack() {
  if (view.held !== null) view.hold(null);
  else if (view.zoom) view.zoomOut();
  else if (view.paused) view.setPaused(false);
  else view.point(null);
}
