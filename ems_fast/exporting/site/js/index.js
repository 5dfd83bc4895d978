// The lines that are searched: their unit vectors side by side, compared with all of a query's cosines.
"use strict";
globalThis.emsFast ??= {};

emsFast.Index = class {
  // texts: n strings; groups: n numbers, a line's group (its language).
  constructor(texts, groups, width) {
    this.texts = texts;
    this.groups = groups;
    this.width = width;
    this.vectors = new Float32Array(texts.length * width);
    this.scores = new Float32Array(texts.length);
  }

  set(line, vector) {
    this.vectors.set(vector, line * this.width);
  }

  // The cosine of every line with a unit vector, Float32Array [n].
  compare(query) {
    const { vectors, scores, width } = this;
    const whole = width - (width % 4);
    for (let line = 0, at = 0; line < scores.length; ++line, at += width) {
      let a = 0, b = 0, c = 0, e = 0;
      for (let d = 0; d < whole; d += 4) {
        a += query[d] * vectors[at + d];
        b += query[d + 1] * vectors[at + d + 1];
        c += query[d + 2] * vectors[at + d + 2];
        e += query[d + 3] * vectors[at + d + 3];
      }
      for (let d = whole; d < width; ++d) a += query[d] * vectors[at + d];
      scores[line] = a + b + (c + e);
    }
    return scores;
  }

  // Of the last `compare`: the k best lines, best first, the earlier of equals before; only those of
  // `group` unless it is null, and never the line `without`.
  best(k, group = null, without = -1) {
    const { scores, groups } = this;
    const found = [];
    for (let line = 0; line < scores.length; ++line) {
      if (line === without || (group !== null && groups[line] !== group)) continue;
      if (found.length === k && !(scores[line] > scores[found[k - 1]])) continue;
      let at = found.length < k ? found.length : k - 1;
      for (; at > 0 && scores[line] > scores[found[at - 1]]; --at) found[at] = found[at - 1];
      found[at] = line;
    }
    return found;
  }

  // The best line of every group, best first.
  bestOfEach(count, without = -1) {
    const found = [];
    for (let group = 0; group < count; ++group) found.push(...this.best(1, group, without));
    return found.sort((a, b) => this.scores[b] - this.scores[a] || a - b);
  }
};
