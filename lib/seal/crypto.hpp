// The few primitives of libcrypto that sealing needs. A failure of libcrypto itself (no memory, no provider) ends the
// process: there is nothing that could go on without it. Internal to lib/seal.
#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace replica::crypto {

using Key = std::array<uint8_t, 32>;

std::string hmac(const Key &key, std::string_view message);
Key hkdf(const Key &key, std::string_view info);
inline constexpr size_t nonce_bytes = 12, tag_bytes = 16;
// Ciphertext, then the tag.
std::string aes_gcm_seal(const Key &key, std::string_view nonce, std::string_view header, std::string_view plaintext);
std::optional<std::string> aes_gcm_open(const Key &key, std::string_view nonce, std::string_view header,
                                        std::string_view sealed);
void wipe(Key &key);

} // namespace replica::crypto
