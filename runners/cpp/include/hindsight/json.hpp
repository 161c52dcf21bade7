// A value of JSON, read strictly: what two readers may understand differently is an error.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

namespace hindsight {

class Json {
 public:
  using List = std::vector<Json>;
  using Members = std::vector<std::pair<std::string, Json>>;

  Json() = default;

  /// Return the value that a text is.
  ///
  /// Throws std::invalid_argument naming the byte at fault: of texts that are no JSON of UTF-8, nest
  /// deeper than 64 levels, name a member twice, or hold numbers that no double holds.
  static Json parse(std::string_view text);

  bool is_null() const { return std::holds_alternative<std::monostate>(value_); }
  bool is_boolean() const { return std::holds_alternative<bool>(value_); }
  bool is_number() const { return std::holds_alternative<Number>(value_); }
  /// Whether it is a number without a fraction or exponent.
  bool is_whole() const { return is_number() && std::get<Number>(value_).whole; }
  bool is_text() const { return std::holds_alternative<std::string>(value_); }
  bool is_list() const { return std::holds_alternative<List>(value_); }
  bool is_object() const { return std::holds_alternative<Members>(value_); }

  // Each throws std::bad_variant_access where the value is something else.
  bool boolean() const { return std::get<bool>(value_); }
  double number() const { return std::get<Number>(value_).value; }
  const std::string& text() const { return std::get<std::string>(value_); }
  const List& list() const { return std::get<List>(value_); }
  const Members& members() const { return std::get<Members>(value_); }

  /// Return a member of an object; nullptr where there is none, or this is no object.
  const Json* find(std::string_view name) const;

 private:
  struct Number {
    double value;
    bool whole;
  };
  friend class JsonReader;
  std::variant<std::monostate, bool, Number, std::string, List, Members> value_;
};

}  // namespace hindsight
