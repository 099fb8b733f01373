// The connection to the feed: a WebSocket, or server-sent events where WebSockets do not work.

const RETRY = 5000; // ms until the next attempt
const SILENCE = 10_000; // ms without a message after which a connection is closed

export class Connection {
  // socketUrl and eventsUrl serve the same messages. onMessage is called with each message, onOpen before the first one
  // of a connection, onClose after a connection ended and after each failed attempt.
  constructor({ socketUrl, eventsUrl, onMessage, onOpen, onClose }) {
    Object.assign(this, { socketUrl, eventsUrl, onMessage, onOpen, onClose });
  }

  start() {
    this.#receive(this.#socket(), () => this.#receive(this.#events(), () => this.#retry()));
  }

  #retry() {
    this.onClose();
    setTimeout(() => this.start(), RETRY);
  }

  #socket() {
    const socket = new WebSocket(this.socketUrl);
    return { source: socket, ends: ["error", "close"] };
  }

  #events() {
    const source = new EventSource(this.eventsUrl);
    return { source, ends: ["error"] }; // it is closed, since it would reconnect with its own delay
  }

  // Pass messages on until the source ends or sends none for a while; fallback is called if there was no message.
  #receive({ source, ends }, fallback) {
    let delivered = false;
    let watchdog = 0;
    const stop = new AbortController();
    const end = () => {
      clearTimeout(watchdog);
      stop.abort();
      source.close();
      if (delivered) this.#retry();
      else fallback();
    };
    const watch = () => {
      clearTimeout(watchdog);
      watchdog = setTimeout(end, SILENCE);
    };
    const receive = ({ data }) => {
      watch();
      const message = JSON.parse(data);
      if (!delivered) this.onOpen();
      delivered = true;
      this.onMessage(message);
    };
    source.addEventListener("message", receive, { signal: stop.signal });
    for (const name of ends) source.addEventListener(name, end, { signal: stop.signal });
    watch();
  }
}
