// The search page: "/" goes to the query, j and k walk through the hits, Esc leaves the query; and
// thumbs that do not load the page anew. Without it everything still works.

import { bind } from "./keys.js";

const query = document.getElementById("q");

function walk(step) {
  const titles = [...document.querySelectorAll(".hit h3 a")];
  if (!titles.length) return;
  const here = titles.findIndex((title) => title.closest(".hit").contains(document.activeElement));
  const next = here < 0 ? (step > 0 ? 0 : titles.length - 1) : here + step;
  const title = titles[Math.min(Math.max(next, 0), titles.length - 1)];
  title.focus({ preventScroll: true });
  title.closest(".hit").scrollIntoView({ block: "nearest" });
}

bind("/", "to the query", () => {
  query.focus();
  query.select();
});
bind("j", "to the next result", () => walk(1));
bind("k", "to the result before", () => walk(-1));
bind("Escape", "out of the query", () => query.blur(), { typing: query });

async function judge(form) {
  const pressed = form.querySelector("button").getAttribute("aria-pressed") === "true";
  const say = Object.fromEntries(new FormData(form));
  const thumbs = [...form.closest(".thumbs").querySelectorAll("button")];
  const number = (name) => (name in say ? Number(say[name]) : null);
  const asked = pressed
    ? fetch(`/v1/judgements?${new URLSearchParams({ query: say.q, document_id: say.document_id })}`, { method: "DELETE" })
    : fetch("/v1/judgements", {
        method: "POST",
        headers: { "content-type": "application/json" },
        body: JSON.stringify({ query: say.q, document_id: say.document_id, grade: thumbs.indexOf(form.querySelector("button")) === 0 ? 1 : 0, start_char: number("start"), end_char: number("end") }),
      });
  const answer = await asked;
  if (!answer.ok) throw new Error(answer.statusText);
  thumbs.forEach((thumb, place) => {
    const is = !pressed && thumb.form === form;
    thumb.setAttribute("aria-pressed", String(is));
    // What it sends without script: the grade, or nothing to take it back.
    if (is) thumb.removeAttribute("name");
    else thumb.name = "grade";
    thumb.value = place === 0 ? "1" : "0";
  });
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.closest(".thumbs") || form.dataset.plain) return;
  event.preventDefault();
  judge(form).catch(() => {
    form.dataset.plain = "yes"; // the server's own page says what is wrong
    form.requestSubmit(form.querySelector("button"));
  });
});
