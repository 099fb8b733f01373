// Runs before the page is drawn, so that it never shows the other theme first; therefore not a module.

const systemIsDark = matchMedia("(prefers-color-scheme: dark)");
let chosen = null;

// Show the theme "light" or "dark"; any other value: that of the system.
globalThis.setTheme = (theme) => {
  chosen = theme;
  const isDark = theme === "dark" || (theme !== "light" && systemIsDark.matches);
  document.documentElement.dataset.theme = isDark ? "dark" : "light";
  document.querySelector("meta[name=theme-color]").content = isDark ? "#161a21" : "#ffffff"; // as the bar at the top
};

systemIsDark.addEventListener("change", () => globalThis.setTheme(chosen));

try {
  chosen = localStorage.getItem("theme");
} catch {
  // the browser stores nothing for this page
}
globalThis.setTheme(chosen);
