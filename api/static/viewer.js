// The viewer: a document at a passage, as text or as pages, with the passages that decide, find,
// outline, pages and links to what is selected. Without it the page shows the same in parts.

import { Trouble, askJSON } from "./ask.js";
import { Finder } from "./find.js";
import { bind } from "./keys.js";
import { number as said } from "./localise.js";
import { charAt, lastAtMost } from "./offsets.js";
import { PageView } from "./pageview.js";
import { Passages } from "./passages.js";
import { TextView } from "./textview.js";
import { leave } from "./trouble.js";

const ADDRESS_MS = 400;
const TOLD_MS = 5000;

const article = document.querySelector("article[data-document]");
const bar = document.querySelector(".bar");
const told = bar.querySelector(".told");
const page = document.getElementById("page");
const tabs = [...bar.querySelectorAll(".views a")];
const outline = [...document.querySelectorAll(".outline a")];
const { document: id, query = "", mark = "", number = "" } = article.dataset;
const asPages = Boolean(number);
const asked = new URLSearchParams(location.search);

history.scrollRestoration = "manual";
document.documentElement.classList.add("scripted");

let telling;

/** Say something below the bar: for a while, or with a button until it is settled. */
function tell(message, again = null) {
  clearTimeout(telling);
  told.hidden = !message;
  told.replaceChildren();
  if (!message) return;
  told.append(message instanceof Error ? [message.message, message.hint].filter(Boolean).join(" ") : message);
  if (again) {
    const button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = "Try again";
    button.addEventListener("click", () => {
      tell(null);
      again();
    });
    told.append(" ", button);
  } else telling = setTimeout(() => tell(null), TOLD_MS);
}

let view;
let spans = [];
let trouble = null;

/** The page that a character stands on; 0: not known. */
function pageOf(char) {
  return spans[Math.max(lastAtMost(spans, char, (each) => each.start_char), 0)]?.number ?? 0;
}

function withPlace(address, values) {
  const url = new URL(address, location.href);
  for (const name of ["from", "until", "page"]) url.searchParams.delete(name);
  for (const [name, value] of Object.entries(values)) url.searchParams.set(name, value);
  url.hash = "";
  return url.pathname + url.search;
}

let addressing;
let marked = -1;
let hasBegun = false; // before, what is in sight is not where one was led

/** Scroll the outline, and nothing else, to one of its lines. */
function keepInSight(link) {
  const aside = link.closest("aside");
  const [line, box] = [link.getBoundingClientRect(), aside.getBoundingClientRect()];
  if (line.top < box.top) aside.scrollTop -= box.top - line.top + box.height / 3;
  else if (line.bottom > box.bottom) aside.scrollTop += line.bottom - box.bottom + box.height / 3;
}

let chosen = -1;

/** The section that one reads: the one at the top, or, where the end of the document stands below
 *  on the screen, the one that was chosen and cannot come to the top. */
function sectionAt(char) {
  const atTop = lastAtMost(outline, char + 1, (each) => Number(each.dataset.at));
  const isAtEnd = scrollY + innerHeight >= document.documentElement.scrollHeight - 2;
  return isAtEnd && chosen > atTop ? chosen : atTop;
}

function moved() {
  if (!hasBegun) return;
  const at = view.place();
  const here = asPages ? view.number : pageOf(at);
  if (page && here && document.activeElement !== page) page.value = here;
  const section = sectionAt(at);
  if (section !== marked) {
    outline[marked]?.removeAttribute("aria-current");
    outline[section]?.setAttribute("aria-current", "location");
    marked = section;
    if (section >= 0) keepInSight(outline[section]);
  }
  const [asText, likePaper] = [{ from: at }, { page: here || 1 }];
  if (tabs.length) {
    tabs[0].href = withPlace(tabs[0].href, asText);
    tabs[1].href = withPlace(tabs[1].href, likePaper);
  }
  clearTimeout(addressing);
  addressing = setTimeout(() => history.replaceState(null, "", withPlace(location.href, asPages ? likePaper : asText)), ADDRESS_MS);
}

/** Whether the passage at hand is on the screen. */
function isInSight() {
  const marks = asPages ? article.querySelectorAll("rect.hit-now") : (CSS.highlights?.get("hit-now") ?? []);
  return [...marks].some((each) => {
    const { top, bottom, height } = each.getBoundingClientRect();
    return height > 0 && bottom > bar.offsetHeight && top < innerHeight;
  });
}

/** From text to pages and back one keeps the passage that one looks at, not the top of its page. */
function keepPassage(tab) {
  const here = new URL(location.href).searchParams;
  if (!isInSight() || !here.has("start")) return;
  const url = new URL(withPlace(tab.href, { start: here.get("start"), end: here.get("end") }), location.href);
  if (!here.has("s")) url.searchParams.delete("s");
  tab.href = `${url.pathname}${url.search}#hit`;
}

async function open() {
  const lines = document.querySelector(".outline");
  if (lines && matchMedia("(max-width: 48rem)").matches) lines.open = false; // it would be all one sees
  const lineOf = () => bar.offsetHeight + bar.querySelector(".find").offsetHeight;
  const about = Number(article.dataset.pages) > 1 || asPages ? await askJSON(`/v1/documents/${id}`) : { pages: [] };
  spans = about.pages;
  if (!asPages) {
    const heard = (error, again) => {
      if (error || trouble) tell(error, again);
      trouble = error;
    };
    view = new TextView(article, { id, chars: Number(article.dataset.chars), tell: heard, onMove: moved, lineOf });
    return;
  }
  const { pages } = await askJSON(`/v1/documents/${id}/pages`);
  const textLink = (which) => withPlace(tabs[0].href, { page: which });
  view = new PageView(article, { id, sizes: pages, spans, number: Number(number), textLink, onMove: moved, lineOf });
}

async function toPage(which) {
  const start = spans.filter((each) => each.number === which)[0]?.start_char;
  if (asPages) view.showPage(which);
  else if (start !== undefined) await view.show({ start_char: start, end_char: start + 1 });
  else tell(`This document has no page ${said(which)}.`);
}

async function begin() {
  const [start, end] = mark.split("-").map(Number);
  const linked = mark ? { start_char: start, end_char: end } : null;
  if (linked && asPages) {
    const { rectangles } = await askJSON(`/v1/documents/${id}/rectangles`, { start, end });
    linked.rectangles = rectangles;
  }
  const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
  const placed = ["from", "page", "until"].some((name) => asked.has(name));
  if (linked && (location.hash === "#hit" || !placed)) await view.show(linked);
  else if (target) target.scrollIntoView({ behavior: "instant" });
  else if (placed && !asPages) {
    const from = asked.has("page") ? spans.find((each) => each.number === Number(asked.get("page")))?.start_char : asked.get("from");
    const char = Number(from ?? article.querySelector(".part").dataset.start);
    await view.show({ start_char: char, end_char: char + 1 });
  }
  else if (!asPages) view.fill();
  return linked;
}

function bindParts(linked) {
  const steps = bar.querySelector(".hits-steps");
  const onStep = ({ start_char: start, end_char: end }) => {
    const url = new URL(location.href);
    url.searchParams.delete("s");
    url.searchParams.set("start", start);
    url.searchParams.set("end", end);
    history.replaceState(null, "", url);
  };
  const passages = new Passages(steps, { id, query, from: asked.get("back") ?? "", linked, view, onStep });
  passages.load().catch((error) => tell(error, () => passages.load().catch(tell)));
  const finding = bar.querySelector('[data-do="find"]');
  const finder = new Finder(bar.querySelector(".find"), { id, view, withPlaces: asPages, onOpen: () => finding.setAttribute("aria-expanded", String(finder.isOpen)) });
  finding.hidden = false;
  const shut = () => {
    finder.close();
    finding.focus();
  };
  const zoom = bar.querySelector(".zoom");
  if (zoom) zoom.hidden = false;
  const dos = {
    "hit-before": () => passages.step(-1),
    "hit-after": () => passages.step(1),
    "match-before": () => finder.step(-1),
    find: () => (finder.isOpen ? shut() : finder.open()),
    unfind: shut,
    copy: copyLink,
    smaller: () => view.setZoom(view.zoom / 1.25),
    larger: () => view.setZoom(view.zoom * 1.25),
    fit: () => view.setZoom(1),
  };
  for (const tab of tabs) tab.addEventListener("click", () => keepPassage(tab));
  bar.addEventListener("click", (event) => dos[event.target.closest("[data-do]")?.dataset.do]?.());
  bind("n", "to the next passage found", () => passages.step(1));
  bind("p", "to the passage before", () => passages.step(-1));
  bind("f", "find in this document", () => finder.open());
  bind("Escape", "close find", shut, { typing: finder.field });
  if (page) {
    bind("g", "go to a page", () => {
      page.focus();
      page.select();
    });
    bind("Escape", "out of the page's number", () => page.blur(), { typing: page });
    page.form.addEventListener("submit", (event) => {
      event.preventDefault();
      page.blur();
      toPage(Number(page.value)).catch(tell);
    });
  }
  bind("c", "copy a link to the selection", copyLink);
  bind("/", "to the search", () => leave(() => location.assign("/")));
  if (tabs.length) bind("v", asPages ? "its text" : "how its pages look", () => tabs[asPages ? 0 : 1].click());
  if (zoom) {
    bind("+", "larger", dos.larger);
    bind("-", "smaller", dos.smaller);
    bind("0", "as wide as the window", dos.fit);
  }
  bind("Escape", "back to the results", () => {
    if (finder.isOpen) shut();
    else document.querySelector(".back").click();
  });
  for (const link of document.querySelectorAll(".outline a[data-at], .links .found")) {
    link.addEventListener("click", (event) => {
      if (event.ctrlKey || event.metaKey || event.shiftKey) return;
      event.preventDefault();
      const at = Number(link.dataset.at);
      chosen = outline.indexOf(link);
      view.show(link.dataset.at ? { start_char: at, end_char: at + 1 } : linked).then(moved, tell);
    });
  }
}

/** The selected characters; null where nothing of the document is selected. */
function selected() {
  const selection = getSelection();
  if (selection.isCollapsed || !article.contains(selection.anchorNode)) return null;
  const ends = [charAt(selection.anchorNode, selection.anchorOffset), charAt(selection.focusNode, selection.focusOffset)];
  const [start, end] = ends.sort((a, b) => a - b);
  return ends.includes(null) || start === end ? null : { start, end };
}

async function copyLink() {
  const span = selected();
  if (!span) {
    tell("Select some of the text first.");
    return;
  }
  const url = new URL(`/documents/${id}`, location.href);
  if (asPages) url.searchParams.set("view", "pages");
  for (const [name, value] of Object.entries(span)) url.searchParams.set(name, value);
  url.hash = "hit";
  try {
    await navigator.clipboard.writeText(url.href);
    tell("The link is copied.");
  } catch {
    // No clipboard here (plain http from elsewhere): to copy by hand.
    const field = document.createElement("input");
    field.readOnly = true;
    field.value = url.href;
    field.setAttribute("aria-label", "Link to the selection");
    tell("Copy this link: ", () => {});
    told.querySelector("button").textContent = "Done";
    told.insertBefore(field, told.querySelector("button"));
    field.select();
  }
}

document.addEventListener("selectionchange", () => {
  bar.querySelector('[data-do="copy"]').hidden = !selected();
});

async function start() {
  await open();
  const linked = await begin();
  hasBegun = true;
  bindParts(linked);
  moved();
}

start()
  .catch((error) => {
    if (!(error instanceof Trouble)) throw error;
    tell(error, () => location.reload());
  })
  .finally(() => article.classList.add("ready"));
