// The trailer behind each body in its blob: enough to rebuild a lost index. Format: docs/formats/cbox.md.
// Pure: knows no Dovecot. Decoders are total and allocate nothing beyond their input.
#pragma once
#include "lib/base/ids.hpp"
#include "lib/base/result.hpp"
#include <string>
#include <string_view>

namespace replica {

struct CboxTrailer {
    uint64_t body_size = 0; // as stored, plugins' encodings included
    uint64_t physical_size = 0, virtual_size = 0;
    Guid account, mailbox, message;
    uint32_t uid = 0; // 0: not known when it was written
    uint32_t received = 0, saved = 0, pop3_order = 0;
    std::string pop3_uidl;
    uint32_t body_crc = 0;
    bool operator==(const CboxTrailer &) const = default;
};

std::string encode(const CboxTrailer &trailer);
inline constexpr size_t cbox_trailer_end_size = 16;
// From the last cbox_trailer_end_size bytes of a blob: the whole trailer's size.
Result<size_t> cbox_trailer_size(std::string_view end);
Result<CboxTrailer> cbox_trailer_decode(std::string_view whole);

// CRC-32 as zlib's: of `bytes` behind those that gave `crc`; begins with 0.
uint32_t cbox_crc32(uint32_t crc, std::string_view bytes);

} // namespace replica
