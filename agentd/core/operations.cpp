#include "agentd/core/operations.hpp"
#include "agentd/core/check_answering.hpp"
#include "agentd/core/operation_driver.hpp"
#include "agentd/core/source_answering.hpp"
#include <algorithm>

namespace replica {
namespace {

constexpr std::chrono::seconds tidy_every{10};
constexpr std::chrono::minutes begin_anew_every{5};
constexpr size_t tidy_keys_max = 1000;                     // at a time
constexpr uint64_t keep_finished_ms = 24ull * 3600 * 1000; // then an operation leaves the log

std::shared_ptr<OperationDriver> make_driver(OperationContext &context, const Operation &operation) {
    switch (operation.kind) {
    case OperationKind::set:
        return make_set_driver(context, operation);
    case OperationKind::remove:
        return make_remove_driver(context, operation);
    case OperationKind::promote:
        return make_promote_driver(context, operation);
    }
    return nullptr;
}

bool is_over(const Operation &operation) {
    return operation.phase == OperationPhase::done || operation.phase == OperationPhase::failed;
}

} // namespace

uint64_t wall_clock_ms() {
    auto now = std::chrono::system_clock::now().time_since_epoch();
    return static_cast<uint64_t>(std::chrono::duration_cast<std::chrono::milliseconds>(now).count());
}

Operations::Operations(Control &control, Local &local, const KeyRing &ring, OperationSettings settings,
                       Effects &effects)
    : context_(new OperationContext{control, local, ring, std::move(settings), effects}) {}
Operations::~Operations() = default;

void Operations::control_changed(Time now, const Control::Changed &changed) {
    if (!tidy_at_) return;
    if (changed.account) {
        for (auto &[id, driver] : drivers_)
            driver->account_changed(now, *changed.account);
        if (auto *record = context_->control.account(*changed.account)) {
            if (record->source == context_->self()) outdated_.push_back(*changed.account);
            forget_destination(*record);
        }
    }
    if (changed.destination) {
        for (auto &[id, driver] : drivers_)
            driver->destination_changed(now, changed.destination->first);
        if (changed.destination->second == context_->self()) lost_.try_emplace(changed.destination->first);
    }
    if (changed.operation)
        if (auto *operation = context_->control.operation(*changed.operation)) take_up(now, *operation);
    drop_finished();
}

void Operations::take_up(Time now, const Operation &operation) {
    if (operation.driver == context_->self()) {
        auto &driver = drivers_[operation.id];
        if (!driver && !is_over(operation)) driver = make_driver(*context_, operation);
        if (driver) {
            driver->read_back(now, operation);
            driver->answered(now);
        } else {
            drivers_.erase(operation.id);
        }
    }
    auto answering = answering_.find(operation.id);
    if (answering == answering_.end() && CheckAnswering::concerns(*context_, operation))
        answering = answering_.emplace(operation.id, std::make_shared<CheckAnswering>(*context_, operation)).first;
    if (answering == answering_.end() && SourceAnswering::concerns(*context_, operation))
        answering = answering_.emplace(operation.id, std::make_shared<SourceAnswering>(*context_, operation)).first;
    if (answering == answering_.end()) return;
    if (operation.phase == OperationPhase::checking)
        answering->second->step(now);
    else
        answering_.erase(answering);
}

// A state of this store's as source or destination that it no longer is: nobody else may remove it.
void Operations::forget_destination(const AccountRecord &record) {
    bool is_source = record.source == context_->self() && record.state != AccountState::removed;
    if (record.state == AccountState::promoting || is_source || find_destination(record, context_->self())) return;
    auto key = context_->key(record.account);
    if (context_->control.destination(key, context_->self()))
        context_->effects.erase(destination_key(key, store_hash(context_->ring, context_->self())));
}

void Operations::tick(Time now) {
    if (!tidy_at_) { // the history was read: what is left to do?
        tidy_at_ = now + tidy_every;
        for (auto *record : context_->control.accounts()) {
            auto key = context_->key(record->account);
            if (record->source == context_->self()) outdated_.push_back(key);
            lost_.try_emplace(key);
        }
        for (auto *operation : context_->control.operations())
            take_up(now, *operation);
    }
    for (auto &[id, driver] : drivers_)
        driver->tick(now);
    for (auto &[id, answering] : answering_)
        answering->step(now);
    if (now >= *tidy_at_) tidy_up(now);
    drop_finished();
}

// What this store has missed beyond retention: it sets itself anew, as an administrator would.
void Operations::begin_lost_anew(Time now) {
    auto &control = context_->control;
    std::erase_if(lost_, [&](auto &each) {
        auto *record = control.account(each.first);
        auto *state = control.destination(each.first, context_->self());
        bool ours = record && state && find_destination(*record, context_->self());
        return !ours || state->phase != DestinationPhase::lost;
    });
    std::map<std::pair<std::string, uint32_t>, std::vector<std::string>> alike; // by source and priority
    for (auto &[key, not_before] : lost_) {
        auto *record = control.account(key);
        auto &accounts = alike[{record->source, find_destination(*record, context_->self())->priority}];
        bool said_of_it = control.destination(key, context_->self())->version == record->version;
        if (record->state != AccountState::active || !said_of_it || now < not_before) continue;
        if (accounts.size() == operation_accounts_max) continue;
        not_before = now + begin_anew_every;
        accounts.push_back(record->account);
    }
    for (auto &[which, accounts] : alike) {
        if (accounts.empty()) continue;
        auto begun = set(now, context_->self(), which.second, accounts);
        context_->effects.log(begun ? Effects::Level::info : Effects::Level::warning,
                              counted(accounts.size(), "account") + " beyond retention begin anew: " +
                                  (begun ? "operation " + to_hex(*begun) : begun.error().message));
    }
}

void Operations::drop_finished() {
    std::erase_if(drivers_, [](auto &each) { return each.second->finished(); });
    // An answer is kept until the log brings it back: it is not to be found out twice.
    std::erase_if(answering_, [&](auto &each) {
        auto *operation = context_->control.operation(each.first);
        return !operation || is_over(*operation) ||
               (each.second->finished() && context_->control.check_answer(each.first, context_->self()));
    });
}

void Operations::tidy_up(Time now) {
    tidy_at_ = now + tidy_every;
    begin_lost_anew(now);
    auto &control = context_->control;
    for (size_t keys = 0; !outdated_.empty() && keys < tidy_keys_max; outdated_.pop_back())
        for (auto &key : control.take_outdated_keys(outdated_.back())) {
            context_->effects.erase(key);
            keys++;
        }
    uint64_t wall_ms = context_->settings.wall_ms();
    for (auto *operation : control.operations()) {
        if (operation->driver != context_->self() || !is_over(*operation)) continue;
        if (wall_ms < operation->finished_ms + keep_finished_ms) continue;
        for (auto *store : control.stores())
            if (control.check_answer(operation->id, store->heartbeat.store))
                context_->effects.erase(
                    check_answer_key(operation->id, store_hash(context_->ring, store->heartbeat.store)));
        context_->effects.erase(operation_key(operation->id));
    }
}

std::optional<Time> Operations::deadline() const {
    std::optional<Time> first = tidy_at_;
    auto consider = [&](std::optional<Time> time) {
        if (time && (!first || *time < *first)) first = time;
    };
    for (auto &[id, driver] : drivers_)
        consider(driver->deadline());
    for (auto &[id, answering] : answering_)
        consider(answering->deadline());
    return first;
}

bool Operations::idle() const { return drivers_.empty() && answering_.empty(); }

} // namespace replica
