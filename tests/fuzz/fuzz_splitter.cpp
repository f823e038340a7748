// A stream in pieces: the frames do not depend on where it was cut. The first byte says how long the pieces are.
#include "lib/wire/frame.hpp"
#include <algorithm>
#include <cstdlib>

using namespace replica;

static std::string split(std::string_view stream, size_t piece) {
    FrameSplitter splitter;
    std::string all;
    while (!stream.empty()) {
        size_t n = std::min(piece, stream.size());
        splitter.feed(stream.substr(0, n));
        stream.remove_prefix(n);
        auto frame = splitter.next();
        for (; frame && *frame; frame = splitter.next())
            all += to_hex(**frame) + "\n";
        if (!frame) return all + "refused";
    }
    return all;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    if (size == 0) return 0;
    std::string_view stream(reinterpret_cast<const char *>(data) + 1, size - 1);
    if (split(stream, data[0] + 1u) != split(stream, size)) std::abort();
    return 0;
}
