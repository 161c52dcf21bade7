#include "verify.hpp"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <sstream>

#include "entries.hpp"

namespace hindsight {

namespace {

constexpr double kMostTolerance = 1e-3, kMostMargin = 1e-2, kMostBudget = 0.1;
// Bounds wider than this many times the spread of the answers do not measure a difference.
constexpr double kWidest = 1000.0;

struct Limits {
  double tolerance = 0.0, margin = 0.0;
  std::optional<double> budget;  ///< Where products are computed in fewer bits.

  double allowed() const { return budget.value_or(tolerance); }
};

/// The file is judged by these numbers, so it is not free to choose them.
Limits limits_of(const Json& contract) {
  const Json& parity = object(contract, "parity", "parity");
  Limits found{number(parity, "tolerance", "parity.tolerance"),
               number(parity, "margin", "parity.margin"), {}};
  if (optional(parity, "precision") != nullptr) {
    found.budget = number(parity, "budget", "parity.budget");
  }
  const auto check = [](const char* name, double value, double most) {
    if (!(value > 0.0 && value <= most)) fail(std::string("parity.") + name, "is out of range");
  };
  check("tolerance", found.tolerance, kMostTolerance);
  check("margin", found.margin, kMostMargin);
  if (found.budget) check("budget", *found.budget, kMostBudget);
  return found;
}

/// Return the range of each number of an answer, by which differences are measured: the width of
/// the bounds; where these say nothing, the spread of the learner's answers, and at least 1.
std::vector<double> ranges_of(const Signature& signature, const Probe& probe) {
  const std::size_t count = size_of(signature.answer.shape), width = signature.action.width;
  std::vector<double> found(count);
  for (std::size_t place = 0; place < count; ++place) {
    double low = std::numeric_limits<double>::infinity(), high = -low;
    for (std::size_t row = 0; row < probe.rows; ++row) {
      low = std::min(low, probe.action[row * count + place]);
      high = std::max(high, probe.action[row * count + place]);
    }
    const double spread = std::max(high - low, 1.0);
    const double bounds = static_cast<double>(signature.action.high[place % width]) -
                          static_cast<double>(signature.action.low[place % width]);
    found[place] = bounds > 0.0 && bounds <= kWidest * spread ? bounds : spread;
  }
  return found;
}

/// Return whether the best score of a row leads by more than the margin.
bool leads(const Probe& probe, std::size_t row, double margin) {
  const std::size_t count = probe.scores.size() / probe.rows;
  if (count < 2) return true;
  const auto at = probe.scores.begin() + static_cast<std::ptrdiff_t>(row * count);
  std::vector<double> scores(at, at + static_cast<std::ptrdiff_t>(count));
  std::partial_sort(scores.begin(), scores.begin() + 2, scores.end(), std::greater<>());
  return scores[0] - scores[1] > margin;
}

class Player {
 public:
  Player(const Json& contract, const Signature& signature, Engine& engine)
      : signature_(signature), engine_(engine), probe_(probe_of(contract, signature)),
        limits_(limits_of(contract)) {
    if (!signature.action.discrete) ranges_ = ranges_of(signature, probe_);
  }

  Report played() {
    Report found;
    found.rows = probe_.rows;
    found.tolerance = limits_.allowed();
    std::size_t since = 0;
    for (std::size_t row = 0; row < probe_.rows; ++row, ++since) {
      if (probe_.first[row]) since = 0;
      run(row);
      const bool clear = leads(probe_, row, limits_.margin);
      found.close += clear ? 0 : 1;
      if (signature_.action.discrete) {
        found.wrong += clear && differs(row) ? 1 : 0;
      } else {
        compare(row, clear, since, found);
      }
    }
    judge(found);
    return found;
  }

 private:
  /// Run the graph on a row, with the state that it answered itself at the row before.
  void run(std::size_t row) {
    for (const auto& [name, values] : probe_.inputs) {
      const Buffer& to = engine_.input(name);
      to.write(values.data() + row * to.count);
    }
    for (const State& kept : signature_.state) {
      const Buffer& to = engine_.input(kept.in.name);
      const Buffer& from = engine_.output(kept.out.name);
      if (probe_.first[row]) {
        to.write(kept.initial.data());
      } else {
        std::memcpy(to.values, from.values, to.bytes());
      }
    }
    engine_.run();
  }

  bool differs(std::size_t row) const {
    const Buffer& answer = engine_.output("action");
    for (std::size_t place = 0; place < answer.count; ++place) {
      if (answer.at(place) != probe_.action[row * answer.count + place]) return true;
    }
    return false;
  }

  void compare(std::size_t row, bool clear, std::size_t since, Report& found) const {
    const Buffer& answer = engine_.output("action");
    // Where a state is carried, rounding adds up.
    const double steps = signature_.state.empty() ? 0.0 : static_cast<double>(since);
    for (std::size_t place = 0; place < answer.count; ++place) {
      const double value = answer.at(place);
      const std::size_t number = place % signature_.action.width;
      if (value < static_cast<double>(signature_.action.low[number]) ||
          value > static_cast<double>(signature_.action.high[number])) {
        throw ContractError("action[" + std::to_string(number) + "] is " + std::to_string(value) +
                            " on probe row " + std::to_string(row) +
                            ", outside the bounds that the contract promises");
      }
      if (!clear) continue;
      const double apart = std::abs(value - probe_.action[row * answer.count + place]);
      found.absolute = std::max(found.absolute, apart);
      found.difference =
          std::max(found.difference, apart / ranges_[place] / std::max(1.0, steps / 10.0));
    }
  }

  void judge(const Report& found) const {
    std::ostringstream said;
    if (signature_.action.discrete) {
      if (static_cast<double>(found.wrong) <=
          limits_.budget.value_or(0.0) * static_cast<double>(found.rows)) {
        return;
      }
      said << "the graph chose another action than the learner in " << found.wrong << " of "
           << found.rows << " probe rows whose margin exceeds " << limits_.margin;
    } else if (found.close == found.rows) {
      said << "every probe row is a tie, so that agreement on them would show nothing";
    } else if (found.difference <= limits_.allowed()) {
      return;
    } else {
      said << "the graph and the learner differ by " << found.difference
           << " of the action range (" << found.absolute << " in its units), and the tolerance is "
           << limits_.allowed();
    }
    throw ContractError(said.str());
  }

  const Signature& signature_;
  Engine& engine_;
  Probe probe_;
  Limits limits_;
  std::vector<double> ranges_;
};

}  // namespace

Report verified(const Json& contract, const Signature& signature, Engine& engine) {
  return Player(contract, signature, engine).played();
}

}  // namespace hindsight
