// The cards of the GPUs.

import { Chart } from "./charts.js";
import { level, prepare, setLevel, setMeter, setText, show } from "./dom.js";
import * as format from "./format.js";
import { gpuColumn } from "./history.js";
import { BUSY } from "./limits.js";

const list = document.getElementById("gpus");
const none = document.getElementById("no-gpu");
const noneText = none.querySelector(".empty");
const template = document.getElementById("gpu-card");

class Card {
  constructor(gpu, alone) {
    this.id = gpu.id;
    this.element = template.content.firstElementChild.cloneNode(true);
    const title = this.element.querySelector("h2");
    title.id = `gpu-${gpu.id}`;
    title.textContent = alone ? "GPU" : `GPU ${gpu.id}`;
    this.element.setAttribute("aria-labelledby", title.id);
    this.name = this.element.querySelector(".name");
    this.meter = this.element.querySelector(".meter");
    this.values = Object.fromEntries(
      [...this.element.querySelectorAll("[data-gpu]")].map((element) => [element.dataset.gpu, element]),
    );
    prepare(Object.values(this.values));
    this.chart = new Chart(this.element.querySelector(".chart"), {
      title: `${title.textContent} usage`,
      series: [{ label: "Usage", colour: "--gpu" }],
      format: format.percent,
      top: 100,
      lines: BUSY.lines,
    });
  }

  show(gpu) {
    setText(this.name, gpu.name ?? "");
    show(this.values.usage, format.percent(gpu.usage));
    setLevel(this.values.usage, level(gpu.usage, BUSY.amber, BUSY.red));
    show(this.values.memory, format.ofTotal(format.bytes, gpu.memoryUsed, gpu.memoryTotal));
    setMeter(this.meter, gpu.memoryTotal ? (100 * gpu.memoryUsed) / gpu.memoryTotal : 0);
    show(this.values.temperature, format.celsius(gpu.temperature));
    show(this.values.power, format.ofTotal(format.watts, gpu.powerWatts, gpu.powerLimitWatts));
  }
}

export class Gpus {
  #cards = [];

  show(gpus, missing) {
    if (this.#cards.map((card) => card.id).join() !== gpus.map((gpu) => gpu.id).join()) this.#createCards(gpus);
    setText(noneText, absenceText(missing));
    none.hidden = gpus.length > 0 && !missing;
    list.dataset.count = gpus.length === 0 ? "none" : gpus.length === 1 && none.hidden ? "one" : "many";
    gpus.forEach((gpu, index) => this.#cards[index].show(gpu));
  }

  draw(history, seconds, grown) {
    for (const { chart, id } of this.#cards) chart.draw(history.data([gpuColumn(id, "usage")]), seconds, grown);
  }

  #createCards(gpus) {
    for (const card of this.#cards) {
      card.chart.remove();
      card.element.remove();
    }
    this.#cards = gpus.map((gpu) => new Card(gpu, gpus.length === 1));
    none.before(...this.#cards.map((card) => card.element));
  }
}

function absenceText(missing) {
  if (!missing) return "No GPU detected";
  return missing === 1 ? "1 GPU is missing" : `${missing} GPUs are missing`;
}
