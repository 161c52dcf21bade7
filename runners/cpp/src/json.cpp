#include "hindsight/json.hpp"

#include <charconv>
#include <cstdint>
#include <stdexcept>

namespace hindsight {

namespace {

constexpr int kDeepest = 64;
constexpr std::size_t kMostDigits = 20;  // of a whole number: those of the largest of 64 bits

bool digit(char letter) { return letter >= '0' && letter <= '9'; }

void append_utf8(std::string& to, std::uint32_t code) {
  if (code < 0x80) {
    to += static_cast<char>(code);
  } else if (code < 0x800) {
    to += static_cast<char>(0xC0 | (code >> 6));
    to += static_cast<char>(0x80 | (code & 0x3F));
  } else if (code < 0x10000) {
    to += static_cast<char>(0xE0 | (code >> 12));
    to += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    to += static_cast<char>(0x80 | (code & 0x3F));
  } else {
    to += static_cast<char>(0xF0 | (code >> 18));
    to += static_cast<char>(0x80 | ((code >> 12) & 0x3F));
    to += static_cast<char>(0x80 | ((code >> 6) & 0x3F));
    to += static_cast<char>(0x80 | (code & 0x3F));
  }
}

}  // namespace

class JsonReader {
 public:
  explicit JsonReader(std::string_view text) : text_(text) {}

  Json whole() {
    Json found = value(0);
    skip_space();
    if (at_ < text_.size()) fail("something follows the value");
    return found;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw std::invalid_argument("byte " + std::to_string(at_) + ": " + what);
  }

  char peek() const { return at_ < text_.size() ? text_[at_] : '\0'; }

  void skip_space() {
    while (at_ < text_.size() && (peek() == ' ' || peek() == '\t' || peek() == '\n' ||
                                  peek() == '\r')) {
      ++at_;
    }
  }

  bool taken(char letter) {
    skip_space();
    if (at_ >= text_.size() || text_[at_] != letter) return false;
    ++at_;
    return true;
  }

  void expect(char letter) {
    if (!taken(letter)) fail(std::string("'") + letter + "' is missing");
  }

  Json value(int depth) {
    if (depth > kDeepest) fail("nested deeper than " + std::to_string(kDeepest) + " levels");
    skip_space();
    Json found;
    if (peek() == '{') {
      found.value_ = object(depth);
    } else if (peek() == '[') {
      found.value_ = list(depth);
    } else if (peek() == '"') {
      found.value_ = string();
    } else if (peek() == '-' || digit(peek())) {
      found.value_ = number();
    } else if (word("true")) {
      found.value_ = true;
    } else if (word("false")) {
      found.value_ = false;
    } else if (!word("null")) {
      fail("no value of JSON begins here");
    }
    return found;
  }

  bool word(std::string_view wanted) {
    if (text_.substr(at_, wanted.size()) != wanted) return false;
    at_ += wanted.size();
    return true;
  }

  Json::Members object(int depth) {
    Json::Members found;
    expect('{');
    if (taken('}')) return found;
    do {
      skip_space();
      std::string name = string();
      for (const auto& member : found) {
        if (member.first == name) fail("'" + name + "' is named twice");
      }
      expect(':');
      found.emplace_back(std::move(name), value(depth + 1));
    } while (taken(','));
    expect('}');
    return found;
  }

  Json::List list(int depth) {
    Json::List found;
    expect('[');
    if (taken(']')) return found;
    do {
      found.push_back(value(depth + 1));
    } while (taken(','));
    expect(']');
    return found;
  }

  Json::Number number() {
    const std::size_t start = at_;
    if (peek() == '-') ++at_;
    const std::size_t first = at_;
    digits();
    if (text_[first] == '0' && at_ > first + 1) fail("a number begins with 0");
    bool whole = true;
    if (at_ - first > kMostDigits && peek() != '.') fail("a whole number is too long");
    if (peek() == '.') {
      whole = false;
      ++at_;
      digits();
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      ++at_;
      if (peek() == '+' || peek() == '-') ++at_;
      digits();
    }
    double found = 0.0;
    const char* const end = text_.data() + at_;
    const auto read = std::from_chars(text_.data() + start, end, found);
    if (read.ptr != end || read.ec != std::errc()) fail("the number is out of range");
    return {found, whole};
  }

  void digits() {
    if (!digit(peek())) fail("a digit is missing");
    while (digit(peek())) ++at_;
  }

  std::string string() {
    if (peek() != '"') fail("a text is missing");
    ++at_;
    std::string found;
    while (peek() != '"') {
      if (at_ >= text_.size()) fail("a text does not end");
      const auto byte = static_cast<unsigned char>(text_[at_]);
      if (byte < 0x20) fail("a control character in a text");
      if (byte == '\\') {
        escaped(found);
      } else {
        character(found, byte);
      }
    }
    ++at_;
    return found;
  }

  /// Take one character, which must be UTF-8 of the shortest form.
  void character(std::string& found, unsigned char first) {
    const int more = first < 0x80 ? 0 : first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
    if ((first >= 0x80 && first < 0xC2) || first > 0xF4) fail("not UTF-8");
    if (at_ + static_cast<std::size_t>(more) >= text_.size()) fail("a text does not end");
    std::uint32_t code = more == 0 ? first : first & (0x3Fu >> more);
    for (int place = 1; place <= more; ++place) {
      const auto next = static_cast<unsigned char>(text_[at_ + static_cast<std::size_t>(place)]);
      if ((next & 0xC0) != 0x80) fail("not UTF-8");
      code = (code << 6) | (next & 0x3Fu);
    }
    constexpr std::uint32_t least[] = {0, 0x80, 0x800, 0x10000};
    if (code < least[more] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) {
      fail("not UTF-8");
    }
    found.append(text_.substr(at_, static_cast<std::size_t>(more) + 1));
    at_ += static_cast<std::size_t>(more) + 1;
  }

  void escaped(std::string& found) {
    ++at_;
    constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
    if (const std::size_t place = names.find(peek()); place != names.npos && peek() != '\0') {
      found += values[place];
      ++at_;
      return;
    }
    if (peek() != 'u') fail("an unknown escape");
    std::uint32_t code = unit();
    if (code >= 0xD800 && code < 0xDC00 && text_.substr(at_, 2) == "\\u") {
      ++at_;
      const std::uint32_t second = unit();
      if (second < 0xDC00 || second >= 0xE000) fail("half of a pair of escapes");
      code = 0x10000 + ((code - 0xD800) << 10) + (second - 0xDC00);
    } else if (code >= 0xD800 && code < 0xE000) {
      fail("half of a pair of escapes");
    }
    append_utf8(found, code);
  }

  /// Return the four digits after "u".
  std::uint32_t unit() {
    ++at_;
    std::uint32_t found = 0;
    const std::string_view four = text_.substr(at_ < text_.size() ? at_ : text_.size(), 4);
    const auto read = std::from_chars(four.data(), four.data() + four.size(), found, 16);
    if (four.size() != 4 || read.ptr != four.data() + 4) fail("an escape of less than four digits");
    at_ += 4;
    return found;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

Json Json::parse(std::string_view text) { return JsonReader(text).whole(); }

const Json* Json::find(std::string_view name) const {
  if (!is_object()) return nullptr;
  for (const auto& member : members()) {
    if (member.first == name) return &member.second;
  }
  return nullptr;
}

}  // namespace hindsight
