// The banner: what is broken now, in one line, and in the title of the tab.

import { REPLACED } from "./gpu_absence.js";
import { isHot } from "./throttling.js";

const FULL_PERCENT = 95; // a model that is loaded, or a log that is written, fails soon

// Return what is broken, the worst first; unknown values are no trouble. Without numbers: the banner is announced.
export function troubles({ gpus = [], gpusMissing, gpuDetection, servers = [], fileSystems = [], memoryUsage }) {
  const silent = gpus.filter((gpu) => gpu.state === "silent" || gpu.state === "lost");
  const hot = gpus.filter(isHot);
  const down = servers.filter((server) => server.up === false);
  return [
    gpuDetection?.state === "replaced" && REPLACED,
    gpuDetection?.state === "failed" && !silent.length && "the GPUs cannot be read",
    gpusMissing > 0 && (gpusMissing === 1 ? "1 GPU is missing" : `${gpusMissing} GPUs are missing`),
    silent.length > 0 && `${names(silent)} does not respond`,
    hot.length > 0 && `${names(hot)} is slowed down by heat`,
    ...down.map((server) => `${server.name} does not respond`),
    ...fileSystems.map(diskTrouble),
    memoryUsage > FULL_PERCENT && "memory is nearly full",
  ].filter(Boolean);
}

const names = (gpus) => gpus.map((gpu) => `GPU ${gpu.id}`).join(", ");

function diskTrouble({ mountpoint, percent, total, readOnly }) {
  const name = mountpoint === "/" ? "the disk" : mountpoint;
  if (total === null) return `${name} does not respond`;
  if (percent > FULL_PERCENT) return `${name} is nearly full`;
  return readOnly && mountpoint === "/" && `${name} is read-only`; // others may be so on purpose
}
