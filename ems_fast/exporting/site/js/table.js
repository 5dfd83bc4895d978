// A table of token vectors in 8 or 4 bits a number, with rows for phrases: pairs of neighbouring tokens.
"use strict";
globalThis.emsFast ??= {};

emsFast.TokenTable = class {
  // rows: Int8Array [R, D], or of 4 bits Uint8Array [R, D / 2]: columns 0 … D/2 - 1 in the lower bits,
  // the others in the upper, 8 being zero; scales: Float32Array [R], what a row is multiplied by.
  // Phrases of first token t are numbers begins[t] … begins[t + 1] - 1; seconds holds their second
  // tokens, ascending, and phrase k has row V + k. Without phrases, both are null.
  constructor({ width, vocabSize, maxTokens, bits, rows, scales, begins, seconds }) {
    Object.assign(this, { width, vocabSize, maxTokens, bits, rows, scales, begins, seconds });
  }

  // The row of the phrase of two tokens, or -1.
  phrase(first, second) {
    if (!this.begins) return -1;
    let low = this.begins[first], high = this.begins[first + 1];
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.seconds[middle] < second) low = middle + 1;
      else high = middle;
    }
    return low < this.begins[first + 1] && this.seconds[low] === second ? this.vocabSize + low : -1;
  }

  // The rows that a sentence of these ids is the mean of: its tokens, a phrase behind its second one.
  rowsOf(ids) {
    const found = [];
    const count = Math.min(ids.length, this.maxTokens);
    for (let t = 0; t < count; ++t) {
      found.push(ids[t]);
      const phrase = t ? this.phrase(ids[t - 1], ids[t]) : -1;
      if (phrase >= 0) found.push(phrase);
    }
    return found;
  }

  // Their mean, Float32Array [D]; zero without a token.
  mean(ids) {
    const { width, rows, scales } = this;
    const sum = new Float32Array(width);
    const found = this.rowsOf(ids);
    for (const row of found) {
      const scale = scales[row];
      if (this.bits === 8) {
        for (let d = 0, at = row * width; d < width; ++d) sum[d] += scale * rows[at + d];
      } else {
        const half = width / 2;
        for (let d = 0, at = row * half; d < half; ++d) {
          sum[d] += scale * ((rows[at + d] & 15) - 8);
          sum[half + d] += scale * ((rows[at + d] >> 4) - 8);
        }
      }
    }
    for (let d = 0; d < width; ++d) sum[d] /= found.length || 1;
    return sum;
  }

  // The mean, scaled to length 1.
  unit(ids) {
    const mean = this.mean(ids);
    const length = Math.sqrt(mean.reduce((sum, x) => sum + x * x, 0));
    return mean.map((x) => x / Math.max(length, 1e-12));
  }
};
