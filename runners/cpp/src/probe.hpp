// The probe rows of a contract: what the learner was given, and what it answered.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "signature.hpp"

namespace hindsight {

struct Probe {
  std::size_t rows = 0;
  std::map<std::string, std::vector<double>> inputs;  ///< By input of the graph, row after row.
  std::vector<double> action;                         ///< Whole chunks where there are any.
  std::vector<double> scores;                         ///< Empty where there are none.
  std::vector<bool> first;                            ///< Where episodes begin.
};

/// Return the probe rows of a contract.
///
/// Throws ContractError naming the first entry at fault.
Probe probe_of(const Json& contract, const Signature& signature);

}  // namespace hindsight
