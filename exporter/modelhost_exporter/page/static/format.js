// Format quantities: each function returns [number, unit], or NONE for an unknown value.

export const NONE = ["–", ""];

const fixed = [0, 1, 2].map((digits) => new Intl.NumberFormat("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const clockFormat = new Intl.DateTimeFormat([], { hour: "2-digit", minute: "2-digit", second: "2-digit", hourCycle: "h23" });

// Format with three significant digits.
function short(number) {
  const size = Math.abs(number);
  return fixed[size >= 99.95 || number === 0 ? 0 : size >= 9.995 ? 1 : 2].format(number);
}

// Return a formatter that accepts null.
function known(format) {
  return (number) => (Number.isFinite(number) ? format(number) : NONE);
}

// Return a formatter that uses the largest unit in which the number is at least 1.
function scaled(step, units) {
  return known((number) => {
    let power = 0;
    for (; power < units.length - 1 && Math.abs(number) >= step * 0.9995; power++) number /= step;
    return [power === 0 ? short(Math.round(number)) : short(number), units[power]];
  });
}

export const percent = known((number) => [fixed[number >= 99.95 || number === 0 ? 0 : 1].format(number), "%"]);
export const bytes = scaled(1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]);
export const bytesPerSecond = scaled(1024, ["B/s", "KiB/s", "MiB/s", "GiB/s", "TiB/s"]);
export const count = known((number) => [fixed[0].format(number), ""]);
export const perSecond = known((number) => [short(number), "/s"]);
export const shortRequestsPerSecond = known((number) => [short(number), "req/s"]);
export const requestsPerSecond = known((number) => [short(number), "requests/s"]);
// Context sizes are powers of two: 131072 tokens are called 128k.
export const tokens = known((number) => [number < 1024 ? fixed[0].format(number) : `${short(number / 1024).replace(/\.0+$/, "")}k`, ""]);
export const watts = known((number) => [fixed[0].format(number), "W"]);
export const kilowattHours = known((number) => [short(number), "kWh"]);
export const tokensPerSecond = known((number) => [short(number), "tok/s"]);
export const celsius = known((number) => [fixed[0].format(number), "°C"]);
export const milliseconds = known((number) => {
  if (number < 999.5) return [number < 9.995 ? short(number) : fixed[0].format(number), "ms"];
  return number < 99_950 ? [short(number / 1000), "s"] : [short(number / 60_000), "min"];
});

export function money(amount, currency) {
  return [fixed[2].format(amount), currency];
}

// Format "USED / TOTAL", with one unit where both are the same.
export function ofTotal(format, used, total) {
  const part = format(used);
  const whole = format(total);
  if (whole === NONE) return part;
  const [first, second] = [part, whole].map(([number, unit]) => [number.replace(/\.0+$/, ""), unit]);
  return [`${first[1] === second[1] ? first[0] : text(first)} / ${second[0]}`, second[1]];
}

// Format the load averages of 1, 5 and 15 minutes; null where the system has none.
export function loads(averages) {
  return averages?.every(Number.isFinite) ? [averages.map((load) => fixed[2].format(load)).join("\u2002"), ""] : NONE;
}

export function text([number, unit]) {
  return unit ? `${number}\u202f${unit}` : number;
}

// Format the time of day; time is in ms since 1970.
export function clock(time) {
  return clockFormat.format(time);
}

// Format a duration in its largest unit.
export function span(seconds) {
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86_400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86_400)} d ${Math.floor((seconds % 86_400) / 3600)} h`;
}

// Format how long ago something was; time is in ms.
export function ago(time) {
  return time < 60_000 ? "< 1 min ago" : `${span(time / 1000)} ago`;
}
