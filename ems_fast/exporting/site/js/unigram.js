// The pieces of a unigram model whose scores have the greatest sum (Viterbi).
"use strict";
globalThis.emsFast ??= {};
{
  // What a character without a piece costs, below the worst piece.
  const UNKNOWN_PENALTY = 10;

  emsFast.Unigram = class {
    constructor({ scores, types }, trie) {
      this.scores = scores;
      this.unused = types.map((type) => Number(type === emsFast.UNUSED));
      this.trie = trie;
      const lowest = scores.reduce(
        (least, score, id) => (types[id] === emsFast.NORMAL ? Math.min(least, score) : least),
        Infinity,
      );
      this.unknownScore = Math.fround(lowest - UNKNOWN_PENALTY);
    }

    // [start, end, id] of every piece; the id is -1 for a character without one. Sums are rounded to
    // float32 as SentencePiece's are, and the first of equal ones stays, so that ties fall alike.
    split(text) {
      const { trie, scores, unused } = this;
      const best = new Float32Array(text.length + 1);
      const starts = new Int32Array(text.length + 1).fill(-1);
      const ids = new Int32Array(text.length + 1);
      const offer = (end, start, id, sum) => {
        if (starts[end] === -1 || sum > best[end]) {
          best[end] = sum;
          starts[end] = start;
          ids[end] = id;
        }
      };
      for (let start = 0; start < text.length; ) {
        const after = Math.min(start + emsFast.characterLength(text[start]), text.length);
        let alone = false;
        let node = 0;
        for (let end = start; end < text.length; ) {
          node = trie.next(node, text[end++]);
          if (node < 0) break;
          const id = trie.values[node];
          if (id < 0 || unused[id]) continue;
          offer(end, start, id, Math.fround(scores[id] + best[start]));
          if (end === after) alone = true;
        }
        if (!alone) offer(after, start, -1, Math.fround(this.unknownScore + best[start]));
        start = after;
      }
      const found = [];
      for (let end = text.length; end > 0; end = starts[end]) {
        found.push([starts[end], end, ids[end]]);
      }
      return found.reverse();
    }
  };
}
