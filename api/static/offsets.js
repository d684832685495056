// Characters of a document, counted as the API counts them (code points), to places in the page and
// back. An element with `data-at` holds exactly the document's text from that character on.

const BLOCKS = ".text[data-at], .heading[data-at], .words span[data-at]";
const PAIRS = /[\ud800-\udfff]/;

export function charCount(text) {
  return PAIRS.test(text) ? [...text].length : text.length;
}

function unitsOf(text, chars) {
  if (!PAIRS.test(text)) return Math.min(chars, text.length);
  let units = 0;
  for (let left = chars; left > 0 && units < text.length; left -= 1) units += text.codePointAt(units) > 0xffff ? 2 : 1;
  return units;
}

const known = new WeakMap();

function textsOf(block) {
  let texts = known.get(block);
  if (!texts) {
    texts = [];
    let at = Number(block.dataset.at);
    const walk = document.createTreeWalker(block, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const count = charCount(walk.currentNode.data);
      texts.push({ node: walk.currentNode, at, end: at + count });
      at += count;
    }
    known.set(block, texts);
  }
  return texts;
}

export function blocksOf(root) {
  return [...root.querySelectorAll(BLOCKS)];
}

/** The last of sorted `items` whose `key` is not above `value`; -1: none. */
export function lastAtMost(items, value, key) {
  let low = 0;
  let high = items.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(items[middle]) <= value) low = middle + 1;
    else high = middle;
  }
  return low - 1;
}

function pointAt(blocks, char) {
  const block = blocks[Math.max(lastAtMost(blocks, char, (each) => Number(each.dataset.at)), 0)];
  const texts = block ? textsOf(block) : [];
  const text = texts[Math.max(lastAtMost(texts, char, (each) => each.at), 0)];
  return text && [text.node, unitsOf(text.node.data, Math.max(char - text.at, 0))];
}

/** A Range over `start` to `end` among `blocks` (see blocksOf), which are in the text's order. */
export function rangeOf(blocks, start, end) {
  const [from, to] = [pointAt(blocks, start), pointAt(blocks, end)];
  if (!from || !to) return null;
  const range = document.createRange();
  range.setStart(...from);
  range.setEnd(...to);
  return range;
}

/** The character at a place of the page; null where that is none of the document's text. */
export function charAt(node, offset) {
  const element = node instanceof Element ? node : node.parentElement;
  const block = element?.closest(BLOCKS);
  if (!block) return null;
  const texts = textsOf(block);
  if (node instanceof Text) {
    const text = texts.find((each) => each.node === node);
    return text ? text.at + charCount(node.data.slice(0, offset)) : null;
  }
  const place = document.createRange();
  place.setStart(node, offset);
  const before = texts.filter((each) => place.comparePoint(each.node, each.node.data.length) <= 0).at(-1);
  return before ? before.end : Number(block.dataset.at);
}
