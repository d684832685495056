// A text of any length in a page of bounded size: parts are fetched from the server as one comes to
// them and dropped when they are far, with empty space in their place, so that the scroll bar is the
// whole text's. What is looked at never moves: the scroll position follows what changes above it.

import { ask } from "./ask.js";
import { localise } from "./localise.js";
import { blocksOf, charAt, lastAtMost, rangeOf } from "./offsets.js";

const MOST_PARTS = 5;
const AHEAD = 1.2; // of the window's height
const BEFORE_CHARS = 1500;
const SETTLED_MS = 120;
const LINE = 0.12; // of the window's height below the bar: where one reads

const now = { behavior: "instant" };

export class TextView {
  /** `tell(trouble, again)` is told what could not be loaded; null: that is over. */
  constructor(article, { id, chars, tell, onMove, lineOf }) {
    Object.assign(this, { article, id, chars, tell, onMove, lineOf });
    this.marks = new Map();
    this.turn = 0;
    this.busy = false;
    for (const each of article.querySelectorAll(".paging")) each.remove();
    this.above = this.#spacer("above");
    this.below = this.#spacer("below");
    this.parts = [...article.querySelectorAll(".part")];
    article.prepend(this.above);
    article.append(this.below);
    this.#changed();
    addEventListener("scroll", () => this.#moved(), { passive: true });
    new ResizeObserver(() => this.#keep(() => this.#space())).observe(article);
  }

  #spacer(name) {
    const made = document.createElement("div");
    made.className = `spacer ${name}`;
    made.setAttribute("aria-hidden", "true");
    return made;
  }

  get start() {
    return Number(this.parts[0].dataset.start);
  }

  get end() {
    return Number(this.parts.at(-1).dataset.end);
  }

  #changed() {
    this.blocks = blocksOf(this.article);
    this.#space();
    this.#paint();
  }

  /** Give what is not here about the height that it would have. */
  #space() {
    const height = this.parts.at(-1).getBoundingClientRect().bottom - this.parts[0].getBoundingClientRect().top;
    if (this.end > this.start && height > 0) this.perChar = height / (this.end - this.start);
    const space = (chars) => `${Math.round(chars * (this.perChar ?? 0.4))}px`;
    this.above.style.height = space(this.start);
    this.below.style.height = space(this.chars - this.end);
  }

  /** Change something, and leave what is on the screen where it is. */
  #keep(change) {
    const seen = this.parts.find((each) => each.getBoundingClientRect().bottom > 0) ?? this.parts.at(-1);
    const before = seen.getBoundingClientRect().top;
    change();
    if (!seen.isConnected) return;
    const moved = seen.getBoundingClientRect().top - before;
    if (Math.abs(moved) >= 1) scrollBy({ top: moved, ...now });
  }

  #moved() {
    if (this.frame) return;
    this.frame = requestAnimationFrame(() => {
      this.frame = 0;
      this.onMove();
      clearTimeout(this.settled);
      if (this.#isEmpty()) this.settled = setTimeout(() => this.#jumpToScroll(), SETTLED_MS);
      else this.fill();
    });
  }

  /** Whether only empty space is on the screen. */
  #isEmpty() {
    return this.above.getBoundingClientRect().bottom > innerHeight || this.below.getBoundingClientRect().top < 0;
  }

  async #jumpToScroll() {
    const [above, below] = [this.above, this.below].map((each) => each.getBoundingClientRect());
    const line = innerHeight / 3;
    const char =
      above.bottom > innerHeight
        ? (this.start * (line - above.top)) / Math.max(above.height, 1)
        : this.end + ((this.chars - this.end) * (line - below.top)) / Math.max(below.height, 1);
    const at = Math.min(Math.max(Math.round(char), 0), this.chars - 1);
    if (!(await this.#jump(at))) return;
    this.#scrollTo(at);
    this.fill();
  }

  /** Load what is about to be seen, one part at a time. */
  async fill() {
    if (this.busy) return;
    const ahead = AHEAD * innerHeight;
    let values = null;
    const wantsMore = this.end < this.chars && this.below.getBoundingClientRect().top < innerHeight + ahead;
    if (wantsMore) values = { from: this.end };
    else if (this.start > 0 && this.above.getBoundingClientRect().bottom > -ahead) values = { until: this.start };
    if (!values || this.#isEmpty()) return;
    const part = await this.#load(values);
    if (!part) return;
    this.#keep(() => {
      if (values.from !== undefined) this.parts.at(-1).after(part);
      else this.parts[0].before(part);
      this.parts = [...this.article.querySelectorAll(".part")];
      while (this.parts.length > MOST_PARTS) (values.from !== undefined ? this.parts.shift() : this.parts.pop()).remove();
      this.#changed();
    });
    this.onMove();
    this.fill();
  }

  /** Have the part around `char` here, alone unless it is here already. */
  async #jump(char) {
    if (char >= this.start && char < this.end) return true;
    const part = await this.#load({ from: Math.max(char - BEFORE_CHARS, 0) });
    if (!part) return false;
    for (const each of this.parts) each.remove();
    this.above.after(part);
    this.parts = [part];
    this.#changed();
    return true;
  }

  async #load(values) {
    const turn = ++this.turn;
    this.busy = true;
    this.article.setAttribute("aria-busy", "true");
    try {
      const answer = await ask(`/documents/${this.id}/text`, values, { accept: "text/html" });
      const page = new DOMParser().parseFromString(await answer.text(), "text/html");
      if (turn !== this.turn) return null;
      this.tell(null);
      const part = document.adoptNode(page.querySelector(".part"));
      localise(part);
      return part;
    } catch (trouble) {
      if (turn === this.turn) this.tell(trouble, () => this.fill());
      return null;
    } finally {
      if (turn === this.turn) {
        this.busy = false;
        this.article.removeAttribute("aria-busy");
      }
    }
  }

  /** Bring characters onto the screen, wherever they are. */
  async show({ start_char: start, end_char: end }) {
    if (!(await this.#jump(start))) return false;
    this.#scrollTo(start, end);
    // A screen reader and the Tab key go on from here.
    const range = rangeOf(this.blocks, start, start);
    if (range) getSelection().collapse(range.startContainer, range.startOffset);
    await this.fill();
    return true;
  }

  #scrollTo(start, end = start + 1) {
    const range = rangeOf(this.blocks, start, end);
    const box = range?.getClientRects()[0] ?? range?.getBoundingClientRect();
    if (box) scrollBy({ top: box.top - this.lineOf() - LINE * innerHeight, ...now });
  }

  /** The character where one reads. */
  place() {
    const line = this.lineOf() + LINE * innerHeight + 6;
    const low = lastAtMost(this.blocks, line, (each) => each.getBoundingClientRect().top);
    const block = this.blocks[Math.max(low, 0)];
    if (!block) return this.start;
    const box = block.getBoundingClientRect();
    const point = document.caretPositionFromPoint?.(box.left + box.width / 2, Math.max(line, box.top + 4));
    const char = point && block.contains(point.offsetNode) ? charAt(point.offsetNode, point.offset) : null;
    return char ?? Number(block.dataset.at);
  }

  /** Colour characters: `kind` names a rule of the style sheet, `items` have start_char, end_char. */
  mark(kind, items, priority = 0) {
    this.marks.set(kind, { items, priority });
    this.#paint(kind);
  }

  #paint(only = null) {
    if (!globalThis.CSS?.highlights) return; // they are still found, and scrolled to
    for (const [kind, { items, priority }] of this.marks) {
      if (only && kind !== only) continue;
      const here = items.filter((each) => each.start_char < this.end && each.end_char > this.start);
      const ranges = here.map((each) => rangeOf(this.blocks, Math.max(each.start_char, this.start), Math.min(each.end_char, this.end)));
      const highlight = new Highlight(...ranges.filter(Boolean));
      highlight.priority = priority;
      CSS.highlights.set(kind, highlight);
    }
  }
}
