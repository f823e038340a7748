#include "agentd/core/status.hpp"
#include <algorithm>

namespace replica {
namespace {

std::string_view to_string(OperationKind kind) {
    switch (kind) {
    case OperationKind::set:
        return "setAccountDestination";
    case OperationKind::remove:
        return "removeAccountDestination";
    case OperationKind::promote:
        return "promoteAccounts";
    }
    return "unknown";
}

std::string_view to_string(OperationPhase phase) {
    switch (phase) {
    case OperationPhase::checking:
        return "checking";
    case OperationPhase::running:
        return "running";
    case OperationPhase::done:
        return "done";
    case OperationPhase::failed:
        return "failed";
    }
    return "unknown";
}

std::optional<uint64_t> silent_seconds(Time now, const Control::StoreView &store) {
    if (store.seen == Time{}) return std::nullopt;
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(now - store.seen).count());
}

bool is_alive(Time now, const StatusSettings &settings, const Control::StoreView &store) {
    if (store.heartbeat.store == settings.self) return true;
    return store.seen != Time{} && now - store.seen <= settings.silent_after;
}

std::string silence(const Control &control, Time now, const StatusSettings &settings, const std::string &name) {
    auto *store = control.store(name);
    if (!store) return name == settings.self ? "" : "the store was never seen";
    if (is_alive(now, settings, *store)) return {};
    auto seconds = silent_seconds(now, *store);
    return seconds ? "the store is silent for " + std::to_string(*seconds) + " s" : "the store is silent";
}

// Why the destination could not take the account over now, or empty.
std::string unavailable(const DestinationState *state, const std::string &silent) {
    if (!silent.empty()) return silent;
    if (!state) return "it has not begun";
    switch (state->phase) {
    case DestinationPhase::source: // it was, until now
        return "it has not begun";
    case DestinationPhase::initial:
        return "its initialisation is under way";
    case DestinationPhase::following:
        return std::to_string(state->wanted.size()) + " of its objects are wanted from the source";
    case DestinationPhase::lost:
    case DestinationPhase::stopped:
        return std::string(to_string(state->phase)) + ": " + state->reason;
    case DestinationPhase::complete:
        return {};
    }
    return {};
}

// What the source said of itself.
std::string unlogged(const DestinationState &source, const DestinationState *state) {
    if (!source.wanted.empty())
        return std::to_string(source.wanted.size()) + " objects have on the source what no log has yet";
    if (state && state->position < source.position)
        return "the snapshot " + to_string(source.position) + " of what no log had before is not applied yet";
    return {};
}

void describe(AccountStatus &row, const DestinationState &state) {
    row.phase = to_string(state.phase);
    row.position = state.position;
    row.mails_done = state.mails_done;
    row.mails_total = state.mails_total;
    row.wanted = state.wanted.size() + (state.wants_everything ? 1 : 0);
}

void describe_lag(AccountStatus &row, const AccountKey &key, Time now, const StatusSettings &settings) {
    auto last = settings.last_number ? settings.last_number(key) : std::nullopt;
    if (!last || last->epoch != row.position.epoch || *last < row.position) return;
    row.lag_changes = last->sequence - row.position.sequence;
    if (*row.lag_changes == 0)
        row.lag_seconds = 0;
    else if (auto since = settings.first_after ? settings.first_after(key, row.position) : std::nullopt)
        row.lag_seconds = static_cast<uint64_t>(std::chrono::ceil<std::chrono::seconds>(now - *since).count());
}

bool is_amended(const Control &control, const Operation &operation, const AccountKey &key) {
    auto *record = control.account(key);
    if (!record) return false;
    auto &entries = record->destinations;
    bool is_destination = std::ranges::find(entries, operation.target, &DestinationEntry::store) != entries.end();
    auto *state = control.destination(key, operation.target);
    switch (operation.kind) {
    case OperationKind::set:
        return is_destination && state && state->phase == DestinationPhase::complete;
    case OperationKind::remove:
        return !is_destination;
    case OperationKind::promote:
        return record->source == operation.target && record->state == AccountState::active;
    }
    return false;
}

} // namespace

std::vector<AccountStatus> account_status(const Control &control, const KeyRing &ring, Time now,
                                          const StatusSettings &settings, const AccountFilter &filter) {
    std::vector<AccountStatus> rows;
    std::map<std::string, std::string> silent; // by store: few
    auto records = control.accounts();
    std::ranges::sort(records, {}, &AccountRecord::account);
    for (auto *record : records) {
        if (!filter.mail_host.empty() && record->source != filter.mail_host) continue;
        auto key = ring.account_key(record->account);
        auto entries = record->destinations;
        std::ranges::sort(entries, {}, &DestinationEntry::priority);
        if (entries.empty()) entries.push_back({});
        for (auto &entry : entries) {
            if (!filter.replica_server.empty() && entry.store != filter.replica_server) continue;
            AccountStatus row{record->account, record->source, record->epoch, record->version,
                              record->state,   entry.store,    entry.priority};
            auto *state = control.destination(key, entry.store);
            if (state && state->phase != DestinationPhase::source) {
                describe(row, *state);
                describe_lag(row, key, now, settings);
            }
            if (!silent.contains(entry.store)) silent[entry.store] = silence(control, now, settings, entry.store);
            row.reason = control.account_problem(key);
            if (row.reason.empty() && record->state == AccountState::promoting) row.reason = "a promotion is under way";
            if (row.reason.empty()) row.reason = unavailable(state, silent[entry.store]);
            auto *source = control.destination(key, record->source);
            bool source_speaks = source && source->phase == DestinationPhase::source;
            if (row.reason.empty() && source_speaks) row.reason = unlogged(*source, state);
            row.available = row.reason.empty();
            if (row.available && source_speaks && !source->reason.empty())
                row.reason = "on the source: " + source->reason; // a promotion is the way out
            if (!filter.available || *filter.available == row.available) rows.push_back(std::move(row));
        }
    }
    return rows;
}

std::vector<OperationStatus> operation_status(const Control &control, const KeyRing &ring) {
    auto operations = control.operations();
    std::ranges::stable_sort(operations, {}, &Operation::started_ms);
    std::vector<OperationStatus> rows;
    for (auto *operation : operations) {
        OperationStatus row;
        row.id = to_hex(operation->id);
        row.kind = to_string(operation->kind);
        row.phase = to_string(operation->phase);
        row.driver = operation->driver;
        row.target = operation->target;
        row.priority = operation->priority;
        row.force = operation->force;
        row.accounts = operation->accounts.size();
        row.started_ms = operation->started_ms;
        row.finished_ms = operation->finished_ms;
        row.result = operation->result;
        if (operation->phase == OperationPhase::done)
            row.accounts_done = row.accounts;
        else if (operation->phase == OperationPhase::running)
            for (auto &account : operation->accounts)
                row.accounts_done += is_amended(control, *operation, ring.account_key(account)) ? 1 : 0;
        rows.push_back(std::move(row));
    }
    return rows;
}

std::vector<StoreStatus> store_status(const Control &control, const KeyRing &ring, Time now,
                                      const StatusSettings &settings) {
    std::vector<StoreStatus> rows;
    for (auto *store : control.stores()) {
        auto &heartbeat = store->heartbeat;
        StoreStatus row;
        row.store = heartbeat.store;
        row.alive = is_alive(now, settings, *store);
        row.silent_seconds = silent_seconds(now, *store);
        row.same_keys = heartbeat.key_check == ring.check_value();
        row.host = heartbeat.host;
        row.address = heartbeat.address;
        row.base_dir = heartbeat.base_dir;
        row.version = heartbeat.version;
        row.session = to_hex(heartbeat.session);
        row.accounts_source = heartbeat.accounts_source;
        row.accounts_destination = heartbeat.accounts_destination;
        rows.push_back(std::move(row));
    }
    return rows;
}

} // namespace replica
