// The link to Grafana: the same time and model there.

import { view } from "./view.js";

const link = document.getElementById("grafana");
const base = link?.href;

// Let the link, if there is one, lead to what the page shows; model: the selected one, or undefined.
export function showGrafanaLink(model) {
  if (link) link.href = grafanaUrl(base, model);
}

// Return the address of a dashboard of this project, or of the one to which the configured address already leads.
export function grafanaUrl(address, model) {
  const url = new URL(address);
  if (!/\/d\//.test(url.pathname)) {
    url.pathname = `${url.pathname.replace(/\/$/, "")}/d/${model ? "modelhost-models" : "modelhost-overview"}`;
    if (model) url.searchParams.set("var-server", model.server);
    if (model) url.searchParams.set("var-model", model.model);
  }
  const [from, to] = view.zoom ?? [`now-${view.range / 60}m`, "now"];
  url.searchParams.set("from", from);
  url.searchParams.set("to", to);
  return url.href;
}
