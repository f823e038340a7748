#include "lib/wire/control.hpp"
#include "lib/wire/fields.hpp"

namespace replica {

constexpr uint8_t first_control_kind = 1;
constexpr size_t key_store_hash_bytes = 32;

constexpr auto fields(Is<EpochPlace> auto &p) { return std::tie(p.epoch, p.place, p.offset, p.sequence); }
constexpr auto fields(Is<DestinationEntry> auto &d) { return std::tie(d.store, d.priority); }
constexpr auto fields(Is<AccountRecord> auto &r) {
    return std::tie(r.account, r.version, r.epoch, r.source, r.state, r.places, r.destinations);
}
constexpr auto fields(Is<Heartbeat> auto &h) {
    return std::tie(h.store, h.session, h.counter, h.time_ms, h.host, h.base_dir, h.version, h.key_check, h.address,
                    h.acknowledged, h.accounts_source, h.accounts_destination);
}
constexpr auto fields(Is<DestinationState> auto &s) {
    return std::tie(s.account, s.store, s.version, s.position, s.flushed, s.phase, s.wants_everything, s.wanted,
                    s.reason, s.mails_done, s.mails_total);
}
constexpr auto fields(Is<Operation> auto &o) {
    return std::tie(o.id, o.kind, o.phase, o.driver, o.target, o.priority, o.force, o.accounts, o.result, o.started_ms,
                    o.finished_ms);
}
constexpr auto fields(Is<CheckAnswer::Item> auto &i) { return std::tie(i.account, i.problem, i.facts, i.start); }
constexpr auto fields(Is<CheckAnswer> auto &a) { return std::tie(a.operation, a.store, a.items, a.problem, a.probe); }

constexpr bool legal(AccountState s) { return s >= AccountState::active && s <= AccountState::removed; }
constexpr bool legal(DestinationPhase p) { return p >= DestinationPhase::initial && p <= DestinationPhase::source; }
constexpr bool legal(OperationKind k) { return k >= OperationKind::set && k <= OperationKind::promote; }
constexpr bool legal(OperationPhase p) { return p >= OperationPhase::checking && p <= OperationPhase::failed; }
static bool legal(const AccountRecord &r) {
    return !r.account.empty() && no_nul(r.account) && r.version != 0 && r.epoch != 0;
}

std::string_view to_string(AccountState state) {
    switch (state) {
    case AccountState::active:
        return "active";
    case AccountState::promoting:
        return "promoting";
    case AccountState::removed:
        return "removed";
    }
    return "unknown";
}

std::string_view to_string(DestinationPhase phase) {
    switch (phase) {
    case DestinationPhase::initial:
        return "initial";
    case DestinationPhase::following:
        return "following";
    case DestinationPhase::complete:
        return "complete";
    case DestinationPhase::lost:
        return "lost";
    case DestinationPhase::source:
        return "source";
    case DestinationPhase::stopped:
        return "stopped";
    }
    return "unknown";
}

std::string encode(const ControlValue &value) {
    std::string out;
    Encoder to(out);
    put_alternative(to, value, first_control_kind);
    return out;
}
template <> Result<ControlValue> decode<ControlValue>(std::string_view bytes) {
    return decode_alternative<ControlValue>(bytes, first_control_kind, "a control value");
}

// A letter for the kind, then parts of fixed length.
std::string account_record_key(const AccountKey &account, uint64_t version, std::string_view store_hash,
                               const Session &session, uint64_t counter) {
    std::string key = "a";
    Writer to(key);
    to.id(account);
    to.u64(version);
    to.raw(store_hash);
    to.id(session);
    to.u64(counter);
    return key;
}
std::string heartbeat_key(std::string_view store_hash) { return "h" + std::string(store_hash); }
std::string destination_key(const AccountKey &account, std::string_view store_hash) {
    return "d" + std::string(account.view()) + std::string(store_hash);
}
std::string operation_key(const Guid &operation) { return "o" + std::string(operation.view()); }
std::string check_answer_key(const Guid &operation, std::string_view store_hash) {
    return "c" + std::string(operation.view()) + std::string(store_hash);
}

std::optional<ControlKey> parse_control_key(std::string_view kafka_key) {
    Reader from(kafka_key);
    ControlKey key{};
    auto store_hash = [&] { key.store_hash = from.raw(key_store_hash_bytes); };
    switch (from.u8()) {
    case 'a':
        key.kind = ControlKey::Kind::account_record;
        key.account = from.id<AccountKey>();
        key.version = from.u64();
        store_hash();
        from.id<Session>();
        from.u64(); // the counter
        break;
    case 'h':
        key.kind = ControlKey::Kind::heartbeat;
        store_hash();
        break;
    case 'd':
        key.kind = ControlKey::Kind::destination;
        key.account = from.id<AccountKey>();
        store_hash();
        break;
    case 'o':
        key.kind = ControlKey::Kind::operation;
        key.operation = from.id<Guid>();
        break;
    case 'c':
        key.kind = ControlKey::Kind::check_answer;
        key.operation = from.id<Guid>();
        store_hash();
        break;
    default:
        return std::nullopt;
    }
    if (!from.at_end()) return std::nullopt;
    return key;
}

} // namespace replica
