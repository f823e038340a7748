// Whatever DECODE takes, ENCODE gives back byte for byte: so nothing is read past the end, dropped, or has two
// encodings. DECODE, ENCODE: see CMakeLists.txt, one fuzzer for each pair.
#include "lib/wire/control.hpp"
#include "lib/wire/frame.hpp"
#include "lib/wire/worker.hpp"
#include <cstdlib>

using namespace replica;

[[maybe_unused]] static std::string encode_body(const auto &frame) { return encode_frame(frame).substr(4); }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::string_view bytes(reinterpret_cast<const char *>(data), size);
    auto value = DECODE(bytes);
    if (value && ENCODE(*value) != bytes) std::abort();
    return 0;
}
