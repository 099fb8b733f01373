// Charts of the history, drawn by uPlot, and only while they are visible.

import { axes, PADDING } from "./axis.js";
import { applyKey } from "./chart_keys.js";
import { announce } from "./dom.js";
import { clock, text } from "./format.js";
import { nearest } from "./history.js";
import { followPointer, NO_EVENTS } from "./pointer.js";
import { view } from "./view.js";

const MINUTE = 60_000;
const AWAY = { left: -10, top: -10 }; // hides uPlot's cursor
const charts = new Map(); // element → chart
let colours = {};

export const libraryIsMissing = () => globalThis.uPlot === undefined;

// Return the chart in an element.
export const chartIn = (element) => charts.get(element);

// Return a colour of the style sheet, which differs between the light and the dark theme.
function colour(name) {
  return (colours[name] ??= getComputedStyle(document.body).getPropertyValue(name).trim());
}

// Draw all charts with the colours that the theme has now.
export function recolour() {
  colours = {};
  for (const chart of charts.values()) chart.redraw();
}

// Draw all charts in the size that they have now, also those that are not on the screen.
export function drawAll() {
  for (const chart of charts.values()) chart.drawInFull();
}

view.addEventListener("cursor", () => {
  for (const chart of charts.values()) chart.showCursor();
});

const visible = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) charts.get(target)?.setVisible(isIntersecting);
}, { rootMargin: "80px" });

const sizes = new ResizeObserver((entries) => {
  for (const { target } of entries) charts.get(target)?.resize();
});

export class Chart {
  #plot = null;
  #tip = null;
  #pending = null; // data to draw when the chart becomes visible
  #visible = false;
  #window = [0, MINUTE];
  #drawnTo = 0; // time of the newest point that is drawn
  #hidden = new Set(); // indexes of series
  #last = []; // for each series [time, value] of its last point, if stays is set
  past = []; // for each series its value before the history, or null

  // series: [{label, colour}]; format: formats a value; top: fixed end of the scale; lines: [{at, colour}], drawn
  // across the chart; binary: the values are bytes; duration: they are ms; bare: the axis has no unit; stays: the last
  // value of a series that has ended is continued as a dashed line.
  constructor(element, { title, series, format, top = null, lines = [], binary, duration, bare, stays }) {
    Object.assign(this, { element, title, series, format, top, lines, binary, duration, bare, stays });
    if (libraryIsMissing()) {
      element.classList.add("missing");
      return;
    }
    element.tabIndex = 0;
    element.setAttribute("role", "img");
    element.setAttribute("aria-label", title);
    element.addEventListener("keydown", (event) => this.#press(event));
    element.addEventListener("focus", () => this.showCursor());
    element.addEventListener("blur", () => view.point(null));
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
    const [from, to] = view.window(data[0], seconds);
    if (grown && this.#plot && newest(data, to) - this.#drawnTo < (to - from) / this.#plot.width) return;
    this.#pending = [data, seconds];
    this.drawPending();
  }

  setVisible(isVisible) {
    this.#visible = isVisible;
    this.drawPending();
    this.showCursor(); // it may have moved since
  }

  drawPending() {
    if (this.#pending === null || !this.#visible) return;
    if (!this.#plot && !this.element.clientWidth) return;
    const [data, seconds] = this.#pending;
    this.#pending = null;
    this.#window = view.window(data[0], seconds);
    this.#drawnTo = newest(data, this.#window[1]);
    this.#last = this.stays ? data.slice(1).map((column, index) => this.#lastPoint(data[0], column, index)) : [];
    if (this.#plot) this.#plot.setData(data);
    else this.#plot = new uPlot(this.#options(), data, this.element);
    this.element.setAttribute("aria-label", this.#summary(data));
  }

  drawInFull() {
    const visible = this.#visible;
    this.#visible = true;
    this.drawPending();
    this.#visible = visible;
    if (this.element.clientWidth) this.#plot?.setSize(this.#size());
    this.redraw();
  }

  redraw() {
    this.#plot?.redraw(false, true);
  }

  resize() {
    if (this.element.clientWidth) this.#plot?.setSize(this.#size());
    this.drawPending();
  }

  setShown(label, shown) {
    const index = this.series.findIndex((one) => one.label === label);
    if (shown) this.#hidden.delete(index);
    else this.#hidden.add(index);
    this.#plot?.setSeries(index + 1, { show: shown });
    this.showCursor();
  }

  // Show the cursor at its time; and the values there if the chart is under the pointer, has the focus, or the cursor
  // is held.
  showCursor() {
    if (!this.#plot || !this.#visible) return;
    const { time } = view;
    const [from, to] = this.#window;
    const isInside = time !== null && time >= from && time <= to;
    const left = isInside ? this.#plot.valToPos(time, "x") : -1;
    this.#plot.setCursor(isInside ? { left, top: 0 } : AWAY);
    this.#tip.hidden = !isInside || (view.held === null && !this.element.matches(":hover, :focus"));
    if (!this.#tip.hidden) this.#showTip(left, time);
  }

  #showTip(left, time) {
    this.#tip.textContent = this.#textAt(time).join("\n");
    const onRight = left > this.#plot.over.clientWidth / 2;
    this.#tip.style.transform = `translateX(${left + (onRight ? -10 : 10)}px) translateX(${onRight ? "-100%" : "0"})`;
  }

  #textAt(time) {
    const [times, ...columns] = this.#plot.data;
    const index = times.indexOf(nearest(times, time));
    const values = this.series.map(({ label }, one) => `${label} ${text(this.format(columns[one][index]))}`);
    return [clock(times[index]), ...values.filter((_, one) => !this.#hidden.has(one))];
  }

  #size() {
    return { width: this.element.clientWidth, height: this.element.clientHeight };
  }

  #options() {
    const stroke = () => colour("--soft");
    const grid = { stroke: () => colour("--grid"), width: 1 };
    return {
      ...this.#size(),
      ms: 1,
      padding: PADDING,
      legend: { show: false },
      cursor: { y: false, drag: { setScale: false, x: false }, points: { size: 6 }, bind: NO_EVENTS },
      scales: {
        x: { range: () => this.#window },
        y: { range: (_, __, max) => [0, this.#top(max)] },
      },
      axes: axes({ ...this, stroke, grid }),
      series: [{}, ...this.series.map((one, index) => this.#line(one, index))],
      hooks: {
        drawAxes: [(plot) => this.#drawLines(plot)],
        draw: [(plot) => this.#drawLast(plot), () => this.showCursor()],
        init: [(plot) => this.#start(plot)],
      },
    };
  }

  #start(plot) {
    this.#plot = plot;
    this.#tip = document.createElement("div");
    this.#tip.className = "tip";
    this.#tip.hidden = true;
    plot.over.append(this.#tip);
    followPointer(plot);
  }

  #top(max) {
    if (this.top !== null) return this.top;
    const last = this.#last.map((point, index) => (point && !this.#hidden.has(index) ? point[1] : 0));
    const most = Math.max(max ?? 0, ...last);
    return most > 0 ? most * 1.1 : 1;
  }

  // Return [time, value] of the last point of a series up to the end of the chart, or null.
  #lastPoint(times, column, index) {
    const at = column.findLastIndex((value, row) => value !== null && times[row] <= this.#window[1]);
    if (at >= 0) return [times[at], column[at]];
    return view.zoom || (this.past[index] ?? null) === null ? null : [0, this.past[index]];
  }

  #line({ colour: name }, index) {
    return {
      stroke: () => colour(name),
      fill: this.series.length === 1 ? () => `${colour(name)}1c` : undefined,
      width: 1.5,
      points: { show: false },
      show: !this.#hidden.has(index),
    };
  }

  #drawLines({ ctx, bbox, valToPos }) {
    for (const { at, colour: name } of this.lines) {
      dash(ctx, `${colour(name)}70`, bbox.left, bbox.left + bbox.width, valToPos(at, "y", true));
    }
  }

  // Continue series that have ended before the end of the chart with their last value.
  #drawLast({ ctx, bbox, data, valToPos }) {
    const end = newest(data, this.#window[1]);
    this.#last.forEach((point, index) => {
      if (!point || point[0] >= end || this.#hidden.has(index)) return;
      const from = Math.max(valToPos(point[0], "x", true), bbox.left);
      dash(ctx, colour("--soft"), from, bbox.left + bbox.width, valToPos(point[1], "y", true));
    });
  }

  #press(event) {
    if (!this.#plot || !applyKey(event, this.#plot.data[0])) return;
    if (view.time !== null) announce(this.#textAt(view.time).join(", "));
  }

  #summary([times, ...columns]) {
    const first = Math.max(times.findIndex((time) => time >= this.#window[0]), 0);
    const end = times.findLastIndex((time) => time <= this.#window[1]) + 1;
    const parts = this.series.map(({ label }, one) => {
      const values = columns[one].slice(first, end).filter((value) => value !== null);
      if (!values.length) return `${label}: no data`;
      const [low, high] = values.reduce(([a, b], value) => [Math.min(a, value), Math.max(b, value)], [Infinity, -Infinity]);
      return `${label}: ${text(this.format(low))} to ${text(this.format(high))}, last ${text(this.format(values.at(-1)))}`;
    });
    return `${this.title}, ${this.#period()}. ${parts.join(". ")}`;
  }

  #period() {
    const [from, to] = this.#window;
    if (view.zoom || view.paused) return `${clock(from)} to ${clock(to)}`;
    return `last ${Math.max(1, Math.round((to - from) / MINUTE))} min`;
  }
}

// Return the time of the newest point up to a time.
function newest([times], to) {
  return Math.min(times.at(-1) ?? 0, to);
}

// Draw a dashed horizontal line.
function dash(ctx, stroke, from, to, y) {
  ctx.save();
  ctx.setLineDash([4, 4]);
  ctx.lineWidth = 1;
  ctx.strokeStyle = stroke;
  ctx.beginPath();
  ctx.moveTo(from, Math.round(y) + 0.5);
  ctx.lineTo(to, Math.round(y) + 0.5);
  ctx.stroke();
  ctx.restore();
}
