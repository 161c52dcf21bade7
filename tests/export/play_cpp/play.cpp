// Plays policy files for test_cpp.py: cases as JSON on stdin, what was answered on stdout.
#include <charconv>
#include <cstdio>
#include <iostream>
#include <iterator>
#include <string>

#include "hindsight/policy.hpp"

using hindsight::Json;
using hindsight::Numbers;
using hindsight::Policy;

namespace {

/// Numbers of a case, kept in the type that its key says.
struct Kept {
  std::vector<float> floats;
  std::vector<double> doubles;
  std::vector<std::uint8_t> bytes;
  std::vector<std::int64_t> wholes;
  std::string type;

  explicit Kept(const Json& given) : type(given.members().at(0).first) {
    for (const Json& each : given.members()[0].second.list()) {
      // JSON has no NaN: a text stands for it.
      const double value = each.is_text() ? std::stod(each.text()) : each.number();
      floats.push_back(static_cast<float>(value));
      doubles.push_back(value);
      bytes.push_back(static_cast<std::uint8_t>(value));
      wholes.push_back(static_cast<std::int64_t>(value));
    }
  }

  Numbers numbers() const {
    if (type == "uint8") return bytes;
    if (type == "int64") return wholes;
    if (type == "double") return doubles;
    return floats;
  }
};

std::string text(double value) {
  char found[32];
  return {found, std::to_chars(found, found + sizeof found, value).ptr};
}

std::string quoted(const std::string& said) {
  std::string found = "\"";
  for (const char letter : said) {
    if (letter == '"' || letter == '\\') found += '\\';
    found += letter == '\n' ? ' ' : letter;
  }
  return found + "\"";
}

std::string answered(Policy& policy, const Json& row, const Json* task) {
  std::vector<Kept> kept;
  kept.reserve(16);
  std::vector<std::pair<std::string, Numbers>> entries;
  if (const Json* named = row.find("entries")) {
    for (const auto& [name, given] : named->members()) {
      entries.emplace_back(name, kept.emplace_back(given).numbers());
    }
  } else {
    kept.emplace_back(row);
  }
  const hindsight::Observation observation =
      entries.size() == 3 ? hindsight::Observation{entries[0], entries[1], entries[2]}
      : entries.empty()   ? hindsight::Observation(kept[0].numbers())
                          : hindsight::Observation(entries);
  std::optional<Numbers> wanted;
  if (task != nullptr) wanted = kept.emplace_back(*task).numbers();
  if (policy.contract().find("action")->find("kind")->text() == "discrete") {
    return "[" + std::to_string(policy.choose(observation, wanted)) + "]";
  }
  std::string found;
  for (const float each : policy.act(observation, wanted)) {
    found += (found.empty() ? "" : ",") + text(static_cast<double>(each));
  }
  return "[" + found + "]";
}

std::string played(const Json& each) {
  hindsight::Options options;
  if (const Json* seed = each.find("seed")) {
    options.seed = std::stoull(seed->text());  // 64 bits do not fit a number of JSON
  }
  options.deterministic = each.find("deterministic") != nullptr;
  Policy policy(each.find("path")->text(), options);
  if (each.find("verify") != nullptr) {
    const hindsight::Report found = policy.verify();
    return "{\"rows\":" + std::to_string(found.rows) + ",\"close\":" + std::to_string(found.close) +
           ",\"wrong\":" + std::to_string(found.wrong) + ",\"difference\":" +
           text(found.difference) + "}";
  }
  if (const Json* joints = each.find("joints")) {
    std::vector<std::string> names;
    for (const Json& name : joints->list()) names.push_back(name.text());
    std::string places;
    for (const std::size_t place : policy.check_robot(names, each.find("reorder") != nullptr)) {
      places += (places.empty() ? "" : ",") + std::to_string(place);
    }
    return "[" + places + "]";
  }
  std::string answers;
  const Json::List& rows = each.find("rows")->list();
  for (std::size_t row = 0; row < rows.size(); ++row) {
    if (const Json* resets = each.find("resets")) {
      for (const Json& at : resets->list()) {
        if (at.number() == static_cast<double>(row)) policy.reset();
      }
    }
    answers += (row == 0 ? "" : ",") + answered(policy, rows[row], each.find("task"));
    if (const Json* sent = each.find("sent")) policy.executed(Kept(*sent).numbers());
    if (each.find("verify_between") != nullptr) policy.verify();
  }
  return "[" + answers + "]";
}

}  // namespace

int main() {
  const std::string given(std::istreambuf_iterator<char>(std::cin), {});
  const Json cases = Json::parse(given);
  std::string results;
  for (const Json& each : cases.list()) {
    results += results.empty() ? "" : ",";
    try {
      results += "{\"value\":" + played(each) + "}";
    } catch (const hindsight::ContractError& error) {
      results += "{\"error\":" + quoted(std::string("ContractError: ") + error.what()) + "}";
    } catch (const std::exception& error) {
      results += "{\"error\":" + quoted(error.what()) + "}";
    }
  }
  std::printf("[%s]\n", results.c_str());
  return 0;
}
