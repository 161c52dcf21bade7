// What goes into a policy's graph and comes out of it, typed, as its contract states it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "hindsight/json.hpp"

namespace hindsight {

using Shape = std::vector<std::size_t>;

enum class Type { float32, uint8, int64 };

/// Return how many numbers a row of a shape has.
std::size_t size_of(const Shape& shape);
std::size_t bytes_of(Type type);
std::string text_of(const Shape& shape);

/// An input or output of the graph, without its batch dimension.
struct Port {
  std::string name;
  Shape shape;
  Type type = Type::float32;
};

enum class Kind { vector, image, discrete };

/// What a caller gives: an observation's entry, or the task.
struct Input {
  Port port;
  std::string label;
  Kind kind = Kind::vector;
  std::vector<std::string> names;
  std::vector<double> offset;  ///< Empty where there is none.
  std::int64_t choices = 0;
  std::optional<std::vector<double>> usual;  ///< Where none is given.
};

struct State {
  Port in, out;
  std::vector<double> initial;
  bool actions = false;  ///< Holds past actions, the newest last.
};

struct Noise {
  Shape shape;
  bool normal = true;
  bool zero = false;  ///< Whether zeros are a deterministic policy.
};

struct Chunk {
  std::size_t length = 1, execute = 1;
  std::optional<double> ensemble;
};

struct Action {
  bool discrete = false;
  std::size_t width = 1;
  std::int64_t choices = 0, start = 0;
  std::vector<float> low, high;  ///< Infinite where open; empty for choices.
};

struct Signature {
  std::vector<Input> observation;
  bool entries = false;
  std::optional<Input> task;
  Action action;
  Port answer;                 ///< The output "action".
  std::optional<Port> scores;
  std::vector<State> state;
  std::optional<Noise> noise;
  std::optional<Chunk> chunk;
  std::vector<Port> distribution;

  /// Whether answers depend on the episode so far.
  bool follows() const { return !state.empty() || noise || chunk; }
  std::vector<Port> inputs() const;
  std::vector<Port> outputs() const;
};

/// Return the signature that a contract states.
///
/// Throws ContractError naming the first entry at fault.
Signature signature_of(const Json& contract);

}  // namespace hindsight
