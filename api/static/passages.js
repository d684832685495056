// The passages that decide for the search that led here, and the one that the link names.

import { askJSON } from "./ask.js";
import { number as said } from "./localise.js";
import { lastAtMost } from "./offsets.js";

const TELLING = ["collection", "filter", "rerank", "depth", "instruction"];

/** The part of a search page's address that tells which passages it finds, with its `query`. */
function searchOf(query, page) {
  const said = [...new URLSearchParams(page)].filter(([name]) => TELLING.includes(name));
  return new URLSearchParams([["q", query], ...said]);
}

export class Passages {
  constructor(box, { id, query, from, linked, view, onStep }) {
    Object.assign(this, { box, id, view, onStep });
    this.search = query && searchOf(query, from);
    this.output = box.querySelector("output");
    this.found = linked ? [linked] : [];
    this.at = linked ? 0 : -1;
  }

  /** Raises what asking raises; the linked passage is there even so. */
  async load() {
    if (this.found.length) this.#show();
    if (this.search) {
      this.box.hidden = false;
      this.output.textContent = "…";
      const { passages } = await askJSON(`/v1/documents/${this.id}/hits?${this.search}`);
      const [linked] = this.found;
      const isLinked = (each) => linked && each.start_char === linked.start_char && each.end_char === linked.end_char;
      this.found = linked && !passages.some(isLinked) ? [linked, ...passages] : passages;
      this.found.sort((a, b) => a.start_char - b.start_char);
      this.at = linked ? this.found.findIndex((each) => isLinked(each) || each === linked) : -1;
    }
    this.#show();
  }

  #show() {
    this.box.hidden = !this.found.length;
    const [at, of] = [this.at + 1, this.found.length].map(said);
    this.output.textContent = this.at < 0 ? `${of} passage${this.found.length === 1 ? "" : "s"}` : `Passage ${at} of ${of}`;
    this.view.mark("hit", this.found.filter((_, place) => place !== this.at), 0);
    this.view.mark("hit-now", this.at < 0 ? [] : [this.found[this.at]], 1);
    this.view.mark("carries", this.found.flatMap((each) => each.sentences ?? []), 1);
  }

  /** To the next passage in the text, or the one before; round at the end. */
  async step(by) {
    if (!this.found.length) return;
    if (this.at < 0) {
      const before = lastAtMost(this.found, this.view.place(), (each) => each.start_char);
      this.at = (by > 0 ? before + 1 : Math.max(before, 0)) % this.found.length;
    } else this.at = (this.at + by + this.found.length) % this.found.length;
    this.#show();
    await this.view.show(this.found[this.at]);
    this.onStep(this.found[this.at]);
  }
}
