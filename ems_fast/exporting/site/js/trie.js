// Pieces by their bytes: one hash table holds every step from a node by a byte to the next node.
"use strict";
globalThis.emsFast ??= {};

emsFast.Trie = class {
  // Room for words of so many bytes in all.
  constructor(bytes) {
    this.shift = 31 - Math.ceil(Math.log2(Math.max(bytes, 2)));
    const size = 2 ** (32 - this.shift); // two to four times the nodes there can be
    this.keys = new Uint32Array(size); // node * 256 + byte + 1; 0 is a free slot
    this.nodes = new Int32Array(size);
    this.values = new Int32Array(bytes + 1).fill(-1); // of a node: the id that ends there
    this.count = 1; // node 0 is the root
  }

  slot(node, byte) {
    const key = node * 256 + byte + 1, mask = this.keys.length - 1;
    let slot = Math.imul(key, 0x9e3779b1) >>> this.shift;
    while (this.keys[slot] !== 0 && this.keys[slot] !== key) slot = (slot + 1) & mask;
    return slot;
  }

  add(word, value) {
    let node = 0;
    for (const byte of word) {
      const slot = this.slot(node, byte);
      if (this.keys[slot] === 0) {
        this.keys[slot] = node * 256 + byte + 1;
        this.nodes[slot] = this.count++;
      }
      node = this.nodes[slot];
    }
    this.values[node] = value;
  }

  // The node after `node` by `byte`, or -1.
  next(node, byte) {
    const slot = this.slot(node, byte);
    return this.keys[slot] === 0 ? -1 : this.nodes[slot];
  }

  // The value of bytes start … end - 1, or -1.
  find(bytes, start, end) {
    let node = 0;
    for (let i = start; i < end && node >= 0; ++i) node = this.next(node, bytes[i]);
    return node < 0 ? -1 : this.values[node];
  }
};
