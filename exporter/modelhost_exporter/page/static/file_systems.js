// The list of file systems: those with models, then others.

import { level, setLevel, setMeter, setText } from "./dom.js";
import * as format from "./format.js";
import { FULL } from "./limits.js";

const list = document.getElementById("file-systems");
const template = document.getElementById("file-system-row");

export class FileSystems {
  #rows = [];

  show(systems) {
    while (this.#rows.length > systems.length) this.#rows.pop().element.remove();
    while (this.#rows.length < systems.length) {
      this.#rows.push(new Row());
      list.append(this.#rows.at(-1).element);
    }
    systems.forEach((system, index) => this.#rows[index].show(system));
  }
}

const space = (used, total, percent) => [format.ofTotal(format.bytes, used, total), format.percent(percent)].map(format.text).join(" · ");

class Row {
  constructor() {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.name = this.element.querySelector("strong");
    this.about = this.element.querySelector("[data-file-system=about]");
    this.space = this.element.querySelector("[data-file-system=space]");
    this.meter = this.element.querySelector(".meter");
  }

  show({ mountpoint, used, total, percent, readOnly, models }) {
    setText(this.name, mountpoint);
    setText(this.about, [models.length ? `models: ${models.join(", ")}` : "", readOnly ? "read-only" : ""].filter(Boolean).join(" · "));
    setText(this.space, total === null ? "does not respond" : space(used, total, percent));
    setLevel(this.space, total === null ? "alarm" : level(percent, FULL.amber, FULL.red));
    setMeter(this.meter, percent);
  }
}
