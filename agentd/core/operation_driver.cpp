#include "agentd/core/operation_driver.hpp"

namespace replica {

void OperationDriver::read_back(Time now, const Operation &read) {
    if (read.phase == OperationPhase::done || read.phase == OperationPhase::failed) {
        finished_ = true;
        return;
    }
    if (begun_ && *begun_ >= read.phase) return;
    begun_ = read.phase;
    operation_ = read;
    if (read.phase == OperationPhase::checking)
        check(now);
    else
        run(now);
}

void OperationDriver::start_running(const std::string &result) {
    operation_.phase = OperationPhase::running;
    operation_.result = result;
    context_.publish(operation_);
}

void OperationDriver::finish(OperationPhase phase, const std::string &result) {
    begun_ = phase;
    operation_.phase = phase;
    operation_.result = result;
    operation_.finished_ms = context_.settings.wall_ms();
    context_.publish(operation_);
}

AmendDriver::AmendDriver(OperationContext &context, const Operation &operation) : OperationDriver(context, operation) {
    for (auto &account : operation.accounts) {
        auto key = context.key(account);
        index_[key] = items_.size();
        Item item;
        item.account = account;
        item.key = key;
        items_.push_back(std::move(item));
    }
    open_ = items_.size();
}

AmendDriver::Item *AmendDriver::find(const AccountKey &key) {
    auto found = index_.find(key);
    return found == index_.end() ? nullptr : &items_[found->second];
}

void AmendDriver::run(Time now) {
    look_at_ = now + Proposal::late_after;
    for (auto &item : items_) {
        auto *present = context_.control.account(item.key);
        if (present && changed_since(item.key) && is_amended(*present)) { // by this operation's former life
            item.state = Item::State::decided;
            item.version = present->version;
            decided(now, item);
        } else {
            propose(now, item);
        }
    }
}

void AmendDriver::propose(Time now, Item &item) {
    auto &stands_still = context_.control.account_problem(item.key);
    if (!stands_still.empty()) return end(item, item.account + ": " + stands_still);
    if (item.proposal.exhausted()) return end(item, item.account + ": its record kept changing, try again");
    auto next = amended(item, context_.control.account(item.key));
    if (!next) return end(item, next.error().message);
    if (item.state != Item::State::proposed) proposed_++;
    item.state = Item::State::proposed;
    item.proposal.make(now, context_, std::move(*next));
}

void AmendDriver::account_changed(Time now, const AccountKey &key) {
    auto *item = find(key);
    if (!item || item->state == Item::State::ended || item->state == Item::State::waiting) return;
    if (item->state == Item::State::decided) return decided(now, *item);
    switch (item->proposal.outcome(context_)) {
    case Proposal::Outcome::open:
        break;
    case Proposal::Outcome::lost:
        propose(now, *item);
        break;
    case Proposal::Outcome::won:
        proposed_--;
        item->state = Item::State::decided;
        item->version = item->proposal.record().version;
        decided(now, *item);
        break;
    }
}

void AmendDriver::end(Item &item, const std::string &problem) {
    if (item.state == Item::State::proposed) proposed_--;
    item.state = Item::State::ended;
    item.problem = problem;
    if (--open_ > 0) return;
    std::vector<std::string> problems;
    for (auto &each : items_)
        if (!each.problem.empty()) problems.push_back(each.problem);
    all_ended(items_.size() - problems.size(), problems);
}

void AmendDriver::tick(Time now) {
    if (proposed_ == 0 || now < look_at_) return;
    look_at_ = now + Proposal::late_after;
    for (auto &item : items_)
        if (item.state == Item::State::proposed) item.proposal.again_if_late(now, context_);
}

std::optional<Time> AmendDriver::deadline() const {
    if (proposed_ == 0) return std::nullopt;
    return look_at_;
}

} // namespace replica
