// promoteAccounts: why an account cannot be promoted now, asked before anything is done, and on the way.
#include "agentd/core/promote_driver.hpp"
#include <algorithm>

namespace replica {

// --- What the present sources say, those that live. A dead one is why promotions are.

void PromoteDriver::check(Time now) {
    for (auto &item : items_) {
        auto *record = context_.control.account(item.key);
        if (record && record->state == AccountState::active && record->source != target())
            asked_.insert(record->source);
    }
    answers_until_ = now + context_.settings.check_timeout + look_time * items_.size();
    look_at_ = now;
    take_answers(now);
}

void PromoteDriver::answered(Time now) {
    if (answers_until_) take_answers(now);
}

void PromoteDriver::take_answers(Time now) {
    std::erase_if(asked_, [&](auto &source) {
        auto *answer = context_.control.check_answer(operation_.id, source);
        // One that was just killed must not hold up its promotion until it counts as silent.
        if (!answer) return !context_.heard(now, source, context_.settings.heartbeat * 3 / 2);
        for (auto &said : answer->items)
            if (auto found = index_.find(context_.key(said.account)); found != index_.end())
                items_[found->second].past_the_log = said.problem;
        return true;
    });
    if (!asked_.empty() && now < *answers_until_) return;
    answers_until_.reset();
    for (auto &item : items_)
        if (auto *record = context_.control.account(item.key); record && asked_.contains(record->source))
            item.past_the_log = record->source + " did not say in time whether it has what no log has";
    look_at_all(now);
}

// --- Reasons to refuse: all accounts, before anything is done for one.

void PromoteDriver::look_at_all(Time now) {
    if (is_too_late_to_begin())
        return finish(OperationPhase::failed, "nothing was done: " + target() + " did not begin in time");
    std::vector<std::string> problems;
    for (size_t i = 0; i < items_.size(); i++) {
        auto problem = changed_since(items_[i].key) ? items_[i].account + ": its record changed since the command"
                                                    : reason_to_refuse(items_[i]);
        if (!problem.empty()) {
            problems.push_back(problem);
            continue;
        }
        auto &record = *context_.control.account(items_[i].key);
        items_[i].base_epoch = record.epoch;
        note_what_others_know(items_[i], record);
        laggards_.push_back(i);
    }
    if (!problems.empty()) return finish(OperationPhase::failed, "nothing was done: " + joined(problems));
    laggards_until_ = now + context_.settings.check_timeout;
    look_for_laggards(now);
}

std::string PromoteDriver::reason_to_refuse(Item &item) const {
    auto &stands_still = context_.control.account_problem(item.key);
    if (!stands_still.empty()) return item.account + ": " + stands_still;
    auto *record = context_.control.account(item.key);
    if (!record || record->state == AccountState::removed) return item.account + ": it has no replica";
    bool halfway = record->state == AccountState::promoting && record->source == target();
    if (record->source == target() && !halfway) return item.account + ": " + target() + " is its source already";
    if (!halfway && !find_destination(*record, target()))
        return item.account + ": " + target() + " is not a destination of it";
    item.given_up.clear();
    auto problem = incomplete(item);
    return problem.empty() ? unlogged(item, *record) : problem;
}

// What the present source said that no log has, or had until a snapshot that the target has not applied: behind a fence
// it would be the old source's alone.
std::string PromoteDriver::past_the_log(const Item &item, const AccountRecord &record) const {
    auto *source = context_.control.destination(item.key, record.source);
    if (!source || source->phase != DestinationPhase::source) return item.past_the_log;
    auto *state = context_.control.destination(item.key, target());
    if (!source->wanted.empty()) return shown(source->wanted) + " on " + record.source + " has what no log has yet";
    if (!state || state->position < source->position)
        return target() + " has not applied the snapshot " + to_string(source->position) + " of what no log had before";
    return item.past_the_log;
}

std::string PromoteDriver::unlogged(Item &item, const AccountRecord &record) const {
    auto what = past_the_log(item, record);
    if (what.empty()) return {};
    if (!operation_.force) return item.account + ": " + target() + " cannot take over: " + what;
    item.given_up += (item.given_up.empty() ? item.account + ": " : ", ") + what;
    return {};
}

bool PromoteDriver::is_too_late_to_begin() const {
    auto within = static_cast<uint64_t>(std::chrono::milliseconds(begin_within).count());
    return context_.settings.wall_ms() > operation_.started_ms + within;
}

// Also asked on the way. With force, what is only wanted may be given up; nothing else.
std::string PromoteDriver::incomplete(Item &item) const {
    auto problem = context_.local.promotion_problem(item.account);
    if (problem.empty()) return {};
    auto *state = context_.control.destination(item.key, target());
    bool may_force = operation_.force && state && !state->wants_everything && !state->wanted.empty() &&
                     (state->phase == DestinationPhase::initial || state->phase == DestinationPhase::following);
    if (!may_force) return item.account + ": " + target() + " cannot take over: " + problem;
    item.given_up = item.account + ": " + shown(state->wanted);
    return {};
}

// As of now, before an own fence: what is acknowledged of a place behind it is other accounts'. A reader that has left
// the place at an earlier fence knows all that there is to know.
void PromoteDriver::note_what_others_know(Item &item, const AccountRecord &record) const {
    auto *at = applied_place(item, record);
    if (at && !context_.local.fence_read(item.account, at->epoch + 1)) {
        item.read_place = at->place;
        item.must_read = -1;
        for (auto *store : context_.control.stores())
            for (auto &[place, offset] : store->heartbeat.acknowledged)
                if (place.partition == at->place.partition && place.topic == at->place.topic)
                    item.must_read = std::max(item.must_read, offset);
    }
    if (record.state == AccountState::active) item.must_apply = std::max(item.must_apply, Number{record.epoch, 0});
    for (auto &entry : record.destinations)
        if (auto *state = context_.control.destination(item.key, entry.store); state && entry.store != target())
            item.must_apply = std::max(item.must_apply, state->position);
}

const EpochPlace *PromoteDriver::applied_place(const Item &item, const AccountRecord &record) const {
    auto epoch = context_.local.applied(item.account).epoch;
    auto found = std::ranges::find(record.places.rbegin(), record.places.rend(), epoch, &EpochPlace::epoch);
    return found == record.places.rend() ? nullptr : &*found;
}

// What others know that this store has not read or applied yet. For good: the log lost something.
std::string PromoteDriver::behind(const Item &item) const {
    auto applied = context_.local.applied(item.account);
    if (applied.none()) return {}; // the acting source, on the way back: its own fence makes it a reader first
    if (!applied_place(item, *context_.control.account(item.key)))
        return item.account + ": damaged: where epoch " + std::to_string(applied.epoch) + " is logged is not known";
    int64_t read = context_.local.read_to(item.read_place);
    if (read <= item.must_read)
        return item.account + ": damaged: " + to_string(item.read_place) + " was acknowledged up to offset " +
               std::to_string(item.must_read) + ", but " + target() + " reads it only to offset " +
               std::to_string(read);
    if (applied < item.must_apply)
        return item.account + ": damaged: others have " + to_string(item.must_apply) + ", " + target() + " only " +
               to_string(applied);
    return {};
}

// A destination may lag a little; a log that ends below what was acknowledged is damaged.
void PromoteDriver::look_for_laggards(Time now) {
    std::erase_if(laggards_, [&](size_t i) { return behind(items_[i]).empty(); });
    if (!laggards_.empty() && now < *laggards_until_) return;
    laggards_until_.reset();
    if (laggards_.empty()) return start_running();
    std::vector<std::string> problems;
    for (size_t i : laggards_)
        problems.push_back(behind(items_[i]));
    finish(OperationPhase::failed, "nothing was done: " + joined(problems));
}

} // namespace replica
