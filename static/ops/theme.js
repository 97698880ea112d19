// Runs before the first paint, so that a stored theme does not flash.
(() => {
  let theme = "auto";
  try { theme = localStorage.getItem("ops-theme") || "auto"; } catch { /* storage switched off: follow the system */ }
  if (theme !== "auto") document.documentElement.dataset.theme = theme;
  document.documentElement.classList.add("js");
})();
