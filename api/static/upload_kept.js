// What one browser keeps of its uploads: names of files that the server has not got whole, said to be
// lost when the page comes back, and up to when the list was cleared. Without storage: nothing.

import { number } from "./localise.js";
import { announce, isOnItsWay, list } from "./upload_list.js";

const NAMES_KEPT = 2000;
const SENDING = "longleaf.sending";
const CLEARED = "longleaf.cleared";

/** Names of what the server has not got whole: said to be lost if this page goes. */
export function remember() {
  const left = list.items.filter(isOnItsWay);
  try {
    if (!left.length) sessionStorage.removeItem(SENDING);
    else sessionStorage.setItem(SENDING, JSON.stringify({ names: left.slice(0, NAMES_KEPT).map(({ path, bytes, collection }) => ({ path, bytes, collection })), count: left.length }));
  } catch {
    // Without storage they are not named after a reload; sending goes on.
  }
}

/** Put into the list what was lost when this page was left. */
export function lost() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(SENDING) ?? "null");
    for (const each of kept?.names ?? []) list.items.push({ ...each, file: null, state: "lost", mild: true, why: "This page was left before it had been sent whole.", step: "Choose it again." });
    if (kept?.names.length) announce(`${number(kept.count)} files were lost when this page was left. Choose them again.`);
    sessionStorage.removeItem(SENDING);
  } catch {
    // No storage: nothing was kept.
  }
}

let taken = "";

/** When what was last taken from the list had been made; "" where nothing was. */
export function cleared() {
  try {
    return localStorage.getItem(CLEARED) ?? taken;
  } catch {
    return taken;
  }
}

/** Remember that what is in the list was taken from it. */
export function clear() {
  taken = list.items.map((item) => item.told?.created_at ?? "").sort().pop() ?? "";
  try {
    localStorage.setItem(CLEARED, taken);
  } catch {
    // They come back with the next load.
  }
}
