// The live page: shows each message of the feed in the cards and charts.

import { Address } from "./address.js";
import { Banner } from "./banner.js";
import { Chart, libraryIsMissing } from "./charts.js";
import { ChartControls } from "./chart_controls.js";
import { Connection } from "./connection.js";
import { withDefaults } from "./defaults.js";
import { showDistribution } from "./distribution.js";
import { level, prepare, setLevel, setText, show, showAge } from "./dom.js";
import { showEnergy } from "./energy.js";
import { FileSystems } from "./file_systems.js";
import * as format from "./format.js";
import { Gpus } from "./gpus.js";
import { showGrafanaLink } from "./grafana.js";
import { History } from "./history.js";
import { showHost } from "./host.js";
import { Indicator } from "./indicator.js";
import { lastValue } from "./last_value.js";
import { BUSY, ERRORS, FULL } from "./limits.js";
import { withNulls } from "./known.js";
import { Models } from "./models.js";
import "./print.js";
import { Processes } from "./processes.js";
import { RecentRequests } from "./recent.js";
import { Servers } from "./servers.js";
import { view } from "./view.js";

// data-show attribute → [number, unit] of a message.
const NUMBERS = {
  cpu: (m) => format.percent(m.cpuUsage),
  cores: (m) => format.count(m.cpuCores),
  loads: (m) => format.loads(m.loadAverages),
  memory: (m) => format.percent(m.memoryUsage),
  memoryUsed: (m) => format.bytes(m.memoryUsed),
  memoryAvailable: (m) => format.bytes(m.memoryAvailable),
  memoryTotal: (m) => format.bytes(m.memoryTotal),
  swap: (m) => (m.swapTotal === 0 ? ["none", ""] : format.ofTotal(format.bytes, m.swapUsed, m.swapTotal)),
  networkIn: (m) => format.bytesPerSecond(m.networkStats?.bytesInPerSecond),
  networkOut: (m) => format.bytesPerSecond(m.networkStats?.bytesOutPerSecond),
  diskRead: (m) => format.bytesPerSecond(m.diskStats.bytesReadPerSecond),
  diskWritten: (m) => format.bytesPerSecond(m.diskStats.bytesWrittenPerSecond),
  requestRate: (m) => format.requestsPerSecond(m.apiStats.requestsPerSecond),
  totalRequests: (m) => format.count(m.apiStats.totalRequests),
};

// data-show attribute → the number of apiStats that it shows, also after the last request, and its format.
const API_NUMBERS = {
  apiAverage: ["avgResponseTime", format.milliseconds],
  apiP50: ["p50", format.milliseconds],
  apiP95: ["p95", format.milliseconds],
  apiP99: ["p99", format.milliseconds],
  errorRate: ["errorRate", format.percent],
};

// data-level attribute → level of a message.
const LEVELS = {
  load: (m) => level(m.cpuUsage, BUSY.amber, BUSY.red),
  memory: (m) => level(m.memoryUsage, FULL.amber, FULL.red),
  errors: (m) => level(m.apiStats.errorRate, ERRORS.amber, ERRORS.red),
};

const percentChart = (title, name, lines) => ({
  title,
  series: [{ label: title, colour: `--${name}` }],
  format: format.percent,
  top: 100,
  lines,
});

// data-chart attribute → the options of its chart, and the columns of the history that it shows.
const CHARTS = {
  cpu: [percentChart("CPU usage", "cpu", BUSY.lines), ["cpuUsage"]],
  memory: [percentChart("Memory usage", "memory", FULL.lines), ["memoryUsage"]],
  network: [
    {
      title: "Network",
      series: [{ label: "In", colour: "--in" }, { label: "Out", colour: "--out" }],
      format: format.bytesPerSecond,
      binary: true,
    },
    ["networkIn", "networkOut"],
  ],
};

const ERROR_TIMEOUT = 4000; // ms to wait for an error response
const HISTORY_TIMEOUT = 10_000; // ms to wait for the history

const CHARTS_MISSING = "Charts are missing: install the exporter again where npm’s registry can be reached.";

const byId = (id) => document.getElementById(id);
const every = (name) => [...document.querySelectorAll(`[data-${name}]`)];

let latest = null; // the newest message if it is not shown yet
const history = new History();
const indicator = new Indicator();
const banner = new Banner();
const gpus = new Gpus();
const models = new Models(() => choose());
const servers = new Servers();
const recent = new RecentRequests();
const fileSystems = new FileSystems();
new Processes();
const numbers = every("show").filter((element) => element.dataset.show in NUMBERS);
const apiNumbers = every("show").filter((element) => element.dataset.show in API_NUMBERS);
const levels = every("level");
const charts = Object.entries(CHARTS).map(([name, [options, columns]]) => ({
  chart: new Chart(document.querySelector(`[data-chart=${name}]`), options),
  columns,
}));

let isFirstMessage = true; // of a connection: charts are drawn to its end
let hasHistory = false; // whether the history was loaded, or could not be
let paused = null; // the history as it was when the charts were paused

// Nothing is drawn before the history, so that the charts do not begin with a single point. grown: only newer points were
// added.
function draw({ grown = false } = {}) {
  if (!hasHistory) return;
  const shown = paused ?? history;
  for (const { chart, columns } of charts) chart.draw(shown.data(columns), view.range, grown);
  gpus.draw(shown, view.range, grown);
  models.draw(shown, view.range, grown);
}

// Another model was chosen.
function choose() {
  address.save();
  showGrafanaLink(models.selected);
  draw();
}

// Another time is shown, or the charts were paused.
function changeView() {
  const isResumed = paused !== null && !view.paused;
  paused = view.paused ? (paused ?? history.copy()) : null;
  if (isResumed) dropOldZoom();
  controls.show(history.times.at(-1));
  showGrafanaLink(models.selected);
  draw();
  if (!view.paused) showLatest();
}

// Add a message to the history, and show it now, or when the tab becomes visible, or the page is no longer paused.
function receive(received) {
  const message = withNulls(withDefaults(received));
  const grown = history.append(message) && !isFirstMessage;
  isFirstMessage = false;
  indicator.pulse();
  banner.show(message);
  latest = message;
  if (!grown) dropOldZoom();
  if (view.paused) showMachine(message);
  else if (!document.hidden) showLatest(grown);
}

// Zoom out of what is older than the history.
function dropOldZoom() {
  if (hasHistory && view.zoom && !view.paused && view.zoom[1] < history.times[0]) view.zoomOut();
}

function showLatest(grown = true) {
  if (latest === null) return;
  const message = latest;
  latest = null;
  for (const element of numbers) show(element, NUMBERS[element.dataset.show](message));
  for (const element of apiNumbers) {
    const [name, formatted] = API_NUMBERS[element.dataset.show];
    const [value, age] = lastValue(message.apiStats, name);
    show(element, formatted(value));
    showAge(element, age);
  }
  for (const element of levels) setLevel(element, LEVELS[element.dataset.level](message));
  showMachine(message);
  showHost(message);
  showEnergy(message.energy ?? null);
  fileSystems.show(message.fileSystems);
  gpus.show(message);
  servers.show(message.servers, message.models, message.demo);
  models.show(message.models);
  recent.showModels(message.models);
  showDistribution(message.apiStats);
  draw({ grown });
}

function showMachine(message) {
  const { host, demo } = message;
  setText(byId("host"), host.name);
  byId("demo").hidden = !demo;
}

async function loadHistory() {
  try {
    const response = await fetch("api/history", { signal: AbortSignal.timeout(HISTORY_TIMEOUT) });
    if (response.ok) history.load(await response.json());
  } catch {
    // no history: the charts start empty
  }
  hasHistory = true;
  dropOldZoom();
  if (!document.hidden) draw();
}

// Show the error response of the feed, if any. The request is aborted soon, since browsers limit connections per host.
async function showError() {
  const stop = new AbortController();
  setTimeout(() => stop.abort(), ERROR_TIMEOUT);
  try {
    const response = await fetch("api/live", { signal: stop.signal });
    notice(response.ok ? "" : (await response.json()).error);
  } catch {
    notice(""); // no response: the indicator shows that
  }
  stop.abort();
}

function notice(text) {
  const whole = [text, libraryIsMissing() ? CHARTS_MISSING : ""].filter(Boolean).join(" ");
  setText(byId("notice"), whole);
  byId("notice").hidden = !whole;
}

prepare([...numbers, ...apiNumbers]);
notice("");
document.addEventListener("visibilitychange", () => document.hidden || view.paused || showLatest());
const controls = new ChartControls();
const address = new Address(models, choose);
controls.show(history.times.at(-1));
showGrafanaLink(models.selected);
view.addEventListener("window", changeView);
let isFirstConnection = true;
loadHistory(); // while the connection is established
const feed = new URL(document.body.dataset.feed, location.href);
feed.protocol = feed.protocol.replace("http", "ws");
new Connection({
  socketUrl: feed.href,
  eventsUrl: "api/live",
  onMessage: receive,
  onOpen() {
    indicator.live();
    notice("");
    isFirstMessage = true;
    if (!isFirstConnection) loadHistory();
    isFirstConnection = false;
  },
  onClose() {
    indicator.lost();
    banner.lost();
    showError();
  },
}).start();
