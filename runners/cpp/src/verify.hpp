#pragma once

#include "engine.hpp"
#include "hindsight/policy.hpp"
#include "probe.hpp"

namespace hindsight {

/// Return how far the graph's answers to the probe rows lie from the learner's.
///
/// Throws ContractError where they differ by more than the contract's tolerance, or lie outside its
/// bounds.
Report verified(const Json& contract, const Signature& signature, Engine& engine);

}  // namespace hindsight
