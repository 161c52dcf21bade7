#include "engine.hpp"

#include <cmath>
#include <openvino/openvino.hpp>

#include "hindsight/policy.hpp"

namespace hindsight {

namespace {

const ov::element::Type& element(Type type) {
  return type == Type::float32 ? ov::element::f32
         : type == Type::int64 ? ov::element::i64
                               : ov::element::u8;
}

ov::PartialShape shape_of(const Port& stated, const ov::Dimension& rows) {
  ov::PartialShape found{rows};
  for (const std::size_t size : stated.shape) {
    found.push_back(static_cast<ov::Dimension::value_type>(size));
  }
  return found;
}

/// Return the port of a model that has a name, of which it may have others; its type and shape are
/// those of the contract.
template <class Node>
ov::Output<Node> port_of(const std::vector<ov::Output<Node>>& ports, const Port& stated,
                         const ov::Dimension& rows) {
  for (const auto& port : ports) {
    if (port.get_names().count(stated.name) == 0) continue;
    const ov::PartialShape wanted = shape_of(stated, rows);
    if (port.get_element_type() != element(stated.type) || port.get_partial_shape() != wanted) {
      throw ContractError("the graph's " + stated.name + " is " +
                          port.get_element_type().to_string() + " " +
                          port.get_partial_shape().to_string() + ", and the contract says " +
                          element(stated.type).to_string() + " " + wanted.to_string() +
                          ". The file was changed: export it again.");
    }
    return port;
  }
  throw ContractError("the graph has no " + stated.name +
                      ", which the contract states. The file was changed: export it again.");
}

/// Return a model made ready for one thread, in float32 whatever the processor has.
ov::CompiledModel compiled(ov::Core& core, const std::shared_ptr<ov::Model>& model) {
  ov::AnyMap options{ov::hint::inference_precision(ov::element::f32),
                     ov::num_streams(1),
                     ov::inference_num_threads(1),
                     ov::hint::enable_cpu_pinning(false),
                     ov::hint::performance_mode(ov::hint::PerformanceMode::LATENCY)};
  // OpenVINO 2026.4.1 ends the process (signal 11) where it fuses operators of some graphs, such as
  // flows with a camera, for one thread in float32. Small networks take a microsecond more so.
  ov::AnyMap apart = options;
  apart["SNIPPETS_MODE"] = "DISABLE";
  try {
    return core.compile_model(model, "CPU", apart);
  } catch (const ov::Exception&) {  // another release may not have the option
    return core.compile_model(model, "CPU", options);
  }
}

}  // namespace

struct Engine::Request {
  ov::Core core;
  ov::CompiledModel compiled;
  ov::InferRequest infer;
};

Engine::Engine(const std::string& graph, const Signature& signature)
    : request_(std::make_unique<Request>()) {
  const std::vector<Port> inputs = signature.inputs(), outputs = signature.outputs();
  std::shared_ptr<ov::Model> model;
  try {
    model = request_->core.read_model(graph, ov::Tensor());
  } catch (const ov::Exception& error) {
    throw ContractError(std::string("OpenVINO ") + ov::get_openvino_version().buildNumber +
                        " does not read the graph (" + error.what() +
                        "). Export with a lower --opset, or install a newer OpenVINO.");
  }
  if (model->inputs().size() != inputs.size()) {
    throw ContractError("the graph has " + std::to_string(model->inputs().size()) +
                        " inputs, and the contract says " + std::to_string(inputs.size()) +
                        ". The file was changed: export it again.");
  }
  std::map<ov::Output<ov::Node>, ov::PartialShape> one;
  for (const Port& port : inputs) {
    one[port_of(model->inputs(), port, ov::Dimension::dynamic())] = shape_of(port, 1);
  }
  try {
    model->reshape(one);
    for (const Port& port : outputs) port_of(model->outputs(), port, 1);
    request_->compiled = compiled(request_->core, model);
    request_->infer = request_->compiled.create_infer_request();
  } catch (const ov::Exception& error) {
    throw ContractError(std::string("OpenVINO ") + ov::get_openvino_version().buildNumber +
                        " does not compile the graph for one row (" + error.what() + ").");
  }
  const auto bind = [this](const Port& port, std::map<std::string, Buffer>& to) {
    ov::Shape shape{1};
    shape.insert(shape.end(), port.shape.begin(), port.shape.end());
    ov::Tensor tensor(element(port.type), shape);
    to[port.name] = {port, tensor.get_size(), tensor.data()};
    request_->infer.set_tensor(port.name, tensor);
  };
  for (const Port& port : inputs) bind(port, inputs_);
  for (const Port& port : outputs) bind(port, outputs_);
}

Engine::~Engine() = default;

void Engine::run() {
  request_->infer.infer();
  for (const auto& [name, buffer] : outputs_) {
    if (buffer.port.type != Type::float32) continue;
    for (std::size_t place = 0; place < buffer.count; ++place) {
      if (std::isfinite(buffer.floats()[place])) continue;
      throw std::runtime_error(
          "the policy answered " + name + " " + std::to_string(buffer.floats()[place]) +
          ": the observation is finite, but so far from the log's that the network overflows "
          "(check its units), or the weights are damaged (verify checks them).");
    }
  }
}

void Buffer::write(const double* from) const {
  for (std::size_t place = 0; place < count; ++place) {
    if (port.type == Type::float32) floats()[place] = static_cast<float>(from[place]);
    if (port.type == Type::int64) wholes()[place] = static_cast<std::int64_t>(from[place]);
    if (port.type == Type::uint8) {
      static_cast<std::uint8_t*>(values)[place] = static_cast<std::uint8_t>(from[place]);
    }
  }
}

double Buffer::at(std::size_t place) const {
  if (port.type == Type::float32) return static_cast<double>(floats()[place]);
  if (port.type == Type::int64) return static_cast<double>(wholes()[place]);
  return static_cast<const std::uint8_t*>(values)[place];
}

}  // namespace hindsight
