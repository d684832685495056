// The list of uploads: a row each, the ones that need somebody first, and how far all of them are.

import { number, size } from "./localise.js";
import { again, stop } from "./upload_act.js";
import { goOn, hindrance } from "./upload_hold.js";
import { isBad, isEnded, isMany, isOpen, isTaken, list, part } from "./upload_list.js";
import { files, folder } from "./upload_take.js";
import { standing } from "./upload_words.js";

const ROWS = 200;
const panel = document.getElementById("uploads");

let drawing = false;

function element(name, className = "", text = "") {
  const one = document.createElement(name);
  one.className = className;
  one.textContent = text;
  return one;
}

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
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
  const parts = { how: element("span", "how"), why: element("p", "why"), acts: element("span", "do"), bar: element("progress"), left: element("div", "left") };
  parts.bar.setAttribute("aria-label", item.path);
  line.append(what, parts.how, parts.acts, parts.bar, parts.why, parts.left);
  item.row = Object.assign(line, { parts });
  return line;
}

function act(item) {
  if (isOpen(item)) return item.told?.cancelling ? "" : "Stop";
  if (isTaken(item)) return item.told.document_ids[0] ? "Read" : "";
  if (item.file || item.told?.can_retry) return "Try again";
  if (isMany(item)) return "";
  return isBad(item) || item.state === "stopped" || item.told?.state === "cancelled" ? "Choose it again" : "";
}

const ACTS = { Stop: (item) => stop([item]), "Try again": again, "Choose it again": (item) => (item.path.includes("/") ? folder : files).click() };

/** Files of a job of many that did not go in, on demand, and the way to all of them. */
function drawLeft(item) {
  const place = item.row.parts.left;
  const { job, left, left_count } = item.told;
  const text = JSON.stringify([left_count, left]);
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  if (!place.firstChild) {
    const details = element("details");
    const link = element("a", "", "All its files");
    link.href = `/library/uploads/${job}`;
    link.setAttribute("aria-label", `All files of ${item.path}`);
    details.append(element("summary"), element("ul"));
    place.append(details, link);
  }
  const [details] = place.children;
  details.hidden = !left_count;
  set(details.firstChild, `${number(left_count)} did not go in or ${left_count === 1 ? "was left as it is" : "were left as they are"}`);
  details.lastChild.replaceChildren(...left.map((each) => {
    const line = element("li");
    const name = element("bdi", "", each.key);
    name.dir = "auto";
    line.append(name, `: ${[each.reason, each.detail, each.next_step].filter(Boolean).join(". ").replaceAll("..", ".")}`);
    return line;
  }));
}

function drawRow(item) {
  const line = row(item);
  const { how, why, acts, bar } = line.parts;
  const [words, share] = standing(item);
  set(how, words);
  if (isMany(item)) drawLeft(item);
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
  const sorted = list.items.toSorted((a, b) => group(a) - group(b));
  if (list.items.length <= ROWS) return sorted;
  const rank = (item) => (isBad(item) ? 0 : item.state === "sending" || item.told?.phase ? 1 : isOpen(item) ? 2 : 3);
  const some = new Set(list.items.map((item, place) => [rank(item), rank(item) === 3 ? -place : place, item]).sort((a, b) => a[0] - b[0] || a[1] - b[1]).slice(0, ROWS).map((each) => each[2]));
  return sorted.filter((item) => some.has(item));
}

function drawTrouble() {
  const place = part("trouble");
  const text = hindrance.now ? `${hindrance.now.why} ${hindrance.now.step}` : "";
  if (place.dataset.text === text) return;
  place.dataset.text = text;
  place.replaceChildren();
  if (!hindrance.now) return;
  const notice = element("p", "notice warn", `${text} `);
  if (!hindrance.now.self) {
    const button = element("button", "plain", "Go on");
    button.type = "button";
    button.addEventListener("click", goOn);
    notice.append(button);
  }
  place.append(notice);
}

function drawNow() {
  drawing = false;
  const { items } = list;
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
  const place = part("list");
  const rows = shown.map((item) => item.row);
  for (const line of [...place.children]) if (!rows.includes(line)) line.remove();
  rows.forEach((line, at) => place.children[at] !== line && place.insertBefore(line, place.children[at] ?? null));
  const more = items.length - shown.length;
  part("more").hidden = !more;
  set(part("more"), `and ${number(more)} more`);
}

export function draw() {
  if (drawing) return;
  drawing = true;
  setTimeout(drawNow, 100);
}
