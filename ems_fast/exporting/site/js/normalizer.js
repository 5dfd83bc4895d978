// SentencePiece's normalisation: at every position the longest text that the rules know is replaced,
// spaces are trimmed and become ▁. All of it on bytes of UTF-8.
"use strict";
globalThis.emsFast ??= {};
{
  const SPACE = 0x20;
  const MARK = [0xe2, 0x96, 0x81]; // ▁
  const UTF8 = new TextEncoder();

  // Bytes of the character that begins with this one.
  emsFast.characterLength = (lead) => (lead < 0xc0 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4);

  emsFast.Normalizer = class {
    // `charsmap` holds the size of a double-array trie (Darts), the trie, and the replacements, each
    // ending in a zero.
    constructor({ charsmap, addDummyPrefix, removeExtraWhitespaces }) {
      this.addDummyPrefix = addDummyPrefix;
      this.trims = removeExtraWhitespaces;
      this.units = new Uint32Array(0);
      this.replacements = new Uint8Array(0);
      if (charsmap.length) {
        const copy = charsmap.slice(); // of its own, so that it is aligned
        const size = new DataView(copy.buffer).getUint32(0, true);
        this.units = new Uint32Array(copy.buffer, 4, size / 4);
        this.replacements = copy.subarray(4 + size);
      }
      this.matched = 0;
    }

    // Where the replacement of the longest rule at `position` begins, or -1; its length is `matched`.
    rule(text, position) {
      let found = -1;
      this.matched = 0;
      if (!this.units.length) return found;
      let node = 0, unit = this.units[0];
      node ^= offset(unit);
      for (let i = position; i < text.length; ++i) {
        node ^= text[i];
        unit = this.units[node];
        if (((unit & 0x800000ff) >>> 0) !== text[i]) break;
        node ^= offset(unit);
        if ((unit >>> 8) & 1) {
          found = this.units[node] & 0x7fffffff;
          this.matched = i + 1 - position;
        }
      }
      return found;
    }

    // The bytes of the normalised text.
    normalize(string) {
      const text = UTF8.encode(string);
      const out = [];
      let spaceBefore = this.trims, started = false;
      for (let position = 0; position < text.length; ) {
        const rule = this.rule(text, position);
        let source = text, from = position, to;
        if (rule >= 0) {
          source = this.replacements;
          from = to = rule;
          while (source[to] !== 0) ++to;
          position += this.matched;
        } else {
          to = position += emsFast.characterLength(text[position]);
        }
        if (!started) {
          // What is a single space and nothing else does not begin a text.
          if (this.trims && to - from === 1 && source[from] === SPACE) continue;
          started = true;
          if (this.addDummyPrefix) out.push(...MARK);
        }
        while (spaceBefore && from < to && source[from] === SPACE) ++from;
        for (let i = from; i < to; ++i) {
          if (source[i] === SPACE) out.push(...MARK);
          else out.push(source[i]);
        }
        if (from < to) spaceBefore = source[to - 1] === SPACE;
        if (!this.trims) spaceBefore = false;
      }
      while (this.trims && endsWithMark(out)) out.length -= MARK.length;
      return Uint8Array.from(out);
    }
  };

  // How far from a unit of the double array its children lie.
  function offset(unit) {
    return (unit >>> 10) << ((unit & 0x200) >>> 6);
  }

  function endsWithMark(out) {
    const end = out.length;
    return end > 2 && out[end - 3] === MARK[0] && out[end - 2] === MARK[1] && out[end - 1] === MARK[2];
  }
}
