// A key file of any text: a ring that can seal, or a message of one line that shows nothing of the text.
#include "lib/seal/envelope.hpp"
#include <cstdlib>

using namespace replica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    auto ring = KeyRing::parse({reinterpret_cast<const char *>(data), size});
    if (ring && !seal(*ring, {}, "text")) std::abort();
    if (!ring && ring.error().message.find('\n') != std::string::npos) std::abort();
    return 0;
}
