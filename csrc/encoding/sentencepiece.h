// A SentencePiece model file: a protocol buffer (`sentencepiece_model.proto`), of which only what
// decides how text becomes ids is read.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace ems {

// The bytes are no SentencePiece model.
struct MalformedModel : std::runtime_error {
  using std::runtime_error::runtime_error;
};

// A sound model that works in a way that is not written here.
struct NotCovered : std::runtime_error {
  using std::runtime_error::runtime_error;
};

enum class PieceType : int {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

struct Piece {
  std::string_view text;  // in the model's bytes
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SentencePieceModel {
  std::vector<Piece> pieces;  // in the order of the ids
  int type = 1;               // 1: unigram
  std::string_view pad_piece = "<pad>";
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string_view charsmap;  // the compiled rules of normalisation; may be empty
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

// Reads a serialised model, whose bytes have to outlive what is returned. Throws MalformedModel.
SentencePieceModel read_sentencepiece_model(std::string_view bytes);

// How many bytes the character has that begins with `byte`.
constexpr int character_bytes(std::uint8_t byte) {
  return byte < 0xC0 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

// Whether `text` is well-formed UTF-8.
bool is_utf8(std::string_view text);

}  // namespace ems
