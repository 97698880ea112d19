// Rows of an edit form's tables: "Add" copies the empty row under the next number.
"use strict";

for (const inline of document.querySelectorAll("[data-formset]")) {
  const button = inline.querySelector("[data-add-row]");
  const empty = inline.querySelector("[data-empty]");
  if (!button || !empty) continue;
  const total = inline.querySelector(`[name="${inline.dataset.formset}-TOTAL_FORMS"]`);
  button.hidden = false;
  button.addEventListener("click", () => {
    const row = empty.cloneNode(true);
    row.removeAttribute("data-empty");
    row.hidden = false;
    for (const el of [row, ...row.querySelectorAll("*")]) {
      for (const { name, value } of [...el.attributes]) {
        if (value.includes("__prefix__")) el.setAttribute(name, value.replaceAll("__prefix__", total.value));
      }
    }
    row.id = `${inline.dataset.formset}-${total.value}`;
    total.value = Number(total.value) + 1;
    empty.before(row);
    row.querySelector("input:not([type=hidden]), select, textarea")?.focus();
  });
}
