#include "agentd/core/operation_context.hpp"
#include <algorithm>

namespace replica {
namespace {

// Stores may differ in their last number only: formats are the same within a minor version.
std::string_view minor_version(std::string_view version) {
    size_t dot = version.find('.');
    return dot == version.npos ? version : version.substr(0, version.find('.', dot + 1));
}

} // namespace

bool OperationContext::heard(Time now, const std::string &store, std::chrono::milliseconds within) const {
    if (store == self()) return true;
    auto *view = control.store(store);
    return view && view->seen != Time{} && now - view->seen <= within;
}

std::string OperationContext::store_problem(Time now, const std::string &store) const {
    if (store == self()) return {};
    auto *view = control.store(store);
    if (!view) return "store " + store + " is unknown: no heartbeat of it was ever seen";
    if (view->seen == Time{}) return "store " + store + " is silent: no heartbeat came since this agent started";
    if (!alive(now, store)) {
        auto silent = std::chrono::duration_cast<std::chrono::seconds>(now - view->seen);
        return "store " + store + " is silent: its last heartbeat came " + std::to_string(silent.count()) + " s ago";
    }
    if (view->heartbeat.key_check != ring.check_value())
        return "store " + store + " has other keys than " + self() + ": copy replica_key_file to it";
    auto *own = control.store(self());
    if (own && minor_version(own->heartbeat.version) != minor_version(view->heartbeat.version))
        return "store " + store + " runs version " + view->heartbeat.version + ", " + self() + " runs " +
               own->heartbeat.version;
    return {};
}

void OperationContext::notify(const std::string &subject, const std::string &text) {
    effects.log(Effects::Level::info, text);
    if (settings.admin.empty()) return;
    effects.worker({}, Notify{0, settings.admin, subject, text}, false, [&out = effects](const Reply &reply) {
        if (reply.verdict != Verdict::applied)
            out.log(Effects::Level::warning, "a notice could not be mailed: " + reply.text);
    });
}

std::string joined(const std::vector<std::string> &sentences) {
    constexpr size_t shown_max = 100;
    std::string text;
    for (size_t i = 0; i < std::min(sentences.size(), shown_max); i++)
        text += (i == 0 ? "" : "; ") + sentences[i];
    if (sentences.size() > shown_max) text += "; and " + std::to_string(sentences.size() - shown_max) + " more";
    return text;
}

std::string counted(size_t n, const std::string &noun) { return std::to_string(n) + " " + noun + (n == 1 ? "" : "s"); }

void Proposal::make(Time now, OperationContext &context, AccountRecord record) {
    record_ = std::move(record);
    key_ = context.key(record_.account);
    made_++;
    publish(now, context);
}

void Proposal::publish(Time now, OperationContext &context) {
    published_ = now;
    context.effects.publish(account_record_key(key_, record_.version, store_hash(context.ring, context.self()),
                                               context.local.session(), ++context.proposals),
                            record_);
}

Proposal::Outcome Proposal::outcome(const OperationContext &context) const {
    if (!context.control.decided(key_, record_.version)) return Outcome::open;
    auto *decided = context.control.account(key_);
    return decided && *decided == record_ ? Outcome::won : Outcome::lost;
}

void Proposal::again_if_late(Time now, OperationContext &context) {
    if (now - published_ >= late_after) publish(now, context);
}

std::string shown(const std::vector<Object> &wanted) {
    constexpr size_t shown_max = 10;
    std::string text;
    for (size_t i = 0; i < std::min(wanted.size(), shown_max); i++) {
        text += i == 0 ? "" : ", ";
        text += wanted[i].is_list() ? "the mailbox list" : "mailbox " + to_hex(wanted[i].mailbox);
    }
    if (wanted.size() > shown_max) text += " and " + std::to_string(wanted.size() - shown_max) + " more";
    return text;
}

const DestinationEntry *find_destination(const AccountRecord &record, std::string_view store) {
    auto found = std::ranges::find(record.destinations, store, &DestinationEntry::store);
    return found == record.destinations.end() ? nullptr : &*found;
}

void prune_places(AccountRecord &record, const Control &control, const AccountKey &key) {
    while (record.places.size() > 1) {
        Number next{record.places[1].epoch, record.places[1].sequence};
        auto is_past = [&](const DestinationEntry &entry) {
            auto *state = control.destination(key, entry.store);
            return state && !state->wants_everything && state->flushed >= next;
        };
        if (!std::ranges::all_of(record.destinations, is_past)) return;
        record.places.erase(record.places.begin());
    }
}

const std::string &source_for_set(const Control &control, const AccountKey &key, const Operation &operation) {
    auto *record = control.account(key);
    return record && record->state != AccountState::removed ? record->source : operation.driver;
}

} // namespace replica
