#include "probe.hpp"

#include <cmath>

#include "entries.hpp"

namespace hindsight {

namespace {

constexpr std::size_t kMostRows = 4096;

int sextet(char letter) {
  if (letter >= 'A' && letter <= 'Z') return letter - 'A';
  if (letter >= 'a' && letter <= 'z') return letter - 'a' + 26;
  if (letter >= '0' && letter <= '9') return letter - '0' + 52;
  return letter == '+' ? 62 : letter == '/' ? 63 : -1;
}

/// Return bytes that are written in base64.
std::vector<double> bytes(const std::string& text, std::size_t count, const std::string& place) {
  std::vector<double> found;
  if (text.size() % 4 != 0) fail(place, "is not base64");
  found.reserve(text.size() / 4 * 3);
  for (std::size_t at = 0; at < text.size(); at += 4) {
    const bool last = at + 4 == text.size();
    const int absent = !last || text[at + 3] != '=' ? 0 : text[at + 2] != '=' ? 1 : 2;
    int word = 0;
    for (std::size_t k = 0; k < 4; ++k) {
      const int six = static_cast<int>(k) < 4 - absent ? sextet(text[at + k]) : 0;
      if (six < 0) fail(place, "is not base64");
      word = word << 6 | six;
    }
    for (int k = 0; k < 3 - absent; ++k) found.push_back(word >> (16 - 8 * k) & 255);
  }
  if (found.size() != count) fail(place, "has another number of bytes than its shape");
  return found;
}

/// Return a table of rows, checked against the type of its port.
std::vector<double> rows_of(const Json& values, std::size_t rows, const Port& port,
                            const std::string& place) {
  Shape shape{rows};
  shape.insert(shape.end(), port.shape.begin(), port.shape.end());
  if (port.type == Type::uint8 && values.is_text()) return bytes(values.text(), size_of(shape), place);
  std::vector<double> found = table(values, shape, place);
  for (const double each : found) {
    const bool whole = port.type == Type::float32 || each == std::floor(each);
    if (!whole || (port.type == Type::uint8 && (each < 0.0 || each > 255.0))) {
      fail(place, "holds a number that its type does not");
    }
  }
  return found;
}

void check_choices(const std::vector<double>& values, const std::string& place, std::int64_t start,
                   std::int64_t count) {
  for (const double each : values) {
    if (each < static_cast<double>(start) || each >= static_cast<double>(start + count)) {
      fail(place, "holds a number that is none of the choices");
    }
  }
}

std::vector<bool> first_of(const Json& probe, std::size_t rows, const Signature& signature) {
  if (signature.state.empty()) return std::vector<bool>(rows, true);
  const Json& flags = list(probe, "first", "probe.first");
  std::vector<bool> found;
  for (const Json& each : flags.list()) {
    if (!each.is_boolean()) fail("probe.first", "must hold true or false");
    found.push_back(each.boolean());
  }
  if (found.size() != rows || !found[0]) fail("probe.first", "must have each row, and begin true");
  return found;
}

}  // namespace

Probe probe_of(const Json& contract, const Signature& signature) {
  const Json& probe = object(contract, "probe", "probe");
  Probe found;
  const Json& action = list(probe, "action", "probe.action");
  found.rows = action.list().size();
  if (found.rows == 0 || found.rows > kMostRows) fail("probe", "must have 1 to 4096 rows");
  const Json* const tables = optional(probe, "observation");
  if (tables == nullptr) fail("probe.observation", "is missing");
  for (const Input& given : signature.observation) {
    const std::string place = "probe." + given.port.name;
    const Json* const values = signature.entries ? optional(*tables, given.label) : tables;
    if (values == nullptr) fail(place, "is missing");
    auto& to = found.inputs[given.port.name] = rows_of(*values, found.rows, given.port, place);
    if (given.kind == Kind::discrete) check_choices(to, place, 0, given.choices);
  }
  if (signature.task) {
    const Json& values = list(probe, "task", "probe.task");
    found.inputs["task"] = rows_of(values, found.rows, signature.task->port, "probe.task");
  }
  if (signature.noise) {
    const Port port{"noise", signature.noise->shape, Type::float32};
    const Json& values = list(probe, "noise", "probe.noise");
    found.inputs["noise"] = rows_of(values, found.rows, port, "probe.noise");
  }
  found.action = rows_of(action, found.rows, signature.answer, "probe.action");
  if (signature.action.discrete) {
    const Action& stated = signature.action;
    check_choices(found.action, "probe.action", stated.start, stated.choices);
  }
  if (signature.scores) {
    const Json& values = list(probe, "scores", "probe.scores");
    found.scores = rows_of(values, found.rows, *signature.scores, "probe.scores");
  }
  found.first = first_of(probe, found.rows, signature);
  return found;
}

}  // namespace hindsight
