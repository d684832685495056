// A link that is followed while nobody answers would end on a page of the browser's own. Whether
// somebody does is asked when the pointer goes down on a link or it gets the focus, which is early
// enough to know when it is followed, and nobody waits for it.

import { ask } from "./ask.js";
import { leave } from "./trouble.js";

const FRESH_MS = 2000;

let askedAt = -Infinity;
let isAway = false;

/** The link of ours that an event is about and that leads to another page; null: none. */
function linkOf(event) {
  const link = event.target instanceof Element ? event.target.closest("a[href]") : null;
  if (!link || link.origin !== location.origin || link.target || link.hasAttribute("download")) return null;
  return link.pathname === location.pathname && link.search === location.search ? null : link;
}

async function look(event) {
  if (!linkOf(event) || performance.now() - askedAt < FRESH_MS) return;
  askedAt = performance.now();
  try {
    await ask("/healthz");
    isAway = false;
  } catch (error) {
    isAway = Boolean(error.isAway);
  }
}

for (const what of ["pointerdown", "focusin"]) addEventListener(what, look);

// What is asked while a page is left is broken off: that says nothing when one comes back to it.
addEventListener("pageshow", () => {
  askedAt = -Infinity;
  isAway = false;
});

addEventListener("click", (event) => {
  if (event.defaultPrevented || event.button || event.ctrlKey || event.metaKey || event.shiftKey || event.altKey) return;
  const link = linkOf(event);
  if (!link || (navigator.onLine && !isAway)) return;
  event.preventDefault();
  leave(() => location.assign(link.href));
});
