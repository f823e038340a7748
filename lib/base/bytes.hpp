// Writer and Reader of the formats in docs/formats: fixed-width integers in network order, blobs with a 32-bit length.
// Reader is total: past the end, or after any failure, it returns zeros and stays failed; it never allocates beyond its
// input.
#pragma once
#include "lib/base/ids.hpp"
#include <cstdint>
#include <string>
#include <string_view>

namespace replica {

class Writer {
public:
    explicit Writer(std::string &out) : out_(out) {}
    void u8(uint8_t v) { out_.push_back(static_cast<char>(v)); }
    void u16(uint16_t v) { big_endian(v, 2); }
    void u32(uint32_t v) { big_endian(v, 4); }
    void u64(uint64_t v) { big_endian(v, 8); }
    void raw(std::string_view v) { out_.append(v); }
    void blob(std::string_view v) {
        u32(static_cast<uint32_t>(v.size()));
        raw(v);
    }
    template <class Tag, size_t N> void id(const Id<Tag, N> &v) { raw(v.view()); }
    void number(const Number &v) {
        u64(v.epoch);
        u64(v.sequence);
    }

private:
    void big_endian(uint64_t v, int width) {
        for (int shift = (width - 1) * 8; shift >= 0; shift -= 8)
            out_.push_back(static_cast<char>(v >> shift));
    }
    std::string &out_;
};

class Reader {
public:
    explicit Reader(std::string_view in) : in_(in) {}
    uint8_t u8() { return static_cast<uint8_t>(big_endian(1)); }
    uint16_t u16() { return static_cast<uint16_t>(big_endian(2)); }
    uint32_t u32() { return static_cast<uint32_t>(big_endian(4)); }
    uint64_t u64() { return big_endian(8); }
    std::string_view raw(size_t n) {
        if (failed_ || n > in_.size()) {
            fail();
            return {};
        }
        auto v = in_.substr(0, n);
        in_.remove_prefix(n);
        return v;
    }
    std::string_view blob() { return raw(u32()); }
    template <class IdType> IdType id() {
        IdType v;
        auto bytes = raw(v.bytes.size());
        if (!bytes.empty()) v = IdType::from(bytes.data());
        return v;
    }
    Number number() {
        Number v;
        v.epoch = u64();
        v.sequence = u64();
        return v;
    }
    // A count of items that take at least `least` bytes each: more than the input can hold is a failure.
    uint32_t count(size_t least) {
        uint32_t n = u32();
        if (n > in_.size() / least) fail();
        return failed_ ? 0 : n;
    }
    void fail() {
        failed_ = true;
        in_ = {};
    }
    bool ok() const { return !failed_; }
    bool at_end() const { return !failed_ && in_.empty(); }
    std::string_view rest() const { return in_; }

private:
    uint64_t big_endian(int width) {
        auto bytes = raw(static_cast<size_t>(width));
        uint64_t v = 0;
        for (unsigned char c : bytes)
            v = v << 8 | c;
        return v;
    }
    std::string_view in_;
    bool failed_ = false;
};

} // namespace replica
