// The input as a blob's trailer, and as its last bytes. What is taken is what would be written.
#include "plugin/cbox/cbox-trailer.hpp"
#include <cstdlib>

using namespace replica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::string_view bytes(reinterpret_cast<const char *>(data), size);
    (void)cbox_trailer_size(bytes);
    auto trailer = cbox_trailer_decode(bytes);
    if (trailer && encode(*trailer) != bytes) std::abort();
    return 0;
}
