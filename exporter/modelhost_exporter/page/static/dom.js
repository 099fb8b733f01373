// Writing numbers into the page. Text is only ever text here: names come from clients of the model servers.

import { NONE } from "./format.js";

const announcer = document.getElementById("announcer");

// Give each element a place for a number and one for its unit.
export function prepare(elements) {
  for (const element of elements) {
    const [number, unit] = [document.createElement("span"), document.createElement("span")];
    [number.className, unit.className] = ["number", "unit"];
    element.append(number, unit);
    show(element, NONE);
  }
}

export function show(element, [number, unit]) {
  setText(element.children[0], number);
  setText(element.children[1], unit);
}

export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

// Have a screen reader say something once.
export function announce(text) {
  setText(announcer, text);
}

// Mark an element as fine (""), "warn" or "alarm"; screen readers get the word, others the colour too.
export function setLevel(element, level) {
  if ((element.dataset.is ?? "") === level) return;
  element.dataset.is = level;
}

export function setMeter(element, percent) {
  element.firstElementChild.style.transform = `scaleX(${Math.min(Math.max(percent ?? 0, 0), 100) / 100})`;
}

// Levels above limits: amber above the first, red above the second.
export function level(value, amber, red) {
  return value > red ? "alarm" : value > amber ? "warn" : "";
}
