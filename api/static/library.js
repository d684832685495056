// The library's pages: lists that change in place, deletions confirmed in a dialog, health that
// looks again by itself. Parts of our own pages are fetched and put in; the server has escaped them.

import { bind } from "./keys.js";
import { localise } from "./localise.js";

document.documentElement.classList.add("scripted");

async function fetched(address, options) {
  const answer = await fetch(address, { headers: { accept: "text/html" }, ...options });
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  return { page, ok: answer.ok, url: answer.url };
}

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
    const { page, ok } = await fetched(address ?? location.href);
    if (!ok || (!address && isBusy())) return false;
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
    const { page, ok } = await fetched(address);
    if (mine !== asked) return;
    if (!ok) throw new Error("not answered");
    // The form stays, so that typing goes on in it.
    for (const each of list.querySelectorAll(".find ~ *")) each.remove();
    const there = document.importNode(page.getElementById("documents"), true);
    localise(there);
    list.append(...there.querySelectorAll(".find ~ *"));
    history.replaceState(null, "", address);
  } catch {
    if (mine === asked) form.submit(); // the browser's own page says what is wrong
  } finally {
    if (mine === asked) list.classList.remove("busy");
  }
}

document.addEventListener("input", (event) => {
  const form = event.target.closest?.(".find");
  if (!form) return;
  clearTimeout(typing);
  if (event.target.type === "search") typing = setTimeout(() => find(form), 200);
  else find(form);
});

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (form.matches(".find")) {
    event.preventDefault();
    clearTimeout(typing);
    find(form);
  } else if (form.dataset.stay !== undefined && document.getElementById("documents")) {
    event.preventDefault();
    stay(form);
  }
});

// --- deletions, and files read again -----------------------------------------------------------

function say(words, isBad) {
  const place = document.getElementById("notice");
  const line = document.createElement("p");
  line.className = `notice ${isBad ? "bad" : "good"}`;
  line.textContent = words;
  place.replaceChildren(line);
}

/** Send a form and stay on this page, so that files which are being sent go on. */
async function stay(form) {
  const button = form.querySelector("button");
  button.disabled = true;
  try {
    const { page, ok } = await fetched(form.action, { method: "POST", body: new URLSearchParams(new FormData(form)) });
    form.closest("dialog")?.close();
    if (ok) {
      put(page, ["notice"]);
      const { page: now } = await fetched(location.href);
      put(now, ["shelves", "documents"]);
      document.dispatchEvent(new Event("longleaf:jobs"));
    } else say([...page.querySelectorAll("main p:not(.status, :has(a))")].map((each) => each.textContent.trim()).join(" "), true);
  } catch {
    form.closest("dialog")?.close();
    say("The server does not answer. Nothing was changed; try again.", true);
  }
  button.disabled = false;
}

document.addEventListener("click", async (event) => {
  const link = event.target.closest?.("a[data-confirm]");
  if (event.target.closest?.("dialog [data-close]")) {
    event.preventDefault();
    event.target.closest("dialog").close();
  }
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey) return;
  event.preventDefault();
  let asks = null;
  try {
    asks = (await fetched(link.href)).page.querySelector(".confirm");
  } catch {
    asks = null;
  }
  if (!asks) {
    location.assign(link.href);
    return;
  }
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
});

// --- what looks again by itself ----------------------------------------------------------------

const live = document.querySelector("#refreshed[data-every]");

async function lookAgain() {
  const missing = document.getElementById("not-reached");
  let every = Number(live.dataset.every);
  if (!document.hidden) {
    try {
      const { page, ok } = await fetched(location.href);
      if (!ok) throw new Error("not answered");
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
