// Reads a SentencePiece model file: a protocol buffer (sentencepiece_model.proto), of which a few
// fields decide how text becomes ids. ems_fast/text/sentencepiece_model.py reads the same.
"use strict";
globalThis.emsFast ??= {};
{
  const UTF8 = new TextDecoder();
  const VARINT = 0, EIGHT_BYTES = 1, FOUR_BYTES = 5;

  // Yields [number, value] of every field: a number, or a view of its bytes.
  function* fields(message) {
    let position = 0;
    const varint = () => {
      let value = 0, factor = 1, byte;
      do {
        byte = message[position++];
        value += (byte & 0x7f) * factor; // not shifted: negative numbers have 64 bits
        factor *= 128;
      } while (byte & 0x80);
      return value;
    };
    while (position < message.length) {
      const key = varint(), number = Math.floor(key / 8), wire = key & 7;
      if (wire === VARINT) {
        yield [number, varint()];
        continue;
      }
      const size = wire === EIGHT_BYTES ? 8 : wire === FOUR_BYTES ? 4 : varint();
      yield [number, message.subarray(position, position + size)];
      position += size;
    }
  }

  function float32(bytes) {
    return bytes ? new DataView(bytes.buffer, bytes.byteOffset).getFloat32(0, true) : 0;
  }

  // Types of a piece.
  emsFast.NORMAL = 1;
  emsFast.UNKNOWN = 2;
  emsFast.UNUSED = 5;
  emsFast.BYTE = 6;

  // What the file says: pieces with their bytes in UTF-8, scores and types in the order of the ids,
  // whether it is "unigram" or "bpe", and how text is normalised.
  emsFast.readModelFile = function (file) {
    const pieces = [], scores = [], types = [], rest = {};
    for (const [number, value] of fields(file)) {
      if (number !== 1) {
        rest[number] = value;
        continue;
      }
      const piece = Object.fromEntries(fields(value));
      pieces.push(piece[1]);
      scores.push(float32(piece[2]));
      types.push(piece[3] ?? emsFast.NORMAL);
    }
    const none = new Uint8Array(0);
    const trainer = Object.fromEntries(fields(rest[2] ?? none));
    const normalizer = Object.fromEntries(fields(rest[3] ?? none));
    return {
      pieces,
      scores: Float32Array.from(scores),
      types: Uint8Array.from(types),
      kind: trainer[3] === 2 ? "bpe" : "unigram",
      byteFallback: Boolean(trainer[35] ?? 0),
      charsmap: normalizer[2] ?? none,
      addDummyPrefix: Boolean(normalizer[3] ?? 1),
      removeExtraWhitespaces: Boolean(normalizer[4] ?? 1),
      text: (id) => UTF8.decode(pieces[id]),
    };
  };
}
