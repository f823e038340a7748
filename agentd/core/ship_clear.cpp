// Ship: who asks before a lock is taken, and the snapshots that an object needs first.
#include "agentd/core/ship.hpp"
#include <algorithm>

namespace replica {

static constexpr std::chrono::milliseconds snapshot_retry_after{200};
static constexpr int snapshots_at_once = 4; // that only destinations want; one that a client waits for starts always

static bool plain(const Mark &mark) { return !mark.number.none() && !mark.unlogged; }

// Its index was lost, and made anew by force-resync: that is its content now, whatever the log has.
static bool made_anew(const Mark &mark) { return mark.number.none() && mark.unlogged; }

void Ship::clear(Time now, ClientId client, const Clear &clear) {
    if (made_anew(clear.mark)) begin_anew(clear.object);
    clears_.push_back({client, clear, now});
    go_on(now);
    if (phase_ == Phase::closed) answer_clears();
}

void Ship::snapshot(Time now, const Object &object) {
    snapshots_.try_emplace(object);
    go_on(now);
}

// Nothing of its past has to be rolled forward, and its next change is a SNAPSHOT that follows none.
void Ship::begin_anew(const Object &object) {
    auto of_object = [&](const Offer &offer) { return touches(offer.change, object); };
    if (std::ranges::any_of(waiting_, of_object) || (unsettled_ && std::ranges::any_of(unsettled_->offers, of_object)))
        return;
    unconfirmed_.settle(object);
    assigned_.erase(object);
}

void Ship::unlogged(Time now, const Object &object, const Mark &mark) {
    if (made_anew(mark)) begin_anew(object);
    unlogged_.insert(object);
    snapshot(now, object);
}

void Ship::note_snapshot(const Change &change, const Number &number) {
    if (change.kind != ChangeKind::snapshot && change.kind != ChangeKind::list_snapshot) return;
    bool was_unlogged = unlogged_.erase(change.object) > 0;
    if (change.kind == ChangeKind::snapshot) { // a former life's, too
        auto snapshot = decode<SnapshotChange>(change.payload);
        was_unlogged |= snapshot && snapshot->unlogged;
    }
    if (was_unlogged) unlogged_until_ = number;
}

// A change of the object is waiting, unsettled, or not confirmed.
bool Ship::under_way(const Object &object) const {
    auto of_object = [&](const Offer &offer) { return touches(offer.change, object); };
    return std::ranges::any_of(waiting_, of_object) ||
           (unsettled_ && std::ranges::any_of(unsettled_->offers, of_object)) || unconfirmed_.has(object);
}

bool Ship::in_doubt(const Object &object) const {
    auto lost = [&](const Offer &offer) { return offer.client_gone && touches(offer.change, object); };
    return (unsettled_ && std::ranges::any_of(unsettled_->offers, lost)) || unconfirmed_.in_doubt(object);
}

// The mark was read without a lock: one that is older than what is known to be committed says nothing.
bool Ship::needs_snapshot(const Clear &clear) const {
    auto last = assigned_.find(clear.object);
    return !plain(clear.mark) && (last == assigned_.end() || last->second == clear.mark.number);
}

std::optional<Ship::Refusal> Ship::answer(const Asked &asked) {
    const Object &object = asked.clear.object;
    if (phase_ == Phase::closed) return closed_;
    if (outage_) return Refusal{Reason::unavailable, "the brokers are away"};
    if (phase_ == Phase::open) {
        if (deleted_.contains(object)) return Refusal{Reason::deleted, "the mailbox was deleted"};
        if (auto *why = unconfirmed_.stopped(object)) return Refusal{Reason::stopped, *why};
        bool waits = in_doubt(object) || (!plain(asked.clear.mark) && under_way(object));
        if (!waits && !needs_snapshot(asked.clear)) return Refusal{};
        if (!waits) snapshots_.try_emplace(object);
        if (!waits && asked.clear.mark.unlogged) unlogged_.insert(object);
    }
    if (now_ < latest(asked.since)) return {};
    return Refusal{Reason::unavailable, "the mailbox is still being brought up to the log"};
}

void Ship::answer_clears() {
    std::erase_if(clears_, [&](const Asked &asked) {
        auto verdict = answer(asked);
        if (verdict) effects_.send(asked.client, Answer{asked.clear.request, verdict->reason, verdict->text});
        return verdict.has_value();
    });
    take_snapshots();
}

void Ship::take_snapshots() {
    if (phase_ != Phase::open || outage_) return;
    auto running = std::ranges::count_if(snapshots_, [](const auto &entry) { return entry.second.running; });
    for (auto &entry : snapshots_) {
        const Object &object = entry.first;
        Snapshot &snapshot = entry.second;
        bool asked_for = std::ranges::any_of(clears_, [&](const Asked &asked) { return asked.clear.object == object; });
        if (snapshot.running || now_ < snapshot.not_before || (running >= snapshots_at_once && !asked_for)) continue;
        snapshot.running = true;
        ++running;
        WorkerRequest request;
        if (object.is_list())
            request = SnapshotList{.account = account_, .ns_prefix = object.ns_prefix};
        else
            request = SnapshotMailbox{.account = account_,
                                      .object = object,
                                      .snapshot = SnapshotId::from(random_bytes(sizeof(SnapshotId::bytes)).data())};
        effects_.worker(account_, std::move(request), true,
                        [this, taken = object](const Reply &reply) { snapshot_taken(taken, reply); });
    }
}

void Ship::snapshot_taken(const Object &object, const Reply &reply) {
    if (reply.verdict == Verdict::retry) {
        snapshots_[object] = {false, now_ + snapshot_retry_after};
        return;
    }
    snapshots_.erase(object);
    if (reply.verdict == Verdict::applied || reply.verdict == Verdict::skipped) return answer_clears();
    std::string why = in_words(object) + " could not be snapshotted: " + reply.text;
    effects_.log(Effects::Level::error, "snapshot_failed account=" + account_ + " reason=" + why);
    std::erase_if(clears_, [&](const Asked &asked) {
        if (asked.clear.object != object) return false;
        effects_.send(asked.client, Answer{asked.clear.request, Reason::stopped, why});
        return true;
    });
    take_snapshots();
}

} // namespace replica
