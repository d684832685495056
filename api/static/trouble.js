// What could not be done, said beside what is shown, which stays: what happened and what to do next.
// The browser would leave the page, and whatever was typed or chosen in it, for a page of its own.

import { Trouble, ask } from "./ask.js";

let mine = null; // what `attempt` said last

/** Say it; the button does `again`, and so does a connection that comes back. */
export function say(trouble, again) {
  const notice = document.getElementById("trouble-form").content.cloneNode(true).firstElementChild;
  const isOffline = !trouble.status && !navigator.onLine;
  notice.querySelector("h2").textContent = trouble.title || "That could not be done";
  notice.querySelector(".detail").textContent = trouble.status ? trouble.message : "What you see is from before.";
  notice.querySelector(".hint").textContent = isOffline ? "This page tries again as soon as there is one." : trouble.hint;
  const { activeElement } = document;
  notice.querySelector(".again").addEventListener("click", () => {
    const had = notice.contains(document.activeElement);
    notice.remove();
    if (had) activeElement.focus({ preventScroll: true });
    again();
  });
  mine?.remove();
  const dialog = document.querySelector("dialog[open]:has(form)"); // beside it nothing can be reached
  if (dialog) dialog.prepend(notice);
  else document.getElementById("trouble").replaceChildren(notice);
  return notice;
}

/** Do it, or say what hinders. */
export async function attempt(act) {
  const before = mine; // what is said meanwhile is another matter
  try {
    await act();
    before?.remove();
  } catch (error) {
    if (!(error instanceof Trouble)) throw error;
    mine = say(error, () => attempt(act));
  }
}

/** Leave this page by `go`, once there is somebody to lead to another one. */
export function leave(go) {
  return attempt(async () => {
    await ask("/healthz");
    go();
  });
}

addEventListener("online", () => document.querySelector(".trouble .again")?.click());
