// Mouse, pen and touch on a chart: drag to zoom, click or tap to hold the cursor, double click to zoom out.

import { nearest } from "./history.js";
import { view } from "./view.js";

const DRAG = 6; // px from which a movement is no click
const SAME = 8; // px around the held cursor where a click releases it

// uPlot listens to none of these itself: its cursor follows a pointer, and not a time.
export const NO_EVENTS = Object.fromEntries(
  ["mousedown", "mouseup", "click", "dblclick", "mousemove", "mouseleave", "mouseenter"].map((name) => [name, () => null]),
);

// Let the pointer over this plot move the cursor and zoom.
export function followPointer(plot) {
  const { over } = plot;
  let start = null; // px from the left where the button was pressed
  let dragging = false;
  const position = (event) => Math.min(Math.max(event.clientX - over.getBoundingClientRect().left, 0), over.clientWidth);
  const time = (x) => plot.posToVal(x, "x");
  const on = (name, listener) => over.addEventListener(name, (event) => event.isPrimary === false || listener(event));
  const select = (from, to) => plot.setSelect({ left: Math.min(from, to), width: Math.abs(to - from), top: 0, height: over.clientHeight }, false);
  const stop = () => {
    select(0, 0);
    [start, dragging] = [null, false];
  };

  on("pointerdown", (event) => {
    if (event.button !== 0) return;
    start = position(event);
    over.setPointerCapture(event.pointerId);
  });
  on("pointermove", (event) => {
    const x = position(event);
    dragging ||= start !== null && Math.abs(x - start) >= DRAG;
    if (dragging) select(start, x);
    view.point(nearest(plot.data[0], time(x)) ?? null);
  });
  on("pointerup", (event) => {
    if (start === null) return;
    const [from, to, dragged] = [start, position(event), dragging];
    stop();
    if (dragged) view.zoomTo(time(Math.min(from, to)), time(Math.max(from, to)), [plot.data[0][0], plot.data[0].at(-1)]);
    else hold(nearest(plot.data[0], time(to)));
  });
  on("pointercancel", stop); // a touch that scrolls the page
  on("pointerleave", () => view.point(null));
  over.addEventListener("dblclick", () => view.zoomOut());

  const hold = (at) => {
    const isHeld = view.held !== null && Math.abs(plot.valToPos(at, "x") - plot.valToPos(view.held, "x")) < SAME;
    view.hold(isHeld ? null : at);
  };
}
