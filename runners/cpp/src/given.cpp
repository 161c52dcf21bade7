#include "given.hpp"

#include <cmath>
#include <cstring>

namespace hindsight {

namespace {

constexpr const char* kTypes[] = {"float", "double", "uint8", "int64"};

[[noreturn]] void fail(const std::string& message) { throw std::invalid_argument(message); }

void check_type(const Input& stated, const Numbers& given) {
  using Given = Numbers::Type;
  const bool real = given.type == Given::float32 || given.type == Given::float64;
  const bool fits = stated.kind == Kind::image      ? given.type == Given::uint8
                    : stated.kind == Kind::discrete ? given.type == Given::int64
                                                    : real;
  const std::string got = stated.port.name + " is of " + kTypes[static_cast<int>(given.type)];
  if (!fits) {
    constexpr const char* taken[] = {"float or double", "uint8 (bytes as the camera gives them)",
                                     "int64"};
    fail(got + ", and this policy takes " + taken[static_cast<int>(stated.kind)]);
  }
  if (!stated.offset.empty() && given.type == Given::float32) {
    fail(got + ", and this policy subtracts an offset from it in double: give double, as the "
               "sensor reads it. In float its digits are lost already.");
  }
  if (given.count != size_of(stated.port.shape)) {
    fail(stated.port.name + " has " + std::to_string(given.count) +
         " numbers, and this policy takes " + text_of(stated.port.shape));
  }
}

/// Write real numbers, less their offset, as float.
template <class Real>
void write_vector(const Input& stated, const Real* from, float* to, std::size_t count) {
  for (std::size_t place = 0; place < count; ++place) {
    const double less = stated.offset.empty() ? 0.0 : stated.offset[place];
    to[place] = static_cast<float>(static_cast<double>(from[place]) - less);
    if (std::isfinite(to[place])) continue;
    const std::string name = stated.names.empty() ? "" : " ('" + stated.names[place] + "')";
    fail(stated.port.name + "[" + std::to_string(place) + "]" + name + " is " +
         std::to_string(to[place]) + ", and a policy takes finite numbers. Repair the sensor or "
         "stop; do not act on it.");
  }
}

void write(const Input& stated, const Numbers& given, const Buffer& to) {
  check_type(stated, given);
  if (given.type == Numbers::Type::float32) {
    return write_vector(stated, static_cast<const float*>(given.values), to.floats(), to.count);
  }
  if (given.type == Numbers::Type::float64) {
    return write_vector(stated, static_cast<const double*>(given.values), to.floats(), to.count);
  }
  if (given.type == Numbers::Type::int64) {
    const auto* from = static_cast<const std::int64_t*>(given.values);
    for (std::size_t place = 0; place < given.count; ++place) {
      if (from[place] >= 0 && from[place] < stated.choices) continue;
      fail(stated.port.name + " is " + std::to_string(from[place]) + ", and is one of " +
           std::to_string(stated.choices) + " choices from 0");
    }
  }
  std::memcpy(to.values, given.values, given.count * bytes_of(stated.port.type));
}

void take_entries(const Signature& signature, const Observation& observation,
                  const Engine& engine) {
  for (const Input& stated : signature.observation) {
    const Numbers* found = nullptr;
    for (const auto& [name, numbers] : observation.entries) {
      if (name == stated.label) found = &numbers;
    }
    if (found == nullptr) fail(stated.port.name + " is missing");
    write(stated, *found, engine.input(stated.port.name));
  }
  if (observation.entries.size() != signature.observation.size()) {
    fail("the observation has " + std::to_string(observation.entries.size()) +
         " entries, and this policy takes " + std::to_string(signature.observation.size()));
  }
}

}  // namespace

void take(const Signature& signature, const Observation& observation,
          const std::optional<Numbers>& task, const Engine& engine) {
  if (signature.entries) {
    take_entries(signature, observation, engine);
  } else if (!observation.whole) {
    fail("the observation has entries, and this policy takes one vector");
  } else {
    write(signature.observation[0], *observation.whole, engine.input("observation"));
  }
  if (!signature.task) {
    if (task) fail("this policy takes no task, and one was given");
    return;
  }
  const Input& stated = *signature.task;
  if (!task && !stated.usual) {
    fail("this policy takes a task " + text_of(stated.port.shape) + " and has no default: give one");
  }
  const Buffer& to = engine.input("task");
  if (task) return write(stated, *task, to);
  write_vector(stated, stated.usual->data(), to.floats(), to.count);
}

}  // namespace hindsight
