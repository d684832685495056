// The results: put in place as the server rendered them, moved gently, with what was open and
// focused kept. Text is never made into markup here: what is parsed is our own server's page.

import { ask, askJSON, askText } from "./ask.js";
import { localise, number } from "./localise.js";
import { attempt } from "./trouble.js";

const still = matchMedia("(prefers-reduced-motion: reduce)");
const MOVE = { duration: 420, easing: "cubic-bezier(.2, .8, .2, 1)" };

/** The elements of a fragment that our server rendered. */
export function parse(html) {
  const page = new DOMParser().parseFromString(html, "text/html");
  localise(page);
  return page;
}

export const results = () => document.getElementById("results");

/** How many were found, in words. */
export function standing() {
  const { found, status } = results().dataset;
  return found ? `${number(found)} ${status}` : status;
}

const hits = (root = document) => [...root.querySelectorAll(".hit")];

/** Make a change of the list, and let each hit that stays glide to its new place. */
function glide(change) {
  const before = new Map(hits().map((hit) => [hit.dataset.document, hit.getBoundingClientRect().top]));
  change();
  if (still.matches) return;
  for (const hit of hits()) {
    const was = before.get(hit.dataset.document);
    if (was === undefined) {
      hit.animate([{ opacity: 0 }, { opacity: 1 }], MOVE);
    } else {
      const way = was - hit.getBoundingClientRect().top;
      if (way && Math.abs(way) < 3 * innerHeight) hit.animate([{ transform: `translateY(${way}px)` }, { transform: "none" }], MOVE);
    }
  }
}

/** What the reader has opened and where the focus is, to be put back by `restore`. */
function remember() {
  const open = new Set();
  for (const each of results().querySelectorAll("details[open]")) open.add(nameOf(each));
  const focused = document.activeElement;
  if (!results().contains(focused)) return { open };
  const hit = focused.closest(".hit");
  const inside = hit && [...hit.querySelectorAll("a, button, summary")].indexOf(focused);
  return { open, id: focused.id, document: hit?.dataset.document, inside };
}

function nameOf(details) {
  return details.id || `${details.closest(".hit")?.dataset.document} ${details.dataset.what}`;
}

function restore({ open, id, document: name, inside }) {
  for (const each of results().querySelectorAll("details")) if (open.has(nameOf(each))) each.open = true;
  const hit = name && hits().find((each) => each.dataset.document === name);
  const found = (id && document.getElementById(id)) || hit?.querySelectorAll("a, button, summary")[inside] || hit?.querySelector("h3 a");
  found?.focus({ preventScroll: true });
}

/** Put the results of `page` (see `parse`) in the place of those that are shown. */
export function show(page) {
  const kept = remember();
  const fresh = page.getElementById("results");
  fresh.setAttribute("aria-busy", "true");
  // Facets are counted last: until then those of before keep their place.
  const blank = fresh.querySelector("div.narrow");
  const before = results().querySelector("aside.narrow");
  if (blank && before) {
    const stale = before.cloneNode(true); // the page that is left may be gone back to
    stale.classList.add("stale");
    blank.replaceWith(stale);
  }
  glide(() => results().replaceWith(fresh));
  restore(kept);
}

/** An `order` event: the hits in the order that reading has given them so far. */
export function reorder(order) {
  const list = results().querySelector(".hits");
  if (!list) return;
  const known = new Map(hits(list).map((hit) => [hit.dataset.document, hit]));
  const focused = document.activeElement;
  glide(() => {
    const there = order.hits.filter((each) => known.has(each.document_id));
    for (const { document_id, rank } of there) {
      const hit = known.get(document_id);
      hit.value = rank;
      hit.querySelector(".rank").textContent = number(rank);
      list.append(hit);
    }
  });
  if (list.contains(focused)) focused.focus({ preventScroll: true }); // a moved element loses it
  const progress = results().querySelector(".progress");
  if (progress) progress.textContent = `${number(order.reranked_count)} read so far…`;
}

/** The next hits of the same window, behind those that are shown. */
export async function more(link) {
  const cursor = results().dataset.cursor;
  const { html } = await askJSON(`/results${location.search}`, {}, { method: "POST", body: new URLSearchParams({ cursor }) });
  const page = parse(html);
  const following = page.getElementById("results");
  const added = hits(following);
  const place = link.closest(".paging");
  results().querySelector(".hits").append(...added);
  results().dataset.cursor = following.dataset.cursor ?? "";
  if (!following.dataset.cursor) link.remove();
  else place.querySelector(".more-hits").hidden = false;
  const to = results().querySelector(".shown-to");
  if (to) to.textContent = number(hits().length);
  added[0]?.querySelector("h3 a").focus({ preventScroll: true });
  return hits().length;
}

async function judge(form) {
  const pressed = form.querySelector("button").getAttribute("aria-pressed") === "true";
  const say = Object.fromEntries(new FormData(form));
  const thumbs = [...form.closest(".thumbs").querySelectorAll("button")];
  const at = (name) => (name in say ? Number(say[name]) : null);
  const grade = thumbs.indexOf(form.querySelector("button")) === 0 ? 1 : 0;
  const about = { query: say.q, document_id: say.document_id };
  if (pressed) await ask("/v1/judgements", about, { method: "DELETE" });
  else await ask("/v1/judgements", {}, { method: "POST", body: { ...about, grade, start_char: at("start"), end_char: at("end") } });
  thumbs.forEach((thumb, place) => {
    const is = !pressed && thumb.form === form;
    thumb.setAttribute("aria-pressed", String(is));
    // What it sends without script: the grade, or nothing to take it back.
    if (is) thumb.removeAttribute("name");
    else thumb.name = "grade";
    thumb.value = place === 0 ? "1" : "0";
  });
}

async function copy(link) {
  const text = await askText(link.href);
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    return location.assign(link.href); // to be copied by hand
  }
  link.closest(".formats").querySelector(".copied").textContent = `${link.textContent} copied`;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.closest(".thumbs")) return;
  event.preventDefault();
  attempt(() => judge(form));
});

document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-copy]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || !navigator.clipboard) return;
  event.preventDefault();
  attempt(() => copy(link));
});
