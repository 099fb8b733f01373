// The button for the theme: that of the system, light, or dark.

import { recolour } from "./charts.js";
import { recall, remember } from "./storage.js";

const THEMES = ["system", "light", "dark"];
const button = document.getElementById("theme");
let index = Math.max(THEMES.indexOf(recall("theme")), 0);

export const chosenTheme = () => THEMES[index];

function label() {
  button.dataset.choice = chosenTheme();
  button.title = button.ariaLabel = `Theme: ${chosenTheme()}`;
}

button.addEventListener("click", () => {
  index = (index + 1) % THEMES.length;
  remember("theme", chosenTheme());
  globalThis.setTheme(chosenTheme());
  label();
  recolour();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", recolour);
label();
