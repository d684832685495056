// Files and folders chosen, or dropped anywhere on the library. File names are text, never markup.

import { bind } from "./keys.js";
import { number, size } from "./localise.js";
import { announce, changed, isBad, list } from "./upload_list.js";
import { pump } from "./upload_send.js";

const zone = document.getElementById("drop");
const into = document.getElementById("into");
const mostBytes = Number(zone.dataset.maxBytes);

/** Take files: [{file, path}]. Names that begin with a dot are left out, as when a folder is walked. */
function take(found) {
  const collection = into.value.trim();
  const shown = found.filter(({ path }) => !path.split("/").some((name) => name.startsWith(".")));
  for (const { file, path } of shown) {
    list.items = list.items.filter((item) => item.file || item.path !== path || !isBad(item));
    const item = { path, bytes: file.size, collection, file, state: "waiting", sent: 0 };
    if (file.size > mostBytes) {
      Object.assign(item, { state: "failed", why: `Too large: ${size(file.size)}; ${size(mostBytes)} are taken.`, step: "Split it, raise server.max_upload_bytes (and indexer.max_file_bytes), or use longleaf index on the server." });
    }
    list.items.push(item);
  }
  const hidden = found.length - shown.length;
  announce(`${number(shown.length)} file${shown.length === 1 ? "" : "s"} to upload${hidden ? `; ${number(hidden)} hidden left out` : ""}.`);
  changed();
  pump();
}

/** Every file below an entry that was dropped, with its path. */
async function walk(entry, found) {
  const path = entry.fullPath.replace(/^\//, "");
  if (entry.isFile) {
    try {
      found.push({ file: await new Promise((done, failed) => entry.file(done, failed)), path });
    } catch {
      list.items.push({ path, bytes: 0, collection: into.value, file: null, state: "failed", why: "This browser cannot read the file.", step: "Look whether it can be opened, then choose it again." });
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

export const files = document.getElementById("file");
files.multiple = true;
files.tabIndex = -1;
export const folder = document.createElement("input");
Object.assign(folder, { type: "file", webkitdirectory: true, id: "folder", className: "native", tabIndex: -1 });
folder.setAttribute("aria-label", "Folder");
files.after(folder);
for (const input of [files, folder]) input.addEventListener("change", () => takeChosen(input));
zone.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
document.getElementById("choose-files").addEventListener("click", () => files.click());
document.getElementById("choose-folder").addEventListener("click", () => folder.click());
bind("u", "upload files", () => files.click());
