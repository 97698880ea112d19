// What every page needs: "/" to search, menus that close, the theme, one POST a click, bulk selection.
"use strict";

const typing = (el) => el.matches("input, textarea, select") || el.isContentEditable;

document.addEventListener("keydown", (event) => {
  if (event.key === "/" && !event.ctrlKey && !event.metaKey && !event.altKey && !typing(event.target)) {
    const field = document.querySelector("[data-slash]");
    if (field) { event.preventDefault(); field.focus(); field.select(); }
  }
  if (event.key === "Escape") {
    const open = event.target.closest("details[data-menu][open], details.more[open]");
    if (open) { open.open = false; open.querySelector("summary").focus(); }
  }
});

document.addEventListener("click", (event) => {
  for (const open of document.querySelectorAll("details[data-menu][open], details.more[open]")) {
    if (!open.contains(event.target)) open.open = false;
  }
});

// A second click must not send a second request; the server would recognise it, the person should not have to wonder.
document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.matches("[data-once]")) return;
  if (form.dataset.sent) { event.preventDefault(); return; }
  form.dataset.sent = "1";
  form.querySelectorAll("button[type=submit]").forEach((button) => button.setAttribute("aria-disabled", "true"));
});
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[data-sent]")) {
    delete form.dataset.sent;
    form.querySelectorAll("[aria-disabled]").forEach((button) => button.removeAttribute("aria-disabled"));
  }
});

const choice = document.querySelector("[data-theme-choice]");
if (choice) {
  choice.hidden = false;
  const now = document.documentElement.dataset.theme || "auto";
  choice.querySelector(`[value=${now}]`).checked = true;
  choice.addEventListener("change", (event) => {
    const theme = event.target.value;
    if (theme === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
    try { localStorage.setItem("ops-theme", theme); } catch { /* lasts until the next page */ }
  });
}

const bulk = document.querySelector("[data-bulk]");
if (bulk) {
  const boxes = [...document.querySelectorAll("#result_list .action-select")];
  const all = document.querySelector("#action-toggle");
  const show = () => {
    const chosen = boxes.filter((box) => box.checked).length;
    bulk.hidden = chosen === 0;
    bulk.querySelector("[data-bulk-count]").textContent = `${chosen} of ${boxes.length} selected`;
    all.checked = chosen === boxes.length && chosen > 0;
    all.indeterminate = chosen > 0 && chosen < boxes.length;
    const across = bulk.querySelector("[data-bulk-all]");
    if (across) {
      across.hidden = chosen < boxes.length;
      if (across.hidden) across.querySelector("input").checked = false;
    }
    for (const box of boxes) box.closest("tr").classList.toggle("selected", box.checked);
  };
  all.addEventListener("change", () => { for (const box of boxes) box.checked = all.checked; show(); });
  for (const box of boxes) box.addEventListener("change", show);
  show();
}
