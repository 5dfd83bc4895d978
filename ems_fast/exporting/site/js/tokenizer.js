// Text to the ids that SentencePiece gives it.
"use strict";
globalThis.emsFast ??= {};

emsFast.Tokenizer = class {
  // `file`: the bytes of a SentencePiece model of kind unigram or bpe.
  constructor(file) {
    const model = emsFast.readModelFile(file);
    this.model = model;
    this.normalizer = new emsFast.Normalizer(model);
    this.unknownId = model.types.indexOf(emsFast.UNKNOWN);
    this.byteIds = new Int32Array(256);
    const words = [];
    model.types.forEach((type, id) => {
      if (type === emsFast.BYTE) this.byteIds[parseInt(model.text(id).slice(3, 5), 16)] = id;
      else if (type === emsFast.NORMAL || type === emsFast.UNUSED) words.push(id);
    });
    const trie = new emsFast.Trie(words.reduce((sum, id) => sum + model.pieces[id].length, 0));
    for (const id of words) trie.add(model.pieces[id], id);
    this.splitter = new (model.kind === "bpe" ? emsFast.Bpe : emsFast.Unigram)(model, trie);
  }

  encode(string) {
    const text = this.normalizer.normalize(string);
    const ids = [];
    let unknownBefore = false;
    for (const [start, end, id] of this.splitter.split(text)) {
      if (id >= 0) {
        ids.push(id);
      } else if (this.model.byteFallback) {
        for (let i = start; i < end; ++i) ids.push(this.byteIds[text[i]]);
      } else if (!unknownBefore) {
        ids.push(this.unknownId); // one for a run of unknown characters
      }
      unknownBefore = id < 0;
    }
    return ids;
  }

  // The text of a piece, ▁ for a space.
  piece(id) {
    return this.model.text(id);
  }
};
