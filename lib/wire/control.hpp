// Values and keys of the control log. Format: docs/formats/control-log.md. Every value is sealed (lib/seal), with
// header.account = SHA-256 of its Kafka key. Names stand only in values; keys carry keyed hashes.
#pragma once
#include "lib/wire/record.hpp"
#include <variant>

namespace replica {

enum class AccountState : uint8_t { active = 1, promoting = 2, removed = 3 };
std::string_view to_string(AccountState);

struct EpochPlace { // where an epoch is logged; `offset` and `sequence`: a start, from which a reader may begin
    uint64_t epoch = 0;
    Place place;
    int64_t offset = 0;    // read from here
    uint64_t sequence = 0; // the last sequence that counted before it
    bool operator==(const EpochPlace &) const = default;
};
struct DestinationEntry {
    std::string store;
    uint32_t priority = 0; // lower first
    bool operator==(const DestinationEntry &) const = default;
};
// Proposal for version n + 1; for every reader the first record of an account's highest version counts.
struct AccountRecord {
    std::string account;
    uint64_t version = 0;
    uint64_t epoch = 0;
    std::string source; // store
    AccountState state = AccountState::active;
    std::vector<EpochPlace> places; // oldest first, the last is the current epoch's
    std::vector<DestinationEntry> destinations;
    bool operator==(const AccountRecord &) const = default;
};

struct Heartbeat { // one writer: the store
    std::string store;
    Session session;
    uint64_t counter = 0; // within the session
    uint64_t time_ms = 0; // wall clock, only for people
    std::string host, base_dir, version, key_check;
    std::string address;                                 // where a proxy finds the store (replica_address)
    std::vector<std::pair<Place, int64_t>> acknowledged; // highest offset acknowledged, per own place
    uint64_t accounts_source = 0, accounts_destination = 0;
    bool operator==(const Heartbeat &) const = default;
};

enum class DestinationPhase : uint8_t { initial = 1, following = 2, complete = 3, lost = 4, stopped = 5, source = 6 };
std::string_view to_string(DestinationPhase);
// One writer: the destination's store. Phase `source`: the account's source says of itself what it has past the log.
struct DestinationState {
    std::string account, store;
    uint64_t version = 0; // of the account record that it speaks of
    Number position;      // a source's: of the last snapshot of what no log had before
    Number flushed;       // a destination's: what a restart goes on from at the earliest
    DestinationPhase phase = DestinationPhase::initial;
    bool wants_everything = false;
    std::vector<Object> wanted; // a source's: those that have what no log has yet
    std::string reason;         // why stopped or lost; a source's: what of it stands still
    uint64_t mails_done = 0, mails_total = 0;
    bool operator==(const DestinationState &) const = default;
};

enum class OperationKind : uint8_t { set = 1, remove = 2, promote = 3 };
enum class OperationPhase : uint8_t { checking = 1, running = 2, done = 3, failed = 4 };
struct Operation { // one writer: the driver
    Guid id;
    OperationKind kind = OperationKind::set;
    OperationPhase phase = OperationPhase::checking;
    std::string driver; // store
    std::string target; // set, remove: the destination; promote: the new source
    uint32_t priority = 0;
    bool force = false;
    std::vector<std::string> accounts;
    std::string result; // one sentence
    uint64_t started_ms = 0, finished_ms = 0;
    bool operator==(const Operation &) const = default;
};
struct CheckAnswer { // one writer: `store`, about the operation's accounts
    Guid operation;
    std::string store;
    struct Item {
        std::string account;
        std::string problem; // empty = good
        std::string facts;   // AccountFacts as compared between stores
        EpochPlace start;    // from the source: the place and position to start at
        bool operator==(const Item &) const = default;
    };
    std::vector<Item> items;
    std::string problem; // of the store as a whole
    std::string probe;   // the source: name and content of the blob written; the destination: what it read
    bool operator==(const CheckAnswer &) const = default;
};
using ControlValue = std::variant<AccountRecord, Heartbeat, DestinationState, Operation, CheckAnswer>;
std::string encode(const ControlValue &); // kind byte, then the value
template <> Result<ControlValue> decode<ControlValue>(std::string_view);

// Kafka keys. An account record's is written once: version, then store hash, session and counter make it unique.
std::string account_record_key(const AccountKey &, uint64_t version, std::string_view store_hash, const Session &,
                               uint64_t counter);
std::string heartbeat_key(std::string_view store_hash);
std::string destination_key(const AccountKey &, std::string_view store_hash);
std::string operation_key(const Guid &operation);
std::string check_answer_key(const Guid &operation, std::string_view store_hash);
// What a key says of itself. None: not a key of the control log.
struct ControlKey {
    enum class Kind : uint8_t { account_record, heartbeat, destination, operation, check_answer } kind;
    AccountKey account;     // account_record, destination
    uint64_t version = 0;   // account_record
    Guid operation;         // operation, check_answer
    std::string store_hash; // all but operation
};
std::optional<ControlKey> parse_control_key(std::string_view kafka_key);

} // namespace replica
