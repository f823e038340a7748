// The identifiers of the field, each a type of its own. Plain values, no ownership, any thread.
#pragma once
#include <array>
#include <compare>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

namespace replica {

template <class Tag, size_t N> struct Id {
    std::array<uint8_t, N> bytes{};
    auto operator<=>(const Id &) const = default;
    bool empty() const { return *this == Id{}; }
    std::string_view view() const { return {reinterpret_cast<const char *>(bytes.data()), N}; }
    static Id from(const void *data) {
        Id id;
        __builtin_memcpy(id.bytes.data(), data, N);
        return id;
    }
};

using Guid = Id<struct GuidTag, 16>;             // of a mailbox, a message or a blob; all zero = none
using SnapshotId = Id<struct SnapshotTag, 16>;   // random, one for each snapshot taken
using AccountKey = Id<struct AccountKeyTag, 32>; // HMAC-SHA256 of the account's name under the name key
using Session = Id<struct SessionTag, 8>;        // one life of an agent, random

std::string to_hex(std::string_view bytes);
template <class Tag, size_t N> std::string to_hex(const Id<Tag, N> &id) { return to_hex(id.view()); }

// (epoch, sequence) of a record of an account. Epochs begin at 1, so {0, 0} is "none". {e, 0} is the OPEN of epoch e.
struct Number {
    uint64_t epoch = 0;
    uint64_t sequence = 0;
    auto operator<=>(const Number &) const = default;
    bool none() const { return epoch == 0; }
};
std::string to_string(const Number &number); // "3/1207"

// Where an epoch of an account is logged.
struct Place {
    std::string topic;
    int32_t partition = -1;
    auto operator<=>(const Place &) const = default;
};
std::string to_string(const Place &place); // "topic/3"

} // namespace replica

template <class Tag, size_t N> struct std::hash<replica::Id<Tag, N>> {
    size_t operator()(const replica::Id<Tag, N> &id) const { return std::hash<std::string_view>{}(id.view()); }
};
