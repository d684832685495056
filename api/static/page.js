// Keys for the search page: "/" goes to the query, j and k walk through the hits, Esc leaves the
// query; and thumbs that do not load the page anew. Without it everything still works.

const query = document.getElementById("q");
const titles = [...document.querySelectorAll(".hit h3 a")];

function isTyping(element) {
  return element instanceof HTMLElement && (element.isContentEditable || /^(INPUT|TEXTAREA|SELECT)$/.test(element.tagName));
}

function walk(step) {
  const here = titles.findIndex((title) => title.closest(".hit").contains(document.activeElement));
  const next = here < 0 ? (step > 0 ? 0 : titles.length - 1) : here + step;
  const title = titles[Math.min(Math.max(next, 0), titles.length - 1)];
  title.focus({ preventScroll: true });
  title.closest(".hit").scrollIntoView({ block: "nearest" });
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.isComposing) return;
  if (isTyping(event.target)) {
    if (event.key === "Escape" && event.target === query) query.blur();
    return;
  }
  if (event.key === "/" && query) {
    event.preventDefault();
    query.focus();
    query.select();
  } else if ((event.key === "j" || event.key === "k") && titles.length) {
    event.preventDefault();
    walk(event.key === "j" ? 1 : -1);
  }
});

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
