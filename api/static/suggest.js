// Suggestions under the query: one's own past queries, which only this browser keeps, and titles of
// documents. A combobox as the ARIA Authoring Practices describe it (list, manual selection).

const KEPT = "longleaf.queries";
const MOST = 50;
const PAST_SHOWN = 3;
const TITLES_SHOWN = 5;
const PAUSE_MS = 150;

function past() {
  try {
    const read = JSON.parse(localStorage.getItem(KEPT) ?? "[]");
    return Array.isArray(read) ? read.filter((each) => typeof each === "string") : [];
  } catch {
    return [];
  }
}

function keep(queries) {
  try {
    if (queries.length) localStorage.setItem(KEPT, JSON.stringify(queries.slice(0, MOST)));
    else localStorage.removeItem(KEPT);
  } catch {
    // A browser that keeps nothing suggests nothing of the past.
  }
}

/** Keep a query that was meant, for suggestions. */
export function remember(query) {
  const said = query.trim();
  if (said) keep([said, ...past().filter((each) => each !== said)]);
}

function element(name, attributes = {}, text = "") {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text;
  return made;
}

/** Make `input` a combobox; `search` searches for what stands in it. */
export function suggest(input, search) {
  const box = input.parentElement;
  const popup = element("div", { class: "suggestions" });
  const list = element("ul", { role: "listbox", id: "suggestions", "aria-label": "Suggestions" });
  const clear = element("button", { type: "button", class: "clear" }, "Forget past searches");
  popup.append(list, clear);
  popup.hidden = true;
  box.append(popup);
  let options = [];
  let active = -1;
  let asked = null;
  let pause = 0;

  for (const [key, value] of Object.entries({ role: "combobox", "aria-autocomplete": "list", "aria-controls": "suggestions", "aria-expanded": "false" })) input.setAttribute(key, value);

  function close() {
    clearTimeout(pause);
    asked?.abort();
    popup.hidden = true;
    active = -1;
    input.setAttribute("aria-expanded", "false");
    input.removeAttribute("aria-activedescendant");
  }

  function mark(place) {
    active = place;
    options.forEach((option, at) => option.row.setAttribute("aria-selected", String(at === active)));
    if (active < 0) return input.removeAttribute("aria-activedescendant");
    input.setAttribute("aria-activedescendant", options[active].row.id);
    options[active].row.scrollIntoView({ block: "nearest" });
  }

  function take(option) {
    close();
    if (option.url) return location.assign(option.url);
    input.value = option.text;
    search();
  }

  function open(titles) {
    const typed = input.value.trim().toLowerCase();
    const mine = past().filter((each) => each.toLowerCase() !== typed && each.toLowerCase().includes(typed)).slice(0, PAST_SHOWN);
    options = [
      ...mine.map((text) => ({ text, note: "searched before" })),
      ...titles.map(({ title, collection, url }) => ({ text: title, note: collection, url })),
    ];
    list.replaceChildren(
      ...options.map((option, place) => {
        option.row = element("li", { role: "option", id: `suggestion-${place}`, "aria-selected": "false", class: option.url ? "title" : "past" });
        option.row.append(element("span", { dir: "auto" }, option.text), element("small", {}, option.note));
        option.row.addEventListener("pointerdown", (event) => event.preventDefault()); // the focus stays
        option.row.addEventListener("click", () => take(option));
        return option.row;
      }),
    );
    clear.hidden = !mine.length;
    if (!options.length) return close();
    popup.hidden = false;
    input.setAttribute("aria-expanded", "true");
    mark(-1);
  }

  async function ask() {
    asked?.abort();
    asked = new AbortController();
    const typed = input.value.trim();
    if (!typed) return open([]);
    const chosen = [...document.querySelectorAll('input[name="collection"]:checked')].map((each) => ["collection", each.value]);
    const about = new URLSearchParams([["q", typed.slice(0, 200)], ["limit", String(TITLES_SHOWN)], ...chosen]);
    try {
      const answer = await fetch(`/v1/suggest?${about}`, { signal: asked.signal });
      const titles = answer.ok ? (await answer.json()).suggestions : [];
      if (document.activeElement === input) open(titles);
    } catch {
      // Aborted, or no answer: the search itself says what is wrong.
    }
  }

  input.addEventListener("input", (event) => {
    clearTimeout(pause);
    if (!event.isComposing) pause = setTimeout(ask, PAUSE_MS);
  });
  input.addEventListener("keydown", (event) => {
    if (event.isComposing) return;
    const is = !popup.hidden;
    if (event.key === "ArrowDown" || event.key === "ArrowUp") {
      event.preventDefault();
      if (!is) return ask();
      const step = event.key === "ArrowDown" ? 1 : -1;
      const next = active + step;
      mark(next < -1 ? options.length - 1 : next >= options.length ? -1 : next);
    } else if (event.key === "Enter") {
      if (is && active >= 0) {
        event.preventDefault();
        take(options[active]);
      } else close();
    } else if (event.key === "Escape" && is) {
      event.preventDefault();
      close();
    }
  });
  input.addEventListener("click", () => input.value.trim() || ask());
  box.addEventListener("focusout", (event) => box.contains(event.relatedTarget) || close());
  clear.addEventListener("click", () => {
    keep([]);
    input.focus();
    close();
  });
}
