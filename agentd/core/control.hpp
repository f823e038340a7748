// The control log as every agent sees it: which account record is decided, who is alive, what each destination wants,
// which operations run. Fed with the messages in the log's order; the order decides, no clock (design 5). For every
// reader the first record of an account's highest version counts. A value that cannot be opened or parsed stops that
// account here, it is never skipped.
// Pointers that are handed out hold until the next apply().
#pragma once
#include "agentd/core/effects.hpp"
#include <map>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace replica {

class Control {
public:
    explicit Control(const KeyRing &ring) : ring_(ring) {}

    // What one message of the control log changed. `value` empty = tombstone.
    struct Changed {
        std::optional<AccountKey> account; // a new version was decided, or (with a problem) this account stops here
        std::optional<std::string> store;  // a heartbeat
        std::optional<std::pair<AccountKey, std::string>> destination;
        std::optional<Guid> operation; // an Operation, or a CheckAnswer of it
        std::string problem;           // this message could not be read: whom it stops
    };
    // While the history is read, `now` is Time{}: a heartbeat of then says nothing about who is alive.
    Changed apply(Time now, std::string_view kafka_key, std::string_view sealed_value);

    const AccountRecord *account(const AccountKey &) const; // highest readable version, also if it is `removed`
    const AccountRecord *account(std::string_view name) const;
    std::vector<const AccountRecord *> accounts() const; // all that are not removed
    // Why this account stands still here: its highest version cannot be read. Empty = it does not.
    const std::string &account_problem(const AccountKey &) const;
    // Is a winner of this version (or a higher one) known? It won if account() equals the proposal.
    bool decided(const AccountKey &, uint64_t version) const;

    struct StoreView {
        Heartbeat heartbeat;
        Time seen; // when this agent read it
    };
    const StoreView *store(std::string_view name) const;
    std::vector<const StoreView *> stores() const;
    const DestinationState *destination(const AccountKey &, std::string_view store) const;
    const DestinationState *destination(std::string_view account, std::string_view store) const;
    const Operation *operation(const Guid &) const;
    std::vector<const Operation *> operations() const;
    const CheckAnswer *check_answer(const Guid &operation, std::string_view store) const;
    // Which came later in the log: an account's decided record or the operation's last state? 0 = none was read.
    uint64_t account_order(const AccountKey &) const;
    uint64_t operation_order(const Guid &) const;
    // Keys of an account's records that count no more, which its current source removes by tombstones.
    std::vector<std::string> take_outdated_keys(const AccountKey &);

private:
    struct AccountView {
        std::optional<AccountRecord> record;
        uint64_t version = 0; // the highest of which any record was read
        uint64_t order = 0;
        std::string winner, problem;
        std::vector<std::string> outdated;
        std::vector<DestinationState> destinations; // few
    };
    struct OperationView {
        Operation operation;
        uint64_t order = 0;
    };

    Changed remove(const ControlKey &, std::string_view kafka_key);
    Changed unreadable(const ControlKey &, std::string_view kafka_key, const std::string &why);
    void take_version(AccountView &, uint64_t version, std::string_view kafka_key);
    void take(Changed &, const ControlKey &, std::string_view kafka_key, AccountRecord &&);
    void take(Changed &, Time now, Heartbeat &&);
    void take(Changed &, const ControlKey &, DestinationState &&);
    bool speaks_of(const ControlKey &, const ControlValue &) const;
    const AccountView *view(const AccountKey &) const;

    const KeyRing &ring_;
    uint64_t order_ = 0; // of the message that was applied last
    std::unordered_map<AccountKey, AccountView> accounts_;
    std::map<std::string, StoreView, std::less<>> stores_;
    std::map<Guid, OperationView> operations_;
    std::map<std::pair<Guid, std::string>, CheckAnswer> answers_;
};

// How a store stands in keys of the control log.
std::string store_hash(const KeyRing &, std::string_view store);
// A value as it is produced: sealed for this key, so that it cannot move to another.
std::string seal_control(const KeyRing &, const Session &, std::string_view kafka_key, const ControlValue &);

} // namespace replica
