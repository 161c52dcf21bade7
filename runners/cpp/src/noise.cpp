#include "noise.hpp"

#include <cmath>

namespace hindsight {

namespace {

constexpr std::uint32_t kMultiplier = 0xD256D193u, kWeyl = 0x9E3779B9u;
constexpr int kRounds = 10;
constexpr float kShare = 5.9604644775390625e-08f;                              // 2^-24
constexpr float kTurn = static_cast<float>(6.283185307179586 * 5.9604644775390625e-08);

std::uint32_t mix(std::uint32_t word) {
  word = (word ^ (word >> 16)) * 0x21F0AAADu;
  word = (word ^ (word >> 15)) * 0x735A2D97u;
  return word ^ (word >> 15);
}

std::uint32_t seed_key(std::uint64_t seed) {
  const auto low = static_cast<std::uint32_t>(seed), high = static_cast<std::uint32_t>(seed >> 32);
  return high ? mix(mix(low) ^ mix(high + kWeyl)) : mix(low);
}

}  // namespace

// Philox2x32-10 of (episode, step), keyed by the seed and the place of the number.
void draw_noise(float* to, std::size_t count, bool normal, std::uint64_t seed,
                std::uint32_t episode, std::uint32_t step) {
  const std::uint32_t key = seed_key(seed);
  for (std::size_t place = 0; place < count; ++place) {
    std::uint32_t turn = mix(key + static_cast<std::uint32_t>(place) * kWeyl);
    std::uint32_t high = episode, low = step;
    for (int round = 0; round < kRounds; ++round) {
      const std::uint64_t both = std::uint64_t{low} * kMultiplier;
      low = static_cast<std::uint32_t>(both >> 32) ^ turn ^ high;
      high = static_cast<std::uint32_t>(both);
      turn += kWeyl;
    }
    if (!normal) {
      to[place] = static_cast<float>(low >> 8) * kShare;
      continue;
    }
    const float share = (static_cast<float>(low >> 8) + 0.5f) * kShare;
    const float angle = static_cast<float>(high >> 8) * kTurn;
    to[place] = std::sqrt(-2.0f * std::log(share)) * std::cos(angle);
  }
}

}  // namespace hindsight
