// Changes: the committed facts of an account that its log carries. Format: docs/formats/change.md.
// Decoders are total and refuse trailing bytes. Limits: the caller's record limit bounds everything here.
#pragma once
#include "lib/base/ids.hpp"
#include "lib/base/result.hpp"
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace replica {

// A mailbox, or (mailbox empty) the mailbox list of a namespace.
struct Object {
    std::string ns_prefix;
    Guid mailbox;
    auto operator<=>(const Object &) const = default;
    bool is_list() const { return mailbox.empty(); }
};

enum class ChangeKind : uint8_t {
    mailbox = 1,  // payload: MailboxChange
    snapshot = 2, // payload: SnapshotChange; the content follows as bulk records
    list_create = 16,
    list_delete = 17,
    list_rename = 18,
    list_subscription = 19,
    list_snapshot = 20,
    // reserved: 32 sieve, 33 acl, 34 private flags, 35 checkpoint, 36 condemn
};

struct Change {
    Object object;
    ChangeKind kind = ChangeKind::mailbox;
    Guid subject; // the mailbox that a list_create or list_delete is about
    Number
        previous; // of the same object; none is legal only in list_create of a first list, list_snapshot and snapshot
    std::string payload;
    bool operator==(const Change &) const = default;
};

struct UidRange {
    uint32_t first = 0, last = 0;
    bool operator==(const UidRange &) const = default;
};

struct Append {
    uint32_t uid = 0;
    Guid guid, blob;
    uint64_t physical_size = 0, virtual_size = 0;
    uint32_t received = 0, saved = 0; // seconds since 1970
    uint8_t flags = 0;                // enum mail_flags without \Recent
    std::vector<std::string> keywords;
    std::string pop3_uidl; // empty = the default one
    uint32_t pop3_order = 0;
    uint64_t modseq = 0; // in bulk records only, else 0: the change's own modseq holds
    std::string cache;   // reserved for cached header fields: empty in this version
    bool operator==(const Append &) const = default;
};
struct FlagUpdate {
    UidRange uids;
    uint8_t add = 0, remove = 0;
    bool operator==(const FlagUpdate &) const = default;
};
struct KeywordUpdate {
    std::string keyword;
    bool add = true;
    std::vector<UidRange> uids;
    bool operator==(const KeywordUpdate &) const = default;
};
struct Expunge {
    uint32_t uid = 0;
    Guid guid;
    bool operator==(const Expunge &) const = default;
};
struct Attribute {
    bool shared = false;
    std::string key;
    std::optional<std::string> value; // none = unset
    bool operator==(const Attribute &) const = default;
};
struct HeaderUpdate { // mailbox_update; 0 = unchanged
    uint32_t uid_validity = 0, min_next_uid = 0;
    uint64_t min_highest_modseq = 0;
    bool operator==(const HeaderUpdate &) const = default;
};

// One transaction of a mailbox, as it will be committed. `modseq` is predicted under the lock (design: one change has
// one MODSEQ); an expunge takes modseq + 1. base_modseq is the mailbox's highest before it.
struct MailboxChange {
    uint64_t base_modseq = 0, modseq = 0;
    uint32_t uid_validity = 0, next_uid = 0; // after the change
    std::vector<Append> appends;
    std::vector<FlagUpdate> flags;
    std::vector<KeywordUpdate> keywords;
    std::vector<Expunge> expunges;
    std::vector<Attribute> attributes;
    HeaderUpdate header;
    bool operator==(const MailboxChange &) const = default;
};

struct SnapshotChange {
    SnapshotId id;
    bool unlogged = false; // it has what the log never had: destinations take its content whatever their mark is
    bool operator==(const SnapshotChange &) const = default;
};

using MailboxName = std::vector<std::string>; // components below the namespace prefix, UTF-8

struct ListCreate {
    Guid mailbox; // none for a \NoSelect directory
    MailboxName name;
    uint32_t uid_validity = 0;
    bool operator==(const ListCreate &) const = default;
};
struct ListDelete {
    Guid mailbox;
    MailboxName name;
    bool operator==(const ListDelete &) const = default;
};
struct ListRename {
    Guid mailbox; // none for a \NoSelect directory, which old_name names
    MailboxName old_name, name;
    bool operator==(const ListRename &) const = default;
};
struct ListSubscription {
    MailboxName name;
    bool subscribed = false;
    bool operator==(const ListSubscription &) const = default;
};
struct ListSnapshot {
    std::vector<ListCreate> mailboxes;
    std::vector<MailboxName> subscriptions;
    bool operator==(const ListSnapshot &) const = default;
};

// The content of a snapshot, in bulk records n = 0, 1, ... The first carries the head, the last the sum.
struct Bulk {
    Object object;
    SnapshotId id;
    uint64_t n = 0;
    struct Head {
        uint32_t uid_validity = 0, next_uid = 0;
        uint64_t highest_modseq = 0;
        uint64_t mails = 0; // total, for progress
        std::vector<Attribute> attributes;
        bool operator==(const Head &) const = default;
    };
    std::optional<Head> head;
    std::vector<Append> mails; // in UID order
    struct Sum {
        uint64_t mails = 0;
        std::array<uint8_t, 32> digest{}; // SHA-256 over the encoded mails, in order
        bool operator==(const Sum &) const = default;
    };
    std::optional<Sum> sum; // present = last
    bool operator==(const Bulk &) const = default;
};

std::string encode(const MailboxChange &);
std::string encode(const SnapshotChange &);
std::string encode(const ListCreate &);
std::string encode(const ListDelete &);
std::string encode(const ListRename &);
std::string encode(const ListSubscription &);
std::string encode(const ListSnapshot &);
std::string encode(const Bulk &);
std::string encode(const Append &);                    // what a snapshot's digest runs over
template <class T> Result<T> decode(std::string_view); // for each type above and in record.hpp

} // namespace replica
