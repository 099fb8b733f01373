// What is broken now.

const FULL_PERCENT = 95; // the next model that is loaded fails
const DISK = { full: "is full", read_only: "has become read-only", silent: "does not respond" };

// Return what is broken, the worst first; unknown values are no trouble. Without numbers: the banner is announced.
export function troubles({ gpus = [], gpusMissing, servers = [], diskTroubles, memoryUsage }) {
  const silent = gpus.filter((gpu) => gpu.usage === null && gpu.memoryUsed === null && gpu.temperature === null);
  const down = servers.filter((server) => server.up === false);
  return [
    gpusMissing > 0 && (gpusMissing === 1 ? "1 GPU is missing" : `${gpusMissing} GPUs are missing`),
    silent.length > 0 && `${silent.map((gpu) => `GPU ${gpu.id}`).join(", ")} does not respond`,
    ...down.map((server) => `${server.name} does not respond`),
    ...diskTroubles.map(({ mountpoint, problem }) => `${mountpoint} ${DISK[problem]}`),
    memoryUsage > FULL_PERCENT && "memory is nearly full",
  ].filter(Boolean);
}
