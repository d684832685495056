// The keys of a page: each room binds its own, and "?" shows them all.

const bound = [];

/** Run `run` when `key` is pressed and nobody is typing; `typing`: in that field only. */
export function bind(key, what, run, { typing = null } = {}) {
  bound.push({ key, what, run, typing });
}

/** Of `elements` the one behind (`step` 1) or before (-1) that which `isHere`; at first the first, or the last. */
export function neighbour(elements, step, isHere = (each) => each === document.activeElement) {
  const here = elements.findIndex(isHere);
  const next = here < 0 ? (step > 0 ? 0 : elements.length - 1) : here + step;
  return elements[Math.min(Math.max(next, 0), elements.length - 1)];
}

const FIELDS = "textarea, select, input:not([type=checkbox], [type=radio], [type=button], [type=submit], [type=file])";

export function isTyping(element) {
  return element instanceof HTMLElement && (element.isContentEditable || element.matches(FIELDS));
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing || event.defaultPrevented) return;
  if (document.querySelector("dialog[open]")) return; // which has its own keys
  const field = isTyping(event.target) ? event.target : null;
  const found = bound.find((each) => each.key === event.key && each.typing === field);
  if (!found) {
    if (event.key === "Escape") field?.blur();
    return;
  }
  event.preventDefault();
  found.run(event);
});

function element(name, text = "", attributes = {}) {
  const made = document.createElement(name);
  made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

bind("?", "these keys", () => {
  const dialog = element("dialog", "", { class: "keys", "aria-labelledby": "keys-title" });
  const list = element("dl");
  for (const { key, what } of bound) {
    const row = element("div");
    const name = element("dt");
    name.append(element("kbd", key === "Escape" ? "Esc" : key));
    row.append(name, element("dd", what));
    list.append(row);
  }
  const close = element("button", "Close", { type: "button" });
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("close", () => dialog.remove());
  dialog.append(element("h2", "Keys", { id: "keys-title" }), list, close);
  document.body.append(dialog);
  dialog.showModal();
});
