#include "lib/wire/change.hpp"
#include "lib/wire/fields.hpp"

namespace replica {

constexpr auto fields(Is<UidRange> auto &r) { return std::tie(r.first, r.last); }
constexpr auto fields(Is<Append> auto &a) {
    return std::tie(a.uid, a.guid, a.blob, a.physical_size, a.virtual_size, a.received, a.saved, a.flags, a.keywords,
                    a.pop3_uidl, a.pop3_order, a.modseq, a.cache);
}
constexpr auto fields(Is<FlagUpdate> auto &u) { return std::tie(u.uids, u.add, u.remove); }
constexpr auto fields(Is<KeywordUpdate> auto &u) { return std::tie(u.keyword, u.add, u.uids); }
constexpr auto fields(Is<Expunge> auto &e) { return std::tie(e.uid, e.guid); }
constexpr auto fields(Is<Attribute> auto &a) { return std::tie(a.shared, a.key, a.value); }
constexpr auto fields(Is<HeaderUpdate> auto &u) {
    return std::tie(u.uid_validity, u.min_next_uid, u.min_highest_modseq);
}
constexpr auto fields(Is<MailboxChange> auto &c) {
    return std::tie(c.base_modseq, c.modseq, c.uid_validity, c.next_uid, c.appends, c.flags, c.keywords, c.expunges,
                    c.attributes, c.header);
}
constexpr auto fields(Is<SnapshotChange> auto &c) { return std::tie(c.id, c.unlogged); }
constexpr auto fields(Is<ListCreate> auto &c) { return std::tie(c.mailbox, c.name, c.uid_validity); }
constexpr auto fields(Is<ListDelete> auto &c) { return std::tie(c.mailbox, c.name); }
constexpr auto fields(Is<ListRename> auto &c) { return std::tie(c.mailbox, c.old_name, c.name); }
constexpr auto fields(Is<ListSubscription> auto &c) { return std::tie(c.name, c.subscribed); }
constexpr auto fields(Is<ListSnapshot> auto &c) { return std::tie(c.mailboxes, c.subscriptions); }
constexpr auto fields(Is<Bulk::Head> auto &h) {
    return std::tie(h.uid_validity, h.next_uid, h.highest_modseq, h.mails, h.attributes);
}
constexpr auto fields(Is<Bulk::Sum> auto &s) { return std::tie(s.mails, s.digest); }
constexpr auto fields(Is<Bulk> auto &b) { return std::tie(b.object, b.id, b.n, b.head, b.mails, b.sum); }

constexpr uint8_t mail_flags = 0x1f; // enum mail_flags without \Recent
static bool legal(const UidRange &r) { return r.first != 0 && r.first <= r.last; }
static bool legal(const Append &a) {
    return a.uid != 0 && (a.flags & ~mail_flags) == 0 && no_nul(a.keywords) && no_nul(a.pop3_uidl);
}
static bool legal(const FlagUpdate &u) { return ((u.add | u.remove) & ~mail_flags) == 0; }
static bool legal(const KeywordUpdate &u) { return no_nul(u.keyword); }
static bool legal(const Expunge &e) { return e.uid != 0; }
static bool legal(const Attribute &a) { return no_nul(a.key); }
static bool legal(const ListCreate &c) { return !c.name.empty() && no_nul(c.name); }
static bool legal(const ListDelete &c) { return !c.name.empty() && no_nul(c.name); }
static bool legal(const ListRename &c) { return !c.name.empty() && no_nul(c.old_name) && no_nul(c.name); }
static bool legal(const ListSubscription &c) { return no_nul(c.name); }
static bool legal(const Bulk &b) { return !b.object.is_list() && b.head.has_value() == (b.n == 0); }

std::string encode(const MailboxChange &value) { return encode_fields(value); }
std::string encode(const SnapshotChange &value) { return encode_fields(value); }
std::string encode(const ListCreate &value) { return encode_fields(value); }
std::string encode(const ListDelete &value) { return encode_fields(value); }
std::string encode(const ListRename &value) { return encode_fields(value); }
std::string encode(const ListSubscription &value) { return encode_fields(value); }
std::string encode(const ListSnapshot &value) { return encode_fields(value); }
std::string encode(const Bulk &value) { return encode_fields(value); }
std::string encode(const Append &value) { return encode_fields(value); }

template <> Result<MailboxChange> decode(std::string_view in) {
    return decode_fields<MailboxChange>(in, "a mailbox change");
}
template <> Result<SnapshotChange> decode(std::string_view in) {
    return decode_fields<SnapshotChange>(in, "a snapshot change");
}
template <> Result<ListCreate> decode(std::string_view in) { return decode_fields<ListCreate>(in, "a list create"); }
template <> Result<ListDelete> decode(std::string_view in) { return decode_fields<ListDelete>(in, "a list delete"); }
template <> Result<ListRename> decode(std::string_view in) { return decode_fields<ListRename>(in, "a list rename"); }
template <> Result<ListSubscription> decode(std::string_view in) {
    return decode_fields<ListSubscription>(in, "a subscription");
}
template <> Result<ListSnapshot> decode(std::string_view in) {
    return decode_fields<ListSnapshot>(in, "a list snapshot");
}
template <> Result<Bulk> decode(std::string_view in) { return decode_fields<Bulk>(in, "a bulk record"); }
template <> Result<Append> decode(std::string_view in) { return decode_fields<Append>(in, "an append"); }

} // namespace replica
