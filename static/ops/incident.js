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

// Components are asked for only where the chosen service has some: both lists name the service alike.
const parts = document.querySelector("#id_components");
if (place && parts) {
  const offer = () => {
    const service = place.selectedOptions[0]?.parentElement.label;
    let any = false;
    for (const group of parts.querySelectorAll("optgroup")) {
      group.hidden = group.label !== service;
      any ||= !group.hidden;
      for (const part of group.children) part.selected &&= !group.hidden;
    }
    parts.closest(".field").hidden = !any;
  };
  place.addEventListener("change", offer);
  offer();
}
