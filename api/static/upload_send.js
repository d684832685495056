// Sending files a few at a time, and what is done about what goes wrong on the way.

import { ask } from "./upload_follow.js";
import { hindrance, hold, OFFLINE, onGoingOn } from "./upload_hold.js";
import { remember } from "./upload_kept.js";
import { announce, changed, isOnItsWay, list } from "./upload_list.js";

const AT_ONCE = 3;

const made = new Set();

/** The first files may come before their collection. */
async function makeCollection(name) {
  if (document.getElementById("into").tagName === "SELECT" || made.has(name)) return null;
  const answer = await fetch("/v1/collections", { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify({ name }) });
  if (!answer.ok && answer.status !== 409) return answer.json();
  made.add(name);
  history.replaceState(null, "", `/library?${new URLSearchParams({ collection: name })}`);
  return null;
}

let starting = false;

export async function pump() {
  remember();
  if (hindrance.now || starting) return;
  const waiting = list.items.filter((item) => item.state === "waiting");
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
  while (!hindrance.now && list.items.filter((item) => item.state === "sending").length < AT_ONCE) {
    const next = list.items.find((item) => item.state === "waiting");
    if (!next) break;
    send(next);
  }
  changed();
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
    changed();
  });
  request.addEventListener("load", () => answered(item, request));
  request.addEventListener("error", () => broken(item));
  request.addEventListener("abort", () => pump());
  request.open("POST", "/v1/documents?wait_seconds=0");
  request.setRequestHeader("accept", "application/json");
  request.send(form);
}

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

onGoingOn(pump);

addEventListener("beforeunload", (event) => {
  if (list.items.some(isOnItsWay)) event.preventDefault();
});
