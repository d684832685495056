// Numbers, shares, sizes and dates in the reader's language: the server writes <data value> and <time
// datetime> with plain text, which stays where there is no script. Elsewhere, as in a chart, what has
// data-number and data-digits is a number with so many decimals, with data-signed also with a plus.

const languages = navigator.languages?.length ? navigator.languages : undefined;
const numbers = new Intl.NumberFormat(languages);
const shares = new Intl.NumberFormat(languages, { style: "percent" });
const units = ["byte", "kilobyte", "megabyte", "gigabyte", "terabyte"];
const days = new Intl.DateTimeFormat(languages, { dateStyle: "medium" });
const moments = new Intl.DateTimeFormat(languages, { dateStyle: "full", timeStyle: "short" });
const brief = new Intl.DateTimeFormat(languages, { dateStyle: "medium", timeStyle: "short" });
const plainDays = new Intl.DateTimeFormat(languages, { dateStyle: "medium", timeZone: "UTC" });
const months = new Intl.DateTimeFormat(languages, { year: "numeric", month: "long", timeZone: "UTC" });

export const number = (value) => numbers.format(value);

/** Bytes in powers of 1,000, as units are named. */
export function size(bytes) {
  const power = Math.min(units.length - 1, Math.floor(Math.log10(Math.max(bytes, 1)) / 3));
  const value = bytes / 1000 ** power;
  const digits = power && value < 100 ? 1 : 0;
  return new Intl.NumberFormat(languages, { style: "unit", unit: units[power], unitDisplay: power ? "short" : "long", maximumFractionDigits: digits }).format(value);
}

/** An ISO date as exact as it is: a year, a month, a day, or a moment as the day it was here. */
export function date(iso) {
  if (/^\d{4}-\d{2}$/.test(iso)) return months.format(new Date(`${iso}-01T00:00:00Z`));
  if (/^\d{4}-\d{2}-\d{2}$/.test(iso)) return plainDays.format(new Date(`${iso}T00:00:00Z`));
  return /^\d{4}$/.test(iso) ? iso : days.format(new Date(iso));
}

/** Say what is in `root` in the reader's language; what is no number or date stays as it is. */
export function localise(root = document) {
  for (const each of root.querySelectorAll("data[value]")) {
    const value = Number(each.value);
    if (!each.value || Number.isNaN(value)) continue;
    const say = each.classList.contains("size") ? size : each.classList.contains("share") ? shares.format : number;
    const said = say(value);
    if (each.textContent !== said) each.textContent = said;
  }
  for (const each of root.querySelectorAll("[data-digits]")) {
    const digits = Number(each.dataset.digits);
    const signDisplay = "signed" in each.dataset ? "exceptZero" : "auto";
    each.textContent = Number(each.dataset.number).toLocaleString(languages, { minimumFractionDigits: digits, maximumFractionDigits: digits, signDisplay });
  }
  for (const each of root.querySelectorAll("time[datetime]")) {
    const iso = each.dateTime;
    if (Number.isNaN(Date.parse(iso))) continue;
    const said = each.classList.contains("moment") ? brief.format(new Date(iso)) : date(iso);
    if (each.textContent !== said) each.textContent = said;
    if (iso.includes("T")) each.title = moments.format(new Date(iso));
  }
}

localise();
