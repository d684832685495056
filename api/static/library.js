// The library's pages: lists that change in place, deletions confirmed in a dialog, health that
// looks again by itself. Parts of our own pages are fetched and put in; the server has escaped them.

import { askPage, away } from "./ask.js";
import { bind } from "./keys.js";
import { localise } from "./localise.js";
import { attempt, leave } from "./trouble.js";

document.documentElement.classList.add("scripted");

function put(page, names) {
  for (const name of names) {
    const here = document.getElementById(name);
    const there = page.getElementById(name);
    if (!here || !there) continue;
    const made = document.importNode(there, true);
    localise(made);
    if (here.textContent === made.textContent && name !== "documents") continue;
    here.replaceChildren(...made.childNodes);
  }
}

/** Whether somebody is in the midst of something in the list of documents. */
function isBusy() {
  const list = document.getElementById("documents");
  return !list || list.contains(document.activeElement) || document.querySelector("dialog[open]") || list.querySelector("details[open]");
}

/** Show the list as it is now, unless somebody would lose their place; `address`: another one. */
export async function refresh(address = null) {
  if (!address && isBusy()) return false;
  try {
    const page = await askPage(address ?? location.href);
    if (!address && isBusy()) return false;
    put(page, ["shelves", "documents"]);
    // The place to drop is large only as long as there is nothing else.
    const [zone, there] = [document.getElementById("drop"), page.getElementById("drop")];
    if (zone && there) { // readers have none
      zone.className = there.className;
      zone.querySelector("h2").textContent = there.querySelector("h2").textContent;
    }
    if (address) history.replaceState(null, "", address);
    return true;
  } catch {
    return false; // offline: whoever asked asks again
  }
}

// --- titles and order --------------------------------------------------------------------------

let asked = 0;
let typing = null;

async function find(form) {
  const mine = ++asked;
  const link = new URLSearchParams(new FormData(form));
  const address = `${form.action}?${link}`;
  const list = document.getElementById("documents");
  list.classList.add("busy");
  try {
    const page = await askPage(address);
    if (mine !== asked) return;
    // The form stays, so that typing goes on in it.
    for (const each of list.querySelectorAll(".find ~ *")) each.remove();
    const there = document.importNode(page.getElementById("documents"), true);
    localise(there);
    list.append(...there.querySelectorAll(".find ~ *"));
    history.replaceState(null, "", address);
  } catch (error) {
    if (mine === asked) throw error;
  } finally {
    if (mine === asked) list.classList.remove("busy");
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest?.(".find");
  if (!form) return;
  clearTimeout(typing);
  if (event.target.type === "search") typing = setTimeout(() => attempt(() => find(form)), 200);
  else attempt(() => find(form));
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !form.matches("main form, dialog form")) return;
  event.preventDefault();
  if (form.matches(".find")) {
    clearTimeout(typing);
    attempt(() => find(form));
  } else if (form.dataset.stay !== undefined && document.getElementById("documents")) attempt(() => stay(form));
  else leave(() => form.submit());
});

// --- deletions, and files read again -----------------------------------------------------------

function say(words, isBad) {
  const place = document.getElementById("notice");
  const line = document.createElement("p");
  line.className = `notice ${isBad ? "bad" : "good"}`;
  line.textContent = words;
  place.replaceChildren(line);
}

/** The page that a form leads to; a refusal is one as well. */
async function sent(form) {
  try {
    const answer = await fetch(form.action, { method: "POST", headers: { accept: "text/html" }, body: new URLSearchParams(new FormData(form)) });
    return { page: new DOMParser().parseFromString(await answer.text(), "text/html"), ok: answer.ok };
  } catch {
    throw away();
  }
}

/** Send a form and stay on this page, so that files which are being sent go on. */
async function stay(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const { page, ok } = await sent(form);
    form.closest("dialog")?.close();
    if (ok) {
      put(page, ["notice"]);
      attempt(async () => put(await askPage(location.href), ["shelves", "documents"])); // sent it is, and not again
      document.dispatchEvent(new Event("longleaf:jobs"));
    } else say([...page.querySelectorAll("main p:not(.status, :has(a))")].map((each) => each.textContent.trim()).join(" "), true);
  } finally {
    button.disabled = false;
  }
}

document.addEventListener("click", (event) => {
  const link = event.target.closest?.("a[data-confirm], .shelf, .paging a");
  if (event.target.closest?.("dialog [data-close]")) {
    event.preventDefault();
    event.target.closest("dialog").close();
  }
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  if (link.dataset.confirm === undefined) leave(() => location.assign(link.href));
  else attempt(() => confirm(link));
});

/** Ask in a dialog before something is done. */
async function confirm(link) {
  const asks = (await askPage(link.href)).querySelector(".confirm");
  if (!asks) return location.assign(link.href);
  const dialog = document.createElement("dialog");
  dialog.setAttribute("aria-labelledby", "confirm-title");
  dialog.append(document.importNode(asks, true));
  localise(dialog);
  dialog.addEventListener("close", () => {
    dialog.remove();
    if (link.isConnected) link.focus();
  });
  document.body.append(dialog);
  dialog.showModal();
  dialog.querySelector("[data-close]").focus();
}

// --- what looks again by itself ----------------------------------------------------------------

const live = document.querySelector("#refreshed[data-every]");

async function lookAgain() {
  const missing = document.getElementById("not-reached");
  let every = Number(live.dataset.every);
  if (!document.hidden) {
    try {
      const page = await askPage(location.href);
      const there = page.getElementById("refreshed");
      live.className = there.className;
      put(page, ["refreshed"]);
      if (missing) missing.hidden = true;
      if (!there.dataset.every) return;
    } catch {
      if (missing) missing.hidden = false;
    }
  }
  setTimeout(lookAgain, every * 1000);
}

if (live) setTimeout(lookAgain, Number(live.dataset.every) * 1000);

// --- keys --------------------------------------------------------------------------------------

if (document.getElementById("documents")) {
  const titles = () => [...document.querySelectorAll(".docs .name")];
  const walk = (step) => {
    const all = titles();
    if (!all.length) return;
    const here = all.findIndex((each) => each.closest("tr").contains(document.activeElement));
    const next = here < 0 ? (step > 0 ? 0 : all.length - 1) : here + step;
    all[Math.min(Math.max(next, 0), all.length - 1)].focus();
  };
  bind("/", "search in titles", () => document.getElementById("title")?.select());
  bind("j", "to the next document", () => walk(1));
  bind("k", "to the document before", () => walk(-1));
} else {
  bind("/", "to the search", () => location.assign("/"));
}
