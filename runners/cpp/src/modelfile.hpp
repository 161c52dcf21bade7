// A policy file as bytes: an ONNX file is one protocol buffer message, whose metadata holds the
// contract. Everything else is what was hashed at the export, and what is run.
#pragma once

#include <cstddef>
#include <string>

namespace hindsight {

struct ModelFile {
  std::string contract;  ///< JSON.
  std::string graph;     ///< The model without its metadata.
  std::string hash;      ///< "sha256:..." of the graph.
};

/// Return the parts of a policy file.
///
/// Throws ContractError: the file cannot be read, is larger than max_bytes, is no ONNX file, does
/// not hold exactly one contract, or keeps tensors in other files.
ModelFile read_model(const std::string& path, std::size_t max_bytes);

}  // namespace hindsight
