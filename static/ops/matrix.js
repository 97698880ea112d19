// The matrix form: "One more" adds a select beside the last without asking the server.
"use strict";

for (const group of document.querySelectorAll("[data-targets]")) {
  const button = group.querySelector("[data-add-target]");
  button?.addEventListener("click", (event) => {
    const selects = group.querySelectorAll("select");
    const last = selects[selects.length - 1];
    if (!last) return;
    event.preventDefault();
    const more = last.cloneNode(true);
    more.selectedIndex = 0;
    last.after(more);
    more.focus();
  });
}
