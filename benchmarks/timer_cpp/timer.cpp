// timer FILE CALLS: the probe of a policy file of one observation, and the time of each call. Prints
// the difference to the learner, the wrong choices, the median and the 99th percentile in us.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "hindsight/policy.hpp"

int main(int, char** words) {
  using hindsight::Json;
  hindsight::Policy policy(words[1]);
  const hindsight::Report proof = policy.verify();
  const Json* const entries = policy.contract().find("observation")->find("entries");
  std::vector<std::vector<float>> rows;
  std::vector<std::uint8_t> image(1);
  if (entries != nullptr) {
    for (const Json& side : entries->find("camera")->find("shape")->list()) {
      image.resize(image.size() * static_cast<std::size_t>(side.number()));
    }
    for (std::size_t place = 0; place < image.size(); ++place) {
      image[place] = static_cast<std::uint8_t>(place * 2654435761u >> 24);
    }
  } else {
    for (const Json& row : policy.contract().find("probe")->find("observation")->list()) {
      rows.emplace_back();
      for (const Json& each : row.list()) rows.back().push_back(static_cast<float>(each.number()));
    }
  }
  const bool discrete = policy.contract().find("action")->find("kind")->text() == "discrete";
  const int calls = std::atoi(words[2]);
  std::vector<double> times;
  for (int call = -calls; call < calls; ++call) {  // as many calls before, to warm up
    const std::size_t row = static_cast<std::size_t>(call + calls);
    const hindsight::Observation seen =
        rows.empty() ? hindsight::Observation({{"camera", image}})
                     : hindsight::Observation(rows[row % rows.size()]);
    const auto from = std::chrono::steady_clock::now();
    if (discrete) {
      policy.choose(seen);
    } else {
      policy.act(seen);
    }
    const std::chrono::duration<double, std::micro> spent = std::chrono::steady_clock::now() - from;
    if (call >= 0) times.push_back(spent.count());
  }
  std::sort(times.begin(), times.end());
  std::printf("%g %zu %.4f %.4f\n", proof.difference, proof.wrong, times[times.size() / 2],
              times[times.size() * 99 / 100]);
  return 0;
}
