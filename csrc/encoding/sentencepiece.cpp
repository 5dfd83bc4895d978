#include "encoding/sentencepiece.h"

#include <cstring>

namespace ems {
namespace {

enum Wire : int { varint = 0, eight_bytes = 1, bytes = 2, four_bytes = 5 };

struct Field {
  std::uint32_t number;
  int wire;
  std::uint64_t value;    // of a varint
  std::string_view body;  // of all others
};

// The fields of a message one after another.
class Fields {
 public:
  explicit Fields(std::string_view message) : left_(message) {}

  bool next(Field& field) {
    if (left_.empty()) return false;
    const std::uint64_t key = number();
    field.wire = static_cast<int>(key & 7);
    field.number = static_cast<std::uint32_t>(key >> 3);
    if (field.number == 0 || key >> 32) throw MalformedModel("it has a field without a number");
    switch (field.wire) {
      case varint: field.value = number(); return true;
      case eight_bytes: field.body = take(8); return true;
      case four_bytes: field.body = take(4); return true;
      case bytes: field.body = take(number()); return true;
      default: throw MalformedModel("it has a field of an unknown kind");
    }
  }

 private:
  // Base 128, least digit first.
  std::uint64_t number() {
    std::uint64_t value = 0;
    for (int digit = 0; digit < 10; ++digit) {
      const auto byte = static_cast<std::uint8_t>(take(1)[0]);
      value |= static_cast<std::uint64_t>(byte & 0x7F) << (7 * digit);
      if (byte < 0x80) return value;
    }
    throw MalformedModel("it has a number that does not end");
  }

  std::string_view take(std::uint64_t size) {
    if (size > left_.size()) throw MalformedModel("it ends within a field");
    const std::string_view taken = left_.substr(0, size);
    left_.remove_prefix(size);
    return taken;
  }

  std::string_view left_;
};

Piece read_piece(std::string_view message) {
  Piece piece;
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 1 && field.wire == bytes) piece.text = field.body;
    if (field.number == 2 && field.wire == four_bytes)
      std::memcpy(&piece.score, field.body.data(), sizeof piece.score);
    // A protocol buffer takes a number beyond an enumeration for a field that it does not know.
    if (field.number == 3 && field.wire == varint && field.value >= 1 && field.value <= 6)
      piece.type = static_cast<PieceType>(field.value);
  }
  return piece;
}

void read_trainer(std::string_view message, SentencePieceModel& model) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 48 && field.wire == bytes && !field.body.empty())
      model.pad_piece = field.body;
    if (field.wire != varint) continue;
    if (field.number == 3 && field.value >= 1 && field.value <= 4)
      model.type = static_cast<int>(field.value);
    if (field.number == 24) model.whitespace_as_suffix = field.value != 0;
    if (field.number == 35) model.byte_fallback = field.value != 0;
  }
}

void read_normalizer(std::string_view message, SentencePieceModel& model) {
  Fields fields(message);
  for (Field field; fields.next(field);) {
    if (field.number == 2 && field.wire == bytes) model.charsmap = field.body;
    if (field.wire != varint) continue;
    if (field.number == 3) model.add_dummy_prefix = field.value != 0;
    if (field.number == 4) model.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) model.escape_whitespaces = field.value != 0;
  }
}

}  // namespace

SentencePieceModel read_sentencepiece_model(std::string_view model_bytes) {
  SentencePieceModel model;
  Fields fields(model_bytes);
  for (Field field; fields.next(field);) {
    if (field.wire != bytes) continue;
    if (field.number == 1) model.pieces.push_back(read_piece(field.body));
    if (field.number == 2) read_trainer(field.body, model);
    if (field.number == 3) read_normalizer(field.body, model);
  }
  if (model.pieces.empty()) throw MalformedModel("it has no pieces");
  return model;
}

bool is_utf8(std::string_view text) {
  const auto* at = reinterpret_cast<const std::uint8_t*>(text.data());
  const auto* const end = at + text.size();
  while (at < end) {
    const std::uint8_t lead = *at;
    const int size = character_bytes(lead);
    if (size == 1 ? lead >= 0x80 : (lead > 0xF4 || end - at < size)) return false;
    std::uint32_t code = size == 1 ? lead : lead & (0x7F >> size);
    for (int i = 1; i < size; ++i) {
      if ((at[i] & 0xC0) != 0x80) return false;
      code = code << 6 | (at[i] & 0x3F);
    }
    constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[size] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    at += size;
  }
  return true;
}

}  // namespace ems
