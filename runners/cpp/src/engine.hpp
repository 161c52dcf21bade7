// What runs the graph for one row. Another engine than OpenVINO is another file with this class.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "signature.hpp"

namespace hindsight {

/// Memory that an input is read from, or an output written to.
struct Buffer {
  Port port;
  std::size_t count = 0;
  void* values = nullptr;

  std::size_t bytes() const { return count * bytes_of(port.type); }
  float* floats() const { return static_cast<float*>(values); }
  std::int64_t* wholes() const { return static_cast<std::int64_t*>(values); }
  /// Write numbers in the buffer's type.
  void write(const double* from) const;
  /// Return a number.
  double at(std::size_t place) const;
};

class Engine {
 public:
  /// Load a graph whose inputs and outputs are those of a signature; both take one row.
  ///
  /// Throws ContractError: the engine does not load it, or the graph differs from the contract.
  Engine(const std::string& graph, const Signature& signature);
  ~Engine();

  const Buffer& input(const std::string& name) const { return inputs_.at(name); }
  const Buffer& output(const std::string& name) const { return outputs_.at(name); }
  const std::map<std::string, Buffer>& outputs() const { return outputs_; }

  /// Compute the outputs of the inputs.
  ///
  /// Throws std::runtime_error where an output is not finite.
  void run();

 private:
  struct Request;
  std::unique_ptr<Request> request_;
  std::map<std::string, Buffer> inputs_, outputs_;
};

}  // namespace hindsight
