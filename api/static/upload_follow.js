// Following what the server has: how each upload stands, to its end; and finding what it is at when the
// page comes back, jobs of many files among it.

import { refresh } from "./library.js";
import { goOn, hindrance, hold, OFFLINE } from "./upload_hold.js";
import { cleared } from "./upload_kept.js";
import { announce, changed, isBad, isEnded, isOpen, isTaken, list, went } from "./upload_list.js";
import { standing } from "./upload_words.js";

const RECENT = 50;
const SHOWN_MS = 600_000; // what went well is in the list of documents; what did not is shown a day
const ASKED = 100;
const LOOK_MS = 10_000;
const KINDS = ["upload", "folder", "collection"];

let asking = null;
let heard = 0;

async function uploads(link) {
  const answer = await fetch(`/v1/uploads?${new URLSearchParams(link)}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()).uploads;
}

/** Ask how the open ones stand, the oldest first: they are done in that order. */
export function ask() {
  if (asking !== null) return;
  const followed = list.items.filter((item) => item.state === "sent" && !isEnded(item)).slice(0, ASKED);
  if (!followed.length) return;
  asking = setTimeout(async () => {
    let isNew = false;
    try {
      const told = new Map((await uploads([...followed.map((item) => ["job", item.job]), ["limit", ASKED]])).map((each) => [each.job, each]));
      for (const item of followed) {
        const now = told.get(item.job);
        if (!now) Object.assign(item, { state: "failed", why: "The server does not know it any more.", step: "Choose it again." });
        else if (JSON.stringify(now) !== JSON.stringify(item.told)) {
          item.told = now;
          isNew = true;
          if (isEnded(item)) ended(item);
        }
      }
      if (hindrance.now === OFFLINE) goOn();
    } catch {
      if (!hindrance.now) hold(OFFLINE);
    }
    heard = isNew ? 0 : heard + 1;
    asking = null;
    changed();
    ask();
  }, Math.min(500 + 250 * heard, 3000));
}

let refreshing = null;

function ended(item) {
  if (isTaken(item)) refreshing ??= setTimeout(showDocuments, 1000);
  if (isBad(item)) announce(`${item.path}: ${standing(item)[0]}`);
  else if (!list.items.some(isOpen)) announce("All uploads have ended.");
}

async function showDocuments() {
  refreshing = null;
  // Somebody is in the list: later.
  if (!(await refresh())) refreshing ??= setTimeout(showDocuments, 3000);
}

/** Find what the server is at, or has ended lately. */
export async function findJobs() {
  let found = [];
  try {
    found = await uploads([["limit", RECENT], ...KINDS.map((kind) => ["kind", kind])]);
  } catch {
    // The list of documents is here all the same; the next look finds them.
  }
  // One that is being sent may be there already, and this page does not know as which job.
  if (list.items.some((item) => item.state === "sending")) found = [];
  const known = new Set(list.items.map((item) => item.job));
  for (const told of found.reverse()) {
    const age = told.finished_at ? Date.now() - Date.parse(told.finished_at) : 0;
    if (known.has(told.job) || (told.finished_at && told.created_at <= cleared()) || age > (went(told) ? SHOWN_MS : 144 * SHOWN_MS)) continue;
    list.items.push({ path: nameOf(told), bytes: 0, collection: told.collection, file: null, state: "sent", job: told.job, told, past: Boolean(told.finished_at) });
  }
  changed();
  ask();
}

function nameOf(told) {
  if (told.kind === "collection") return `${told.name}: all of it, read again`;
  return told.key && !told.key.startsWith("sha256:") ? told.key : told.name;
}

/** Find also what others begin: a folder read on the server, an upload from elsewhere. */
setInterval(() => document.hidden || findJobs(), LOOK_MS);
