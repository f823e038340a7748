// setAccountDestination: the named stores answer, all must be good, then each account's record gets the destination;
// done when the destination has everything.
#include "agentd/core/check_answering.hpp"
#include "agentd/core/operation_driver.hpp"
#include <algorithm>
#include <set>

namespace replica {
namespace {

using Lines = std::map<std::string, std::string>;

Lines lines_of(const std::string &facts) {
    Lines lines;
    for (size_t begin = 0; begin < facts.size();) {
        size_t end = std::min(facts.find('\n', begin), facts.size());
        std::string line = facts.substr(begin, end - begin);
        size_t equals = std::min(line.find('='), line.size());
        lines[line.substr(0, equals)] = line.substr(std::min(equals + 1, line.size()));
        begin = end + 1;
    }
    return lines;
}

std::string shown(const Lines &lines, const std::string &name) {
    auto found = lines.find(name);
    return found == lines.end() || found->second.empty() ? "none" : found->second;
}

// A sentence for each line that is not the same on both stores.
void compare(const CheckAnswer::Item &source, const std::string &source_store, const CheckAnswer::Item &target,
             const std::string &target_store, std::vector<std::string> &problems) {
    auto here = lines_of(source.facts), there = lines_of(target.facts);
    auto all = here;
    all.insert(there.begin(), there.end());
    for (auto &[name, value] : all)
        if (shown(here, name) != shown(there, name))
            problems.push_back(source.account + ": " + name + " differs: " + shown(here, name) + " on " + source_store +
                               ", " + shown(there, name) + " on " + target_store);
}

class SetDriver final : public AmendDriver {
public:
    using AmendDriver::AmendDriver;
    void answered(Time now) override;
    void destination_changed(Time now, const AccountKey &) override;
    void tick(Time now) override;
    std::optional<Time> deadline() const override;

private:
    void check(Time now) override;
    void run(Time now) override;
    Result<AccountRecord> amended(const Item &, const AccountRecord *present) const override;
    bool is_amended(const AccountRecord &present) const override;
    void decided(Time now, Item &) override;
    void all_ended(size_t good, const std::vector<std::string> &problems) override;

    std::vector<std::string> problems_found() const;
    void compare_with_target(const CheckAnswer &source, const CheckAnswer &target,
                             std::vector<std::string> &problems) const;
    AccountRecord first_record(const Item &, const AccountRecord *removed) const;

    std::set<std::string> named_; // stores that have to answer
    std::optional<Time> answers_until_;
};

void SetDriver::check(Time now) {
    constexpr std::chrono::milliseconds for_an_account{50}; // a userdb lookup and a mailbox list, from a cold disk
    named_ = {target()};
    for (auto &item : items_)
        named_.insert(source_for_set(context_.control, item.key, operation_));
    answers_until_ = now + context_.settings.check_timeout + for_an_account * items_.size();
    answered(now);
}

void SetDriver::answered(Time) {
    if (!answers_until_) return;
    for (auto &store : named_)
        if (!context_.control.check_answer(operation_.id, store)) return;
    answers_until_.reset();
    auto problems = problems_found();
    if (problems.empty())
        start_running("the checks are good, initialisation is under way: " + counted(items_.size(), "account") +
                      " on " + target());
    else
        finish(OperationPhase::failed, "nothing was done: " + joined(problems));
}

std::vector<std::string> SetDriver::problems_found() const {
    std::vector<std::string> problems;
    for (auto &store : named_) {
        auto *answer = context_.control.check_answer(operation_.id, store);
        if (!answer->problem.empty()) problems.push_back("store " + store + ": " + answer->problem);
        for (auto &item : answer->items)
            if (!item.problem.empty()) problems.push_back(item.problem);
    }
    if (!problems.empty()) return problems;
    auto *target_answer = context_.control.check_answer(operation_.id, target());
    for (auto &store : named_)
        if (store != target())
            compare_with_target(*context_.control.check_answer(operation_.id, store), *target_answer, problems);
    return problems;
}

void SetDriver::compare_with_target(const CheckAnswer &source, const CheckAnswer &target_answer,
                                    std::vector<std::string> &problems) const {
    std::map<std::string, const CheckAnswer::Item *> there;
    for (auto &item : target_answer.items)
        there[item.account] = &item;
    for (auto &item : source.items)
        if (auto found = there.find(item.account); found != there.end())
            compare(item, source.store, *found->second, target(), problems);
    auto read = probe_lines(target_answer.probe);
    std::set<std::array<std::string, 3>> all_read(read.begin(), read.end());
    for (auto &written : probe_lines(source.probe))
        if (!all_read.contains(written))
            problems.push_back(written[0] + ": " + target() + " cannot read a blob that " + source.store +
                               " wrote: both must use the same blob store");
}

void SetDriver::tick(Time now) {
    AmendDriver::tick(now);
    if (!answers_until_ || now < *answers_until_) return;
    answers_until_.reset();
    std::vector<std::string> silent;
    for (auto &store : named_)
        if (!context_.control.check_answer(operation_.id, store))
            silent.push_back("store " + store + " did not answer the checks in time");
    finish(OperationPhase::failed, "nothing was done: " + joined(silent));
}

std::optional<Time> SetDriver::deadline() const { return answers_until_ ? answers_until_ : AmendDriver::deadline(); }

void SetDriver::run(Time now) {
    for (auto *store : context_.control.stores()) {
        auto *answer = context_.control.check_answer(operation_.id, store->heartbeat.store);
        if (!answer || answer->store == target()) continue;
        for (auto &checked : answer->items) {
            auto *item = find(context_.key(checked.account));
            if (!item) continue;
            item->source = answer->store;
            item->start = checked.start;
        }
    }
    AmendDriver::run(now);
}

AccountRecord SetDriver::first_record(const Item &item, const AccountRecord *removed) const {
    AccountRecord record;
    record.account = item.account;
    record.version = removed ? removed->version + 1 : 1;
    record.epoch = item.start.epoch;
    record.source = operation_.driver;
    record.places = {item.start};
    record.destinations = {{target(), operation_.priority}};
    return record;
}

Result<AccountRecord> SetDriver::amended(const Item &item, const AccountRecord *present) const {
    auto refuse = [&](const std::string &why) { return Error{Code::invalid, item.account + ": " + why}; };
    bool is_new = !present || present->state == AccountState::removed;
    const std::string &source = is_new ? operation_.driver : present->source;
    if (source != item.source)
        return refuse("its source changed while it was checked, from " + item.source + " to " + source);
    if (is_new) {
        if (present && item.start.epoch <= present->epoch) return refuse("it was set and removed meanwhile, try again");
        return first_record(item, present);
    }
    if (present->state == AccountState::promoting) return refuse("it is being promoted to " + present->source);
    AccountRecord record = *present;
    record.version++;
    std::erase_if(record.destinations, [&](auto &entry) { return entry.store == target(); });
    for (auto &entry : record.destinations)
        if (entry.priority == operation_.priority)
            return refuse("priority " + std::to_string(entry.priority) + " is taken by " + entry.store);
    prune_places(record, context_.control, item.key);
    const EpochPlace &last = record.places.back();
    bool newer =
        item.start.epoch == last.epoch && item.start.place == last.place && item.start.sequence > last.sequence;
    if (newer) record.places.push_back(item.start); // else the last start serves as well
    record.destinations.push_back({target(), operation_.priority});
    return record;
}

bool SetDriver::is_amended(const AccountRecord &present) const {
    auto *entry = find_destination(present, target());
    return present.source == target() || (entry && entry->priority == operation_.priority);
}

void SetDriver::decided(Time, Item &item) {
    auto *record = context_.control.account(item.key);
    if (record->source == target()) return end(item, {}); // it was promoted since: it had everything
    if (!find_destination(*record, target()))
        return end(item, item.account + ": " + target() + " was removed again before it had everything");
    auto *state = context_.control.destination(item.key, target());
    if (!state || state->version < item.version) return;
    if (state->phase == DestinationPhase::complete) return end(item, {});
    if (state->phase == DestinationPhase::stopped || state->phase == DestinationPhase::lost)
        end(item, item.account + ": initialisation on " + target() + " stopped: " + state->reason);
}

void SetDriver::destination_changed(Time now, const AccountKey &key) {
    auto *item = find(key);
    if (item && item->state == Item::State::decided) decided(now, *item);
}

void SetDriver::all_ended(size_t good, const std::vector<std::string> &problems) {
    std::string result = "initialisation is complete: " + counted(good, "account") + " on " + target();
    if (!problems.empty()) result += ", not complete: " + joined(problems);
    finish(problems.empty() ? OperationPhase::done : OperationPhase::failed, result);
    context_.notify("Replica: initialisation on " + target(), result + " (operation " + to_hex(operation_.id) + ")");
}

} // namespace

std::shared_ptr<OperationDriver> make_set_driver(OperationContext &context, const Operation &operation) {
    return std::make_shared<SetDriver>(context, operation);
}

} // namespace replica
