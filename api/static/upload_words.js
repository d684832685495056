// How an upload stands, in words.

import { number, size } from "./localise.js";
import { hindrance } from "./upload_hold.js";
import { endedFiles, isEnded, isMany, isTaken } from "./upload_list.js";

const PHASES = { parse: "Reading", ocr: "Recognising text", convert: "Converting", embed: "Embedding" };
const UNITS = { ocr: "page", embed: "passage" };

const ENDS = { indexed: "indexed", "indexed with warnings": "indexed with warnings", unchanged: "left as they were", rejected: "not indexed", "no text found (needs OCR)": "without text", removed: "removed", "interrupted (run again)": "interrupted" };

function standingOfMany(told) {
  const done = endedFiles(told);
  const all = told.total_files ?? 0;
  const share = all ? Math.min(done / all, 1) : null;
  const files = (count) => `${number(count)} file${count === 1 ? "" : "s"}`;
  if (told.state === "queued" || told.state === "running") return [all ? `${number(done)} of ${files(all)}` : `${files(done)} so far`, share];
  const ends = Object.entries(ENDS).filter(([name]) => told.counts[name]).map(([name, words]) => `${number(told.counts[name])} ${words}`);
  return [[told.state === "failed" ? "Failed" : "Done", ends.join(", ") || "no file"].join(": "), 1];
}

/** How an item stands, in words, and between 0 and 1 (null: not known). */
export function standing(item) {
  const told = item.told;
  if (item.state === "waiting") return [hindrance.now ? "Waiting" : "Waits to be sent", 0];
  if (item.state === "sending") return [`Sending, ${size(item.sent)} of ${size(item.bytes)}`, item.bytes ? item.sent / item.bytes : null];
  if (item.state === "failed") return ["Not uploaded", null];
  if (item.state === "lost") return ["Lost on the way", null];
  if (item.state === "stopped") return ["Stopped", null];
  if (!told || (told.state === "queued" && !told.phase)) return ["On the server, waits for its turn", 0];
  if (told.state === "cancelled") return ["Stopped", null];
  if (told.cancelling && !isEnded(item)) return ["Stopping", null];
  if (isMany(item)) return standingOfMany(told);
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
