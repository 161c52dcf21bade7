// What a caller gives a policy at a step, checked against its contract.
#pragma once

#include <optional>

#include "engine.hpp"
#include "hindsight/policy.hpp"

namespace hindsight {

/// Write an observation and a task where the graph reads them.
///
/// Throws std::invalid_argument naming what does not fit.
void take(const Signature& signature, const Observation& observation,
          const std::optional<Numbers>& task, const Engine& engine);

}  // namespace hindsight
