// What the commands show, from the control log alone: accounts with their destinations, operations, stores. Every
// column is a fact that was read; what is not known is left out.
#pragma once
#include "agentd/core/control.hpp"

namespace replica {

struct StatusSettings {
    std::string self; // this store: alive, for it answers
    std::chrono::milliseconds silent_after{5000};
    // Of an account's log, if this store reads it: the last number, and when the first one behind a number came. May be
    // empty.
    std::function<std::optional<Number>(const AccountKey &)> last_number;
    std::function<std::optional<Time>(const AccountKey &, const Number &)> first_after;
};

struct AccountStatus { // one account and destination; destination empty: it has none (only while it is promoted)
    std::string account, source;
    uint64_t epoch = 0, version = 0;
    AccountState state = AccountState::active;
    std::string destination;
    uint32_t priority = 0;
    bool available = false;
    std::string reason; // why it is not available; or what stands still on the source
    std::string phase;  // none = the destination has not begun
    Number position;
    std::optional<uint64_t> lag_changes, lag_seconds;
    uint64_t mails_done = 0, mails_total = 0;
    size_t wanted = 0;
};
struct AccountFilter { // empty or none = all
    std::string mail_host, replica_server;
    std::optional<bool> available;
};
// By account, destinations by priority.
std::vector<AccountStatus> account_status(const Control &, const KeyRing &, Time now, const StatusSettings &,
                                          const AccountFilter &);

struct OperationStatus {
    std::string id, kind, phase, driver, target;
    uint32_t priority = 0;
    bool force = false;
    size_t accounts = 0, accounts_done = 0;
    uint64_t started_ms = 0, finished_ms = 0;
    std::string result;
};
std::vector<OperationStatus> operation_status(const Control &, const KeyRing &); // oldest first

struct StoreStatus {
    std::string store;
    bool alive = false;
    std::optional<uint64_t> silent_seconds; // none: not heard since this agent started
    bool same_keys = false;
    std::string host, address, base_dir, version, session;
    uint64_t accounts_source = 0, accounts_destination = 0;
};
std::vector<StoreStatus> store_status(const Control &, const KeyRing &, Time now, const StatusSettings &);

} // namespace replica
