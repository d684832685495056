// The search page: results as one types, the address always says what is shown, and keys. Without
// script the same form and links load the page anew.

import { leave } from "./answer.js";
import { Trouble, away } from "./ask.js";
import { bind, neighbour } from "./keys.js";
import { number } from "./localise.js";
import { more, parse, reorder, results, show, standing } from "./results.js";
import { events } from "./stream.js";
import { remember, suggest } from "./suggest.js";
import { attempt, say } from "./trouble.js";

const PAUSE_MS = 250;
const SLOW_MS = 2000;
const KEPT_PAGES = 20;

const form = document.querySelector("form.ask");
const query = document.getElementById("q");
const status = document.getElementById("status");
const trouble = document.getElementById("trouble");
const shown = new Map(); // address -> the results that were shown there, to go back to
let running = null;
let pause = 0;
let again = 0;
let wanted = ""; // a facet that was chosen before its counts were there

const here = () => location.pathname + location.search;
let at = here(); // what is shown: a link to a part of the page asks for nothing else
const asks = (search) => ["q", "filter", "similar"].some((name) => new URLSearchParams(search).get(name)?.trim());

/** The form as an address. */
function address() {
  const said = [...new FormData(form)].filter(([name, value]) => name === "q" || value !== "");
  return `/?${new URLSearchParams(said)}`;
}

/** Make the form say what the address says; `page` has the options that the server rendered. */
function follow(page) {
  query.value = new URLSearchParams(location.search).get("q") ?? "";
  const options = page.getElementById("options");
  const focused = document.activeElement?.id;
  const open = document.getElementById("how").open;
  document.getElementById("options").replaceWith(options);
  options.querySelector("#how").open = open;
  if (focused && options.querySelector(`#${CSS.escape(focused)}`)) document.getElementById(focused).focus();
}

function keep() {
  leave(); // what is gone back to offers the answer again
  if (document.body.classList.contains("waiting")) return;
  shown.delete(here());
  shown.set(here(), { results: results(), options: document.getElementById("options") });
  for (const old of shown.keys()) if (shown.size > KEPT_PAGES) shown.delete(old);
}

/** Go to an address: `typed` ones follow each other in one entry of the history. */
function go(to, { typed = false, linked = false } = {}) {
  if (to === here()) {
    if (!typed) history.replaceState({ typed }, "", to);
    if (typed && !trouble.firstChild) return;
  } else if (typed && history.state?.typed) {
    history.replaceState({ typed }, "", to);
  } else {
    keep();
    history.pushState({ typed }, "", to);
  }
  at = here();
  load({ linked });
}

function waiting(is) {
  document.body.classList.toggle("waiting", is);
  results().setAttribute("aria-busy", String(is));
}

/** Show what the address asks for. `linked`: it was no form that made it, so the form follows. */
async function load({ linked = false } = {}) {
  clearTimeout(pause);
  clearTimeout(again);
  running?.abort();
  leave();
  const mine = (running = new AbortController());
  const slow = setTimeout(() => (status.textContent = "Still searching…"), SLOW_MS);
  const asked = asks(location.search);
  let followed = !linked;
  const put = (html) => {
    const page = parse(html);
    if (!followed) follow(page);
    followed = true;
    trouble.replaceChildren();
    document.body.className = asked ? "answered waiting" : "home waiting";
    show(page);
    status.textContent = standing();
    document.title = results().dataset.title;
  };
  waiting(true);
  try {
    const response = await fetch((asked ? "/results" : "/") + location.search, {
      headers: { accept: asked ? "text/event-stream, application/problem+json" : "text/html" },
      signal: mine.signal,
    });
    if (!response.ok) return refuse(await response.json(), Number(response.headers.get("retry-after")));
    if (!asked) return put(await response.text());
    for await (const { name, data } of events(response)) {
      clearTimeout(slow);
      if (name === "order") reorder(data);
      else if (name === "error") refuse(data, 0);
      else put(data.html);
    }
  } catch (error) {
    if (error.name === "AbortError") return;
    tell(away());
  } finally {
    clearTimeout(slow);
    if (running === mine) {
      waiting(false);
      if (wanted) document.getElementById(wanted)?.click();
      wanted = "";
    }
  }
}

/** Say what went wrong above the results of before, and what happens next. */
function tell(what) {
  say(what, () => load({ linked: true }));
  status.textContent = "";
  document.body.classList.replace("home", "answered");
}

function refuse(problem, seconds) {
  const { title = "That search could not be done", detail = "", hint = "", status: code = 500 } = problem;
  tell(new Trouble(detail, hint, { title, status: code }));
  if (seconds > 0) count(seconds);
}

function count(seconds) {
  trouble.querySelector(".hint").textContent = `This page tries again in ${number(seconds)} ${seconds === 1 ? "second" : "seconds"}.`;
  again = setTimeout(() => (seconds > 1 ? count(seconds - 1) : load({ linked: true })), 1000);
}

query.addEventListener("input", (event) => {
  clearTimeout(pause);
  if (!event.isComposing) pause = setTimeout(() => go(address(), { typed: true }), PAUSE_MS);
});
query.addEventListener("compositionend", () => query.dispatchEvent(new Event("input")));

form.addEventListener("submit", (event) => {
  event.preventDefault();
  remember(query.value);
  go(address());
});

form.addEventListener("change", (event) => {
  if (event.target !== query) go(address());
});

addEventListener("popstate", () => {
  if (here() === at) return;
  at = here();
  const kept = shown.get(here());
  running?.abort();
  leave();
  if (!kept) return load({ linked: true });
  trouble.replaceChildren();
  document.body.className = asks(location.search) ? "answered" : "home";
  query.value = new URLSearchParams(location.search).get("q") ?? "";
  document.getElementById("options").replaceWith(kept.options);
  results().replaceWith(kept.results);
  waiting(false); // they were kept just before the search that took their place began
  status.textContent = standing();
  document.title = results().dataset.title;
});

const plain = (event) => !event.defaultPrevented && event.button === 0 && !event.ctrlKey && !event.metaKey && !event.shiftKey && !event.altKey;

document.addEventListener("click", (event) => {
  const link = event.target.closest("main a[href]");
  if (!link || !plain(event)) return;
  if (link.matches(".more-hits") && results().dataset.cursor) {
    event.preventDefault();
    attempt(() => lengthen(link));
  } else if (link.closest(".stale")) {
    event.preventDefault();
    wanted = link.id;
  } else if (link.getAttribute("href").startsWith("/?")) {
    event.preventDefault();
    go(link.getAttribute("href"), { linked: true });
    if (!link.closest(".narrow, .options, .sort")) scrollTo({ top: 0 });
  } else if (link.closest(".hit")) {
    remember(query.value);
  }
});

/** More of the same list; the address then asks for as many at once. */
async function lengthen(link) {
  link.setAttribute("aria-disabled", "true");
  try {
    const count = await more(link);
    const url = new URL(location.href);
    url.searchParams.set("limit", String(count));
    history.replaceState(history.state, "", url.pathname + url.search);
    at = here();
    status.textContent = `${number(count)} documents are shown`;
  } catch (error) {
    if (!error.status || error.isAway) throw error;
    location.assign(link.href); // that window is gone: the server's own page goes on
  } finally {
    link.removeAttribute("aria-disabled");
  }
}

function walk(step) {
  const titles = [...document.querySelectorAll(".hit h3 a")];
  const title = neighbour(titles, step, (each) => each.closest(".hit").contains(document.activeElement));
  if (!title) return;
  title.focus({ preventScroll: true });
  title.closest(".hit").scrollIntoView({ block: "nearest" });
}

function ask() {
  query.focus();
  query.select();
}

bind("a", "answer from these passages", () => document.querySelector(".ask-model button:enabled")?.click());
bind("/", "to the query", ask);
bind("j", "to the next result", () => walk(1));
bind("k", "to the result before", () => walk(-1));
bind("Escape", "out of the query", () => query.blur(), { typing: query });
bind("Escape", "back to the query", ask);

addEventListener("pagehide", () => history.replaceState({ typed: false }, ""));

suggest(query, () => form.requestSubmit());
