// Chunks of actions: a queue that is executed in turn, or an average of all that was foreseen.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine.hpp"

namespace hindsight {

class Chunks {
 public:
  Chunks(const Chunk& stated, const Action& action) : stated_(stated), action_(action) { begin(); }

  /// Forget everything: an episode begins.
  void begin();
  /// Whether the graph runs at this step.
  bool due() const { return stated_.ensemble || taken_ >= stated_.execute; }
  /// Whether it ran at the step before.
  bool ran() const { return stated_.ensemble || taken_ == 1; }
  /// Take an answer of the graph.
  void answer(const Buffer& chunk);
  /// Return the action of this step, [A] or [1], and move on.
  std::vector<double> next();

 private:
  Chunk stated_;
  Action action_;
  std::vector<double> queue_;        ///< Of the last answer; or weighted sums of all answers.
  std::size_t taken_ = 0;
  std::vector<std::size_t> counts_;  ///< Answers for this step and those after it.
};

}  // namespace hindsight
