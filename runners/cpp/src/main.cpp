// hindsight_verify FILE...: play the probe rows of policy files on this machine.
#include <cstdio>
#include <exception>

#include "hindsight/policy.hpp"

int main(int count, char** words) {
  if (count < 2) {
    std::fprintf(stderr, "usage: hindsight_verify FILE.onnx...\n");
    return 2;
  }
  for (int place = 1; place < count; ++place) {
    try {
      const hindsight::Report found = hindsight::Policy(words[place]).verify();
      std::printf("%s: %zu rows, %zu of them ties; largest difference %.3g of the range, %zu wrong "
                  "choices (tolerance %g): passed\n",
                  words[place], found.rows, found.close, found.difference, found.wrong,
                  found.tolerance);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "hindsight_verify: %s\n", error.what());
      return 2;
    }
  }
  return 0;
}
