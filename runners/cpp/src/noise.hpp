// Noise of (seed, episode, step): the numbers that the learner and every other runner draw.
#pragma once

#include <cstddef>
#include <cstdint>

namespace hindsight {

/// Write the random numbers of one step: standard normal, or uniform on [0, 1).
void draw_noise(float* to, std::size_t count, bool normal, std::uint64_t seed,
                std::uint32_t episode, std::uint32_t step);

}  // namespace hindsight
