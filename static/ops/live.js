// Live parts: the polled answer is merged into the page. What did not change is not touched, so that nothing moves
// under the pointer, focus and selection stay, open details stay open and a log that was scrolled up stays there.
"use strict";

const KEPT_ATTRIBUTES = new Set(["open", "data-sent", "aria-disabled"]);

function sameNode(a, b) {
  return a.nodeType === b.nodeType && a.nodeName === b.nodeName && (a.id || "") === (b.id || "");
}

function mergeAttributes(from, to) {
  for (const { name, value } of [...to.attributes]) {
    if (!KEPT_ATTRIBUTES.has(name) && from.getAttribute(name) !== value) from.setAttribute(name, value);
  }
  for (const { name } of [...from.attributes]) {
    if (!KEPT_ATTRIBUTES.has(name) && !to.hasAttribute(name)) from.removeAttribute(name);
  }
}

function mergeNode(from, to) {
  if (from.nodeType !== Node.ELEMENT_NODE) {
    if (from.nodeValue !== to.nodeValue) from.nodeValue = to.nodeValue;
    return;
  }
  if (from.matches("input") && (from.name === "request_key" || from === document.activeElement)) return;
  mergeAttributes(from, to);
  mergeChildren(from, to);
}

function mergeChildren(from, to) {
  const follows = from.matches?.("[data-follow]") && from.scrollTop + from.clientHeight >= from.scrollHeight - 8;
  let at = from.firstChild;
  for (const wanted of [...to.childNodes]) {
    // Only a node with an id is looked for further on: a nameless one there is another thing of the same kind.
    let match = at;
    while (match && !sameNode(match, wanted)) match = wanted.id ? match.nextSibling : null;
    if (!match) { from.insertBefore(wanted, at); continue; }
    while (at !== match) { const gone = at; at = at.nextSibling; gone.remove(); }
    mergeNode(match, wanted);
    at = match.nextSibling;
  }
  while (at) { const gone = at; at = at.nextSibling; gone.remove(); }
  if (follows) from.scrollTop = from.scrollHeight;
}

htmx.defineExtension("morph", {
  isInlineSwap: (style) => style === "morph",
  handleSwap: (style, target, fragment) => {
    if (style !== "morph") return false;
    // A card that came out of band is itself in the fragment, not only what it holds.
    const card = fragment.firstElementChild;
    if (target.id && card?.id === target.id) { mergeNode(target, card); return [target]; }
    const anchor = document.querySelector("#live :focus, #live [id]:hover");
    const before = anchor?.getBoundingClientRect().top;
    mergeChildren(target, fragment);
    if (anchor?.isConnected) {
      const moved = anchor.getBoundingClientRect().top - before;
      if (moved) window.scrollBy({ top: moved, behavior: "instant" });
    }
    return [target];
  },
});

// A hidden page asks nothing; a page left by a sign-out says so instead of drawing the sign-in form into itself.
document.addEventListener("htmx:beforeRequest", (event) => { if (document.hidden) event.preventDefault(); });
document.addEventListener("htmx:beforeSwap", (event) => {
  if (new URL(event.detail.xhr.responseURL || location.href).pathname.endsWith("/login/")) {
    event.detail.shouldSwap = false;
    location.reload();
  }
});

for (const log of document.querySelectorAll("[data-follow]")) log.scrollTop = log.scrollHeight;
