// Parts that a message may lack: a tab stays open while its exporter is replaced by one of another version.

const MESSAGE = {
  host: { name: "modelhost-exporter" },
  limits: { cpuCores: null, memoryBytes: null },
  gpus: [],
  gpuDetection: { state: "unknown", detail: "the exporter does not report it" },
  diskStats: {},
  fileSystems: [],
  diskTroubles: [],
  apiStats: {},
  servers: [],
  models: [],
};
const API = { responseTimeDistribution: {} };
const LIST_ITEMS = {
  gpus: { memoryUsers: [], throttledBy: [] },
  fileSystems: { total: null, models: [] },
  servers: { proxyAddress: null },
  models: { loaded: null, totalRequests: null, tokensPerSecond: null, gpuMemoryUsage: null, kvCacheUsage: null },
};

// Return the message with a default for each part that this page cannot do without.
export function withDefaults(message) {
  const whole = filled(message, MESSAGE);
  const lists = Object.entries(LIST_ITEMS).map(([name, defaults]) => [name, whole[name].map((item) => filled(item, defaults))]);
  return { ...whole, apiStats: filled(whole.apiStats, API), ...Object.fromEntries(lists) };
}

function filled(object, defaults) {
  const missing = Object.entries(defaults).filter(([name]) => (object[name] ?? null) === null);
  return missing.length ? { ...object, ...Object.fromEntries(missing) } : object;
}
