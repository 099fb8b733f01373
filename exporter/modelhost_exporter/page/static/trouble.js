// What is broken now.

import { REPLACED } from "./gpu_absence.js";
import { isHot } from "./throttling.js";

const FULL_PERCENT = 95; // the next model that is loaded fails
const DISK = { full: "is full", read_only: "has become read-only", silent: "does not respond" };

// Return what is broken, the worst first; unknown values are no trouble. Without numbers: the banner is announced.
export function troubles(message) {
  const { servers = [], diskTroubles, memoryUsage } = message;
  const down = servers.filter((server) => server.up === false);
  return [
    ...gpuTroubles(message),
    ...down.map((server) => `${server.name} does not respond`),
    ...diskTroubles.map(({ mountpoint, problem }) => `${mountpoint} ${DISK[problem]}`),
    memoryUsage > FULL_PERCENT && "memory is nearly full",
  ].filter(Boolean);
}

function gpuTroubles({ gpus = [], gpusMissing, gpuDetection }) {
  if (gpuDetection?.state === "replaced") return [REPLACED]; // whatever else is wrong follows from it
  const silent = gpus.filter((gpu) => gpu.state === "silent" || gpu.state === "lost");
  const hot = gpus.filter(isHot);
  return [
    gpuDetection?.state === "failed" && !silent.length && "the GPUs cannot be read",
    gpusMissing > 0 && (gpusMissing === 1 ? "1 GPU is missing" : `${gpusMissing} GPUs are missing`),
    silent.length > 0 && `${names(silent)} ${silent.length === 1 ? "does" : "do"} not respond`,
    hot.length > 0 && `${names(hot)} ${hot.length === 1 ? "is" : "are"} slowed down by heat`,
  ];
}

const names = (gpus) => `${gpus.length === 1 ? "GPU" : "GPUs"} ${gpus.map((gpu) => gpu.id).join(", ")}`;
