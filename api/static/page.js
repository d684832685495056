// Keys for the search page: "/" goes to the query, j and k walk through the hits, Esc leaves the
// query. Without it everything still works.

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
