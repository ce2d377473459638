// Runs before anything else, beside the download of the rest. A file of its own: the Content-Security-Policy allows no inline script.
(() => {
  const kept = (storage, key) => {
    try {
      return storage().getItem(key);
    } catch {
      return null; // Storage may be closed to us.
    }
  };
  // Before the first paint, so that a dark page never flashes white.
  const choice = kept(() => localStorage, "levada.theme");
  const dark = choice === "dark" || (choice !== "light" && matchMedia("(prefers-color-scheme: dark)").matches);
  document.documentElement.dataset.theme = dark ? "dark" : "light";
  // Every page needs to know who looks; src/api/client.ts takes this answer instead of asking again.
  const token = kept(() => sessionStorage, "levada.token");
  const headers = { Accept: "application/json", ...(token && { Authorization: `Bearer ${token}` }) };
  window.levadaSession = fetch("/api/v1/session", { headers }).catch(() => null);
})();
