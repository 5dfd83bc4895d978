// Text to ids with a SentencePiece model of the type unigram: the ids that the library SentencePiece
// gives, in its release 0.2.3, also where the sums of two ways differ by their rounding only.
#pragma once

#include <cstdint>
#include <string_view>
#include <vector>

#include "encoding/normalizer.h"

namespace ems {

// A string as Python keeps it: numbers of characters, each of `bytes_each` bytes, 1, 2 or 4.
struct Text {
  const void* characters;
  std::int64_t size;
  int bytes_each;
};

class Unigram {
 public:
  // Throws MalformedModel, or NotCovered where the library itself has to serve.
  explicit Unigram(std::string_view model);

  std::int64_t vocab_size() const { return vocab_size_; }
  std::int32_t pad_id() const { return pad_id_; }  // −1: there is none
  std::int32_t unknown_id() const { return unknown_id_; }

  // The ids of B texts, one part after another, on up to `threads` threads, and in ends [B] where
  // each text's end among them all. −1, or the number of the first text that cannot be encoded:
  // half of a surrogate pair is in it, or more than 2 GB; then the rest is undefined.
  std::int64_t encode(const Text* texts, std::int64_t B, int threads, std::int64_t* ends,
                      std::vector<std::vector<std::int64_t>>& parts) const;

 private:
  struct Scratch;

  explicit Unigram(const SentencePieceModel& model);
  bool encode_one(const Text& text, Scratch& scratch, std::vector<std::int64_t>& ids) const;
  void best_path(Scratch& scratch, std::vector<std::int64_t>& ids) const;

  std::int64_t vocab_size_;
  bool byte_fallback_;
  std::int32_t pad_id_ = -1, unknown_id_ = -1;
  std::int64_t byte_ids_[256];
  float unknown_score_;
  bool spans_words_ = false;  // a piece has a space that is not its first character
  std::int32_t longest_piece_ = 0;
  std::vector<float> scores_;  // by id
  ByteTrie pieces_;
  Normalizer normalizer_;
};

}  // namespace ems
