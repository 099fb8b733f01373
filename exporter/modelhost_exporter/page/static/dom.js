// Write values into the page. Always as text, never as HTML: names come from clients of the model servers.

import { ago, NONE } from "./format.js";

const announcer = document.getElementById("announcer");

// Add an element for a number, one for its unit and one for its age to each element.
export function prepare(elements) {
  for (const element of elements) {
    const parts = ["number", "unit", "age"].map((name) => Object.assign(document.createElement("span"), { className: name }));
    element.append(...parts);
    show(element, NONE);
  }
}

export function show(element, [number, unit]) {
  setText(element.children[0], number);
  setText(element.children[1], unit);
}

// Mark a number as one of the past by its age in ms; null for one of now.
export function showAge(element, age) {
  const text = age === null ? "" : ` ${ago(age)}`; // a space, for who reads or copies the text
  if (element.children[2].textContent === text) return;
  element.toggleAttribute("data-aged", Boolean(text));
  setText(element.children[2], text);
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
