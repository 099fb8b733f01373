// Why a GPU is slowed down, in words.

// Reason of the feed → words, those that need an action first. Others are shown as they are.
const WORDS = {
  hw_thermal: "heat",
  sw_thermal: "heat",
  thermal: "heat",
  hw_power_brake: "the power supply",
  hw_slowdown: "the hardware",
  sw_power_cap: "its power limit",
  sync_boost: "other GPUs (sync boost)",
};
const SERIOUS = ["hw_thermal", "sw_thermal", "thermal", "hw_power_brake", "hw_slowdown"];
const DETAILS = ["hw_thermal", "hw_power_brake"]; // hw_slowdown is reported with each of them

export const isHot = (gpu) => gpu.throttledBy.some((reason) => WORDS[reason] === "heat");

// Return [text, level]: "" where nothing slows the GPU down.
export function throttling({ throttledBy: reasons }) {
  const own = reasons.filter((reason) => reason !== "hw_slowdown" || !DETAILS.some((detail) => reasons.includes(detail)));
  if (!own.length) return ["", ""];
  const words = [...Object.keys(WORDS), ...own].filter((reason) => own.includes(reason)).map((reason) => WORDS[reason] ?? reason);
  return [`slowed down by ${[...new Set(words)].join(", ")}`, own.some((reason) => SERIOUS.includes(reason)) ? "alarm" : "warn"];
}
