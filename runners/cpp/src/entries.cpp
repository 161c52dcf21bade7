#include "entries.hpp"

#include <cmath>
#include <limits>

#include "hindsight/policy.hpp"

namespace hindsight {

namespace {

constexpr std::size_t kMostNumbers = std::size_t{1} << 24, kMostDimensions = 8;

const Json& entry(const Json& within, std::string_view name, const std::string& place) {
  const Json* found = within.find(name);
  if (found == nullptr) fail(place, "is missing");
  return *found;
}

void fill(const Json& values, const Shape& shape, std::size_t depth, const std::string& place,
          const double* end, std::vector<double>& to) {
  if (depth == shape.size()) {
    if (values.is_null() && end != nullptr) {
      to.push_back(*end);
      return;
    }
    if (!values.is_number() || std::abs(values.number()) > std::numeric_limits<float>::max()) {
      fail(place, "is not a full table of numbers that float32 holds");
    }
    to.push_back(values.number());
    return;
  }
  if (!values.is_list() || values.list().size() != shape[depth]) {
    fail(place, "is no table of the shape that is stated for it");
  }
  for (const Json& each : values.list()) fill(each, shape, depth + 1, place, end, to);
}

}  // namespace

void fail(const std::string& place, const std::string& problem) {
  throw ContractError("hindsight.contract: " + place + " " + problem +
                      ". Export the checkpoint again with 'hindsight export'.");
}

const Json* optional(const Json& within, std::string_view name) {
  const Json* found = within.find(name);
  return found == nullptr || found->is_null() ? nullptr : found;
}

const Json& object(const Json& within, std::string_view name, const std::string& place) {
  const Json& found = entry(within, name, place);
  if (!found.is_object()) fail(place, "must be an object");
  return found;
}

const Json& list(const Json& within, std::string_view name, const std::string& place) {
  const Json& found = entry(within, name, place);
  if (!found.is_list()) fail(place, "must be a list");
  return found;
}

const std::string& text(const Json& within, std::string_view name, const std::string& place) {
  const Json& found = entry(within, name, place);
  if (!found.is_text()) fail(place, "must be a text");
  return found.text();
}

double number(const Json& within, std::string_view name, const std::string& place) {
  const Json& found = entry(within, name, place);
  if (!found.is_number()) fail(place, "must be a number");
  return found.number();
}

std::int64_t whole(const Json& within, std::string_view name, const std::string& place) {
  const Json& found = entry(within, name, place);
  if (!found.is_whole() || std::abs(found.number()) > 9007199254740992.0) {  // 2^53
    fail(place, "must be a whole number");
  }
  return static_cast<std::int64_t>(found.number());
}

bool flag(const Json& within, std::string_view name, const std::string& place) {
  const Json* found = optional(within, name);
  if (found != nullptr && !found->is_boolean()) fail(place, "must be true or false");
  return found != nullptr && found->boolean();
}

Shape sizes(const Json& within, const std::string& place, bool empty) {
  const Json& found = list(within, "shape", place + ".shape");
  Shape shape;
  std::size_t numbers = 1;
  for (const Json& each : found.list()) {
    if (!each.is_whole() || each.number() < 1.0) fail(place + ".shape", "must list positive sizes");
    if (each.number() > static_cast<double>(kMostNumbers / numbers)) {
      fail(place + ".shape", "has more than 16,777,216 numbers in a row");
    }
    shape.push_back(static_cast<std::size_t>(each.number()));
    numbers *= shape.back();
  }
  if ((shape.empty() && !empty) || shape.size() > kMostDimensions) {
    fail(place + ".shape", "must list 1 to 8 sizes");
  }
  return shape;
}

std::vector<double> table(const Json& values, const Shape& shape, const std::string& place,
                          const double* end) {
  std::vector<double> found;
  fill(values, shape, 0, place, end, found);
  return found;
}

}  // namespace hindsight
