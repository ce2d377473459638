// Runs before the first paint, so that a dark page never flashes white. A file of its own: the Content-Security-Policy allows no inline script.
(() => {
  let choice = null;
  try {
    choice = localStorage.getItem("levada.theme");
  } catch {
    // Storage may be closed to us; then the system's theme holds.
  }
  const dark = choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
})();
