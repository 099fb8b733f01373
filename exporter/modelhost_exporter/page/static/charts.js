// Charts of the history, drawn by uPlot, and only while they are visible.

import { announce } from "./dom.js";
import { clock, text } from "./format.js";

const MINUTE = 60_000;
const BINARY = Array.from({ length: 50 }, (_, power) => 2 ** power); // tick distances of an axis of bytes
const PADDING = [8, 8, 0, 0];
const AXIS_WIDTH = 52;
const LETTER_WIDTH = 6.5;
const charts = new Map(); // element → chart
let colours = {};

export const libraryIsMissing = () => globalThis.uPlot === undefined;

// Return a colour of the style sheet, which differs between the light and the dark theme.
function colour(name) {
  return (colours[name] ??= getComputedStyle(document.body).getPropertyValue(name).trim());
}

matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => {
  colours = {};
  for (const chart of charts.values()) chart.redraw();
});

const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) charts.get(target)?.setVisible(isIntersecting);
}, { rootMargin: "80px" });

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) charts.get(target)?.resize();
});

// Return the width of the longest label; charts with short labels have the same width.
function axisWidth(_, labels) {
  return Math.max(AXIS_WIDTH, ...(labels ?? []).map((label) => 12 + LETTER_WIDTH * (label ?? "").length));
}

export class Chart {
  #plot = null;
  #pending = null; // data to draw when the chart becomes visible
  #visible = false;
  #window = [0, MINUTE];

  // series: [{label, colour}]; format: formats a value; top: fixed end of the scale; lines: [{at, colour}], drawn
  // across the chart; binary: the values are bytes; bare: the axis has no unit.
  constructor(element, { title, series, format, top = null, lines = [], binary = false, bare = false }) {
    Object.assign(this, { element, title, series, format, top, lines, binary, bare });
    if (libraryIsMissing()) {
      element.classList.add("missing");
      return;
    }
    element.tabIndex = 0;
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", title);
    element.addEventListener("keydown", (event) => this.#step(event));
    element.addEventListener("blur", () => this.#plot?.setCursor({ left: -10, top: -10 }));
    charts.set(element, this);
    visible.observe(element);
    sizes.observe(element);
  }

  remove() {
    charts.delete(this.element);
    visible.unobserve(this.element);
    sizes.unobserve(this.element);
    this.#plot?.destroy();
  }

  // Draw columns [times, …values] of the last seconds, now or when the chart becomes visible. With grown, only newer
  // points were added: these are drawn when they fill a pixel, which in a chart of an hour is one time in five.
  draw(data, seconds, grown) {
    if (grown && this.#plot && Math.abs(data[0].at(-1) - this.#window[1]) < this.#pixel()) return;
    this.#pending = [data, seconds];
    this.drawPending();
  }

  // Return the width of a pixel in ms.
  #pixel() {
    return (this.#window[1] - this.#window[0]) / this.#plot.width;
  }

  setVisible(isVisible) {
    this.#visible = isVisible;
    this.drawPending();
  }

  drawPending() {
    if (this.#pending === null || !this.#visible || !this.element.clientWidth) return;
    const [data, seconds] = this.#pending;
    this.#pending = null;
    const [times] = data;
    const end = times.at(-1) ?? Date.now();
    this.#window = [Math.min(Math.max(times[0] ?? end, end - seconds * 1000), end - MINUTE), end];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.element);
    this.element.setAttribute("aria-label", this.#summary(data));
  }

  redraw() {
    this.#plot?.redraw(false, true);
  }

  resize() {
    this.#plot?.setSize(this.#size());
    this.drawPending();
  }

  #size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  #options() {
    const grid = { stroke: () => colour("--grid"), width: 1 };
    const axis = { stroke: () => colour("--soft"), font: "11px system-ui, sans-serif", ticks: { show: false }, grid };
    const label = (value) => text(this.bare ? [this.format(value)[0], ""] : this.format(value)).replace(/\.0+(?=\D|$)/, "");
    return {
      ...this.#size(),
      ms: 1,
      padding: PADDING,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false }, points: { size: 6 }, sync: { key: "live", scales: ["x", null] } },
      scales: {
        x: { range: () => this.#window },
        y: { range: (_, __, max) => [0, this.top ?? (max > 0 ? max * 1.1 : 1)] },
      },
      axes: [
        { ...axis, grid: { show: false }, size: 22, gap: 4, space: 64, values: times },
        { ...axis, size: axisWidth, gap: 6, space: 32, values: (_, ticks) => ticks.map(label), ...(this.binary && { incrs: BINARY }) },
      ],
      series: [{}, ...this.series.map((one) => this.#line(one))],
      hooks: { drawAxes: [(plot) => this.#drawLines(plot)], ready: [(plot) => this.#addTip(plot)] },
    };
  }

  #line({ colour: name }) {
    return {
      stroke: () => colour(name),
      fill: this.series.length === 1 ? () => `${colour(name)}1c` : undefined,
      width: 1.5,
      points: { show: false },
    };
  }

  #drawLines({ ctx, bbox, valToPos }) {
    ctx.save();
    ctx.setLineDash([4, 4]);
    for (const { at, colour: name } of this.lines) {
      const y = Math.round(valToPos(at, "y", true)) + 0.5;
      ctx.strokeStyle = `${colour(name)}70`;
      ctx.beginPath();
      ctx.moveTo(bbox.left, y);
      ctx.lineTo(bbox.left + bbox.width, y);
      ctx.stroke();
    }
    ctx.restore();
  }

  // Show the values at the cursor on the chart under the pointer; the other charts show a line at that time.
  #addTip(plot) {
    const tip = document.createElement("div");
    tip.className = "tip";
    tip.hidden = true;
    plot.over.append(tip);
    const show = () => {
      const index = plot.cursor.idx;
      const time = plot.data[0][index];
      tip.hidden = time === undefined || plot.cursor.left < 0 || !this.element.matches(":hover, :focus");
      if (tip.hidden) return;
      const values = this.series.map(({ label }, one) => `${label} ${text(this.format(plot.data[one + 1][index]))}`);
      tip.textContent = [clock(time), ...values].join("\n");
      const right = plot.cursor.left > plot.over.clientWidth / 2;
      tip.style.transform = `translateX(${plot.cursor.left + (right ? -10 : 10)}px) translateX(${right ? "-100%" : "0"})`;
    };
    (plot.hooks.setCursor ??= []).push(show);
  }

  // The left and right keys move the cursor along the points; each point is announced.
  #step(event) {
    const by = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!by || !this.#plot) return;
    event.preventDefault();
    const [times] = this.#plot.data;
    const from = this.#plot.cursor.left >= 0 ? this.#plot.cursor.idx : times.length - 1 - by;
    const index = Math.min(Math.max(from + by, 0), times.length - 1);
    this.#plot.setCursor({ left: this.#plot.valToPos(times[index], "x"), top: 0 });
    announce(this.element.querySelector(".tip").textContent.replaceAll("\n", ", "));
  }

  #summary([times, ...columns]) {
    const first = Math.max(times.findIndex((time) => time >= this.#window[0]), 0);
    const minutes = Math.max(1, Math.round((this.#window[1] - this.#window[0]) / MINUTE));
    const parts = this.series.map(({ label }, one) => {
      const values = columns[one].slice(first).filter((value) => value !== null);
      if (!values.length) return `${label}: no data`;
      const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
      return `${label}: ${text(this.format(low))} to ${text(this.format(high))}, last ${text(this.format(values.at(-1)))}`;
    });
    return `${this.title}, last ${minutes} min. ${parts.join(". ")}`;
  }
}

const minutes = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" });

// Return the labels of the time axis, with seconds where ticks are closer than a minute; null where it would be cut off.
function times(plot, ticks) {
  const format = ticks.length > 1 && ticks[1] - ticks[0] < MINUTE ? clock : (time) => minutes.format(time);
  const fits = (at) => at > 18 && at < plot.bbox.width / uPlot.pxRatio - 10;
  return ticks.map((tick) => (fits(plot.valToPos(tick, "x")) ? format(tick) : null));
}
