// Uploads: files and folders dropped on the library or chosen, sent a few at a time, followed to
// their outcome. What the server has is asked of it, so a reload finds it again; what it had not
// got whole is remembered by name only, and said to be lost. File names are text, never markup.

import { bind } from "./keys.js";
import { number, size } from "./localise.js";
import { refresh } from "./library.js";

const AT_ONCE = 3;
const ROWS = 200;
const RECENT = 50;
const SHOWN_MS = 600_000; // what went well is in the list of documents; what did not is shown a day
const ASKED = 100;
const NAMES_KEPT = 2000;
const SENDING = "longleaf.sending";
const CLEARED = "longleaf.cleared";

const zone = document.getElementById("drop");
const into = document.getElementById("into");
const panel = document.getElementById("uploads");
const part = (name) => document.getElementById(`uploads-${name}`);
const mostBytes = Number(zone.dataset.maxBytes);

// An item: {path, bytes, collection, file, state, sent, job, told, why, step, mild, row}.
// state: waiting, sending, sent (the server has it; `told` is what it says), failed, lost, stopped.
let items = [];
let paused = null; // {why, step, self}: nothing more is sent; self: it is tried again by itself
let drawing = false;
let asking = null;
let heard = 0;

const isOpen = (item) => item.state === "waiting" || item.state === "sending" || (item.state === "sent" && !isEnded(item));
const isEnded = (item) => item.told && !["queued", "running"].includes(item.told.state);
const isTaken = (item) => item.told && /^indexed/.test(item.told.outcome ?? "");
const isBad = (item) => item.state === "failed" || item.state === "lost" || (isEnded(item) && item.told.state !== "cancelled" && !isTaken(item) && (item.told.outcome !== null || item.told.state === "failed"));

// --- what is chosen or dropped -----------------------------------------------------------------

/** Take files: [{file, path}]. Names that begin with a dot are left out, as when a folder is walked. */
function take(found) {
  const collection = into.value.trim();
  const shown = found.filter(({ path }) => !path.split("/").some((name) => name.startsWith(".")));
  for (const { file, path } of shown) {
    items = items.filter((item) => item.file || item.path !== path || !isBad(item));
    const item = { path, bytes: file.size, collection, file, state: "waiting", sent: 0 };
    if (file.size > mostBytes) {
      Object.assign(item, { state: "failed", why: `Too large: ${size(file.size)}; ${size(mostBytes)} are taken.`, step: "Split it, raise server.max_upload_bytes (and indexer.max_file_bytes), or use longleaf index on the server." });
    }
    items.push(item);
  }
  const hidden = found.length - shown.length;
  announce(`${number(shown.length)} file${shown.length === 1 ? "" : "s"} to upload${hidden ? `; ${number(hidden)} hidden left out` : ""}.`);
  draw();
  pump();
}

/** Every file below an entry that was dropped, with its path. */
async function walk(entry, found) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    try {
      found.push({ file: await new Promise((done, failed) => entry.file(done, failed)), path });
    } catch {
      items.push({ path, bytes: 0, collection: into.value, file: null, state: "failed", why: "This browser cannot read the file.", step: "Look whether it can be opened, then choose it again." });
    }
    return;
  }
  const reader = entry.createReader();
  for (;;) {
    // A browser tells of 100 entries at a time.
    const some = await new Promise((done, failed) => reader.readEntries(done, failed)).catch(() => []);
    if (!some.length) return;
    for (const each of some) await walk(each, found);
  }
}

async function takeDropped(transfer) {
  const entries = [...transfer.items].filter((each) => each.kind === "file").map((each) => each.webkitGetAsEntry?.() ?? each.getAsFile());
  const found = [];
  for (const entry of entries) {
    if (entry instanceof File) found.push({ file: entry, path: entry.name });
    else if (entry) await walk(entry, found);
  }
  take(found);
}

function takeChosen(input) {
  take([...input.files].map((file) => ({ file, path: file.webkitRelativePath || file.name })));
  input.value = "";
}

const hasFiles = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
let depth = 0;
const mark = (on) => document.documentElement.classList.toggle("dropping", on);

addEventListener("dragenter", (event) => hasFiles(event) && (event.preventDefault(), (depth += 1), mark(true)));
addEventListener("dragover", (event) => hasFiles(event) && event.preventDefault());
addEventListener("dragleave", (event) => hasFiles(event) && (depth -= 1) <= 0 && ((depth = 0), mark(false)));
addEventListener("drop", (event) => {
  if (!hasFiles(event)) return;
  event.preventDefault();
  depth = 0;
  mark(false);
  takeDropped(event.dataTransfer);
});

const files = document.getElementById("file");
files.multiple = true;
files.tabIndex = -1;
const folder = document.createElement("input");
Object.assign(folder, { type: "file", webkitdirectory: true, id: "folder", className: "native", tabIndex: -1 });
folder.setAttribute("aria-label", "Folder");
files.after(folder);
for (const input of [files, folder]) input.addEventListener("change", () => takeChosen(input));
zone.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("choose-files").addEventListener("click", () => files.click());
document.getElementById("choose-folder").addEventListener("click", () => folder.click());
bind("u", "upload files", () => files.click());

// --- sending -----------------------------------------------------------------------------------

const made = new Set();

/** The first files may come before their collection. */
async function makeCollection(name) {
  if (into.tagName === "SELECT" || made.has(name)) return null;
  const answer = await fetch("/v1/collections", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name }) });
  if (!answer.ok && answer.status !== 409) return answer.json();
  made.add(name);
  history.replaceState(null, "", `/library?${new URLSearchParams({ collection: name })}`);
  return null;
}

let starting = false;

async function pump() {
  remember();
  if (paused || starting) return;
  const waiting = items.filter((item) => item.state === "waiting");
  if (waiting.length) {
    starting = true;
    try {
      const problem = await makeCollection(waiting[0].collection);
      if (problem) for (const item of waiting) fail(item, problem.detail, problem.hint);
    } catch {
      hold(OFFLINE);
    } finally {
      starting = false;
    }
  }
  while (!paused && items.filter((item) => item.state === "sending").length < AT_ONCE) {
    const next = items.find((item) => item.state === "waiting");
    if (!next) break;
    send(next);
  }
  draw();
  ask();
}

function send(item) {
  const form = new FormData();
  form.append("collection", item.collection);
  // A path names the document. A bare name does not: two files of one name are two documents.
  if (item.path.includes("/")) form.append("key", item.path);
  form.append("file", item.file, item.path.split("/").pop());
  const request = new XMLHttpRequest();
  Object.assign(item, { state: "sending", sent: 0, request, why: "", step: "" });
  request.upload.addEventListener("progress", (event) => {
    item.sent = Math.min(event.loaded, item.bytes);
    draw();
  });
  request.addEventListener("load", () => answered(item, request));
  request.addEventListener("error", () => broken(item));
  request.addEventListener("abort", () => pump());
  request.open("POST", "/v1/documents?wait_seconds=0");
  request.setRequestHeader("accept", "application/json");
  request.send(form);
}

const OFFLINE = { why: "The server does not answer.", step: "Nothing is lost: sending goes on by itself when it answers again. Leave this page open.", self: true };

function answered(item, request) {
  item.request = null;
  let body = {};
  try {
    body = JSON.parse(request.responseText);
  } catch {
    body = {};
  }
  const job = body.job ?? body.id;
  if (request.status < 300 && job) {
    Object.assign(item, { state: "sent", job, sent: item.bytes, told: null });
  } else if (request.status === 507) {
    item.state = "waiting";
    hold({ why: body.detail ?? "The server's disk is full.", step: `${body.hint ?? "Free some space there."} Then go on.` });
  } else if ([429, 502, 503, 504].includes(request.status)) {
    item.state = "waiting";
    hold({ why: body.detail ?? `The server answered ${request.status}.`, step: "It is tried again by itself in a moment.", self: true });
  } else if (request.status === 413) {
    fail(item, body.detail ?? "Larger than the server, or one in front of it, takes.", body.hint ?? "Split it, or raise server.max_upload_bytes.");
  } else {
    fail(item, body.detail ?? `The server answered ${request.status}.`, body.hint || "Try again; the server's log says more.");
  }
  pump();
}

/** Bytes that did not arrive: the server is gone, or the file is. */
async function broken(item) {
  item.request = null;
  const isThere = await fetch("/healthz").then((answer) => answer.ok, () => false);
  if (item.state !== "sending") return;
  if (!isThere) {
    item.state = "waiting";
    hold(OFFLINE);
  } else if (item.tried) fail(item, "Its bytes could not be sent.", "Was it changed, moved or deleted meanwhile? Choose it again.");
  else Object.assign(item, { state: "waiting", tried: true });
  pump();
}

function fail(item, why, step = "") {
  Object.assign(item, { state: "failed", why, step });
  announce(`${item.path}: ${why}`);
}

/** Send nothing more until the reason is gone. */
function hold(reason) {
  if (!paused) announce(reason.why);
  paused = reason;
  if (reason.self) setTimeout(lookWhetherBack, 2000);
  draw();
}

async function lookWhetherBack() {
  if (!paused?.self) return;
  if (await fetch("/healthz").then((answer) => answer.ok, () => false)) goOn();
  else setTimeout(lookWhetherBack, 3000);
}

function goOn() {
  paused = null;
  pump();
}

addEventListener("online", () => paused?.self && goOn());

/** Names of what the server has not got whole: said to be lost if this page goes. */
function remember() {
  const left = items.filter((item) => item.file && (item.state === "waiting" || item.state === "sending"));
  try {
    if (!left.length) sessionStorage.removeItem(SENDING);
    else sessionStorage.setItem(SENDING, JSON.stringify({ names: left.slice(0, NAMES_KEPT).map(({ path, bytes, collection }) => ({ path, bytes, collection })), count: left.length }));
  } catch {
    // Without storage they are not named after a reload; sending goes on.
  }
}

addEventListener("beforeunload", (event) => {
  if (items.some((item) => item.file && (item.state === "waiting" || item.state === "sending"))) event.preventDefault();
});

// --- following ---------------------------------------------------------------------------------

async function uploads(link) {
  const answer = await fetch(`/v1/uploads?${new URLSearchParams(link)}`);
  if (!answer.ok) throw new Error(answer.statusText);
  return (await answer.json()).uploads;
}

/** Ask how the open ones stand, the oldest first: they are done in that order. */
function ask() {
  if (asking !== null) return;
  const followed = items.filter((item) => item.state === "sent" && !isEnded(item)).slice(0, ASKED);
  if (!followed.length) return;
  asking = setTimeout(async () => {
    let changed = false;
    try {
      const told = new Map((await uploads([...followed.map((item) => ["job", item.job]), ["limit", ASKED]])).map((each) => [each.job, each]));
      for (const item of followed) {
        const now = told.get(item.job);
        if (!now) Object.assign(item, { state: "failed", why: "The server does not know it any more.", step: "Choose it again." });
        else if (JSON.stringify(now) !== JSON.stringify(item.told)) {
          item.told = now;
          changed = true;
          if (isEnded(item)) ended(item);
        }
      }
      if (paused === OFFLINE) goOn();
    } catch {
      if (!paused) hold(OFFLINE);
    }
    heard = changed ? 0 : heard + 1;
    asking = null;
    draw();
    ask();
  }, Math.min(500 + 250 * heard, 3000));
}

let refreshing = null;

function ended(item) {
  if (isTaken(item)) refreshing ??= setTimeout(showDocuments, 1000);
  if (isBad(item)) announce(`${item.path}: ${item.told.reason || item.told.outcome || item.told.state}`);
  else if (!items.some(isOpen)) announce("All uploads have ended.");
}

async function showDocuments() {
  refreshing = null;
  // Somebody is in the list: later.
  if (!(await refresh())) refreshing ??= setTimeout(showDocuments, 3000);
}

/** Find what the server is at, or has ended lately, and name what was lost on the way to it. */
async function find() {
  try {
    const kept = JSON.parse(sessionStorage.getItem(SENDING) ?? "null");
    for (const each of kept?.names ?? []) items.push({ ...each, file: null, state: "lost", mild: true, why: "This page was left before it had been sent whole.", step: "Choose it again." });
    if (kept?.names.length) announce(`${number(kept.count)} files were lost when this page was left. Choose them again.`);
    sessionStorage.removeItem(SENDING);
  } catch {
    // No storage: nothing was kept.
  }
  await findJobs();
}

async function findJobs() {
  try {
    const cleared = localStorage.getItem(CLEARED) ?? "";
    const known = new Set(items.map((item) => item.job));
    for (const told of (await uploads({ limit: RECENT })).reverse()) {
      const age = told.finished_at ? Date.now() - Date.parse(told.finished_at) : 0;
      if (known.has(told.job) || (told.finished_at && told.created_at <= cleared) || age > (/^indexed/.test(told.outcome) ? SHOWN_MS : 144 * SHOWN_MS)) continue;
      const key = told.key && !told.key.startsWith("sha256:") ? told.key : told.name;
      items.push({ path: key, bytes: 0, collection: told.collection, file: null, state: "sent", job: told.job, told, past: Boolean(told.finished_at) });
    }
  } catch {
    // The list of documents is here all the same; the next look finds them.
  }
  draw();
  ask();
}

document.addEventListener("longleaf:jobs", findJobs);

// --- what is done to one -----------------------------------------------------------------------

async function stop(item) {
  const wasSending = item.state === "sending";
  if (item.state === "waiting" || wasSending) {
    item.state = "stopped";
    item.request?.abort();
    pump();
  } else {
    const answer = await fetch(`/v1/jobs/${item.job}/cancel`, { method: "POST" }).catch(() => null);
    if (answer?.ok) item.told = { ...item.told, cancelling: true };
  }
  draw();
  ask();
}

async function again(item) {
  if (item.file) {
    Object.assign(item, { state: "waiting", job: null, told: null, tried: false, sent: 0 });
    pump();
    return;
  }
  const answer = await fetch(`/v1/jobs/${item.job}/retry`, { method: "POST" }).catch(() => null);
  if (answer?.ok) item.told = null;
  else if (answer) Object.assign(item.told, { can_retry: false, next_step: "Choose it again." });
  draw();
  ask();
}

part("stop").addEventListener("click", () => items.filter(isOpen).forEach(stop));
part("clear").addEventListener("click", () => {
  const newest = items.map((item) => item.told?.created_at ?? "").sort().pop() ?? "";
  try {
    localStorage.setItem(CLEARED, newest);
  } catch {
    // They come back with the next load.
  }
  items = items.filter(isOpen);
  draw();
});

// --- showing -----------------------------------------------------------------------------------

function element(name, className = "", text = "") {
  const one = document.createElement(name);
  one.className = className;
  one.textContent = text;
  return one;
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function announce(text) {
  part("said").textContent = text;
}

const PHASES = { parse: "Reading", ocr: "Recognising text", convert: "Converting", embed: "Embedding" };
const UNITS = { ocr: "page", embed: "passage" };

/** How an item stands, in words, and between 0 and 1 (null: not known). */
function standing(item) {
  const told = item.told;
  if (item.state === "waiting") return [paused ? "Waiting" : "Waits to be sent", 0];
  if (item.state === "sending") return [`Sending, ${size(item.sent)} of ${size(item.bytes)}`, item.bytes ? item.sent / item.bytes : null];
  if (item.state === "failed") return ["Not uploaded", null];
  if (item.state === "lost") return ["Lost on the way", null];
  if (item.state === "stopped") return ["Stopped", null];
  if (!told || (told.state === "queued" && !told.phase)) return ["On the server, waits for its turn", 0];
  if (told.state === "cancelled") return ["Stopped", null];
  if (told.cancelling && !isEnded(item)) return ["Stopping", null];
  if (!isEnded(item)) {
    const phase = PHASES[told.phase] ?? "Reading";
    if (!told.phase_total) return [told.phase_done && UNITS[told.phase] ? `${phase}, ${number(told.phase_done)} ${UNITS[told.phase]}s so far` : phase, null];
    return [`${phase}, ${UNITS[told.phase] ?? ""} ${number(told.phase_done)} of ${number(told.phase_total)}`.replace(/ {2,}/g, " "), told.phase_done / told.phase_total];
  }
  if (told.is_unchanged) return ["Was there already, exactly so", 1];
  if (isTaken(item)) {
    const many = told.document_count > 1 ? ` as ${number(told.document_count)} documents` : "";
    return [told.outcome === "indexed" ? `Indexed${many}` : `Indexed${many}, with warnings`, 1];
  }
  if (told.state === "failed") return ["Failed", null];
  return [told.outcome ? `Not indexed: ${told.reason || told.outcome}` : "Done; its document is gone since", null];
}

function row(item) {
  if (item.row) return item.row;
  const line = element("li", "upload");
  const what = element("span", "what");
  const name = element("bdi", "", item.path);
  name.dir = "auto";
  what.append(name);
  what.title = item.path;
  const weight = element("small", "", item.bytes ? size(item.bytes) : "");
  what.append(weight);
  const parts = { how: element("span", "how"), why: element("p", "why"), acts: element("span", "do"), bar: element("progress") };
  parts.bar.setAttribute("aria-label", item.path);
  line.append(what, parts.how, parts.acts, parts.bar, parts.why);
  item.row = Object.assign(line, { parts });
  return line;
}

function act(item) {
  if (isOpen(item)) return item.told?.cancelling ? "" : "Stop";
  if (isTaken(item)) return item.told.document_ids.length ? "Read" : "";
  if (item.file || item.told?.can_retry) return "Try again";
  return isBad(item) || item.state === "stopped" || item.told?.state === "cancelled" ? "Choose it again" : "";
}

const ACTS = { Stop: stop, "Try again": again, "Choose it again": (item) => (item.path.includes("/") ? folder : files).click() };

function drawRow(item) {
  const line = row(item);
  const { how, why, acts, bar } = line.parts;
  const [words, share] = standing(item);
  set(how, words);
  const details = isEnded(item) && !(item.told.outcome === "indexed") ? [item.told.detail || item.told.warnings.join(" "), item.told.state === "cancelled" ? "" : item.told.next_step] : [item.why, item.step];
  set(why, details.filter(Boolean).join(" "));
  line.className = `upload${isBad(item) ? " bad-one" : ""}${item.mild || isTaken(item) || item.told?.state === "cancelled" ? " mild" : ""}`;
  bar.hidden = !isOpen(item);
  if (share === null) bar.removeAttribute("value");
  else bar.value = share;
  const wanted = act(item);
  if (acts.textContent !== wanted) {
    const had = acts.contains(document.activeElement);
    acts.replaceChildren();
    if (wanted) {
      const button = element(wanted === "Read" ? "a" : "button", wanted === "Read" ? "" : "plain", wanted);
      button.setAttribute("aria-label", `${wanted}: ${item.path}`);
      if (wanted === "Read") button.href = `/documents/${item.told.document_ids[0]}`;
      else {
        button.type = "button";
        button.addEventListener("click", () => ACTS[wanted](item));
      }
      acts.append(button);
      if (had) button.focus();
    }
  }
}

/** What is shown, those that need somebody first; of thousands these, those under way, and some. */
function chosen() {
  const group = (item) => (isBad(item) ? 0 : item.past && isEnded(item) ? 2 : 1);
  const sorted = items.toSorted((a, b) => group(a) - group(b));
  if (items.length <= ROWS) return sorted;
  const rank = (item) => (isBad(item) ? 0 : item.state === "sending" || item.told?.phase ? 1 : isOpen(item) ? 2 : 3);
  const some = new Set(items.map((item, place) => [rank(item), rank(item) === 3 ? -place : place, item]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, ROWS).map((each) => each[2]));
  return sorted.filter((item) => some.has(item));
}

function drawTrouble() {
  const place = part("trouble");
  const text = paused ? `${paused.why} ${paused.step}` : "";
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren();
  if (!paused) return;
  const notice = element("p", "notice warn", `${text} `);
  if (!paused.self) {
    const button = element("button", "plain", "Go on");
    button.type = "button";
    button.addEventListener("click", goOn);
    notice.append(button);
  }
  place.append(notice);
}

function drawNow() {
  drawing = false;
  panel.hidden = !items.length;
  const open = items.filter(isOpen).length;
  const bad = items.filter(isBad).length;
  const done = items.length - open;
  const share = items.reduce((sum, item) => sum + (isOpen(item) ? (item.state === "sent" ? 0.5 + 0.4 * (standing(item)[1] ?? 0) : item.bytes ? (0.5 * item.sent) / item.bytes : 0) : 1), 0);
  set(part("sum"), `${number(done)} of ${number(items.length)} done${bad ? `, ${number(bad)} need${bad === 1 ? "s" : ""} you` : ""}`);
  part("all").max = Math.max(items.length, 1);
  part("all").value = share;
  part("stop").hidden = open < 1;
  part("clear").hidden = open === items.length;
  drawTrouble();
  const shown = chosen();
  shown.forEach(drawRow);
  const list = part("list");
  const rows = shown.map((item) => item.row);
  for (const line of [...list.children]) if (!rows.includes(line)) line.remove();
  rows.forEach((line, place) => list.children[place] !== line && list.insertBefore(line, list.children[place] ?? null));
  const more = items.length - shown.length;
  part("more").hidden = !more;
  set(part("more"), `and ${number(more)} more`);
}

function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(drawNow, 100);
}

find();
