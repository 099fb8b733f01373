// A small line without axes: the last ten minutes of one number. It is drawn once for each of its steps.

const STEP = 15_000; // ms
const STEPS = 40;
const [WIDTH, HEIGHT] = [96, 20]; // of the view box in index.html

export class Sparkline {
  #drawn = NaN;

  // The element is an SVG with a polyline and a title, which screen readers read.
  constructor(element) {
    this.element = element;
    this.line = element.querySelector("polyline");
    this.title = element.querySelector("title");
  }

  // times are in ms; values belong to them, null where not known. describe(highest, last) returns the text.
  draw(times, values, describe) {
    const step = Math.floor(times.at(-1) / STEP);
    if (step === this.#drawn) return;
    this.#drawn = step;
    const means = meansOfSteps(times, values, step);
    const known = means.filter((value) => value !== null);
    const highest = Math.max(...known, 0);
    this.element.classList.toggle("flat", highest === 0);
    this.line.setAttribute("points", points(means, highest));
    this.title.textContent = known.length ? describe(highest, known.at(-1)) : "No value in the last 10 min";
  }

  // Draw again with the next message, for example with another number.
  reset() {
    this.#drawn = NaN;
  }
}

// Return the mean of each step, the last one being that before `step`; null where no value is known.
function meansOfSteps(times, values, step) {
  const [sums, counts] = [new Array(STEPS).fill(0), new Array(STEPS).fill(0)];
  for (let row = times.length - 1; row >= 0; row--) {
    const at = STEPS - step + Math.floor(times[row] / STEP);
    if (at < 0) break;
    if (at >= STEPS || values[row] === null) continue;
    sums[at] += values[row];
    counts[at]++;
  }
  return sums.map((sum, at) => (counts[at] ? sum / counts[at] : null));
}

// Steps without a known value are 0: the numbers are rates.
function points(means, highest) {
  const y = (value) => HEIGHT - 1 - (highest ? ((value ?? 0) / highest) * (HEIGHT - 2) : 0);
  return means.map((value, at) => `${((at * WIDTH) / (STEPS - 1)).toFixed(1)},${y(value).toFixed(1)}`).join(" ");
}
