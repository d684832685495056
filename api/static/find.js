// Find in the document: the server looks through all of it, whatever part of it is here.

import { askJSON } from "./ask.js";
import { number as said } from "./localise.js";

const LISTED = 500;
const TYPING_MS = 180;

export class Finder {
  constructor(form, { id, view, withPlaces, onOpen }) {
    Object.assign(this, { form, id, view, withPlaces, onOpen });
    this.field = form.querySelector("input");
    this.output = form.querySelector("output");
    this.#forget();
    this.field.addEventListener("input", () => {
      clearTimeout(this.timer);
      this.output.textContent = this.field.value.trim() ? "…" : "";
      this.timer = setTimeout(() => this.#search(), TYPING_MS);
    });
    form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.step(1);
    });
    this.field.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" || !event.shiftKey) return;
      event.preventDefault();
      this.step(-1);
    });
  }

  get isOpen() {
    return !this.form.hidden;
  }

  open() {
    this.form.hidden = false;
    this.onOpen();
    this.field.focus();
    this.field.select();
    if (this.field.value) this.#search();
  }

  close() {
    this.form.hidden = true;
    this.asked?.abort();
    this.#forget();
    this.view.mark("match", []);
    this.view.mark("match-now", []);
    this.onOpen();
  }

  #forget() {
    Object.assign(this, { count: 0, first: 0, matches: [], at: -1, text: "" });
    this.output.textContent = "";
  }

  async #ask(values) {
    this.asked?.abort();
    this.asked = new AbortController();
    const text = this.field.value;
    const path = `/v1/documents/${this.id}/find`;
    const asked = { text, limit: LISTED, ...values, ...(this.withPlaces ? { rectangles: true } : {}) };
    const found = await askJSON(path, asked, { signal: this.asked.signal });
    Object.assign(this, { count: found.count, first: found.first, matches: found.matches, text });
    this.view.mark("match", found.matches, 2);
  }

  async #search() {
    clearTimeout(this.timer);
    if (!this.field.value.trim()) {
      this.#forget();
      this.view.mark("match", []);
      this.view.mark("match-now", []);
      return;
    }
    try {
      await this.#ask({ at: this.view.place() });
    } catch (trouble) {
      if (trouble.name !== "AbortError") this.output.textContent = trouble.message;
      return;
    }
    this.at = this.first;
    await this.#show();
  }

  /** To the next match, or the one before. */
  async step(by) {
    if (this.field.value !== this.text) return this.#search();
    if (!this.count) return undefined;
    const at = (this.at + by + this.count) % this.count;
    if (at < this.first || at >= this.first + this.matches.length) {
      try {
        await this.#ask({ first: Math.max(by > 0 ? at : at - LISTED + 1, 0) });
      } catch (trouble) {
        if (trouble.name !== "AbortError") this.output.textContent = trouble.message;
        return undefined;
      }
    }
    this.at = at;
    return this.#show();
  }

  async #show() {
    const match = this.matches[this.at - this.first];
    const told = match ? `${said(this.at + 1)} of ${said(this.count)}` : "not found";
    this.output.textContent = told;
    this.form.classList.toggle("nothing", !match);
    this.view.mark("match-now", match ? [match] : [], 3);
    if (!match) return;
    const { activeElement } = document;
    await this.view.show(match);
    activeElement?.focus({ preventScroll: true });
  }
}
