// The chosen palette, before anything is drawn: a page that turns from light to dark while one looks is a fright.
try {
  const chosen = localStorage.getItem("phones-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // A browser that keeps nothing follows the system.
}
