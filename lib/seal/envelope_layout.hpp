// What only the codec and its golden vectors need: to seal with a nonce that is given. Internal to lib/seal.
#pragma once
#include "lib/seal/envelope.hpp"

namespace replica {

// `nonce` is 12 bytes that this key, account and epoch have never seen.
Result<std::string> seal_with_nonce(const KeyRing &ring, const EnvelopeHeader &header, std::string_view nonce,
                                    std::string_view plaintext);

} // namespace replica
