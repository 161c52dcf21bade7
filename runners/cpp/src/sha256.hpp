#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace hindsight {

/// The digest SHA-256 (FIPS 180-4) of bytes that are given in parts.
class Sha256 {
 public:
  void add(std::string_view bytes);
  /// Return 64 hexadecimal digits; nothing may be added after.
  std::string digits();

 private:
  void block(const unsigned char* bytes);

  std::array<std::uint32_t, 8> state_ = {0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A,
                                         0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19};
  std::array<unsigned char, 64> waiting_{};
  std::uint64_t count_ = 0;
};

}  // namespace hindsight
