// The indicator of the connection: it pulses with each message, and shows since when the connection is lost.

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

  // Called when the connection is lost and after each failed attempt; the time of the loss stays.
  lost() {
    if (this.#since !== null) return;
    this.#since = Date.now();
    this.#enter("lost", "", "Not connected. The page reconnects every 5 seconds.");
    this.#ticking = setInterval(() => this.#showDuration(), 1000);
    this.#showDuration();
  }

  pulse() {
    this.#beat = 1 - this.#beat; // alternates between two names of one animation, which restarts it
    element.dataset.beat = this.#beat;
  }

  #showDuration() {
    setText(state, `Not connected since ${clock(this.#since)} (${span((Date.now() - this.#since) / 1000)})`);
  }

  // Only changes of the state are announced to screen readers.
  #enter(name, text, announcement) {
    document.body.dataset.state = name;
    setText(state, text);
    announce(announcement);
  }
}
