#include "agentd/core/unconfirmed.hpp"
#include <algorithm>

namespace replica {

static bool ends_batch(Verdict verdict) {
    return verdict == Verdict::retry || verdict == Verdict::failed || verdict == Verdict::diverged;
}

Unconfirmed::Unconfirmed(std::string account, Effects &effects, std::function<void()> moved)
    : account_(std::move(account)), effects_(effects), moved_(std::move(moved)) {}

void Unconfirmed::add(const Entry &entry, const Change &change, std::optional<Owner> owner) {
    kept_.push_back({entry.number, entry.offset, change, owner});
}

void Unconfirmed::done(const Owner &owner, bool ok) {
    auto it = std::ranges::find_if(kept_, [&](const Kept &kept) { return kept.owner == owner; });
    if (it == kept_.end()) return;
    if (ok)
        kept_.erase(it);
    else
        it->owner.reset();
}

void Unconfirmed::client_gone(ClientId client) {
    for (auto &kept : kept_)
        if (kept.owner && kept.owner->client == client) kept.owner.reset();
}

void Unconfirmed::settle(const Object &object) {
    std::erase_if(kept_, [&](const Kept &kept) { return kept.change.object == object; });
    stopped_.erase(object);
    retry_at_.erase(object);
}

void Unconfirmed::doubt(const Object &object) {
    for (auto &kept : kept_)
        if (kept.change.object == object) kept.owner.reset();
}

// Must the object not be sent yet?
bool Unconfirmed::waits(const Object &object) {
    auto until = [&](Time at) {
        if (at <= now_) return false;
        wake_at_ = wake_at_ ? std::min(*wake_at_, at) : at;
        return true;
    };
    auto stopped = stopped_.find(object);
    auto retry = retry_at_.find(object);
    return (stopped != stopped_.end() && until(stopped->second.again_at)) ||
           (retry != retry_at_.end() && until(retry->second));
}

void Unconfirmed::roll(Time now) {
    now_ = now;
    wake_at_.reset();
    if (rolling_ || kept_.empty()) return;
    if (now < not_before_) {
        wake_at_ = not_before_;
        return;
    }
    Apply request{.account = account_};
    Sent sent;
    size_t bytes = 0;
    std::set<Object> held; // objects of which an earlier change is neither in the index nor in this batch
    for (const auto &kept : kept_) {
        const auto &object = kept.change.object;
        if (kept.owner || held.contains(object) || waits(object)) {
            held.insert(object);
            if (auto mailbox = created_by(kept.change)) held.insert(*mailbox);
            continue;
        }
        bytes += kept.change.payload.size();
        if (sent.size() == batch_max || (bytes > apply_bytes_max && !sent.empty())) break;
        request.changes.push_back({kept.number, kept.change});
        sent.emplace_back(kept.number, object);
    }
    if (sent.empty()) return;
    rolling_ = true;
    effects_.worker(account_, std::move(request), false, [this, sent](const Reply &reply) { rolled(sent, reply); });
}

void Unconfirmed::rolled(const Sent &sent, const Reply &reply) {
    rolling_ = false;
    size_t answered = std::min(sent.size(), reply.changes.size());
    size_t forward = 0;
    for (size_t i = 0; i < answered; ++i)
        forward += conclude(sent[i].first, sent[i].second, reply.changes[i], reply.text);
    if (answered == 0 && reply.verdict == Verdict::retry)
        not_before_ = now_ + retry_after;
    else if (answered < sent.size() && (answered == 0 || !ends_batch(reply.changes[answered - 1])))
        conclude(sent[answered].first, sent[answered].second,
                 reply.verdict == Verdict::failed ? Verdict::failed : Verdict::retry, reply.text);
    if (forward > 0)
        effects_.log(Effects::Level::info, "rolled_forward account=" + account_ + " changes=" +
                                               std::to_string(forward) + " to=" + to_string(sent[answered - 1].first));
    moved_();
}

// True if the change is now in the index.
bool Unconfirmed::conclude(const Number &number, const Object &object, Verdict verdict, const std::string &text) {
    auto it = std::ranges::find_if(
        kept_, [&](const Kept &kept) { return kept.number == number && kept.change.object == object; });
    if (it == kept_.end()) return false; // proven, or deleted, meanwhile
    if (verdict == Verdict::retry) {
        retry_at_[object] = now_ + retry_after;
        return false;
    }
    if (verdict != Verdict::applied && verdict != Verdict::skipped) {
        stop(number, object, verdict, text);
        return false;
    }
    retry_at_.erase(object);
    stopped_.erase(object);
    kept_.erase(it);
    return true;
}

void Unconfirmed::stop(const Number &number, const Object &object, Verdict verdict, const std::string &text) {
    std::string why = in_words(object) + " cannot be rolled forward to " + to_string(number) + ": ";
    if (verdict == Verdict::diverged)
        why += "its index has what the log never had";
    else if (verdict == Verdict::failed)
        why += text;
    else
        why += "its index is behind what the log still has";
    auto &stopped = stopped_[object];
    if (stopped.why != why)
        effects_.log(Effects::Level::error, "roll_forward_stopped account=" + account_ + " reason=" + why);
    stopped = {std::move(why), now_ + stopped_retry_after};
}

bool Unconfirmed::has(const Object &object) const {
    return std::ranges::any_of(kept_, [&](const Kept &kept) { return touches(kept.change, object); });
}

bool Unconfirmed::in_doubt(const Object &object) const {
    return std::ranges::any_of(kept_, [&](const Kept &kept) { return !kept.owner && touches(kept.change, object); });
}

const std::string *Unconfirmed::stopped(const Object &object) const {
    auto it = stopped_.find(object);
    return it == stopped_.end() ? nullptr : &it->second.why;
}

std::string Unconfirmed::problem() const { return stopped_.empty() ? std::string() : stopped_.begin()->second.why; }

bool Unconfirmed::idle() const {
    return !rolling_ &&
           std::ranges::all_of(kept_, [&](const Kept &kept) { return stopped_.contains(kept.change.object); });
}

bool Unconfirmed::rolled_forward(const Number &upto) const {
    std::set<Object> held; // made by a list that is stopped
    for (const auto &kept : kept_) {
        if (kept.number > upto) break;
        if (!stopped_.contains(kept.change.object) && !held.contains(kept.change.object)) return false;
        if (auto mailbox = created_by(kept.change)) held.insert(*mailbox);
    }
    return true;
}

std::optional<Number> Unconfirmed::settled() const {
    if (kept_.empty()) return {};
    Number oldest = kept_.front().number;
    return Number{oldest.epoch, oldest.sequence - 1};
}

std::optional<int64_t> Unconfirmed::oldest_offset() const {
    if (kept_.empty()) return {};
    return kept_.front().offset;
}

} // namespace replica
