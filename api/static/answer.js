// An answer in words: asked for with the button, shown as it comes, ended when it is left. What the
// model writes becomes text and links to the passages that were sent, never markup; the whole answer
// is then put in place as our server rendered it.

import { away } from "./ask.js";
import { parse } from "./results.js";
import { events } from "./stream.js";

const status = document.getElementById("status");
let running = null; // { aborter, offer, place }: what stands for the answer, and the form that asked

/** End the answer that is being written, if there is one; its button is there again. */
export function leave() {
  if (!running) return;
  const { aborter, offer, place } = running;
  running = null;
  aborter.abort();
  const had = place.contains(document.activeElement);
  place.replaceWith(offer);
  if (had) offer.querySelector("button").focus();
}

function put(mine, fresh) {
  const had = mine.place.contains(document.activeElement);
  mine.place.replaceWith(fresh);
  mine.place = fresh;
  if (had) fresh.querySelector("h2").focus({ preventScroll: true });
}

/** What the text goes on with: citations as links to the passages that are listed below it. */
function say(place, { text, restart }) {
  const words = place.querySelector(".words");
  if (restart) words.replaceChildren();
  for (const part of text.split(/(\[\d{1,3}\]|\n+)/)) {
    if (part.startsWith("\n")) words.append(document.createElement("p"));
    else if (part) {
      if (!words.lastElementChild) words.append(document.createElement("p"));
      words.lastElementChild.dir = "auto";
      words.lastElementChild.append(cited(place, part) ?? part);
    }
  }
  const progress = place.querySelector(".what");
  if (words.textContent) progress.textContent = "Being written; its citations are links.";
}

function cited(place, part) {
  const number = /^\[(\d+)\]$/.exec(part)?.[1];
  const source = number && place.querySelector(`.source[data-number="${number}"]`);
  if (!source) return null;
  const link = document.createElement("a");
  link.className = "cited";
  link.href = source.querySelector("a").href;
  link.dataset.document = source.dataset.document;
  link.textContent = part;
  return link;
}

/** No answer came, and why; the button is there again. What was written stays to be read. */
function lose(mine, title, hint = "") {
  const trouble = document.createElement("div");
  trouble.className = "notice bad";
  trouble.setAttribute("role", "alert");
  for (const line of [title, hint]) {
    const paragraph = document.createElement("p");
    paragraph.textContent = line;
    if (line) trouble.append(paragraph);
  }
  const offer = mine.offer;
  offer.querySelector(".notice")?.remove();
  offer.prepend(trouble);
  mine.place.replaceWith(offer);
  offer.querySelector("button").focus({ preventScroll: true });
}

async function ask(form) {
  leave();
  const offer = form.closest("#written");
  const fresh = offer.cloneNode(true); // to come back as it was
  fresh.querySelector(".notice")?.remove();
  const mine = { aborter: new AbortController(), offer: fresh, place: offer };
  running = mine;
  const button = form.querySelector("button");
  button.textContent = "Asking…";
  button.setAttribute("aria-disabled", "true");
  status.textContent = "Asking for an answer";
  let done = false;
  try {
    const response = await fetch(form.action, {
      method: "POST",
      headers: { accept: "text/event-stream, application/problem+json" },
      signal: mine.aborter.signal,
    });
    if (!response.ok) throw await response.json();
    for await (const { name, data } of events(response)) {
      if (running !== mine) return;
      if (name === "error") throw data;
      if (name === "token") say(mine.place, data);
      else put(mine, parse(data.html).getElementById("written"));
      done = name === "done";
    }
    if (!done) throw new TypeError("cut off");
    status.textContent = mine.place.querySelector("h2").textContent;
  } catch (problem) {
    if (running !== mine) return; // it was left
    status.textContent = "";
    const { message, hint } = away();
    if (problem.detail) lose(mine, problem.detail, problem.hint);
    else lose(mine, message, hint);
  } finally {
    if (running === mine) running = null;
  }
}

document.addEventListener("submit", (event) => {
  if (!event.target.matches(".ask-model")) return;
  event.preventDefault();
  if (!event.target.querySelector("[aria-disabled]")) ask(event.target);
});

document.addEventListener("click", (event) => {
  if (event.target.closest(".written .stop")) leave();
});

/** Point at the hit that a citation is from. */
function point(event) {
  const link = event.target.closest?.(".written .cited, .written .source");
  for (const hit of document.querySelectorAll(".hit")) {
    hit.classList.toggle("pointed", Boolean(link) && hit.dataset.document.startsWith(link.dataset.document));
  }
}

document.addEventListener("pointerover", point);
document.addEventListener("focusin", point);
addEventListener("pagehide", leave);
