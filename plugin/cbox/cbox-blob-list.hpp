// A list of blobs in an account's control dir: the sweep's `candidates` and `condemned`. Format: docs/formats/cbox.md.
// Pure: knows no Dovecot. Decoders are total and allocate nothing beyond their input.
#pragma once
#include "lib/base/ids.hpp"
#include "lib/base/result.hpp"
#include <string>
#include <string_view>
#include <vector>

namespace replica {

struct CboxListed {
    Guid blob;
    uint64_t since = 0; // seconds since 1970
    auto operator<=>(const CboxListed &) const = default;
};
using CboxBlobList = std::vector<CboxListed>; // in the order of the blobs, each once

std::string encode(const CboxBlobList &list);
Result<CboxBlobList> cbox_blob_list_decode(std::string_view file);

// One blob in a file that is not read whole: where its entries stand, and a search there. No checksum is looked at.
Result<std::string_view> cbox_blob_list_entries(std::string_view file);
bool cbox_blob_list_has(std::string_view entries, const Guid &blob);

// The entry of a blob, or null.
const CboxListed *cbox_blob_list_find(const CboxBlobList &list, const Guid &blob);

} // namespace replica
