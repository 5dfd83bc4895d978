// Byte-pair encoding as SentencePiece does it: of all neighbours whose text together is a piece, those
// of the best score are joined first, and of several of that score the leftmost.
"use strict";
globalThis.emsFast ??= {};

emsFast.Bpe = class {
  constructor({ scores, types }, trie) {
    this.scores = scores;
    this.types = types;
    this.trie = trie;
  }

  // [start, end, id] of every piece; the id is -1 for a character without one.
  split(text) {
    // Piece i begins with character i and ends where a later one begins; joined, that one is gone.
    const starts = [];
    for (let at = 0; at < text.length; at += emsFast.characterLength(text[at])) starts.push(at);
    const count = starts.length;
    starts.push(text.length);
    const next = Int32Array.from({ length: count }, (_, i) => i + 1);
    const before = Int32Array.from({ length: count + 1 }, (_, i) => i - 1);
    const gone = new Uint8Array(count);
    const cuts = new Map(); // of an unused piece: the bytes of its left part
    const heap = new emsFast.Heap(
      (a, b) => a.score > b.score || (a.score === b.score && a.left < b.left),
    );
    const end = (i) => starts[next[i]];
    const consider = (left, right) => {
      if (left < 0 || right >= count) return;
      const id = this.trie.find(text, starts[left], end(right));
      if (id < 0) return;
      heap.push({ left, right, score: this.scores[id], end: end(right) });
      if (this.types[id] === emsFast.UNUSED) cuts.set(id, starts[right] - starts[left]);
    };
    for (let i = 1; i < count; ++i) consider(i - 1, i);
    while (heap.size) {
      const { left, right, end: joinedEnd } = heap.pop();
      if (gone[left] || gone[right] || next[left] !== right || end(right) !== joinedEnd) continue;
      gone[right] = 1;
      next[left] = next[right];
      before[next[right]] = left;
      consider(before[left], left);
      consider(left, next[left]);
    }
    const found = [];
    const put = (start, finish) => {
      const id = this.trie.find(text, start, finish);
      if (cuts.has(id)) {
        put(start, start + cuts.get(id));
        put(start + cuts.get(id), finish);
      } else {
        found.push([start, finish, id]);
      }
    };
    for (let i = 0; i < count; i = next[i]) put(starts[i], end(i));
    return found;
  }
};

// A binary heap: `first(a, b)` tells whether a comes out before b.
emsFast.Heap = class {
  constructor(first) {
    this.first = first;
    this.items = [];
  }

  get size() {
    return this.items.length;
  }

  push(item) {
    const { items, first } = this;
    let at = items.push(item) - 1;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      if (!first(items[at], items[parent])) break;
      [items[at], items[parent]] = [items[parent], items[at]];
      at = parent;
    }
  }

  pop() {
    const { items, first } = this;
    const top = items[0], last = items.pop();
    if (items.length) {
      items[0] = last;
      for (let at = 0; ; ) {
        let child = 2 * at + 1;
        if (child >= items.length) break;
        if (child + 1 < items.length && first(items[child + 1], items[child])) ++child;
        if (!first(items[child], items[at])) break;
        [items[at], items[child]] = [items[child], items[at]];
        at = child;
      }
    }
    return top;
  }
};
