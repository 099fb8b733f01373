// Why there is no GPU, or fewer than expected.

export const REPLACED = "restart the exporter: the GPU driver was replaced";

// Return what the page says beside the GPUs; "" where nothing is missing.
export function gpuAbsence({ state, detail }, missing, count) {
  if (state === "replaced") return `The GPU driver was replaced: restart the exporter. If that does not help, restart the machine.`;
  if (missing) return missing === 1 ? "1 GPU is missing" : `${missing} GPUs are missing`;
  if (count) return "";
  if (state === "off") return "GPUs are not measured: the collector gpu is off";
  if (state === "failed") return `The GPUs cannot be read: ${detail}`;
  if (state === "unknown") return `It is not known whether there is a GPU: ${detail}`;
  return "No GPU detected";
}
