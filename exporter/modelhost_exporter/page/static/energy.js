// Energy: power now, and energy and cost of today, where GPUs or processors report it.

import { setText } from "./dom.js";
import * as format from "./format.js";

const byId = (id) => document.getElementById(id);
const MIDNIGHT = "00:00";

// energy: null where nothing is measured.
export function showEnergy(energy) {
  byId("energy").hidden = energy === null;
  if (energy === null) return;
  setText(byId("power"), format.text(format.watts(energy.powerWatts)));
  setText(byId("energy-today"), format.text(format.kilowattHours(energy.todayKwh)));
  setText(byId("energy-cost"), energy.todayCost === null ? "no price configured" : format.text(format.money(energy.todayCost, energy.currency)));
  const since = format.clock(Date.parse(energy.todaySince)).slice(0, MIDNIGHT.length);
  setText(byId("energy-since"), since === MIDNIGHT ? "" : `since ${since}`);
  setText(byId("energy-parts"), energy.parts.join(", "));
}
