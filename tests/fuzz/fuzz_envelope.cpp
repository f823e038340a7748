// The input as an envelope that came from anywhere, and as the plaintext of one of ours.
#include "tests/golden/vectors.hpp"
#include <cstdlib>

using namespace replica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const KeyRing ring = golden::ring();
    static const EnvelopeHeader header = golden::envelope_header();
    std::string_view bytes(reinterpret_cast<const char *>(data), size);
    auto opened = open(ring, bytes);
    if (opened && !peek(bytes)) std::abort();
    auto again = open(ring, *seal(ring, header, bytes));
    if (!again || again->plaintext != bytes) std::abort();
    return 0;
}
