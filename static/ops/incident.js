// Declaring an incident: of the severities' definitions, those of the chosen service open, and the chosen one is marked.
"use strict";

const place = document.querySelector("#id_place");
const triage = document.querySelector("[data-triage]");
if (place && triage) {
  const show = () => {
    const [kind, number] = place.value.split("-");
    const row = kind === "severity" ? triage.querySelector(`[data-severity="${number}"]`) : null;
    const scheme = row ? row.closest("[data-service]") : triage.querySelector(`[data-service="${number}"]`);
    for (const each of triage.querySelectorAll("[data-service]")) {
      each.open = each === scheme;
      each.hidden = Boolean(scheme) && each !== scheme;
    }
    for (const each of triage.querySelectorAll("[data-severity]")) each.classList.toggle("is-now", each === row);
  };
  place.addEventListener("change", show);
  show();
}
