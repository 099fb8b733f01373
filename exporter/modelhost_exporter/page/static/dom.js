// Write values into the page. Always as text, never as HTML: names come from clients of the model servers.

import { NONE } from "./format.js";

const announcer = document.getElementById("announcer");

// Add an element for a number and one for its unit to each element.
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

// Announce a text to screen readers.
export function announce(text) {
  setText(announcer, text);
}

// Set the level of an element: "" (normal), "warn" or "alarm"; app.css shows it as colour and sign.
export function setLevel(element, level) {
  if ((element.dataset.is ?? "") === level) return;
  element.dataset.is = level;
}

export function setMeter(element, percent) {
  element.firstElementChild.style.transform = `scaleX(${Math.min(Math.max(percent ?? 0, 0), 100) / 100})`;
}

// Return the level of a value: "warn" above amber, "alarm" above red.
export function level(value, amber, red) {
  return value > red ? "alarm" : value > amber ? "warn" : "";
}
