// Uploads: files and folders dropped on the library or chosen, sent a few at a time, followed to
// their outcome. What the server has is asked of it, so a reload finds it again; what it had not
// got whole is remembered by name only, and said to be lost. Beside them: folders and collections
// that the server reads. Each subject is a module of its own, upload_*.js; this one joins them.

import { stop } from "./upload_act.js";
import { findJobs } from "./upload_follow.js";
import { clear, lost } from "./upload_kept.js";
import { changed, isOpen, list, onChange, part } from "./upload_list.js";
import { draw } from "./upload_rows.js";

onChange(draw);

part("stop").addEventListener("click", () => stop(list.items));
part("clear").addEventListener("click", () => {
  clear();
  list.items = list.items.filter(isOpen);
  changed();
});
document.addEventListener("longleaf:jobs", findJobs);

lost();
findJobs();
