// What SentencePiece does to a text before it looks for pieces.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "encoding/byte_trie.h"
#include "encoding/sentencepiece.h"

namespace ems {

// ▁ (U+2581), which stands for a space, is this one byte here: no other character is left that is.
constexpr std::uint8_t space = ' ';

// Bytes that keep their memory.
class Bytes {
 public:
  const std::uint8_t* data() const { return bytes_.data(); }
  std::int64_t size() const { return size_; }
  std::uint8_t* begin() { return bytes_.data(); }
  void resize(std::int64_t size) { size_ = size; }
  // Memory for so many bytes; those that are there stay.
  void reserve(std::int64_t bytes) {
    if (bytes > static_cast<std::int64_t>(bytes_.size()))
      bytes_.resize(static_cast<std::size_t>(bytes + bytes / 2));
  }

 private:
  std::vector<std::uint8_t> bytes_;
  std::int64_t size_ = 0;
};

class Normalizer {
 public:
  // User-defined symbols are taken as they are. Throws MalformedModel where the compiled rules are
  // damaged, NotCovered where spaces are not written as ▁.
  Normalizer(const SentencePieceModel& model, ByteTrie user_symbols, bool has_user_symbols);
  Normalizer(Normalizer&&) = default;  // no copies: a part points into another

  // What is made of the well-formed UTF-8 text … end, behind which lies a byte 0; in `out`, too.
  void apply(const std::uint8_t* text, const std::uint8_t* end, Bytes& out) const;

 private:
  // What the text begins with, what replaces it, and how many bytes it has.
  struct Step {
    std::string_view becomes;
    std::int64_t bytes;
  };

  // What happens to a byte below 0x80 where one of these or nothing follows.
  enum class Ascii : std::uint8_t { copied, space, looked_up };

  void read_rules(std::string_view charsmap);
  void note_rule(const std::vector<std::uint8_t>& key, bool whole);
  Step step(const std::uint8_t* text) const;
  bool is_ruled(std::uint32_t code) const { return ruled_[code >> 6] >> (code & 63) & 1; }
  void mark(std::uint32_t code) { ruled_[code >> 6] |= std::uint64_t{1} << (code & 63); }

  bool dummy_prefix_, trims_, as_suffix_;
  ByteTrie user_symbols_;
  bool has_user_symbols_;
  std::vector<std::uint32_t> rules_;  // the compiled rules' own double array
  std::string_view replacements_;     // into `kept_`; each ends with a byte 0
  std::vector<char> kept_;
  Ascii ascii_[128];
  std::uint8_t becomes_[128];
  // A bit for each character below U+10000: one that a rule or a symbol begins with.
  std::vector<std::uint64_t> ruled_;
};

}  // namespace ems
