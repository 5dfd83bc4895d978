#include "encoding/unigram.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <mutex>
#include <set>

#include "encoding/threads.h"

namespace ems {
namespace {

// Sentences that take about as long as a thread takes to start.
constexpr std::int64_t smallest = 64;
constexpr float unknown_penalty = 10;
constexpr double symbol_bonus = 0.1;
constexpr float most_score = 100'000;
constexpr std::string_view escaped_space = "\xE2\x96\x81";

// A key of a trie: the first eight bytes as a number decide nearly every comparison.
struct Key {
  std::uint64_t head;
  std::string_view text;
  std::int32_t id;

  Key(std::string_view t, std::int32_t i) : head(0), text(t), id(i) {
    for (std::size_t b = 0; b < 8; ++b)
      head = head << 8 | (b < text.size() ? static_cast<std::uint8_t>(text[b]) : 0u);
  }
  bool operator<(const Key& other) const {
    return head != other.head ? head < other.head : text < other.text;
  }
};

ByteTrie trie_of(std::vector<Key> keys) {
  std::sort(keys.begin(), keys.end());
  std::vector<std::pair<std::string_view, std::int32_t>> sorted;
  sorted.reserve(keys.size());
  for (const Key& key : keys) {
    if (!sorted.empty() && sorted.back().first == key.text)
      throw MalformedModel("it has a piece twice");
    sorted.emplace_back(key.text, key.id);
  }
  return ByteTrie(sorted);
}

bool is_searched(const Piece& piece) {
  return piece.type == PieceType::normal || piece.type == PieceType::user_defined;
}

// The pieces that text is searched for, with a space for every ▁.
ByteTrie trie_of_pieces(const SentencePieceModel& model) {
  std::size_t bytes = 0;
  for (const Piece& piece : model.pieces) {
    if (piece.text.empty()) throw MalformedModel("it has an empty piece");
    if (piece.text.find('\0') != std::string_view::npos)
      throw MalformedModel("it has a piece with a null character");
    if (piece.type == PieceType::unused) throw NotCovered("it has unused pieces");
    bytes += piece.text.size();
  }
  std::vector<char> written;
  written.reserve(bytes);  // not moved any more
  std::vector<Key> keys;
  keys.reserve(model.pieces.size());
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    std::string_view text = model.pieces[id].text;
    if (!is_searched(model.pieces[id])) continue;
    if (!is_utf8(text)) throw MalformedModel("it has a piece that is no UTF-8");
    // Text has no space left when pieces are searched, so that neither has a piece that is found.
    if (text.find(' ') != std::string_view::npos) {
      if (model.pieces[id].type == PieceType::normal) continue;
      throw NotCovered("it has user-defined symbols with spaces");
    }
    const std::size_t start = written.size();
    while (!text.empty()) {
      const bool is_space = text.substr(0, escaped_space.size()) == escaped_space;
      written.push_back(is_space ? ' ' : text[0]);
      text.remove_prefix(is_space ? escaped_space.size() : 1);
    }
    keys.emplace_back(std::string_view(written.data() + start, written.size() - start),
                      static_cast<std::int32_t>(id));
  }
  if (keys.empty()) throw MalformedModel("it has no pieces but special ones");
  return trie_of(std::move(keys));
}

ByteTrie trie_of_user_symbols(const SentencePieceModel& model) {
  std::vector<Key> keys;
  for (std::size_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces[id].type == PieceType::user_defined)
      keys.emplace_back(model.pieces[id].text, static_cast<std::int32_t>(id));
  return trie_of(std::move(keys));
}

bool has_user_symbols(const SentencePieceModel& model) {
  return std::any_of(model.pieces.begin(), model.pieces.end(),
                     [](const Piece& piece) { return piece.type == PieceType::user_defined; });
}

// The number of a byte's piece, "<0x41>", or −1.
int byte_of(std::string_view piece) {
  constexpr std::string_view digits = "0123456789ABCDEF";
  if (piece.size() != 6 || piece.substr(0, 3) != "<0x" || piece[5] != '>') return -1;
  const std::size_t high = digits.find(piece[3]), low = digits.find(piece[4]);
  if (high == std::string_view::npos || low == std::string_view::npos) return -1;
  return static_cast<int>(high << 4 | low);
}

template <typename Character>
bool to_utf8(const Character* text, std::int64_t size, Bytes& out) {
  constexpr std::int64_t longest = sizeof(Character) == 1 ? 2 : sizeof(Character) == 2 ? 3 : 4;
  out.reserve(longest * size + 1);
  std::uint8_t* next = out.begin();
  for (std::int64_t i = 0; i < size; ++i) {
    const std::uint32_t code = text[i];
    const auto tail = [code](int shift) {
      return static_cast<std::uint8_t>(0x80 | (code >> shift & 0x3F));
    };
    if (code < 0x80) {
      *next++ = static_cast<std::uint8_t>(code);
    } else if (code < 0x800) {
      *next++ = static_cast<std::uint8_t>(0xC0 | code >> 6);
      *next++ = tail(0);
    } else if (code < 0x10000) {
      if (code >= 0xD800 && code < 0xE000) return false;
      *next++ = static_cast<std::uint8_t>(0xE0 | code >> 12);
      *next++ = tail(6);
      *next++ = tail(0);
    } else {
      *next++ = static_cast<std::uint8_t>(0xF0 | code >> 18);
      *next++ = tail(12);
      *next++ = tail(6);
      *next++ = tail(0);
    }
  }
  *next = 0;
  out.resize(next - out.begin());
  return true;
}

bool to_utf8(const Text& text, Bytes& out) {
  switch (text.bytes_each) {
    case 1: return to_utf8(static_cast<const std::uint8_t*>(text.characters), text.size, out);
    case 2: return to_utf8(static_cast<const std::uint16_t*>(text.characters), text.size, out);
    default: return to_utf8(static_cast<const std::uint32_t*>(text.characters), text.size, out);
  }
}

// The best way to what ends at a byte of the text: its last piece, and where that begins.
struct Node {
  float score;
  std::int32_t start;  // −1: no piece ends here
  std::int32_t id;
};

}  // namespace

struct Unigram::Scratch {
  Bytes utf8, normal;
  std::vector<Node> nodes;
  std::vector<std::int32_t> ends;  // of a path's pieces, the last one first
};

Unigram::Unigram(std::string_view model) : Unigram(read_sentencepiece_model(model)) {}

Unigram::Unigram(const SentencePieceModel& model)
    : vocab_size_(static_cast<std::int64_t>(model.pieces.size())),
      byte_fallback_(model.byte_fallback),
      pieces_(model.type == 1 ? trie_of_pieces(model)
                              : throw NotCovered("it is of another type than unigram")),
      normalizer_(model, trie_of_user_symbols(model), has_user_symbols(model)) {
  std::fill(std::begin(byte_ids_), std::end(byte_ids_), -1);
  float least = FLT_MAX;
  std::set<std::string_view> special;  // they may have names that pieces of text have, too
  for (std::size_t i = 0; i < model.pieces.size(); ++i) {
    const Piece& piece = model.pieces[i];
    const auto id = static_cast<std::int32_t>(i);
    if (!std::isfinite(piece.score)) throw MalformedModel("it has a score that is no number");
    if (!is_searched(piece) && !special.insert(piece.text).second)
      throw MalformedModel("it has a piece twice");
    if (piece.type == PieceType::normal) {
      least = std::min(least, piece.score);
    } else if (piece.type == PieceType::unknown) {
      if (unknown_id_ >= 0) throw MalformedModel("it has two unknown pieces");
      unknown_id_ = id;
    } else if (piece.type == PieceType::byte) {
      const int byte = byte_of(piece.text);
      if (byte < 0 || !byte_fallback_) throw MalformedModel("it has a byte piece that is none");
      byte_ids_[byte] = id;
    } else if (piece.type == PieceType::control && piece.text == model.pad_piece) {
      pad_id_ = id;
    }
    if (is_searched(piece) && piece.text.find(escaped_space, 1) != std::string_view::npos)
      spans_words_ = true;
  }
  if (unknown_id_ < 0) throw MalformedModel("it has no unknown piece");
  if (byte_fallback_ &&
      std::find(std::begin(byte_ids_), std::end(byte_ids_), -1) != std::end(byte_ids_))
    throw MalformedModel("it lacks byte pieces");
  unknown_score_ = least - unknown_penalty;
  for (const Piece& piece : model.pieces) {
    const auto bytes = static_cast<int>(piece.text.size());
    if (is_searched(piece)) longest_piece_ = std::max(longest_piece_, bytes);
    // A user-defined symbol is better than anything else, and a longer one than shorter ones.
    scores_.push_back(piece.type == PieceType::user_defined
                          ? static_cast<float>((bytes - 1) * symbol_bonus)
                          : piece.score);
  }
}

// Scores are added as SentencePiece adds them, float to float from the beginning of the text, which
// decides between ways that are about equally good. Where no piece spans words, all ways meet at
// every word's beginning, so that only a word's nodes need to be kept.
void Unigram::best_path(Scratch& scratch, std::vector<std::int64_t>& ids) const {
  const std::uint8_t* text = scratch.normal.data();
  const std::uint8_t* const end = text + scratch.normal.size();
  const ByteTrie::Unit* const units = pieces_.units();
  const std::uint32_t root = pieces_.root();
  const std::size_t first_id = ids.size();
  float before = 0;
  while (text < end) {
    const std::uint8_t* stop = end;
    if (!spans_words_)
      if (const void* found =
              std::memchr(text + 1, space, static_cast<std::size_t>(end - text - 1)))
        stop = static_cast<const std::uint8_t*>(found);
    const auto size = static_cast<std::int32_t>(stop - text);
    if (scratch.nodes.size() <= static_cast<std::size_t>(size))
      scratch.nodes.resize(static_cast<std::size_t>(size) + 1);
    Node* const nodes = scratch.nodes.data();
    for (std::int32_t i = 0; i <= size; ++i) nodes[i].start = -1;
    nodes[0].score = before;
    for (std::int32_t start = 0; start < size;) {
      float till_here = nodes[start].score;
      if (std::fabs(till_here) > most_score) {
        // From here on, so that long texts have sums as fine as short ones.
        const std::int32_t last = std::min(size - start, longest_piece_) + start;
        for (std::int32_t i = start; i <= last; ++i)
          if (i == start || nodes[i].start >= 0) nodes[i].score -= till_here;
        till_here = 0;
      }
      const std::int32_t next = start + character_bytes(text[start]);
      bool has_character = false;
      std::uint32_t base = root;
      for (std::int32_t at = start;;) {
        const std::uint8_t byte = text[at];
        const ByteTrie::Unit unit = units[base ^ byte];
        if (unit.label() != byte) break;
        base = unit.base();
        ++at;
        if (unit.value < 0) continue;
        const float score = scores_[static_cast<std::size_t>(unit.value)] + till_here;
        Node& node = nodes[at];
        if (node.start < 0 || score > node.score) node = {score, start, unit.value};
        has_character |= at == next;
      }
      if (!has_character) {
        const float score = unknown_score_ + till_here;
        Node& node = nodes[next];
        if (node.start < 0 || score > node.score) node = {score, start, unknown_id_};
      }
      start = next;
    }
    before = nodes[size].score;
    scratch.ends.clear();
    for (std::int32_t at = size; at > 0; at = nodes[at].start) scratch.ends.push_back(at);
    for (std::size_t i = scratch.ends.size(); i-- > 0;) {
      const Node& node = nodes[scratch.ends[i]];
      if (node.id != unknown_id_) {
        ids.push_back(node.id);
      } else if (byte_fallback_) {
        for (std::int32_t at = node.start; at < scratch.ends[i]; ++at)
          if (text[at] == space)
            for (const char byte : escaped_space)
              ids.push_back(byte_ids_[static_cast<std::uint8_t>(byte)]);
          else
            ids.push_back(byte_ids_[text[at]]);
      } else if (ids.size() == first_id || ids.back() != unknown_id_) {
        ids.push_back(unknown_id_);  // one for all that follow one another
      }
    }
    text = stop;
  }
}

bool Unigram::encode_one(const Text& text, Scratch& scratch, std::vector<std::int64_t>& ids) const {
  constexpr std::int64_t most = std::numeric_limits<std::int32_t>::max() - 1;
  if (text.size > most / 4 || !to_utf8(text, scratch.utf8)) return false;
  const std::uint8_t* const utf8 = scratch.utf8.data();
  normalizer_.apply(utf8, utf8 + scratch.utf8.size(), scratch.normal);
  if (scratch.normal.size() > most) return false;
  best_path(scratch, ids);
  return true;
}

std::int64_t Unigram::encode(const Text* texts, std::int64_t B, int threads, std::int64_t* ends,
                             std::vector<std::vector<std::int64_t>>& parts) const {
  // By their first text: which of them is which, and where its ids begin among all.
  std::vector<std::pair<std::int64_t, std::vector<std::int64_t>>> done;
  std::int64_t failed = B;
  std::exception_ptr error;  // of any thread: one that leaves a thread would end the process
  std::mutex lock;
  in_parts(B, smallest, threads, [&](std::int64_t first, std::int64_t last) {
    try {
      Scratch scratch;
      std::vector<std::int64_t> ids;
      std::int64_t i = first;
      for (; i < last && encode_one(texts[i], scratch, ids); ++i)
        ends[i] = static_cast<std::int64_t>(ids.size());
      const std::lock_guard<std::mutex> guard(lock);
      if (i < last) failed = std::min(failed, i);
      done.emplace_back(first, std::move(ids));
    } catch (...) {
      const std::lock_guard<std::mutex> guard(lock);
      error = std::current_exception();
    }
  });
  if (error) std::rethrow_exception(error);
  if (failed < B) return failed;
  std::sort(done.begin(), done.end(),
            [](const auto& a, const auto& b) { return a.first < b.first; });
  std::int64_t before = 0;
  for (std::size_t part = 0; part < done.size(); ++part) {
    const std::int64_t last = part + 1 < done.size() ? done[part + 1].first : B;
    for (std::int64_t i = done[part].first; i < last; ++i) ends[i] += before;
    before += static_cast<std::int64_t>(done[part].second.size());
    parts.push_back(std::move(done[part].second));
  }
  return -1;
}

}  // namespace ems
