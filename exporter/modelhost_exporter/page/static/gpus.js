// The cards of the GPUs.

import { Chart } from "./charts.js";
import { level, prepare, setLevel, setText, show } from "./dom.js";
import * as format from "./format.js";
import { gpuAbsence } from "./gpu_absence.js";
import { MemoryBar } from "./gpu_memory.js";
import { gpuColumn } from "./history.js";
import { throttling } from "./throttling.js";

const FEW = 2; // at most that many have large cards
const NEAR_LIMIT = 3; // °C below the limit from which the temperature is amber
const STATES = {
  suspended: "suspended by the system to save power",
  silent: "does not respond",
  lost: "fell off the bus: reboot, or reset it",
};

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
    this.note = this.element.querySelector(".note");
    this.memory = new MemoryBar(this.element.querySelector(".stack"), this.element.querySelector(".parts"));
    this.values = Object.fromEntries(
      [...this.element.querySelectorAll("[data-gpu]")].map((element) => [element.dataset.gpu, element]),
    );
    prepare(Object.values(this.values));
    this.chart = new Chart(this.element.querySelector(".chart"), {
      title: `${title.textContent} usage`,
      series: [{ label: "Usage", colour: "--gpu" }],
      format: format.percent,
      top: 100,
    });
  }

  show(gpu, models, gpus) {
    setText(this.name, gpu.name ?? "");
    show(this.values.usage, format.percent(gpu.usage));
    show(this.values.memory, format.ofTotal(format.bytes, gpu.memoryUsed, gpu.memoryTotal));
    this.memory.show(gpu, models, gpus);
    show(this.values.temperature, format.ofTotal(format.celsius, gpu.temperature, gpu.temperatureLimit));
    const limit = gpu.temperatureLimit ?? Infinity;
    setLevel(this.values.temperature, level(gpu.temperature, limit - NEAR_LIMIT, limit));
    show(this.values.power, format.ofTotal(format.watts, gpu.powerWatts, gpu.powerLimitWatts));
    this.#showNote(gpu);
  }

  #showNote(gpu) {
    const state = STATES[gpu.state];
    const [text, grade] = state ? [state, gpu.state === "suspended" ? "" : "alarm"] : throttling(gpu);
    setText(this.note, text);
    setLevel(this.note, grade);
  }
}

export class Gpus {
  #cards = [];

  show({ gpus, gpusMissing: missing, gpuDetection: detection, models }) {
    if (this.#cards.map((card) => card.id).join() !== gpus.map((gpu) => gpu.id).join()) this.#createCards(gpus);
    setText(noneText, gpuAbsence(detection, missing, gpus.length));
    none.hidden = !noneText.textContent;
    list.dataset.count = gpus.length === 0 ? "none" : gpus.length === 1 && none.hidden ? "one" : "many";
    list.dataset.compact = gpus.length > FEW;
    gpus.forEach((gpu, index) => this.#cards[index].show(gpu, models, gpus));
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
