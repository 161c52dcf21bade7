// A policy file of Hindsight in C++: OpenVINO runs the graph, and this does what the contract says
// around it: checks, task, state, noise, chunks.
//
//   hindsight::Policy policy("policy.onnx");
//   policy.verify();                                  // the probe rows on this machine
//   policy.reset();                                   // where an episode begins
//   std::vector<float> action = policy.act(observation);
//
// What does not fit throws: ContractError where the file must not be run, std::invalid_argument
// where what is given breaks the contract, std::runtime_error where the network overflowed. After
// an exception of act or choose the policy is as before the call.
#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "hindsight/json.hpp"

namespace hindsight {

/// A policy file that must not be run as it stands; the message names the file, what and the fix.
class ContractError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// A view of numbers that somebody else keeps: of a vector, an array, or what has data() and
/// size().
struct Numbers {
  enum class Type { float32, float64, uint8, int64 };

  Numbers(const float* values, std::size_t count) : Numbers(values, count, Type::float32) {}
  Numbers(const double* values, std::size_t count) : Numbers(values, count, Type::float64) {}
  Numbers(const std::uint8_t* values, std::size_t count) : Numbers(values, count, Type::uint8) {}
  Numbers(const std::int64_t* values, std::size_t count) : Numbers(values, count, Type::int64) {}

  template <class Container, class = decltype(std::declval<const Container&>().data())>
  Numbers(const Container& values)
      : Numbers(values.data(), static_cast<std::size_t>(values.size())) {}

  const void* values;
  std::size_t count;
  Type type;

 private:
  Numbers(const void* values, std::size_t count, Type type)
      : values(values), count(count), type(type) {}
};

/// An observation: numbers, or numbers by entry where the contract lists entries.
struct Observation {
  Observation(const Numbers& whole) : whole(whole) {}
  Observation(std::vector<std::pair<std::string, Numbers>> entries) : entries(std::move(entries)) {}
  Observation(std::initializer_list<std::pair<std::string, Numbers>> entries) : entries(entries) {}
  template <class Container,
            class = std::enable_if_t<std::is_constructible_v<Numbers, const Container&>>>
  Observation(const Container& values) : whole(Numbers(values)) {}

  std::optional<Numbers> whole;
  std::vector<std::pair<std::string, Numbers>> entries;
};

struct Options {
  std::uint64_t seed = 0;       ///< Of the noise: the same seed, episode and step, the same noise.
  bool deterministic = false;   ///< Zeros in the place of noise, where the contract allows them.
  std::size_t max_bytes = std::size_t{1} << 28;  ///< Largest file that is read.
};

/// What playing the probe rows showed.
struct Report {
  std::size_t rows = 0;
  double difference = 0.0;  ///< Largest of real actions, as a share of their range.
  double absolute = 0.0;    ///< Largest of real actions, in their units.
  std::size_t wrong = 0;    ///< Choices that differ.
  std::size_t close = 0;    ///< Rows whose best scores tie, whose answers are not compared.
  double tolerance = 0.0;   ///< The contract's, or its budget where it is computed in fewer bits.
};

/// An exported policy, ready to act. It serves one thread at a time.
class Policy {
 public:
  /// Open a policy file: one contract of a known version, no external data, graph and weights as
  /// exported, inputs and outputs as the contract states them.
  ///
  /// Throws ContractError; std::invalid_argument where deterministic means nothing for it.
  explicit Policy(const std::string& path, const Options& options = {});
  ~Policy();
  Policy(Policy&&) noexcept;
  Policy& operator=(Policy&&) noexcept;

  /// Begin an episode: forget the state, and draw noise from the next episode's numbers.
  void reset();
  /// Begin the episode of a number, from which noise is drawn.
  void reset(std::uint32_t episode);

  /// Return the action [A] for an observation, in the units and bounds of the contract.
  ///
  /// Vectors are float or double (double where the contract has an offset), images uint8, choices
  /// int64. The task's default is taken where none is given.
  ///
  /// Throws std::invalid_argument where an input has another size or type, or is not finite;
  /// std::runtime_error where the answer is not finite; std::logic_error where answers are choices.
  std::vector<float> act(const Observation& observation, std::optional<Numbers> task = {});

  /// Return the choice for an observation, in the environment's numbers; otherwise as act.
  std::int64_t choose(const Observation& observation, std::optional<Numbers> task = {});

  /// Say what was executed for the last answer, where that was something else: float for actions,
  /// int64 for a choice.
  ///
  /// Throws std::invalid_argument of another size or type; std::logic_error before an answer.
  void executed(const Numbers& sent);

  /// Return how far this machine's answers to the contract's probe rows lie from the learner's.
  /// The state of the episode is left alone.
  ///
  /// Throws ContractError where they differ by more than the contract's tolerance, or lie outside
  /// its bounds.
  Report verify();

  /// Compare the driver's joints with those of the contract's robot section, before anything moves.
  ///
  /// Returns for each joint of the contract its place in names. With reorder, another order and
  /// further joints are taken. Throws std::invalid_argument: the contract names no joints, one is
  /// missing or named twice, or, without reorder, the order differs or there are others.
  std::vector<std::size_t> check_robot(const std::vector<std::string>& names,
                                       bool reorder = false) const;

  /// What the file says about itself.
  const Json& contract() const;

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace hindsight
