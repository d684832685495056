// The pages of a PDF as they look, with the text over them to select and what was found marked. Only
// the few that are on the screen exist; each has its place from the start, because the server tells
// every page's size, so nothing jumps however many there are.

import { ask, askJSON } from "./ask.js";
import { number as said } from "./localise.js";
import { lastAtMost } from "./offsets.js";

const GAP = 16;
const SCALES = [0.5, 1, 1.5, 2, 3, 4];
const WAIT_MS = 90; // a page that is scrolled past is not asked for
const KEPT_WORDS = 40;
const SVG = "http://www.w3.org/2000/svg";
const now = { behavior: "instant" };

function element(name, className, parent) {
  const made = document.createElement(name);
  made.className = className;
  parent?.append(made);
  return made;
}

export class PageView {
  /** `sizes`: [width, height] of each page in points; `spans`: its pages' first characters. */
  constructor(article, { id, sizes, spans, number, textLink, onMove, lineOf }) {
    Object.assign(this, { article, id, sizes, spans, textLink, onMove, lineOf });
    this.marks = new Map();
    this.open = new Map();
    this.words = new Map();
    this.zoom = 1;
    this.pen = document.createElement("canvas").getContext("2d");
    this.pen.font = "100px sans-serif";
    const widths = sizes.map(([width]) => width).sort((a, b) => a - b);
    this.usual = widths[widths.length >> 1] || 612;
    article.replaceChildren();
    this.sheets = element("div", "sheets", article);
    this.#layOut();
    this.#toPage(number);
    addEventListener("scroll", () => this.#moved(), { passive: true });
    new ResizeObserver(() => this.#again()).observe(article);
  }

  /** Where every page stands, in pixels. */
  #layOut() {
    this.width = this.article.clientWidth;
    this.unit = (this.zoom * this.width) / this.usual;
    this.tops = new Float64Array(this.sizes.length + 1);
    let widest = 0;
    this.sizes.forEach(([width, height], index) => {
      this.tops[index + 1] = this.tops[index] + height * this.unit + GAP;
      widest = Math.max(widest, width * this.unit);
    });
    this.sheets.style.setProperty("--unit", String(this.unit));
    this.sheets.style.height = `${this.tops[this.sizes.length]}px`;
    this.sheets.style.width = `${Math.max(widest, this.width)}px`;
    for (const sheet of this.open.values()) this.#put(sheet);
    this.#draw();
  }

  #again() {
    if (this.article.clientWidth === this.width) return;
    this.setZoom(this.zoom);
  }

  setZoom(zoom) {
    const place = this.#line();
    const index = this.#indexAt(place);
    const inside = (place - this.tops[index]) / Math.max(this.tops[index + 1] - this.tops[index], 1);
    this.zoom = Math.min(Math.max(zoom, 0.4), 4);
    this.#layOut();
    const to = this.tops[index] + inside * (this.tops[index + 1] - this.tops[index]);
    scrollBy({ top: to - this.#line(), ...now });
    this.#draw();
  }

  /** The reading line's place within the sheets. */
  #line() {
    return this.lineOf() + 0.15 * innerHeight - this.sheets.getBoundingClientRect().top;
  }

  #indexAt(place) {
    let low = 0;
    let high = this.sizes.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.tops[middle] <= place) low = middle + 1;
      else high = middle;
    }
    return Math.max(low - 1, 0);
  }

  get number() {
    return this.#indexAt(this.#line()) + 1;
  }

  /** The first character of the page that is read. */
  place() {
    return this.spans.find((each) => each.number === this.number)?.start_char ?? 0;
  }

  #moved() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.#draw();
      this.onMove();
    });
  }

  #draw() {
    const top = -this.sheets.getBoundingClientRect().top;
    const first = Math.max(this.#indexAt(top - 0.5 * innerHeight), 0);
    const last = this.#indexAt(top + 1.5 * innerHeight);
    for (const [index, sheet] of this.open) {
      if (index >= first && index <= last) continue;
      sheet.leave.abort();
      sheet.root.remove();
      this.open.delete(index);
    }
    for (let index = first; index <= last; index += 1) {
      if (!this.open.has(index)) this.#openSheet(index);
    }
  }

  #openSheet(index) {
    const [width, height] = this.sizes[index];
    const root = element("section", "sheet");
    root.dataset.number = index + 1;
    root.setAttribute("aria-label", `Page ${said(index + 1)} of ${said(this.sizes.length)}`);
    const sheet = { index, root, leave: new AbortController(), picture: element("img", "", root), said: null };
    sheet.picture.alt = "";
    sheet.marks = document.createElementNS(SVG, "svg");
    sheet.marks.setAttribute("viewBox", `0 0 ${width} ${height}`);
    sheet.marks.setAttribute("preserveAspectRatio", "none");
    sheet.marks.setAttribute("aria-hidden", "true");
    root.append(sheet.marks);
    sheet.text = element("div", "words", root);
    this.open.set(index, sheet);
    this.#put(sheet);
    this.#paint(sheet);
    // In the pages' order, for whoever does not see where they stand.
    const after = [...this.open.values()].filter((each) => each.index > index).sort((a, b) => a.index - b.index)[0];
    this.sheets.insertBefore(root, after?.root ?? null);
    const timer = setTimeout(() => this.#fetch(sheet), WAIT_MS);
    sheet.leave.signal.addEventListener("abort", () => {
      clearTimeout(timer);
      sheet.picture.removeAttribute("src");
    });
  }

  #put({ index, root }) {
    const [width, height] = this.sizes[index];
    root.style.top = `${this.tops[index]}px`;
    root.style.left = `${Math.max((this.width - width * this.unit) / 2, 0)}px`;
    root.style.width = `${width * this.unit}px`;
    root.style.height = `${height * this.unit}px`;
  }

  #url(index) {
    return `/v1/documents/${this.id}/pages/${index + 1}`;
  }

  #fetch(sheet) {
    const wanted = this.unit * Math.min(devicePixelRatio, 2.5);
    const scale = SCALES.find((each) => each >= wanted) ?? SCALES.at(-1);
    sheet.picture.addEventListener("load", () => sheet.root.classList.add("drawn"), { once: true });
    sheet.picture.addEventListener("error", () => this.#explain(sheet, scale), { once: true });
    sheet.picture.src = `${this.#url(sheet.index)}/image?scale=${scale}`;
    this.#fetchWords(sheet).catch(() => {}); // the picture says more than its missing words would
  }

  async #explain(sheet, scale) {
    if (sheet.leave.signal.aborted) return;
    let trouble = { message: "The picture was cut off.", hint: "" };
    try {
      await ask(`${this.#url(sheet.index)}/image`, { scale }, { signal: sheet.leave.signal });
    } catch (error) {
      trouble = error;
    }
    if (trouble.name === "AbortError") return;
    sheet.picture.hidden = true;
    const said = element("div", "undrawn", sheet.root);
    element("p", "", said).textContent = `${trouble.message} ${trouble.hint ?? ""}`.trim();
    const more = element("p", "", said);
    const again = element("button", "plain", more);
    again.type = "button";
    again.textContent = "Try again";
    again.addEventListener("click", () => {
      said.remove();
      sheet.picture.hidden = false;
      this.#fetch(sheet);
    });
    const link = element("a", "", more);
    link.textContent = "Read its text";
    link.href = this.textLink(sheet.index + 1);
  }

  async #fetchWords(sheet) {
    let words = this.words.get(sheet.index);
    if (!words) {
      ({ words } = await askJSON(`${this.#url(sheet.index)}/words`, {}, { signal: sheet.leave.signal }));
      this.words.set(sheet.index, words);
      if (this.words.size > KEPT_WORDS) this.words.delete(this.words.keys().next().value);
    }
    if (sheet.leave.signal.aborted) return;
    const layer = document.createDocumentFragment();
    let before = null;
    for (const word of words) {
      const [width, height] = [word.right - word.left, word.bottom - word.top];
      if (before) layer.append(word.top > before.bottom || word.left < before.left ? "\n" : " ");
      before = word;
      const span = element("span", "", layer);
      span.dataset.at = word.start_char;
      span.textContent = word.text;
      span.style.left = `calc(var(--unit) * ${word.left}px)`;
      span.style.top = `calc(var(--unit) * ${word.top}px)`;
      span.style.fontSize = `calc(var(--unit) * ${Math.max(height, 1)}px)`;
      const natural = (this.pen.measureText(word.text).width * Math.max(height, 1)) / 100;
      if (natural > 0 && width > 0) span.style.transform = `scaleX(${width / natural})`;
    }
    sheet.text.replaceChildren(layer);
  }

  #toPage(number, points = 0) {
    const top = this.tops[number - 1] + points * this.unit;
    const above = points ? 0.15 * innerHeight : GAP / 2;
    scrollBy({ top: top - above - this.lineOf() + this.sheets.getBoundingClientRect().top, ...now });
    this.#draw();
  }

  showPage(number) {
    this.#toPage(Math.min(Math.max(number, 1), this.sizes.length));
  }

  /** Bring characters onto the screen: by their rectangles, or by their page. */
  async show(item) {
    let rectangles = item.rectangles;
    if (!rectangles) {
      const { start_char: start, end_char: end } = item;
      ({ rectangles } = await askJSON(`/v1/documents/${this.id}/rectangles`, { start, end }).catch(() => ({ rectangles: [] })));
    }
    const [first] = rectangles ?? [];
    if (first) this.#toPage(first.page, first.top);
    else this.showPage(this.spans[Math.max(lastAtMost(this.spans, item.start_char, (each) => each.start_char), 0)]?.number ?? 1);
    return true;
  }

  /** Mark the rectangles of `items` in the way that the style sheet has for `kind`. */
  mark(kind, items) {
    const byPage = new Map();
    for (const each of items.flatMap((item) => item.rectangles ?? [])) {
      if (!byPage.has(each.page)) byPage.set(each.page, []);
      byPage.get(each.page).push(each);
    }
    this.marks.set(kind, byPage);
    for (const sheet of this.open.values()) this.#paint(sheet);
  }

  #paint(sheet) {
    sheet.marks.replaceChildren();
    for (const [kind, byPage] of this.marks) {
      for (const each of byPage.get(sheet.index + 1) ?? []) {
        const rect = document.createElementNS(SVG, "rect");
        rect.setAttribute("class", kind);
        rect.setAttribute("x", each.left - 1);
        rect.setAttribute("width", each.right - each.left + 2);
        const line = kind === "carries";
        rect.setAttribute("y", line ? each.bottom + 1 : each.top - 1);
        rect.setAttribute("height", line ? 1.2 : each.bottom - each.top + 2);
        sheet.marks.append(rect);
      }
    }
  }
}
