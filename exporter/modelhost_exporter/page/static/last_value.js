// Numbers of requests after the last request: those of the minute before a pause stay on the page, with their age.

// Return [value, age] of a number of a model or of the API: of now, with the age null, or of the last requests, with the
// ms since then.
export function lastValue(object, name) {
  const { last, [name]: value } = object;
  if (value !== null || !last) return [value, null];
  const past = name === "errorRate" ? errorRate(last) : last[name];
  return past === undefined ? [null, null] : [past, 1000 * last.secondsAgo];
}

function errorRate({ successRate }) {
  return successRate === null ? null : 100 - successRate;
}
