#include "agentd/core/promote_driver.hpp"
#include <algorithm>
#include <set>
#include <utility>

namespace replica {
namespace {

std::string shown(const Place &place) { return place.topic + "/" + std::to_string(place.partition); }

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

} // namespace

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

// --- Reasons to refuse: all accounts, before anything is done for one.

void PromoteDriver::check(Time now) {
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
std::string PromoteDriver::unlogged(Item &item, const AccountRecord &record) const {
    auto *source = context_.control.destination(item.key, record.source);
    if (!source || source->phase != DestinationPhase::source) return {};
    auto *state = context_.control.destination(item.key, target());
    std::string what;
    if (!source->wanted.empty())
        what = shown(source->wanted) + " on " + record.source + " has what no log has yet";
    else if (!state || state->position < source->position)
        what = target() + " has not applied the snapshot " + to_string(source->position) + " of what no log had before";
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
        return item.account + ": damaged: " + shown(item.read_place) + " was acknowledged up to offset " +
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

// --- On the way.

void PromoteDriver::run(Time now) {
    laggards_until_.reset();
    go_on(now);
}

void PromoteDriver::tick(Time now) {
    if (laggards_until_) look_for_laggards(now);
    if (on_way_.empty()) return;
    for (size_t i : on_way_)
        advance(now, items_[i]);
    go_on(now);
}

std::optional<Time> PromoteDriver::deadline() const {
    if (!laggards_until_ && on_way_.empty()) return std::nullopt;
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
    if (std::exchange(flush_, Flush::idle) == Flush::good)
        for (size_t i : std::exchange(in_flush_, {}))
            if (items_[i].step == Step::flushing) open(now, items_[i]);
    in_flush_.clear();
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
