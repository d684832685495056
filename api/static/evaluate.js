// The evaluation page: shows how far an evaluation is without loading anew, takes judgements back
// and puts them back, and walks through queries. Without it everything still works.

import { ask, askPage } from "./ask.js";
import { bind, neighbour } from "./keys.js";
import { localise, number as said } from "./localise.js";
import { attempt, leave } from "./trouble.js";

const EVERY_MS = 1000;
const MOST_MS = 15000;

const tell = (words) => (document.getElementById("told").textContent = words);

/** A page of ours as the server shows it now. */
async function pageAt(address) {
  const page = await askPage(address);
  localise(page);
  return page;
}

async function renew(address) {
  const page = await pageAt(address);
  document.getElementById("main").replaceChildren(...page.getElementById("main").childNodes);
  return document.getElementById("result-title");
}

async function follow() {
  const id = document.querySelector("[data-running]").dataset.running;
  const address = `/evaluate?evaluation=${encodeURIComponent(id.split("/").pop())}`;
  const hint = document.getElementById("hint");
  const usual = hint.textContent;
  for (let wait = EVERY_MS; ; ) {
    await new Promise((done) => setTimeout(done, wait));
    if (document.hidden) await new Promise((seen) => document.addEventListener("visibilitychange", seen, { once: true }));
    try {
      const answer = await fetch(id);
      if (answer.status === 404) return location.assign(address); // the server was started anew
      if (!answer.ok) throw new Error(answer.statusText);
      const now = await answer.json();
      if (now.state !== "running") {
        const title = await renew(address);
        history.replaceState(null, "", address);
        tell(title.textContent);
        title.focus({ preventScroll: true });
        return;
      }
      wait = EVERY_MS;
      hint.textContent = usual;
      document.querySelector(".running progress").value = now.queries_done;
      document.getElementById("done").textContent = said(now.queries_done);
    } catch {
      wait = Math.min(wait * 2, MOST_MS);
      hint.textContent = "The server does not answer. What runs there goes on; this page asks again.";
    }
  }
}

/** Take a judgement back, or put it back: the button does the other thing next. */
async function turn(form) {
  const { query, document_id, judge } = Object.fromEntries(new FormData(form));
  const item = form.closest("li");
  const isGone = item.classList.contains("gone");
  const { grade, start, end } = form.dataset;
  const number = (text) => (text === undefined ? null : Number(text));
  const about = { query, document_id, judge };
  const kept = { ...about, grade: Number(grade), start_char: number(start), end_char: number(end) };
  if (isGone) await ask("/v1/judgements", {}, { method: "POST", body: kept });
  else await ask("/v1/judgements", about, { method: "DELETE" });
  item.classList.toggle("gone");
  const button = form.querySelector("button");
  const [now, then] = isGone ? ["Put back", "Take back"] : ["Take back", "Put back"];
  button.textContent = then;
  button.setAttribute("aria-label", button.getAttribute("aria-label").replace(now, then));
  tell(isGone ? "The judgement was put back" : "The judgement was taken back");
}

async function restock() {
  const page = await pageAt("/evaluate");
  document.getElementById("stock").replaceWith(page.getElementById("stock"));
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (!form.closest("#main")) return; // logging out is no business of ours
  event.preventDefault();
  if (!form.matches(".take-back")) return leave(() => form.submit());
  attempt(async () => {
    await turn(form);
    attempt(restock); // by itself: what was turned must not be turned again
  });
});

const walk = (step) => neighbour([...document.querySelectorAll(".queries li > a")], step)?.focus();

bind("j", "to the next query", () => walk(1));
bind("k", "to the query before", () => walk(-1));
bind("/", "to the search", () => location.assign("/"));

if (document.querySelector("[data-running]")) follow();
