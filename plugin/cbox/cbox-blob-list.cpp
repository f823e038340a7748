#include "plugin/cbox/cbox-blob-list.hpp"
#include "lib/base/bytes.hpp"
#include "plugin/cbox/cbox-trailer.hpp"
#include <algorithm>

namespace replica {

namespace {

constexpr std::string_view magic = "cboxlist";
constexpr uint32_t list_version = 1;
constexpr size_t head_size = 16, entry_size = 24, id_size = 16, tail_size = 4;

} // namespace

std::string encode(const CboxBlobList &list) {
    std::string out;
    out.reserve(head_size + list.size() * entry_size + tail_size);
    Writer w(out);
    w.raw(magic);
    w.u32(list_version);
    w.u32(static_cast<uint32_t>(list.size()));
    for (const auto &listed : list) {
        w.id(listed.blob);
        w.u64(listed.since);
    }
    w.u32(cbox_crc32(0, out));
    return out;
}

Result<std::string_view> cbox_blob_list_entries(std::string_view file) {
    Reader r(file);
    if (r.raw(magic.size()) != magic) return Error{Code::corrupt, "it is no list of blobs"};
    uint32_t version = r.u32();
    if (version != list_version)
        return Error{Code::unsupported, "its version " + std::to_string(version) + " is not known here"};
    auto entries = r.raw(size_t(r.u32()) * entry_size);
    r.u32();
    if (!r.at_end()) return Error{Code::corrupt, "it is damaged"};
    return entries;
}

Result<CboxBlobList> cbox_blob_list_decode(std::string_view file) {
    auto entries = cbox_blob_list_entries(file);
    if (!entries) return entries.error();
    const Error damaged{Code::corrupt, "it is damaged"};
    Reader tail(file.substr(file.size() - tail_size));
    if (tail.u32() != cbox_crc32(0, file.substr(0, file.size() - tail_size))) return damaged;
    CboxBlobList list;
    list.reserve(entries->size() / entry_size);
    for (Reader r(*entries); !r.at_end();) {
        CboxListed listed{r.id<Guid>(), r.u64()};
        if (!list.empty() && list.back().blob >= listed.blob) return damaged;
        list.push_back(listed);
    }
    return list;
}

bool cbox_blob_list_has(std::string_view entries, const Guid &blob) {
    size_t first = 0, last = entries.size() / entry_size;
    while (first < last) {
        size_t middle = first + (last - first) / 2;
        int order = entries.compare(middle * entry_size, id_size, blob.view());
        if (order == 0) return true;
        if (order < 0)
            first = middle + 1;
        else
            last = middle;
    }
    return false;
}

const CboxListed *cbox_blob_list_find(const CboxBlobList &list, const Guid &blob) {
    auto found = std::ranges::lower_bound(list, blob, {}, &CboxListed::blob);
    return found != list.end() && found->blob == blob ? &*found : nullptr;
}

} // namespace replica
