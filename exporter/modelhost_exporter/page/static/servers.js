// The model servers of this machine, and how to measure their response times.

import { setText } from "./dom.js";

const list = document.getElementById("server-list");
const none = document.getElementById("no-servers");
const guide = document.getElementById("guide");
const template = document.getElementById("server-row");
const COPIED_MS = 1500;

// What clients use instead of a server's own address: a title, and text to copy.
function snippets(kind, address) {
  const base = `http://${address}`;
  const ollama = [["Ollama's client", `OLLAMA_HOST=${address} ollama run MODEL`]];
  return [
    ...(kind === "ollama" ? ollama : []),
    ["OpenAI's client", `OpenAI(base_url="${base}/v1", api_key="none")`],
    ["Anthropic's client", `ANTHROPIC_BASE_URL=${base}`],
    ["Open WebUI", kind === "ollama" ? `OLLAMA_BASE_URL=${base}` : `OPENAI_API_BASE_URL=${base}/v1`],
    ["curl", `curl ${base}/v1/chat/completions -H 'Content-Type: application/json' -d '{"model": "MODEL", "messages": [{"role": "user", "content": "Hello"}]}'`],
  ];
}

// Return where this page's visitor reaches a proxy: on the host of the page where it listens on every address.
function reachable(address) {
  return address.startsWith(":") ? location.hostname + address : address;
}

export class Servers {
  #rows = new Map();

  show(servers, models, demo) {
    for (const [name, row] of this.#rows) if (!servers.some((server) => server.name === name)) this.#remove(name, row);
    for (const server of servers) this.#row(server.name).show(server, models);
    none.hidden = servers.length > 0;
    guide.hidden = demo || servers.length === 0 || servers.some((server) => server.proxyAddress !== null);
  }

  #row(name) {
    if (!this.#rows.has(name)) {
      this.#rows.set(name, new Row(name));
      const names = [...this.#rows.keys()].sort();
      const next = names[names.indexOf(name) + 1];
      list.insertBefore(this.#rows.get(name).element, next === undefined ? null : this.#rows.get(next).element);
    }
    return this.#rows.get(name);
  }

  #remove(name, row) {
    row.element.remove();
    this.#rows.delete(name);
  }
}

class Row {
  #shown = "";

  constructor(name) {
    this.element = template.content.firstElementChild.cloneNode(true);
    this.parts = Object.fromEntries(
      [...this.element.querySelectorAll("[data-server]")].map((part) => [part.dataset.server, part]),
    );
    setText(this.parts.name, name);
  }

  show(server, models) {
    const loaded = models.filter((model) => model.server === server.name && model.loaded === true).length;
    setText(this.parts.about, about(server));
    setText(this.parts.state, server.up === false ? "does not respond" : server.up ? work(server, loaded) : "");
    this.element.dataset.up = server.up ?? "";
    this.#showSnippets(server);
  }

  #showSnippets({ kind, proxyAddress }) {
    const shown = `${kind} ${proxyAddress}`;
    if (shown === this.#shown) return;
    this.#shown = shown;
    this.parts.clients.hidden = proxyAddress === null;
    if (proxyAddress === null) return;
    const address = reachable(proxyAddress);
    setText(this.parts.proxy, address);
    this.parts.snippets.replaceChildren(...snippets(kind, address).map(([title, text]) => snippet(title, text)));
  }
}

function about({ kind, version, address, name }) {
  const engine = [kind === name ? "" : kind, version].filter(Boolean).join(" ");
  return [engine, address].filter(Boolean).join(" · ");
}

function work({ requestsRunning, requestsWaiting }, loaded) {
  return [
    loaded === 1 ? "1 model loaded" : `${loaded} models loaded`,
    requestsRunning > 0 ? `${requestsRunning} running` : "",
    requestsWaiting > 0 ? `${requestsWaiting} waiting` : "",
  ].filter(Boolean).join(" · ");
}

function snippet(title, text) {
  const [row, term, value, code] = ["div", "dt", "dd", "code"].map((name) => document.createElement(name));
  term.textContent = title;
  code.textContent = text;
  value.append(code, copyButton(code));
  row.append(term, value);
  return row;
}

function copyButton(code) {
  const button = document.createElement("button");
  button.type = "button";
  button.className = "copy";
  button.textContent = "Copy";
  button.addEventListener("click", () => copy(button, code));
  return button;
}

// Copy the text, or select it where the browser allows no access to the clipboard: over plain HTTP from another machine.
async function copy(button, code) {
  try {
    await navigator.clipboard.writeText(code.textContent);
    setText(button, "Copied");
    setTimeout(() => setText(button, "Copy"), COPIED_MS);
  } catch {
    getSelection().selectAllChildren(code);
  }
}

for (const button of document.querySelectorAll("button.copy")) {
  button.addEventListener("click", () => copy(button, button.parentElement.querySelector("code")));
}
