#include "agentd/core/promote_driver.hpp"
#include <algorithm>
#include <utility>

namespace replica {

PromoteDriver::PromoteDriver(OperationContext &context, const Operation &operation)
    : OperationDriver(context, operation) {
    for (auto &account : operation.accounts) {
        Item item;
        item.account = account;
        item.key = context.key(account);
        index_[item.key] = items_.size();
        items_.push_back(std::move(item));
    }
}

void PromoteDriver::run(Time now) {
    answers_until_.reset();
    laggards_until_.reset();
    go_on(now);
}

void PromoteDriver::tick(Time now) {
    if (answers_until_) take_answers(now);
    if (laggards_until_) look_for_laggards(now);
    if (on_way_.empty()) return;
    for (size_t i : on_way_)
        advance(now, items_[i]);
    go_on(now);
}

std::optional<Time> PromoteDriver::deadline() const {
    if (!answers_until_ && !laggards_until_ && on_way_.empty()) return std::nullopt;
    return look_at_;
}

// Flushes what is ready, takes up the next ones, and ends with the last.
void PromoteDriver::go_on(Time now) {
    look_at_ = now + poll;
    flush(now);
    auto drop_ended = [&] { std::erase_if(on_way_, [&](size_t i) { return items_[i].step == Step::ended; }); };
    for (drop_ended(); on_way_.size() < window && next_ < items_.size(); drop_ended()) {
        on_way_.push_back(next_);
        take_up(now, items_[next_++]);
    }
    if (on_way_.empty()) conclude();
}

void PromoteDriver::take_up(Time now, Item &item) {
    auto *record = context_.control.account(item.key);
    bool ours = record && record->source == target() && changed_since(item.key);
    if (ours && record->state == AccountState::active) return end(item, {});
    if (ours && record->state == AccountState::promoting) {
        item.epoch = record->epoch;
        return proposed(now, item);
    }
    if (item.base_epoch == 0 && changed_since(item.key))
        return end(item, item.account + ": its record changed since the command");
    if (item.base_epoch == 0 && is_too_late_to_begin())
        return end(item, item.account + ": " + target() + " did not begin in time");
    propose(now, item);
}

void PromoteDriver::propose(Time now, Item &item) {
    if (item.proposal.exhausted()) return end(item, item.account + ": its record kept changing, try again");
    auto problem = reason_to_refuse(item);
    if (!problem.empty()) return end(item, problem);
    auto &present = *context_.control.account(item.key);
    if (item.base_epoch == 0) item.base_epoch = present.epoch;
    if (item.base_epoch != present.epoch)
        return end(item, item.account + ": another promotion was faster, to " + present.source);
    auto next = promoting(item, present);
    if (!next) return end(item, item.account + ": " + target() + " has no place for it: " + next.error().message);
    item.epoch = next->epoch;
    enter(now, item, Step::proposing);
    item.proposal.make(now, context_, std::move(*next));
}

// The old source takes the new one's priority, so that the way back is open from here on.
Result<AccountRecord> PromoteDriver::promoting(const Item &item, const AccountRecord &present) const {
    AccountRecord record = present;
    record.version++;
    record.epoch++;
    record.source = target();
    record.state = AccountState::promoting;
    for (auto &entry : record.destinations)
        if (entry.store == target()) entry.store = present.source;
    auto place = context_.local.new_place(item.account, record.epoch);
    if (!place) return place.error();
    record.places.push_back(*place);
    return record;
}

void PromoteDriver::proposed(Time now, Item &item) {
    if (context_.local.open_read(item.account, item.epoch)) return activate(now, item); // a former life came this far
    enter(now, item, Step::checking);
    check_again(now, item);
}

void PromoteDriver::check_again(Time now, Item &item) {
    auto problem = incomplete(item);
    if (problem.empty()) return fence(now, item);
    if (is_late(now, item)) end(item, problem + "; its fence was not written, promote it once more, here or elsewhere");
}

void PromoteDriver::fence(Time now, Item &item) {
    enter(now, item, Step::fencing);
    if (!context_.local.fence_read(item.account, item.epoch)) {
        auto &record = *context_.control.account(item.key);
        note_what_others_know(item, record);
        std::set<Place> places;
        for (auto &at : record.places)
            if (at.epoch < item.epoch) places.insert(at.place);
        Record fence;
        fence.kind = RecordKind::fence;
        for (auto &place : places)
            context_.effects.produce(place, item.key, Number{item.epoch, 0}, fence);
    }
    advance(now, item);
}

void PromoteDriver::advance(Time now, Item &item) {
    switch (item.step) {
    case Step::checking:
        check_again(now, item);
        break;
    case Step::fencing:
        if (context_.local.fence_read(item.account, item.epoch)) {
            context_.effects.settled(item.key, Number{item.epoch, 0});
            enter(now, item, Step::draining);
            drain(now, item);
        } else if (auto problem = is_late(now, item) ? incomplete(item) : ""; !problem.empty()) {
            end(item, problem); // its reader stands still
        }
        break;
    case Step::draining:
        drain(now, item);
        break;
    case Step::opening:
        if (context_.local.open_read(item.account, item.epoch)) {
            context_.effects.settled(item.key, Number{item.epoch, 0});
            activate(now, item);
        }
        break;
    case Step::proposing:
    case Step::activating:
        item.proposal.again_if_late(now, context_);
        break;
    case Step::waiting:
    case Step::flushing: // by flush(), for all together
    case Step::ended:
        break;
    }
}

void PromoteDriver::drain(Time now, Item &item) {
    if (!context_.local.drained(item.account)) {
        auto problem = is_late(now, item) ? incomplete(item) : "";
        if (!problem.empty()) end(item, problem);
        return;
    }
    auto problem = incomplete(item);
    if (!problem.empty()) return end(item, problem);
    problem = behind(item);
    if (problem.empty())
        enter(now, item, Step::flushing);
    else if (is_late(now, item))
        end(item, problem);
}

void PromoteDriver::flush(Time now) {
    if (flush_ == Flush::under_way) return;
    auto ended = std::exchange(flush_, Flush::idle);
    for (size_t i : std::exchange(in_flush_, {})) {
        auto &item = items_[i];
        if (item.step != Step::flushing) continue;
        if (ended == Flush::good)
            open(now, item);
        else if (auto problem = incomplete(item); !problem.empty())
            end(item, problem);
    }
    for (size_t i : on_way_)
        if (items_[i].step == Step::flushing) in_flush_.push_back(i);
    if (in_flush_.empty()) return;
    flush_ = Flush::under_way;
    context_.local.flush([weak = weak_from_this()](bool ok) {
        auto self = std::static_pointer_cast<PromoteDriver>(weak.lock());
        if (self) self->flush_ = ok ? Flush::good : Flush::failed;
    });
}

void PromoteDriver::open(Time now, Item &item) {
    enter(now, item, Step::opening);
    if (!context_.local.open_read(item.account, item.epoch)) {
        auto &record = *context_.control.account(item.key);
        Record first;
        first.kind = RecordKind::open;
        first.open = Open{context_.local.applied(item.account), record.places.back().place};
        context_.effects.produce(record.places.back().place, item.key, Number{item.epoch, 0}, first);
    }
    advance(now, item);
}

void PromoteDriver::activate(Time now, Item &item) {
    AccountRecord record = *context_.control.account(item.key);
    record.version++;
    record.state = AccountState::active;
    prune_places(record, context_.control, item.key);
    enter(now, item, Step::activating);
    item.proposal.make(now, context_, std::move(record));
}

void PromoteDriver::account_changed(Time now, const AccountKey &key) {
    auto found = index_.find(key);
    if (found == index_.end()) return;
    auto &item = items_[found->second];
    if (item.step == Step::waiting || item.step == Step::ended) return;
    auto &stands_still = context_.control.account_problem(key);
    auto &record = *context_.control.account(key);
    bool proposes = item.step == Step::proposing || item.step == Step::activating;
    auto outcome = proposes ? item.proposal.outcome(context_) : Proposal::Outcome::open;
    if (!stands_still.empty())
        end(item, item.account + ": " + stands_still);
    else if (item.step == Step::proposing && outcome == Proposal::Outcome::won)
        proposed(now, item);
    else if (item.step == Step::proposing && outcome == Proposal::Outcome::lost)
        propose(now, item);
    else if (item.step != Step::proposing && (record.epoch != item.epoch || record.source != target()))
        end(item, item.account + ": another promotion took over, to " + record.source);
    else if (item.step == Step::activating && outcome == Proposal::Outcome::won)
        end(item, {});
    else if (item.step == Step::activating && outcome == Proposal::Outcome::lost)
        activate(now, item);
    go_on(now);
}

void PromoteDriver::end(Item &item, const std::string &problem) {
    if (item.step == Step::fencing || item.step == Step::opening) // given up: it is not to be produced again
        context_.effects.settled(item.key, Number{item.epoch, 0});
    item.step = Step::ended;
    item.problem = problem;
}

void PromoteDriver::conclude() {
    std::vector<std::string> problems, given_up;
    for (auto &item : items_) {
        if (!item.problem.empty())
            problems.push_back(item.problem);
        else if (!item.given_up.empty())
            given_up.push_back(item.given_up);
    }
    std::string result = "promotion is complete: " + target() + " is the source of " +
                         counted(items_.size() - problems.size(), "account");
    if (!problems.empty()) result += ", not of others: " + joined(problems);
    if (!given_up.empty()) result += ", given up by force: " + joined(given_up);
    finish(problems.empty() ? OperationPhase::done : OperationPhase::failed, result);
    context_.notify("Replica: promotion of " + target(), result + " (operation " + to_hex(operation_.id) + ")");
}

std::shared_ptr<OperationDriver> make_promote_driver(OperationContext &context, const Operation &operation) {
    return std::make_shared<PromoteDriver>(context, operation);
}

} // namespace replica
