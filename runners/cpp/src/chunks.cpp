#include "chunks.hpp"

#include <algorithm>
#include <cmath>

namespace hindsight {

void Chunks::begin() {
  queue_.assign(stated_.length * action_.width, 0.0);
  counts_.assign(stated_.length, 0);
  taken_ = stated_.execute;
}

void Chunks::answer(const Buffer& chunk) {
  if (!stated_.ensemble) {
    for (std::size_t place = 0; place < queue_.size(); ++place) queue_[place] = chunk.at(place);
    taken_ = 0;
    return;
  }
  for (std::size_t ahead = 0; ahead < stated_.length; ++ahead) {
    const double weight = std::exp(-*stated_.ensemble * static_cast<double>(counts_[ahead]++));
    for (std::size_t j = 0; j < action_.width; ++j) {
      const std::size_t place = ahead * action_.width + j;
      queue_[place] += weight * chunk.at(place);
    }
  }
}

std::vector<double> Chunks::next() {
  const auto width = static_cast<std::ptrdiff_t>(action_.width);
  if (!stated_.ensemble) {
    const auto from = queue_.begin() + static_cast<std::ptrdiff_t>(taken_++) * width;
    return {from, from + width};
  }
  // The i-th oldest answer for a step weighs exp(-m i) (Zhao et al. 2023, algorithm 2).
  double total = 0.0;
  for (std::size_t i = 0; i < counts_[0]; ++i) {
    total += std::exp(-*stated_.ensemble * static_cast<double>(i));
  }
  std::vector<double> found(queue_.begin(), queue_.begin() + width);
  for (double& each : found) each /= total;
  std::rotate(queue_.begin(), queue_.begin() + width, queue_.end());
  std::fill(queue_.end() - width, queue_.end(), 0.0);
  std::rotate(counts_.begin(), counts_.begin() + 1, counts_.end());
  counts_.back() = 0;
  return found;
}

}  // namespace hindsight
