// One list of fields for each type, which Encoder and Decoder both follow, so that the two cannot disagree:
//     constexpr auto fields(Is<Expunge> auto &e) { return std::tie(e.uid, e.guid); }
// Integers and enums have their own width in network order; a bool, and whether an optional is there, one byte 0 or 1;
// a string or a vector a 32-bit length or count first. A type may add `bool legal(const T &)`: what a decoder refuses
// beyond the shape. Internal to lib/wire: every value has exactly one encoding, and what a decoder accepts encodes to
// the same bytes again.
#pragma once
#include "lib/base/bytes.hpp"
#include "lib/wire/record.hpp"
#include <concepts>
#include <tuple>
#include <type_traits>
#include <utility>
#include <variant>

namespace replica {

template <class T, class Type>
concept Is = std::same_as<std::remove_const_t<T>, Type>;

// How many members an aggregate has: a member that its list of fields forgot does not compile.
struct Anything {
    template <class T> operator T() const;
};
template <class T, size_t... i> constexpr bool takes(std::index_sequence<i...>) {
    return requires { T{((void)i, Anything{})...}; };
}
template <class T, size_t n = 0> constexpr size_t member_count() {
    if constexpr (takes<T>(std::make_index_sequence<n + 1>()))
        return member_count<T, n + 1>();
    else
        return n;
}
template <class T>
constexpr bool lists_all = std::tuple_size_v<decltype(fields(std::declval<T &>()))> == member_count<T>();

class Encoder {
public:
    explicit Encoder(std::string &out) : out_(out) {}

    void put(std::integral auto v) {
        if constexpr (sizeof(v) == 1)
            out_.u8(static_cast<uint8_t>(v));
        else if constexpr (sizeof(v) == 4)
            out_.u32(static_cast<uint32_t>(v));
        else
            out_.u64(static_cast<uint64_t>(v));
    }
    template <class T>
    requires std::is_enum_v<T>
    void put(T v) { put(static_cast<std::underlying_type_t<T>>(v)); }
    void put(const std::string &v) { out_.blob(v); }
    template <class Tag, size_t N> void put(const Id<Tag, N> &v) { out_.id(v); }
    template <size_t N> void put(const std::array<uint8_t, N> &v) {
        out_.raw({reinterpret_cast<const char *>(v.data()), N});
    }
    template <class T> void put(const std::vector<T> &v) {
        put(static_cast<uint32_t>(v.size()));
        for (const T &item : v)
            put(item);
    }
    template <class T> void put(const std::optional<T> &v) {
        put(v.has_value());
        if (v) put(*v);
    }
    template <class A, class B> void put(const std::pair<A, B> &v) {
        put(v.first);
        put(v.second);
    }
    template <class T>
    requires requires(const T &t) { fields(t); }
    void put(const T &v) {
        static_assert(lists_all<T>);
        std::apply([this](const auto &...field) { (this->put(field), ...); }, fields(v));
    }

private:
    Writer out_;
};

class Decoder {
public:
    explicit Decoder(std::string_view in) : in_(in) {}

    void get(bool &v) {
        uint8_t byte = in_.u8();
        if (byte > 1) in_.fail();
        v = byte == 1;
    }
    template <std::integral T> void get(T &v) {
        if constexpr (sizeof(T) == 1)
            v = static_cast<T>(in_.u8());
        else if constexpr (sizeof(T) == 4)
            v = static_cast<T>(in_.u32());
        else
            v = static_cast<T>(in_.u64());
    }
    template <class T>
    requires std::is_enum_v<T>
    void get(T &v) {
        std::underlying_type_t<T> value{};
        get(value);
        v = static_cast<T>(value);
        if (!legal(v)) fail(Code::unsupported); // a later version may know it
    }
    void get(std::string &v) { v = in_.blob(); }
    template <class Tag, size_t N> void get(Id<Tag, N> &v) { v = in_.id<Id<Tag, N>>(); }
    template <size_t N> void get(std::array<uint8_t, N> &v) {
        std::string_view bytes = in_.raw(N);
        if (!bytes.empty()) __builtin_memcpy(v.data(), bytes.data(), N);
    }
    template <class T> void get(std::vector<T> &v) {
        for (uint32_t left = in_.count(1); left > 0 && in_.ok(); left--)
            get(v.emplace_back());
    }
    template <class T> void get(std::optional<T> &v) {
        bool present = false;
        get(present);
        if (!present) return;
        T value;
        get(value);
        v = std::move(value);
    }
    template <class A, class B> void get(std::pair<A, B> &v) {
        get(v.first);
        get(v.second);
    }
    template <class T>
    requires requires(T &t) { fields(t); }
    void get(T &v) {
        std::apply([this](auto &...field) { (this->get(field), ...); }, fields(v));
        if constexpr (requires { legal(std::as_const(v)); })
            if (!legal(std::as_const(v))) fail(Code::corrupt);
    }

    void fail(Code code) { // the first failure is the one that counts
        if (in_.ok()) code_ = code;
        in_.fail();
    }
    template <class T> Result<T> finish(T &value, const char *what) {
        if (in_.at_end()) return std::move(value);
        if (code_ == Code::unsupported) return Error{code_, std::string(what) + " of a later version"};
        return Error{code_,
                     std::string(what) + (in_.ok() ? " with bytes behind its end" : " that is cut short or not legal")};
    }

private:
    Reader in_;
    Code code_ = Code::corrupt;
};

template <class T> std::string encode_fields(const T &value) {
    std::string out;
    Encoder(out).put(value);
    return out;
}
template <class T> Result<T> decode_fields(std::string_view bytes, const char *what) {
    Decoder in(bytes);
    T value;
    in.get(value);
    return in.finish(value, what);
}

// One byte says which alternative follows: `first` is the variant's first, and so on in its order.
template <class... Ts> void put_alternative(Encoder &out, const std::variant<Ts...> &value, uint8_t first) {
    out.put(static_cast<uint8_t>(first + value.index()));
    std::visit([&out](const auto &alternative) { out.put(alternative); }, value);
}
template <class Variant> Result<Variant> decode_alternative(std::string_view bytes, uint8_t first, const char *what) {
    Decoder in(bytes);
    Variant value;
    uint8_t tag = 0;
    in.get(tag);
    auto try_one = [&]<size_t index>() {
        if (tag == first + index) in.get(value.template emplace<index>());
        return tag == first + index;
    };
    bool known = [&]<size_t... indexes>(std::index_sequence<indexes...>) {
        return (try_one.template operator()<indexes>() || ...);
    }
    (std::make_index_sequence<std::variant_size_v<Variant>>());
    if (!known) in.fail(Code::unsupported);
    return in.finish(value, what);
}

// Names go into C strings at the other end.
inline bool no_nul(std::string_view text) { return text.find('\0') == text.npos; }
inline bool no_nul(const std::vector<std::string> &texts) {
    for (const std::string &text : texts)
        if (!no_nul(std::string_view(text))) return false;
    return true;
}

// --- the types that several pages share ---
constexpr auto fields(Is<Number> auto &n) { return std::tie(n.epoch, n.sequence); }
constexpr auto fields(Is<Place> auto &p) { return std::tie(p.topic, p.partition); }
constexpr auto fields(Is<Object> auto &o) { return std::tie(o.ns_prefix, o.mailbox); }
constexpr auto fields(Is<Mark> auto &m) { return std::tie(m.number, m.unlogged); }
constexpr auto fields(Is<Change> auto &c) { return std::tie(c.object, c.kind, c.subject, c.previous, c.payload); }

inline bool legal(const Object &object) { return no_nul(object.ns_prefix); }
constexpr bool legal(ChangeKind kind) {
    return (kind >= ChangeKind::mailbox && kind <= ChangeKind::snapshot) ||
           (kind >= ChangeKind::list_create && kind <= ChangeKind::list_snapshot);
}
inline bool legal(const Change &change) {
    bool names_subject = change.kind == ChangeKind::list_create || change.kind == ChangeKind::list_delete;
    return change.object.is_list() == (change.kind >= ChangeKind::list_create) &&
           (names_subject || change.subject.empty());
}

} // namespace replica
