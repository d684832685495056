// The library's uploads as this page knows them, and what can be said of one. No requests, no rows.
//
// An item: {path, bytes, collection, file, state, sent, job, told, why, step, mild, row}.
// state: waiting, sending, sent (the server has it; `told` is what it says), failed, lost, stopped.
// What the server tells may also be a job of many files: a folder, a collection read again.

export const list = { items: [] };

export const part = (name) => document.getElementById(`uploads-${name}`);

export const isOpen = (item) => item.state === "waiting" || item.state === "sending" || (item.state === "sent" && !isEnded(item));
export const isEnded = (item) => item.told && !["queued", "running"].includes(item.told.state);
export const isMany = (item) => item.told && item.told.kind !== "upload";
export const isTaken = (item) => item.told && went(item.told);
export const isBad = (item) => item.state === "failed" || item.state === "lost" || (isEnded(item) && item.told.state !== "cancelled" && !isTaken(item) && (item.told.outcome !== null || item.told.state === "failed" || isMany(item)));
export const isOnItsWay = (item) => item.file && (item.state === "waiting" || item.state === "sending");

/** Whether all of what the server tells of went in. */
export function went(told) {
  if (told.kind === "upload") return /^indexed/.test(told.outcome ?? "");
  return told.state === "done" && !(told.counts.rejected || told.counts["no text found (needs OCR)"]);
}

/** How many files of a job of many have ended. */
export const endedFiles = ({ counts }) => Object.entries(counts).reduce((sum, [name, count]) => sum + (name === "passages" ? 0 : count), 0);

let draw = () => {};

/** Call `show` after `changed`. */
export function onChange(show) {
  draw = show;
}

export const changed = () => draw();

/** Say it to who does not see the list. */
export function announce(text) {
  part("said").textContent = text;
}
