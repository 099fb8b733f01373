// What the browser remembers for this page. Where it stores nothing, the page works without.

export function recall(name) {
  try {
    return localStorage.getItem(name);
  } catch {
    return null;
  }
}

export function remember(name, value) {
  try {
    localStorage.setItem(name, value);
  } catch {
    // forbidden, or full
  }
}
