#include "hindsight/policy.hpp"

#include <algorithm>
#include <cstring>

#include "chunks.hpp"
#include "engine.hpp"
#include "entries.hpp"
#include "given.hpp"
#include "modelfile.hpp"
#include "noise.hpp"
#include "verify.hpp"

namespace hindsight {

namespace {

Json read_contract(const ModelFile& file) {
  try {
    return Json::parse(file.contract);
  } catch (const std::invalid_argument& error) {
    throw ContractError(std::string("hindsight.contract: not readable as JSON (") + error.what() +
                        "). Export the checkpoint again.");
  }
}

void check_hash(const Json& contract, const ModelFile& file) {
  const Json* const stated = contract.find("model_hash");
  if (stated != nullptr && stated->is_text() && stated->text() == file.hash) return;
  const std::string said = stated != nullptr && stated->is_text() ? stated->text() : "nothing";
  throw ContractError("graph or weights changed after the export (they hash to " + file.hash +
                      ", and the contract says " + said +
                      "). Export the checkpoint again with 'hindsight export'.");
}

std::string listed(const std::vector<std::string>& names) {
  std::string found;
  for (const std::string& name : names) found += (found.empty() ? "" : ", ") + name;
  return found;
}

}  // namespace

struct Policy::Parts {
  Parts(const std::string& path, const ModelFile& file, const Options& options)
      : path(path), options(options), contract(read_contract(file)), signature(signature_of(contract)),
        engine((check_hash(contract, file), file.graph), signature) {
    if (signature.chunk) chunks.emplace(*signature.chunk, signature.action);
    begin();
  }

  void begin() {
    state.clear();
    for (const State& kept : signature.state) {
      const Buffer& in = engine.input(kept.in.name);
      in.write(kept.initial.data());
      state.emplace_back(static_cast<const char*>(in.values), in.bytes());
    }
    if (chunks) chunks->begin();
    step = 0;
    begun = false;
  }

  /// Return the action of a step, [A] or [1]; nothing changes where something throws.
  std::vector<double> act(const Observation& observation, const std::optional<Numbers>& task) {
    take(signature, observation, task, engine);
    if (!begun) {
      episode = next_episode++;
      begun = true;
    }
    const Buffer& answer = engine.output("action");
    if (!chunks || chunks->due()) {
      feed();
      engine.run();
      for (std::size_t place = 0; place < state.size(); ++place) {
        const Buffer& from = engine.output(signature.state[place].out.name);
        std::memcpy(state[place].data(), from.values, from.bytes());
      }
      if (chunks) chunks->answer(answer);
    }
    ++step;
    if (chunks) return chunks->next();
    std::vector<double> found(answer.count);
    for (std::size_t place = 0; place < answer.count; ++place) found[place] = answer.at(place);
    return found;
  }

  /// Write state and noise where the graph reads them.
  void feed() {
    for (std::size_t place = 0; place < state.size(); ++place) {
      const Buffer& to = engine.input(signature.state[place].in.name);
      std::memcpy(to.values, state[place].data(), to.bytes());
    }
    if (!signature.noise) return;
    const Buffer& noise = engine.input("noise");
    if (options.deterministic) {
      std::fill(noise.floats(), noise.floats() + noise.count, 0.0f);
    } else {
      draw_noise(noise.floats(), noise.count, signature.noise->normal, options.seed, episode, step);
    }
  }

  void executed(const Numbers& sent) {
    if (!signature.follows()) return;
    if (step == 0) throw std::logic_error("executed follows act, and act was not called yet");
    const Action& action = signature.action;
    const bool whole = sent.type == Numbers::Type::int64;
    if (sent.count != action.width || sent.type == Numbers::Type::uint8 ||
        whole != action.discrete) {
      throw std::invalid_argument("executed has " + std::to_string(sent.count) +
                                  " numbers or another type, and an action has " +
                                  std::to_string(action.width));
    }
    // Only where the graph has just answered has its past moved on.
    if (chunks && !chunks->ran()) return;
    for (std::size_t part = 0; part < state.size(); ++part) {
      if (!signature.state[part].actions) continue;
      const std::size_t bytes = action.width * bytes_of(signature.answer.type);
      char* const last = state[part].data() + state[part].size() - bytes;
      if (action.discrete) {
        const std::int64_t choice = *static_cast<const std::int64_t*>(sent.values) - action.start;
        std::memcpy(last, &choice, bytes);
      } else if (sent.type == Numbers::Type::float32) {
        std::memcpy(last, sent.values, bytes);
      } else {
        const auto* const from = static_cast<const double*>(sent.values);
        const std::vector<float> values(from, from + action.width);
        std::memcpy(last, values.data(), bytes);
      }
    }
  }

  std::string path;
  Options options;
  Json contract;
  Signature signature;
  Engine engine;
  std::optional<Chunks> chunks;
  std::vector<std::string> state;  ///< Bytes of each part.
  std::uint32_t next_episode = 0, episode = 0, step = 0;
  bool begun = false;
};

Policy::Policy(const std::string& path, const Options& options) {
  try {
    parts_ = std::make_unique<Parts>(path, read_model(path, options.max_bytes), options);
  } catch (const ContractError& error) {
    throw ContractError(path + ": " + error.what());
  }
  const auto& noise = parts_->signature.noise;
  if (options.deterministic && noise && !noise->zero) {
    throw std::invalid_argument(
        path + ": deterministic puts zeros in the place of noise, and this policy was not made for "
               "that: noise chooses between several good answers, and zeros lead to their average. "
               "Leave it out; the same seed gives the same actions.");
  }
}

Policy::~Policy() = default;
Policy::Policy(Policy&&) noexcept = default;
Policy& Policy::operator=(Policy&&) noexcept = default;

void Policy::reset() { parts_->begin(); }

void Policy::reset(std::uint32_t episode) {
  parts_->begin();
  parts_->next_episode = episode;
}

std::vector<float> Policy::act(const Observation& observation, std::optional<Numbers> task) {
  if (parts_->signature.action.discrete) {
    throw std::logic_error("this policy answers with choices: call choose");
  }
  const std::vector<double> found = parts_->act(observation, task);
  return {found.begin(), found.end()};
}

std::int64_t Policy::choose(const Observation& observation, std::optional<Numbers> task) {
  if (!parts_->signature.action.discrete) {
    throw std::logic_error("this policy answers with real actions: call act");
  }
  return static_cast<std::int64_t>(parts_->act(observation, task)[0]);
}

void Policy::executed(const Numbers& sent) { parts_->executed(sent); }

Report Policy::verify() {
  try {
    return verified(parts_->contract, parts_->signature, parts_->engine);
  } catch (const ContractError& error) {
    throw ContractError(parts_->path + ": " + error.what());
  }
}

std::vector<std::size_t> Policy::check_robot(const std::vector<std::string>& names,
                                             bool reorder) const {
  const Json* const robot = optional(parts_->contract, "robot");
  if (robot == nullptr) {
    throw std::invalid_argument(
        "the contract has no robot section, so that the driver's joints cannot be compared: export "
        "with --robot robot.yaml");
  }
  std::vector<std::string> joints;
  std::vector<std::size_t> found;
  for (const Json& joint : list(*robot, "joints", "robot.joints").list()) {
    if (!joint.is_text()) fail("robot.joints", "must be a list of names");
    joints.push_back(joint.text());
    const auto place = std::find(names.begin(), names.end(), joints.back());
    if (place == names.end()) {
      throw std::invalid_argument("the driver lacks " + joints.back() + ", and has " +
                                  listed(names));
    }
    if (std::find(place + 1, names.end(), joints.back()) != names.end()) {
      throw std::invalid_argument("the driver names " + joints.back() + " more than once");
    }
    found.push_back(static_cast<std::size_t>(place - names.begin()));
  }
  if (!reorder && names != joints) {
    throw std::invalid_argument("the driver's joints are " + listed(names) +
                                ", and the policy was fitted to " + listed(joints) +
                                ", in this order. reorder takes another, and returns where each lies");
  }
  return found;
}

const Json& Policy::contract() const { return parts_->contract; }

}  // namespace hindsight
