#include "modelfile.hpp"

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <stdexcept>
#include <string_view>
#include <vector>

#include "hindsight/policy.hpp"
#include "sha256.hpp"

namespace hindsight {

namespace {

constexpr std::uint64_t kMetadata = 14;
constexpr std::string_view kKey = "hindsight.contract";
constexpr int kDeepest = 64;
constexpr int kMostFields = 1 << 18;

/// A field of a message that holds a message, as far as a tensor can lie below it (onnx.proto3).
struct Child {
  int number;
  const struct Message* message;
};

/// Fields that a message may have, one bit each, and those that hold messages. A field that is not
/// listed could be read by another reader as something that was not searched, so it is an error.
struct Message {
  std::uint32_t known;
  std::vector<Child> children;
};

constexpr std::uint32_t bits(std::initializer_list<int> numbers) {
  std::uint32_t found = 0;
  for (const int number : numbers) found |= 1u << number;
  return found;
}

constexpr std::uint32_t up_to(int first, int last) {
  return (2u << last) - (1u << first);
}

// A tensor's field 13 lists where its data lies outside the file, and its field 14 says that it
// does.
const Message kTensor{up_to(1, 14) | bits({16}), {}};
const Message kSparse{bits({1, 2, 3}), {{1, &kTensor}, {2, &kTensor}}};
extern const Message kGraph;
const Message kAttribute{
    up_to(1, 11) | bits({13, 14, 15, 20, 21, 22, 23}),
    {{5, &kTensor}, {6, &kGraph}, {10, &kTensor}, {11, &kGraph}, {22, &kSparse}, {23, &kSparse}}};
const Message kNode{up_to(1, 10), {{5, &kAttribute}}};
const Message kGraph{bits({1, 2, 5, 10, 11, 12, 13, 14, 15, 16}),
                     {{1, &kNode}, {5, &kTensor}, {15, &kSparse}}};
const Message kTraining{up_to(1, 4), {{1, &kGraph}, {2, &kGraph}}};
const Message kFunction{bits({1, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}),
                        {{7, &kNode}, {11, &kAttribute}}};
const Message kModel{bits({1, 2, 3, 4, 5, 6, 7, 8, 14, 20, 25, 26}),
                     {{7, &kGraph}, {20, &kTraining}, {25, &kFunction}}};

struct Field {
  std::uint64_t number = 0;
  std::uint64_t value = 0;    ///< Of a number.
  bool holds_bytes = false;
  std::string_view content;   ///< Of what is no number.
  std::string_view raw;       ///< All its bytes.
};

[[noreturn]] void fail(std::size_t at, const std::string& what) {
  throw std::invalid_argument("byte " + std::to_string(at) + ": " + what);
}

/// Reads the fields of one message in file order.
class Fields {
 public:
  Fields(std::string_view bytes, const Message* message, int& left)
      : bytes_(bytes), message_(message), left_(left) {}

  bool next(Field& field) {
    if (at_ >= bytes_.size()) return false;
    if (--left_ < 0) fail(at_, "more than " + std::to_string(kMostFields) + " fields");
    const std::size_t start = at_;
    const std::uint64_t key = number();
    field = Field();
    field.number = key >> 3;
    const bool known = message_ == nullptr ||
                       (field.number < 32 && (message_->known >> field.number & 1u) != 0);
    // protobuf keeps 32 bits of a key: a longer one would be read as that of another field.
    if (key >> 32 != 0 || field.number == 0 || !known) fail(start, "starts an unknown field");
    std::uint64_t size = 0;
    switch (key & 7) {
      case 0: field.value = number(); break;
      case 1: size = 8; break;
      case 2: size = number(); field.holds_bytes = true; break;
      case 5: size = 4; break;
      default: fail(start, "starts a field of unknown type");
    }
    if (size > bytes_.size() - at_) fail(start, "starts a field that is cut off");
    field.content = bytes_.substr(at_, size);
    at_ += size;
    field.raw = bytes_.substr(start, at_ - start);
    return true;
  }

 private:
  /// Take a number of variable length, in the one way that every library writes.
  std::uint64_t number() {
    std::uint64_t found = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ >= bytes_.size()) break;
      const auto byte = static_cast<unsigned char>(bytes_[at_++]);
      found |= std::uint64_t{byte & 0x7Fu} << shift;
      if (byte < 0x80) {
        if ((byte == 0 && shift > 0) || (shift == 63 && byte > 1)) break;
        return found;
      }
    }
    fail(at_, "no number of variable length");
  }

  std::string_view bytes_;
  const Message* message_;
  int& left_;
  std::size_t at_ = 0;
};

std::pair<std::string, std::string> pair_of(const Field& field, int& left) {
  if (!field.holds_bytes) throw std::invalid_argument("an entry of the metadata is a number");
  std::pair<std::string, std::string> found;
  Fields parts(field.content, nullptr, left);
  for (Field part; parts.next(part);) {
    if (part.number == 1) found.first = part.content;
    if (part.number == 2) found.second = part.content;
  }
  return found;
}

/// Check that no tensor below a message lies outside the file.
void check_inside(std::string_view bytes, const Message& message, int depth, int& left) {
  if (depth > kDeepest) throw std::invalid_argument("nested too deep");
  Fields fields(bytes, &message, left);
  for (Field field; fields.next(field);) {
    if (&message == &kTensor && (field.number == 13 || (field.number == 14 &&
                                                        (field.holds_bytes || field.value != 0)))) {
      throw ContractError(
          "keeps tensors outside the file, which is an error because it makes a policy read other "
          "files. Export to a single file.");
    }
    for (const Child& child : message.children) {
      if (static_cast<std::uint64_t>(child.number) != field.number) continue;
      if (!field.holds_bytes) throw std::invalid_argument("a number where a message is meant");
      check_inside(field.content, *child.message, depth + 1, left);
    }
  }
}

std::string read_bytes(const std::string& path, std::size_t most) {
  std::error_code fault;
  if (!std::filesystem::is_regular_file(path, fault)) {
    throw ContractError("no such file, or no regular one. Give the file that 'hindsight export' "
                        "wrote.");
  }
  const std::unique_ptr<std::FILE, int (*)(std::FILE*)> file(std::fopen(path.c_str(), "rb"),
                                                             std::fclose);
  std::string found;
  char buffer[1 << 16];
  std::size_t count = 0;
  while (file && (count = std::fread(buffer, 1, sizeof buffer, file.get())) > 0) {
    found.append(buffer, count);
    if (found.size() > most) {
      throw ContractError("larger than the limit of " + std::to_string(most) +
                          " bytes. If the file is to be trusted, raise max_bytes.");
    }
  }
  if (!file || std::ferror(file.get())) {
    throw ContractError(std::string("cannot be read (") + std::strerror(errno) + ").");
  }
  return found;
}

}  // namespace

ModelFile read_model(const std::string& path, std::size_t max_bytes) {
  const std::string bytes = read_bytes(path, max_bytes);
  ModelFile found;
  Sha256 hash;
  int contracts = 0, left = kMostFields;
  try {
    Fields fields(bytes, &kModel, left);
    for (Field field; fields.next(field);) {
      if (field.number != kMetadata) {
        found.graph.append(field.raw);
        continue;
      }
      auto [key, text] = pair_of(field, left);
      if (key != kKey) continue;
      found.contract = std::move(text);
      ++contracts;
    }
    check_inside(found.graph, kModel, 0, left);
  } catch (const std::invalid_argument& error) {
    throw ContractError(std::string("not an ONNX file (") + error.what() + ").");
  }
  if (contracts != 1) {
    throw ContractError("holds " + std::to_string(contracts) + " entries '" + std::string(kKey) +
                        "', and a policy file holds one. Give the file that 'hindsight export' "
                        "wrote, unchanged.");
  }
  hash.add(found.graph);
  found.hash = "sha256:" + hash.digits();
  return found;
}

}  // namespace hindsight
