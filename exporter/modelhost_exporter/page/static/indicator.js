// Whether the page is live: a pulse for each message, and since when not.

import { announce, setText } from "./dom.js";
import { clock, span } from "./format.js";

const element = document.getElementById("indicator");
const state = document.getElementById("state");

export class Indicator {
  #since = null; // when the connection was lost, in ms since 1970
  #ticking = 0;
  #beat = 0;

  live() {
    clearInterval(this.#ticking);
    this.#since = null;
    this.#enter("live", "Live", "Live");
  }

  // Called for the loss and again for each try that fails: the time is that of the loss.
  lost() {
    if (this.#since !== null) return;
    this.#since = Date.now();
    this.#enter("lost", "", "Not connected. The page tries again every 5 seconds.");
    this.#ticking = setInterval(() => this.#tell(), 1000);
    this.#tell();
  }

  pulse() {
    this.#beat = 1 - this.#beat; // two names of one animation: changing between them starts it anew
    element.dataset.beat = this.#beat;
  }

  #tell() {
    setText(state, `Not connected since ${clock(this.#since)} (${span((Date.now() - this.#since) / 1000)})`);
  }

  // Only a change is announced: a screen reader does not hear every number.
  #enter(name, text, announcement) {
    document.body.dataset.state = name;
    setText(state, text);
    announce(announcement);
  }
}
