#include "plugin/cbox/cbox-trailer.hpp"
#include "lib/base/bytes.hpp"
#include <array>

namespace replica {

namespace {

constexpr std::string_view magic_begin = "cboxblob", magic_end = "cboxtail";
constexpr uint16_t trailer_version = 1;
constexpr size_t trailer_bytes_max = 64 * 1024;

// Eight bytes at a step: bodies pass here on their way to the disk.
using CrcTables = std::array<std::array<uint32_t, 256>, 8>;
constexpr CrcTables make_tables() {
    CrcTables tables{};
    for (uint32_t n = 0; n < 256; n++) {
        uint32_t c = n;
        for (int bit = 0; bit < 8; bit++)
            c = (c & 1) != 0 ? 0xedb88320u ^ c >> 1 : c >> 1;
        tables[0][n] = c;
    }
    for (uint32_t n = 0; n < 256; n++)
        for (size_t t = 1; t < tables.size(); t++)
            tables[t][n] = tables[t - 1][n] >> 8 ^ tables[0][tables[t - 1][n] & 0xff];
    return tables;
}
constexpr CrcTables crc_tables = make_tables();

} // namespace

uint32_t cbox_crc32(uint32_t crc, std::string_view bytes) {
    const auto &t = crc_tables;
    const auto *p = reinterpret_cast<const uint8_t *>(bytes.data());
    size_t n = bytes.size();
    crc = ~crc;
    for (; n >= 8; p += 8, n -= 8) {
        uint32_t low = crc ^ (uint32_t(p[0]) | uint32_t(p[1]) << 8 | uint32_t(p[2]) << 16 | uint32_t(p[3]) << 24);
        crc = t[7][low & 0xff] ^ t[6][low >> 8 & 0xff] ^ t[5][low >> 16 & 0xff] ^ t[4][low >> 24] ^ t[3][p[4]] ^
              t[2][p[5]] ^ t[1][p[6]] ^ t[0][p[7]];
    }
    for (; n > 0; p++, n--)
        crc = t[0][(crc ^ *p) & 0xff] ^ crc >> 8;
    return ~crc;
}

std::string encode(const CboxTrailer &trailer) {
    std::string out;
    Writer w(out);
    w.raw(magic_begin);
    w.u16(trailer_version);
    w.u16(0);
    w.u64(trailer.body_size);
    w.u64(trailer.physical_size);
    w.u64(trailer.virtual_size);
    w.id(trailer.account);
    w.id(trailer.mailbox);
    w.id(trailer.message);
    w.u32(trailer.uid);
    w.u32(trailer.received);
    w.u32(trailer.saved);
    w.u32(trailer.pop3_order);
    w.blob(trailer.pop3_uidl);
    w.u32(trailer.body_crc);
    w.u32(static_cast<uint32_t>(out.size() + cbox_trailer_end_size));
    w.u32(cbox_crc32(0, out));
    w.raw(magic_end);
    return out;
}

Result<size_t> cbox_trailer_size(std::string_view end) {
    Reader r(end);
    size_t size = r.u32();
    r.u32();
    if (r.raw(magic_end.size()) != magic_end || !r.at_end()) return Error{Code::corrupt, "no trailer at its end"};
    if (size > trailer_bytes_max) return Error{Code::corrupt, "trailer's size is impossible"};
    return size;
}

Result<CboxTrailer> cbox_trailer_decode(std::string_view whole) {
    const Error corrupt{Code::corrupt, "trailer is damaged"};
    if (whole.size() < cbox_trailer_end_size) return corrupt;
    // The checksum covers all before itself.
    size_t covered = whole.size() - magic_end.size() - sizeof(uint32_t);
    Reader r(whole);
    if (r.raw(magic_begin.size()) != magic_begin) return corrupt;
    uint16_t version = r.u16();
    if (version != trailer_version)
        return Error{Code::unsupported, "trailer version " + std::to_string(version) + " is not known here"};
    if (r.u16() != 0) return corrupt;
    CboxTrailer trailer;
    trailer.body_size = r.u64();
    trailer.physical_size = r.u64();
    trailer.virtual_size = r.u64();
    trailer.account = r.id<Guid>();
    trailer.mailbox = r.id<Guid>();
    trailer.message = r.id<Guid>();
    trailer.uid = r.u32();
    trailer.received = r.u32();
    trailer.saved = r.u32();
    trailer.pop3_order = r.u32();
    trailer.pop3_uidl = r.blob();
    trailer.body_crc = r.u32();
    size_t size = r.u32();
    uint32_t crc = r.u32();
    if (r.raw(magic_end.size()) != magic_end || !r.at_end() || size != whole.size() ||
        crc != cbox_crc32(0, whole.substr(0, covered)))
        return corrupt;
    return trailer;
}

} // namespace replica
