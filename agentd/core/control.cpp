#include "agentd/core/control.hpp"
#include <algorithm>
#include <utility>

namespace replica {
namespace {

AccountKey bound_to(std::string_view kafka_key) { return AccountKey::from(sha256(kafka_key).data()); }

Result<ControlValue> open_control(const KeyRing &ring, std::string_view kafka_key, std::string_view sealed_value) {
    auto opened = open(ring, sealed_value);
    if (!opened) return opened.error();
    if (opened->header.account != bound_to(kafka_key)) return Error{Code::denied, "it was sealed for another key"};
    if (!opened->header.number.none()) return Error{Code::denied, "it is a record of an account's log"};
    return decode<ControlValue>(opened->plaintext);
}

std::string described(const ControlKey &key) {
    switch (key.kind) {
    case ControlKey::Kind::account_record:
        return "version " + std::to_string(key.version) + " of account " + to_hex(key.account);
    case ControlKey::Kind::heartbeat:
        return "a heartbeat of store " + to_hex(key.store_hash);
    case ControlKey::Kind::destination:
        return "a destination's state of account " + to_hex(key.account);
    case ControlKey::Kind::operation:
        return "operation " + to_hex(key.operation);
    case ControlKey::Kind::check_answer:
        return "an answer to operation " + to_hex(key.operation);
    }
    return {};
}

} // namespace

std::string store_hash(const KeyRing &ring, std::string_view store) { return ring.name_hash("store", store); }

std::string seal_control(const KeyRing &ring, const Session &session, std::string_view kafka_key,
                         const ControlValue &value) {
    EnvelopeHeader header{ring.active(), bound_to(kafka_key), Number{}, session};
    auto sealed = seal(ring, header, encode(value));
    assert(sealed); // a parsed ring has an active key
    return std::move(*sealed);
}

Control::Changed Control::apply(Time now, std::string_view kafka_key, std::string_view sealed_value) {
    order_++;
    auto key = parse_control_key(kafka_key);
    if (!key) {
        Changed changed;
        changed.problem = "a message of the control log has a key of no known form: it stops nobody";
        return changed;
    }
    if (sealed_value.empty()) return remove(*key, kafka_key);
    auto value = open_control(ring_, kafka_key, sealed_value);
    if (!value) return unreadable(*key, kafka_key, value.error().message);
    if (!speaks_of(*key, *value)) return unreadable(*key, kafka_key, "it is not what its key says");

    Changed changed;
    if (auto *record = std::get_if<AccountRecord>(&*value)) {
        take(changed, *key, kafka_key, std::move(*record));
    } else if (auto *heartbeat = std::get_if<Heartbeat>(&*value)) {
        take(changed, now, std::move(*heartbeat));
    } else if (auto *state = std::get_if<DestinationState>(&*value)) {
        take(changed, *key, std::move(*state));
    } else if (auto *operation = std::get_if<Operation>(&*value)) {
        changed.operation = key->operation;
        operations_[key->operation] = {std::move(*operation), order_};
    } else if (auto *answer = std::get_if<CheckAnswer>(&*value)) {
        changed.operation = key->operation;
        std::pair of(key->operation, answer->store);
        answers_[of] = std::move(*answer);
    }
    return changed;
}

bool Control::speaks_of(const ControlKey &key, const ControlValue &value) const {
    using Kind = ControlKey::Kind;
    auto of_store = [&](const std::string &store) { return store_hash(ring_, store) == key.store_hash; };
    auto of_account = [&](const std::string &account) { return ring_.account_key(account) == key.account; };
    if (auto *record = std::get_if<AccountRecord>(&value))
        return key.kind == Kind::account_record && record->version == key.version && of_account(record->account);
    if (auto *heartbeat = std::get_if<Heartbeat>(&value))
        return key.kind == Kind::heartbeat && of_store(heartbeat->store);
    if (auto *state = std::get_if<DestinationState>(&value))
        return key.kind == Kind::destination && of_account(state->account) && of_store(state->store);
    if (auto *operation = std::get_if<Operation>(&value))
        return key.kind == Kind::operation && operation->id == key.operation;
    auto &answer = std::get<CheckAnswer>(value);
    return key.kind == Kind::check_answer && answer.operation == key.operation && of_store(answer.store);
}

void Control::take_version(AccountView &account, uint64_t version, std::string_view kafka_key) {
    if (account.version != 0) account.outdated.push_back(std::move(account.winner));
    account.version = version;
    account.order = order_;
    account.winner = kafka_key;
    account.problem.clear();
}

void Control::take(Changed &changed, const ControlKey &key, std::string_view kafka_key, AccountRecord &&record) {
    auto &account = accounts_[key.account];
    if (record.version <= account.version) { // a late loser, or of a version long past
        if (kafka_key != account.winner) account.outdated.emplace_back(kafka_key);
        return;
    }
    take_version(account, record.version, kafka_key);
    account.record = std::move(record);
    changed.account = key.account;
}

void Control::take(Changed &changed, Time now, Heartbeat &&heartbeat) {
    auto &store = stores_[heartbeat.store];
    if (store.heartbeat.session == heartbeat.session && heartbeat.counter <= store.heartbeat.counter)
        return; // replayed
    changed.store = heartbeat.store;
    store = {std::move(heartbeat), now};
}

void Control::take(Changed &changed, const ControlKey &key, DestinationState &&state) {
    changed.destination = {key.account, state.store};
    auto &states = accounts_[key.account].destinations;
    auto found = std::ranges::find(states, state.store, &DestinationState::store);
    if (found == states.end())
        states.push_back(std::move(state));
    else
        *found = std::move(state);
}

Control::Changed Control::unreadable(const ControlKey &key, std::string_view kafka_key, const std::string &why) {
    Changed changed;
    changed.problem = described(key) + " cannot be read: " + why;
    if (key.kind != ControlKey::Kind::account_record) {
        changed.problem += "; it is left out, the last one that was read goes on to count";
        return changed;
    }
    auto &account = accounts_[key.account];
    if (key.version <= account.version) { // counts for nobody, whatever it says
        if (kafka_key != account.winner) account.outdated.emplace_back(kafka_key);
        return {};
    }
    take_version(account, key.version, kafka_key);
    if (account.record) changed.problem += "; it stops " + account.record->account;
    account.problem = changed.problem;
    changed.account = key.account;
    return changed;
}

Control::Changed Control::remove(const ControlKey &key, std::string_view kafka_key) {
    Changed changed;
    auto of_key = [&](const std::string &store) { return store_hash(ring_, store) == key.store_hash; };
    switch (key.kind) {
    case ControlKey::Kind::account_record:
        if (auto found = accounts_.find(key.account); found != accounts_.end()) {
            std::erase(found->second.outdated, kafka_key);
            if (found->second.winner == kafka_key)
                changed.problem = described(key) + " was removed from the log, though it counts: it is kept here";
        }
        break;
    case ControlKey::Kind::heartbeat:
        std::erase_if(stores_, [&](auto &store) { return of_key(store.first); });
        break;
    case ControlKey::Kind::destination:
        if (auto found = accounts_.find(key.account); found != accounts_.end())
            std::erase_if(found->second.destinations, [&](auto &state) { return of_key(state.store); });
        break;
    case ControlKey::Kind::operation:
        operations_.erase(key.operation);
        break;
    case ControlKey::Kind::check_answer:
        for (auto at = answers_.lower_bound({key.operation, {}});
             at != answers_.end() && at->first.first == key.operation;)
            at = of_key(at->first.second) ? answers_.erase(at) : std::next(at);
        break;
    }
    return changed;
}

const Control::AccountView *Control::view(const AccountKey &key) const {
    auto found = accounts_.find(key);
    return found == accounts_.end() ? nullptr : &found->second;
}

const AccountRecord *Control::account(const AccountKey &key) const {
    auto *account = view(key);
    return account && account->record ? &*account->record : nullptr;
}
const AccountRecord *Control::account(std::string_view name) const { return account(ring_.account_key(name)); }

std::vector<const AccountRecord *> Control::accounts() const {
    std::vector<const AccountRecord *> records;
    for (auto &[key, account] : accounts_)
        if (account.record && account.record->state != AccountState::removed) records.push_back(&*account.record);
    return records;
}

const std::string &Control::account_problem(const AccountKey &key) const {
    static const std::string none;
    auto *account = view(key);
    return account ? account->problem : none;
}

bool Control::decided(const AccountKey &key, uint64_t version) const {
    auto *account = view(key);
    return account && account->version >= version;
}

const Control::StoreView *Control::store(std::string_view name) const {
    auto found = stores_.find(name);
    return found == stores_.end() ? nullptr : &found->second;
}
std::vector<const Control::StoreView *> Control::stores() const {
    std::vector<const StoreView *> views;
    for (auto &[name, store] : stores_)
        views.push_back(&store);
    return views;
}

const DestinationState *Control::destination(const AccountKey &key, std::string_view store) const {
    auto *account = view(key);
    if (!account) return nullptr;
    auto found = std::ranges::find(account->destinations, store, &DestinationState::store);
    return found == account->destinations.end() ? nullptr : &*found;
}
const DestinationState *Control::destination(std::string_view account, std::string_view store) const {
    return destination(ring_.account_key(account), store);
}

const Operation *Control::operation(const Guid &id) const {
    auto found = operations_.find(id);
    return found == operations_.end() ? nullptr : &found->second.operation;
}
std::vector<const Operation *> Control::operations() const {
    std::vector<const Operation *> operations;
    for (auto &[id, view] : operations_)
        operations.push_back(&view.operation);
    return operations;
}
const CheckAnswer *Control::check_answer(const Guid &operation, std::string_view store) const {
    auto found = answers_.find({operation, std::string(store)});
    return found == answers_.end() ? nullptr : &found->second;
}

uint64_t Control::account_order(const AccountKey &key) const {
    auto *account = view(key);
    return account ? account->order : 0;
}
uint64_t Control::operation_order(const Guid &id) const {
    auto found = operations_.find(id);
    return found == operations_.end() ? 0 : found->second.order;
}

std::vector<std::string> Control::take_outdated_keys(const AccountKey &key) {
    auto found = accounts_.find(key);
    return found == accounts_.end() ? std::vector<std::string>{} : std::exchange(found->second.outdated, {});
}

} // namespace replica
