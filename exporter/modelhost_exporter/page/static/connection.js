// The feed: one message every two seconds, by WebSocket, or by server-sent events where that cannot be had.

const RETRY = 5000; // ms until the next try
const SILENCE = 10_000; // ms without a message after which a connection counts as dead

export class Connection {
  // socketUrl and eventsUrl lead to the same messages. onMessage gets each one, onOpen the moment before the first,
  // onClose the end of a connection that had delivered, and every try that failed.
  constructor({ socketUrl, eventsUrl, onMessage, onOpen, onClose }) {
    Object.assign(this, { socketUrl, eventsUrl, onMessage, onOpen, onClose });
  }

  start() {
    this.#follow(this.#socket(), () => this.#follow(this.#events(), () => this.#later()));
  }

  #later() {
    this.onClose();
    setTimeout(() => this.start(), RETRY);
  }

  #socket() {
    const socket = new WebSocket(this.socketUrl);
    return { source: socket, ends: ["error", "close"] };
  }

  #events() {
    const source = new EventSource(this.eventsUrl);
    return { source, ends: ["error"] }; // it would reconnect by itself, in its own time
  }

  // Hand messages on until the source ends or falls silent; otherwise is called when it never delivered any.
  #follow({ source, ends }, otherwise) {
    let delivered = false;
    let watchdog = 0;
    const stop = new AbortController();
    const end = () => {
      clearTimeout(watchdog);
      stop.abort();
      source.close();
      if (delivered) this.#later();
      else otherwise();
    };
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENCE);
    };
    const take = ({ data }) => {
      watch();
      const message = JSON.parse(data);
      if (!delivered) this.onOpen();
      delivered = true;
      this.onMessage(message);
    };
    source.addEventListener("message", take, { signal: stop.signal });
    for (const name of ends) source.addEventListener(name, end, { signal: stop.signal });
    watch();
  }
}
