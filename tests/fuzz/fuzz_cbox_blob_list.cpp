// The input as a list of blobs. What is taken is what would be written, and each of its blobs is found in it.
#include "plugin/cbox/cbox-blob-list.hpp"
#include <cstdlib>

using namespace replica;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    std::string_view bytes(reinterpret_cast<const char *>(data), size);
    auto entries = cbox_blob_list_entries(bytes);
    if (entries) (void)cbox_blob_list_has(*entries, Guid{});
    auto list = cbox_blob_list_decode(bytes);
    if (!list) return 0;
    if (encode(*list) != bytes) std::abort();
    for (const auto &listed : *list)
        if (!cbox_blob_list_has(*entries, listed.blob)) std::abort();
    return 0;
}
