#include "signature.hpp"

#include <cmath>
#include <limits>

#include "entries.hpp"

namespace hindsight {

namespace {

constexpr std::int64_t kMostAhead = 4096;

Input input_of(const Json& stated, const std::string& place, const std::string& label) {
  Input found;
  const Json* const kind = optional(stated, "kind");
  const std::string named = kind == nullptr ? "vector" : text(stated, "kind", place + ".kind");
  if (named != "vector" && (place == "task" || (named != "image" && named != "discrete"))) {
    fail(place + ".kind", "is '" + named + "', which is unknown");
  }
  found.kind = named == "image" ? Kind::image : named == "discrete" ? Kind::discrete : Kind::vector;
  found.port = {place, sizes(stated, place, found.kind == Kind::discrete), Type::float32};
  if (found.kind == Kind::image) found.port.type = Type::uint8;
  if (found.kind == Kind::discrete) {
    found.port.type = Type::int64;
    found.choices = whole(stated, "n", place + ".n");
    if (found.choices < 1) fail(place + ".n", "must be positive");
  }
  constexpr const char* types[] = {"float32", "uint8", "int64"};
  const char* const type = types[static_cast<int>(found.port.type)];
  if (text(stated, "dtype", place + ".dtype") != type) {
    fail(place + ".dtype", std::string("must be '") + type + "'");
  }
  found.label = label;
  if (const Json* names = optional(stated, "names"); names != nullptr && names->is_list()) {
    for (const Json& name : names->list()) {
      if (name.is_text()) found.names.push_back(name.text());
    }
    if (found.names.size() != size_of(found.port.shape)) fail(place + ".names", "must name each");
  }
  if (found.kind != Kind::vector) return found;
  if (const Json* offset = optional(stated, "offset")) {
    found.offset = table(*offset, found.port.shape, place + ".offset");
  }
  if (const Json* usual = optional(stated, "default")) {
    found.usual = table(*usual, found.port.shape, place + ".default");
  }
  return found;
}

Action action_of(const Json& stated) {
  Action found;
  const std::string& kind = text(stated, "kind", "action.kind");
  const Shape shape = sizes(stated, "action", true);
  found.discrete = kind == "discrete";
  const std::string& type = text(stated, "dtype", "action.dtype");
  if (type != (found.discrete ? "int64" : "float32")) fail("action.dtype", "does not fit its kind");
  if (found.discrete) {
    found.choices = whole(stated, "n", "action.n");
    if (stated.find("start") != nullptr) found.start = whole(stated, "start", "action.start");
    if (found.choices < 1 || !shape.empty()) fail("action", "must have n positive and shape []");
    return found;
  }
  if (kind != "continuous") fail("action.kind", "must be 'continuous' or 'discrete'");
  if (shape.size() != 1) fail("action.shape", "must be one positive size");
  found.width = shape[0];
  for (const auto& [name, sign] : {std::pair{"low", -1.0}, std::pair{"high", 1.0}}) {
    const double open = sign * std::numeric_limits<double>::infinity();
    std::vector<double> ends(found.width, open);
    if (const Json* given = optional(stated, name)) {
      ends = table(*given, shape, std::string("action.") + name, &open);
    }
    (sign < 0 ? found.low : found.high).assign(ends.begin(), ends.end());
  }
  return found;
}

std::vector<State> state_of(const Json& contract, const Action& action) {
  std::vector<State> found;
  if (optional(contract, "state") == nullptr) return found;
  for (const Json& stated : list(contract, "state", "state").list()) {
    const std::string place = "state[" + std::to_string(found.size()) + "]";
    const std::string& name = text(stated, "name", place + ".name");
    const std::string& type = text(stated, "dtype", place + ".dtype");
    if (type != "float32" && type != "int64") fail(place + ".dtype", "must be float32 or int64");
    const Shape shape = sizes(stated, place, true);
    const Type kind = type == "int64" ? Type::int64 : Type::float32;
    for (const State& other : found) {
      if (other.in.name == "state." + name) fail(place + ".name", "is that of another part");
    }
    State kept{{"state." + name, shape, kind}, {"next_state." + name, shape, kind}, {}, false};
    const Json* initial = optional(stated, "initial");
    kept.initial.assign(size_of(shape), 0.0);
    if (initial != nullptr) kept.initial = table(*initial, shape, place + ".initial");
    kept.actions = flag(stated, "actions", place + ".actions");
    if (kept.actions && (kind != (action.discrete ? Type::int64 : Type::float32) || shape.empty() ||
                         size_of(shape) != shape[0] * action.width)) {
      fail(place + ".actions", "is true: shape must be [P, ...] of actions, dtype theirs");
    }
    found.push_back(std::move(kept));
  }
  return found;
}

std::optional<Noise> noise_of(const Json& contract) {
  const Json* stated = optional(contract, "noise");
  if (stated == nullptr) return {};
  const std::string& kind = text(*stated, "distribution", "noise.distribution");
  if (kind != "normal" && kind != "uniform") {
    fail("noise.distribution", "must be 'normal' or 'uniform'");
  }
  return Noise{sizes(*stated, "noise", false), kind == "normal",
               flag(*stated, "zero", "noise.zero")};
}

std::optional<Chunk> chunk_of(const Json& contract, const Action& action) {
  const Json* stated = optional(contract, "chunk");
  if (stated == nullptr) return {};
  const std::int64_t length = whole(*stated, "length", "chunk.length");
  const std::int64_t execute = whole(*stated, "execute", "chunk.execute");
  if (length < 1 || length > kMostAhead) fail("chunk.length", "must be in 1 to 4096");
  if (execute < 1 || execute > length) fail("chunk.execute", "must be in 1 to chunk.length");
  Chunk found{static_cast<std::size_t>(length), static_cast<std::size_t>(execute), {}};
  if (optional(*stated, "ensemble") != nullptr) {
    found.ensemble = number(*stated, "ensemble", "chunk.ensemble");
    if (action.discrete || execute != 1 || std::abs(*found.ensemble) > 10.0) {
      fail("chunk.ensemble", "averages only real actions, with execute 1 and a decay in -10 to 10");
    }
  }
  return found;
}

std::vector<Port> distribution_of(const Json& contract, const Action& action) {
  const Json* stated = optional(contract, "distribution");
  if (stated == nullptr) return {};
  const std::string& kind = text(*stated, "kind", "distribution.kind");
  const Shape one{action.width};
  const std::string of = "distribution.";
  if (kind == "categorical") {
    return {{of + "logits", {static_cast<std::size_t>(action.choices)}, Type::float32}};
  }
  if (kind == "mixture") {
    const std::int64_t count = whole(*stated, "components", "distribution.components");
    if (count < 1 || count > 65536) fail("distribution.components", "must be in 1 to 65536");
    const auto parts = static_cast<std::size_t>(count);
    return {{of + "logits", {parts}, Type::float32},
            {of + "mean", {parts, action.width}, Type::float32},
            {of + "std", {parts, action.width}, Type::float32}};
  }
  if (kind == "laplace") {
    return {{of + "median", one, Type::float32}, {of + "spread", one, Type::float32}};
  }
  if (kind != "normal" && kind != "tanh_normal") fail("distribution.kind", "is unknown");
  return {{of + "mean", one, Type::float32}, {of + "std", one, Type::float32}};
}

std::optional<Port> scores_of(const Json& contract, const Action& action, bool second) {
  if (const Json* stated = second ? optional(contract, "scores") : nullptr) {
    const Shape shape = sizes(*stated, "scores", false);
    if (shape.size() != 1) fail("scores.shape", "must be one size");
    return Port{"scores", shape, Type::float32};
  }
  if (!action.discrete) return {};
  if (second) fail("scores", "is missing, and discrete actions are an argmax");
  return Port{"scores", {static_cast<std::size_t>(action.choices)}, Type::float32};
}

}  // namespace

std::size_t size_of(const Shape& shape) {
  std::size_t found = 1;
  for (const std::size_t each : shape) found *= each;
  return found;
}

std::size_t bytes_of(Type type) {
  return type == Type::float32 ? sizeof(float) : type == Type::int64 ? sizeof(std::int64_t) : 1;
}

std::string text_of(const Shape& shape) {
  std::string found;
  for (const std::size_t each : shape) {
    found += (found.empty() ? "" : ", ") + std::to_string(each);
  }
  return "[" + found + "]";
}

std::vector<Port> Signature::inputs() const {
  std::vector<Port> found;
  for (const Input& given : observation) found.push_back(given.port);
  if (task) found.push_back(task->port);
  for (const State& kept : state) found.push_back(kept.in);
  if (noise) found.push_back({"noise", noise->shape, Type::float32});
  return found;
}

std::vector<Port> Signature::outputs() const {
  std::vector<Port> found{answer};
  if (scores) found.push_back(*scores);
  for (const State& kept : state) found.push_back(kept.out);
  found.insert(found.end(), distribution.begin(), distribution.end());
  return found;
}

Signature signature_of(const Json& contract) {
  const std::int64_t version = whole(contract, "version", "version");
  if (version < 1 || version > 3) {
    fail("version", "is " + std::to_string(version) + ", and this reader knows versions 1 to 3");
  }
  const bool second = version >= 2;
  Signature found;
  const Json& observation = object(contract, "observation", "observation");
  found.entries = second && observation.find("entries") != nullptr;
  if (found.entries) {
    const Json& entries = object(observation, "entries", "observation.entries");
    if (entries.members().empty()) fail("observation.entries", "is empty");
    for (const auto& [name, stated] : entries.members()) {
      found.observation.push_back(input_of(stated, "observation." + name, name));
    }
  } else {
    found.observation.push_back(input_of(observation, "observation", "observation"));
  }
  if (const Json* task = optional(contract, "task")) found.task = input_of(*task, "task", "task");
  found.action = action_of(object(contract, "action", "action"));
  found.scores = scores_of(contract, found.action, second);
  if (second) {
    found.state = state_of(contract, found.action);
    found.noise = noise_of(contract);
    found.chunk = chunk_of(contract, found.action);
  }
  if (version >= 3) found.distribution = distribution_of(contract, found.action);
  Shape shape;
  if (found.chunk) shape.push_back(found.chunk->length);
  if (!found.action.discrete) shape.push_back(found.action.width);
  found.answer = {"action", shape, found.action.discrete ? Type::int64 : Type::float32};
  return found;
}

}  // namespace hindsight
