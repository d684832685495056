// Dates and numbers in the reader's language. The server writes them plainly: a date as ISO 8601 in
// <time datetime>, a number in <data class="number" value>.

const locale = navigator.language;
const numbers = new Intl.NumberFormat(locale);

export function number(value) {
  return numbers.format(value);
}

function date(iso) {
  const parts = iso.slice(0, 10).split("-");
  const shown = { year: "numeric", timeZone: "UTC" };
  if (parts.length > 1) shown.month = parts.length > 2 ? "short" : "long";
  if (parts.length > 2) shown.day = "numeric";
  const moment = new Date(`${parts[0]}-${parts[1] ?? "01"}-${parts[2] ?? "01"}T00:00:00Z`);
  return Number.isNaN(moment.getTime()) ? iso : new Intl.DateTimeFormat(locale, shown).format(moment);
}

/** Rewrite what `root` holds. */
export function localise(root) {
  for (const each of root.querySelectorAll("time[datetime]")) each.textContent = date(each.dateTime);
  for (const each of root.querySelectorAll("data.number")) each.textContent = number(Number(each.value));
}
