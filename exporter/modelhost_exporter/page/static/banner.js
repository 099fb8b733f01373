// The banner, one line for what is broken, and the title of the tab: what is broken first, then live numbers.

import { setText } from "./dom.js";
import * as format from "./format.js";
import { troubles } from "./trouble.js";

const banner = document.getElementById("trouble");

export class Banner {
  #host = "modelhost-exporter";
  #received = null; // time of day of the newest message, in ms since 1970

  show(message) {
    this.#received = Date.parse(message.timestamp);
    this.#host = message.host.name;
    this.#write(troubles(message), work(message));
  }

  // Called when the connection is lost and after each failed attempt. Without a message the page has another notice.
  lost() {
    const shown = this.#received === null ? [] : [`Not connected: these numbers are from ${format.clock(this.#received)}`];
    this.#write(shown, "", "not connected");
  }

  // Write what is broken, the worst first, and the numbers of the title.
  #write(broken, numbers, worst = broken[0]) {
    setText(banner, broken.join(" · "));
    banner.hidden = !broken.length;
    const parts = [worst ? `▲ ${worst}` : "", numbers, this.#host, numbers ? "" : "modelhost-exporter"];
    const title = [...new Set(parts.filter(Boolean))].join(" · ");
    if (document.title !== title) document.title = title;
  }
}

// Format the requests and tokens per second of all models; empty while there are none.
function work({ apiStats, models }) {
  const tokens = models.reduce((sum, model) => sum + (model.tokensPerSecond ?? 0), 0);
  return [
    apiStats.requestsPerSecond > 0 ? format.text(format.shortRequestsPerSecond(apiStats.requestsPerSecond)) : "",
    tokens > 0 ? format.text(format.tokensPerSecond(tokens)) : "",
  ].filter(Boolean).join(" · ");
}
