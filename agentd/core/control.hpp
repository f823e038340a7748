// The control log as every agent sees it: which account record is decided, who is alive, what each destination wants, which
// operations run. Fed with opened values in the log's order; the order decides, no clock (design 5).
// For every reader the first record of an account's highest version counts. A value that cannot be opened or parsed stops that
// account here, it is never skipped.
#pragma once
#include "agentd/core/effects.hpp"
#include <map>
#include <optional>
#include <string>
#include <vector>

namespace replica {

class Control {
public:
    explicit Control(const KeyRing &ring) : ring_(ring) {}

    // What one message of the control log changed. `value` empty = tombstone.
    struct Changed {
        std::optional<AccountKey> account;     // a new version was decided
        std::optional<std::string> store;      // a heartbeat
        std::optional<std::pair<AccountKey, std::string>> destination;
        std::optional<Guid> operation;         // an Operation, or a CheckAnswer of it
        std::string problem;                   // this message could not be read: whom it stops
    };
    Changed apply(Time now, std::string_view kafka_key, std::string_view sealed_value);

    const AccountRecord *account(const AccountKey &) const; // decided, highest version
    const AccountRecord *account(std::string_view name) const;
    std::vector<const AccountRecord *> accounts() const;    // all that are not removed
    // Did this proposal win? Known once a record of its version was read.
    bool decided(const AccountKey &, uint64_t version) const;

    struct StoreView {
        Heartbeat heartbeat;
        Time seen; // when this agent read it
    };
    const StoreView *store(std::string_view name) const;
    std::vector<const StoreView *> stores() const;
    const DestinationState *destination(std::string_view account, std::string_view store) const;
    const Operation *operation(const Guid &) const;
    std::vector<const Operation *> operations() const;
    const CheckAnswer *check_answer(const Guid &operation, std::string_view store) const;
    // Keys of older versions of an account's record, which its current source removes by tombstones.
    std::vector<std::string> take_outdated_keys(const AccountKey &);

private:
    const KeyRing &ring_;
    // (the implementer's)
};

} // namespace replica
