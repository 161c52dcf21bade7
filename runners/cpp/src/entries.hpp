// Entries of a contract, each checked: the error names the entry.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "hindsight/json.hpp"

namespace hindsight {

using Shape = std::vector<std::size_t>;

/// Throw a ContractError about an entry.
[[noreturn]] void fail(const std::string& place, const std::string& problem);

/// Return a member that is there and not null; nullptr otherwise.
const Json* optional(const Json& within, std::string_view name);
/// Return an object, list, text or number that must be there.
const Json& object(const Json& within, std::string_view name, const std::string& place);
const Json& list(const Json& within, std::string_view name, const std::string& place);
const std::string& text(const Json& within, std::string_view name, const std::string& place);
double number(const Json& within, std::string_view name, const std::string& place);
std::int64_t whole(const Json& within, std::string_view name, const std::string& place);
/// Return a flag, false where it is left out.
bool flag(const Json& within, std::string_view name, const std::string& place);

/// Return positive sizes; empty only where that is allowed.
Shape sizes(const Json& within, const std::string& place, bool empty);

/// Return nested lists of a shape as one row after the other.
///
/// With ends, null inside is that number; without, an error. Numbers must be finite in float32.
std::vector<double> table(const Json& values, const Shape& shape, const std::string& place,
                          const double* end = nullptr);

}  // namespace hindsight
