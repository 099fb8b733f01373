// The banner: what is broken now, in one line, and in the title of the tab.

const FULL_PERCENT = 95; // a model that is loaded, or a log that is written, fails soon

// Return what is broken, the worst first; unknown values are no trouble. Without numbers: the banner is announced.
export function troubles({ gpus = [], gpusMissing, servers = [], diskUsage, memoryUsage }) {
  const silent = gpus.filter((gpu) => gpu.usage === null && gpu.memoryUsed === null && gpu.temperature === null);
  const down = servers.filter((server) => server.up === false);
  return [
    gpusMissing > 0 && (gpusMissing === 1 ? "1 GPU is missing" : `${gpusMissing} GPUs are missing`),
    silent.length > 0 && `${silent.map((gpu) => `GPU ${gpu.id}`).join(", ")} does not respond`,
    ...down.map((server) => `${server.name} does not respond`),
    diskUsage?.percent > FULL_PERCENT && "the disk is nearly full",
    memoryUsage > FULL_PERCENT && "memory is nearly full",
  ].filter(Boolean);
}
