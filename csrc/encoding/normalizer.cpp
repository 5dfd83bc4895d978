#include "encoding/normalizer.h"

#include <cstring>

namespace ems {
namespace {

constexpr std::string_view escaped_space = "\xE2\x96\x81";
constexpr std::uint32_t escaped_space_code = 0x2581;

// The units of the compiled rules are those of the library Darts-clone.
std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000FF; }
bool has_value(std::uint32_t unit) { return unit >> 8 & 1; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7FFFFFFF; }
std::uint32_t offset_of(std::uint32_t unit) { return unit >> 10 << ((unit & 0x200) >> 6); }
constexpr std::uint32_t no_child = 0x80000000;  // a label that no byte equals

// The number of a character below U+10000 of two or three bytes.
std::uint32_t code_of(const std::uint8_t* at) {
  return at[0] < 0xE0 ? (at[0] & 0x1Fu) << 6 | (at[1] & 0x3Fu)
                      : (at[0] & 0x0Fu) << 12 | (at[1] & 0x3Fu) << 6 | (at[2] & 0x3Fu);
}

}  // namespace

Normalizer::Normalizer(const SentencePieceModel& model, ByteTrie user_symbols,
                       bool has_user_symbols)
    : dummy_prefix_(model.add_dummy_prefix),
      trims_(model.remove_extra_whitespaces),
      as_suffix_(model.whitespace_as_suffix),
      user_symbols_(std::move(user_symbols)),
      has_user_symbols_(has_user_symbols),
      ruled_(0x10000 / 64) {
  if (!model.escape_whitespaces) throw NotCovered("it does not write spaces as ▁");
  for (int byte = 0; byte < 128; ++byte) {
    ascii_[byte] = Ascii::copied;
    becomes_[byte] = static_cast<std::uint8_t>(byte);
  }
  ascii_[static_cast<int>(space)] = Ascii::space;
  mark(escaped_space_code);
  if (!model.charsmap.empty()) read_rules(model.charsmap);
  for (const Piece& piece : model.pieces)
    if (piece.type == PieceType::user_defined) {
      const std::vector<std::uint8_t> key(piece.text.begin(), piece.text.end());
      // A symbol of one byte, too, is looked up: it is exempt from the rules.
      if (key[0] < 0x80)
        ascii_[key[0]] = Ascii::looked_up;
      else if (character_bytes(key[0]) < 4)
        mark(code_of(key.data()));
    }
}

void Normalizer::read_rules(std::string_view charsmap) {
  std::uint32_t bytes = 0;
  if (charsmap.size() <= sizeof bytes) throw MalformedModel("its normalisation rules are cut off");
  std::memcpy(&bytes, charsmap.data(), sizeof bytes);
  charsmap.remove_prefix(sizeof bytes);
  if (bytes >= charsmap.size() || bytes % 4 || bytes == 0)
    throw MalformedModel("its normalisation rules are cut off");
  rules_.resize((bytes / 4 + 255) / 256 * 256, no_child);
  std::memcpy(rules_.data(), charsmap.data(), bytes);
  charsmap.remove_prefix(bytes);
  kept_.assign(charsmap.begin(), charsmap.end());
  replacements_ = {kept_.data(), kept_.size()};
  if (replacements_.back() != 0) throw MalformedModel("its normalisation rules do not end");
  if (!is_utf8(replacements_)) throw MalformedModel("its normalisation rules make no UTF-8");

  // The children of every base: a unit is one of the base that its label leads from.
  const auto units = static_cast<std::uint32_t>(rules_.size());
  std::vector<std::uint32_t> begins(units + 1), children(units);
  const auto for_each_child = [this, units](auto run) {
    for (std::uint32_t at = 0; at < units; ++at) {
      const std::uint32_t label = label_of(rules_[at]);
      if (label > 0 && label < 256) run(at ^ label, at);  // the byte 0 ends a text
    }
  };
  for_each_child([&](std::uint32_t base, std::uint32_t) { ++begins[base]; });
  for (std::uint32_t base = 0, sum = 0; base <= units; ++base) begins[base] = sum += begins[base];
  for_each_child([&](std::uint32_t base, std::uint32_t at) { children[--begins[base]] = at; });

  // Every rule is visited now, so that nothing needs to be checked when text is looked up. Rules that
  // end alike share units; more steps than this, or longer rules, there are in a circle only.
  constexpr std::size_t longest = 256;
  std::uint64_t steps = 64 * std::uint64_t{units};
  struct Node {
    std::uint32_t unit, base;
    std::size_t depth;
  };
  std::vector<std::uint8_t> key;
  std::vector<Node> waiting = {{rules_[0], offset_of(rules_[0]), 0}};
  while (!waiting.empty()) {
    const Node node = waiting.back();
    waiting.pop_back();
    if (node.base >= units) throw MalformedModel("its normalisation rules lead outside of them");
    if (node.depth > longest || steps-- == 0)
      throw MalformedModel("its normalisation rules lead in a circle");
    if (node.depth) {
      key.resize(node.depth - 1);
      key.push_back(static_cast<std::uint8_t>(node.unit));
      const bool whole = has_value(node.unit);
      if (whole) {
        const std::uint32_t value = value_of(rules_[node.base]);
        if (value >= replacements_.size())
          throw MalformedModel("its normalisation rules lead outside of them");
        if ((replacements_[value] & 0xC0) == 0x80)
          throw MalformedModel("its normalisation rules make no UTF-8");
      }
      note_rule(key, whole);
    }
    for (std::uint32_t i = begins[node.base]; i < begins[node.base + 1]; ++i)
      waiting.push_back(
          {rules_[children[i]], children[i] ^ offset_of(rules_[children[i]]), node.depth + 1});
  }
}

// `key` is a rule if `whole`, or what longer ones begin with.
void Normalizer::note_rule(const std::vector<std::uint8_t>& key, bool whole) {
  const std::uint8_t lead = key[0];
  const auto size = static_cast<int>(key.size());
  if (whole && !is_utf8({reinterpret_cast<const char*>(key.data()), key.size()}))
    throw MalformedModel("its normalisation rules do not replace whole characters");
  if (lead >= 0x80) {
    if (lead >= 0xC0 && size == character_bytes(lead) && size < 4) mark(code_of(key.data()));
  } else if (size == 2 && key[1] < 0x80) {
    ascii_[lead] = Ascii::looked_up;
  } else if (size == 1 && whole) {
    const std::uint8_t text[] = {lead, 0};
    const std::string_view becomes = step(text).becomes;
    const auto first = becomes.size() == 1 ? static_cast<std::uint8_t>(becomes[0]) : 0x80;
    if (first >= 0x80) {
      ascii_[lead] = Ascii::looked_up;
    } else {
      ascii_[lead] = first == space ? Ascii::space : Ascii::copied;
      becomes_[lead] = first;
    }
  }
}

Normalizer::Step Normalizer::step(const std::uint8_t* text) const {
  const auto* const characters = reinterpret_cast<const char*>(text);
  if (has_user_symbols_)
    if (const std::int64_t bytes = user_symbols_.longest(text))
      return {{characters, static_cast<std::size_t>(bytes)}, bytes};
  std::int64_t bytes = 0;
  std::uint32_t found = 0;
  if (!rules_.empty()) {
    std::uint32_t at = offset_of(rules_[0]);
    // The byte 0 behind the text ends it: its unit holds a value, or is no child either.
    for (std::int64_t i = 0; text[i]; ++i) {
      at ^= text[i];
      const std::uint32_t unit = rules_[at];
      if (label_of(unit) != text[i]) break;
      at ^= offset_of(unit);
      if (has_value(unit)) {
        bytes = i + 1;
        found = value_of(rules_[at]);
      }
    }
  }
  if (bytes) return {std::string_view(replacements_.data() + found), bytes};
  bytes = character_bytes(text[0]);
  return {{characters, static_cast<std::size_t>(bytes)}, bytes};
}

void Normalizer::apply(const std::uint8_t* text, const std::uint8_t* end, Bytes& out) const {
  // Room for what is left of the text, a space and a byte 0, at any time.
  constexpr std::int64_t more = 2;
  out.resize(0);
  out.reserve(end - text + more);
  out.begin()[0] = 0;
  if (text == end) return;
  if (trims_) {
    while (text < end) {
      const Step next = step(text);
      if (next.becomes != " ") break;
      text += next.bytes;
    }
    if (text == end) return;
  }
  std::uint8_t* next = out.begin();
  if (dummy_prefix_ && !as_suffix_) *next++ = space;
  bool after_space = trims_;
  while (text < end) {
    const std::uint8_t lead = *text;
    if (lead < 0x80) {
      if (text[1] < 0x80 && ascii_[lead] != Ascii::looked_up) {
        ++text;
        if (ascii_[lead] == Ascii::copied) {
          *next++ = becomes_[lead];
          after_space = false;
        } else if (!after_space) {
          *next++ = space;
          after_space = trims_;
        }
        continue;
      }
    } else if (const int bytes = character_bytes(lead); bytes < 4 && !is_ruled(code_of(text))) {
      for (int i = 0; i < bytes; ++i) next[i] = text[i];
      next += bytes;
      text += bytes;
      after_space = false;
      continue;
    }
    auto [becomes, bytes] = step(text);
    text += bytes;
    while (after_space && !becomes.empty() && becomes[0] == ' ') becomes.remove_prefix(1);
    if (becomes.empty()) continue;
    after_space = trims_ && becomes.back() == ' ';
    out.resize(next - out.begin());
    out.reserve(out.size() + static_cast<std::int64_t>(becomes.size()) + (end - text) + more);
    next = out.begin() + out.size();
    while (!becomes.empty())
      if (becomes.substr(0, escaped_space.size()) == escaped_space) {
        *next++ = space;
        becomes.remove_prefix(escaped_space.size());
      } else {
        *next++ = static_cast<std::uint8_t>(becomes[0]);
        becomes.remove_prefix(1);
      }
  }
  if (trims_)
    while (next > out.begin() && next[-1] == space) --next;
  if (dummy_prefix_ && as_suffix_) *next++ = space;
  *next = 0;
  out.resize(next - out.begin());
}

}  // namespace ems
