#include "agentd/core/ship.hpp"
#include <algorithm>

namespace replica {

Ship::Ship(std::string account, AccountKey key, ShipSettings settings, Effects &effects)
    : account_(account), key_(key), settings_(settings), effects_(effects),
      unconfirmed_(std::move(account), effects, [this] { go_on(now_); }) {}

void Ship::open(Time now, Number last, const Place &place) {
    phase_ = Phase::open;
    position_ = last;
    place_ = place;
    go_on(now);
}

void Ship::close(Reason reason, const std::string &text) {
    phase_ = Phase::closed;
    closed_ = {reason, text};
    if (unsettled_) {
        effects_.settled(key_, unsettled_->number);
        for (auto &offer : unsettled_->offers)
            refuse(offer, closed_);
        unsettled_.reset();
    }
    for (auto &offer : std::exchange(waiting_, {}))
        refuse(offer, closed_);
    answer_clears();
}

void Ship::outage(Time now, bool on) {
    outage_ = on;
    if (on)
        for (auto &offer : std::exchange(waiting_, {}))
            refuse(offer, {Reason::unavailable, "the brokers are away"});
    go_on(now);
}

// What the log would make of it: R3 at the source, where the number assigned last stands for the mark.
Ship::Refusal Ship::objection(const Change &change) const {
    if (deleted_.contains(change.object)) return {Reason::deleted, "the mailbox was deleted"};
    auto last = assigned_.find(change.object);
    if (last == assigned_.end()) {
        if (!change.previous.none() || change.kind != ChangeKind::mailbox) return {};
        return {Reason::behind, in_words(change.object) + " has no mark: it needs a snapshot first"};
    }
    if (last->second == change.previous) return {};
    if (auto *why = unconfirmed_.stopped(change.object)) return {Reason::stopped, *why};
    return {Reason::behind, in_words(change.object) + " is at " + to_string(change.previous) + ", the log at " +
                                to_string(last->second) + ": it is rolled forward"};
}

void Ship::change(Time now, ClientId client, const ChangeFrame &frame) {
    Offer offer{frame.change, {client, frame.request}, now, 0};
    if (phase_ == Phase::closed) return refuse(offer, closed_);
    if (phase_ == Phase::starting) return refuse(offer, {Reason::unavailable, "the account's log is still being read"});
    const Object &object = frame.change.object;
    if (auto no = objection(frame.change); no.reason != Reason::none) {
        refuse(offer, no);
        unconfirmed_.doubt(object);
        return go_on(now);
    }
    if (assigned_.contains(object)) unconfirmed_.settle(object); // the mark proves it
    if (outage_) return refuse(offer, {Reason::unavailable, "the brokers are away"});
    offer.sealed_size = effects_.sealed_size(Record{.changes = {offer.change}});
    if (offer.sealed_size > settings_.record_bytes_max)
        return refuse(offer, {Reason::too_large, "a change of " + std::to_string(offer.sealed_size) +
                                                     " bytes is beyond replica_record_bytes_max"});
    std::erase_if(waiting_, [&](const Offer &older) {
        if (older.change.object != object) return false;
        refuse(older, {Reason::busy, "a newer change of the same object came"});
        return true;
    });
    waiting_.push_back(std::move(offer));
    go_on(now);
}

void Ship::done(Time now, ClientId client, const Done &done) {
    unconfirmed_.done({client, done.request}, done.ok);
    go_on(now);
}

void Ship::client_gone(Time now, ClientId client) {
    std::erase_if(waiting_, [&](const Offer &offer) { return offer.owner.client == client; });
    std::erase_if(clears_, [&](const Asked &asked) { return asked.client == client; });
    if (unsettled_)
        for (auto &offer : unsettled_->offers)
            offer.client_gone |= offer.owner.client == client;
    unconfirmed_.client_gone(client);
    go_on(now);
}

void Ship::assign(const Change &change, const Number &number) {
    assigned_[change.object] = number;
    if (auto created = created_by(change)) assigned_[*created] = number;
    if (auto deleted = deleted_by(change)) deleted_.insert(*deleted);
}

void Ship::unassign(const Change &change) {
    if (change.previous.none())
        assigned_.erase(change.object);
    else
        assigned_[change.object] = change.previous;
    if (auto created = created_by(change)) assigned_.erase(*created);
    if (auto deleted = deleted_by(change)) deleted_.erase(*deleted);
}

// The next record: one change of each object that waits, in the order in which they came, the list's last; as far as
// there is room.
void Ship::seal() {
    if (phase_ != Phase::open || outage_ || unsettled_ || waiting_.empty()) return;
    Unsettled next{{position_.epoch, position_.sequence + 1}, {}};
    std::optional<Offer> list;
    std::deque<Offer> rest;
    size_t room = settings_.record_bytes_max;
    for (auto &offer : waiting_) {
        bool of_list = offer.change.object.is_list();
        if (offer.sealed_size > room || (of_list && list)) {
            rest.push_back(std::move(offer));
            continue;
        }
        room -= offer.sealed_size;
        if (of_list)
            list = std::move(offer);
        else
            next.offers.push_back(std::move(offer));
    }
    if (list) next.offers.push_back(std::move(*list));
    waiting_ = std::move(rest);

    Record record;
    for (auto &offer : next.offers) {
        assign(offer.change, next.number);
        record.changes.push_back(offer.change);
    }
    refuse_if_objectionable(waiting_); // a mailbox that this record deletes
    unsettled_ = std::move(next);
    effects_.produce(place_, key_, unsettled_->number, record);
}

bool Ship::is_own(const Entry &entry) const {
    if (!unsettled_ || unsettled_->number != entry.number || entry.session != settings_.session) return false;
    return std::ranges::equal(entry.record.changes, unsettled_->offers, {}, {}, &Offer::change);
}

void Ship::counted(Time now, const Entry &entry) {
    if (phase_ == Phase::closed) return;
    position_ = entry.number;
    if (entry.record.kind == RecordKind::changes) {
        bool own = is_own(entry);
        if (unsettled_ && unsettled_->number == entry.number) effects_.settled(key_, entry.number);
        if (own)
            acknowledge(entry);
        else
            take_foreign(entry);
        for (const auto &change : entry.record.changes) {
            note_snapshot(change, entry.number);
            if (auto deleted = deleted_by(change)) {
                unconfirmed_.settle(*deleted);
                assigned_.erase(*deleted);
                unlogged_.erase(*deleted);
            }
        }
    }
    go_on(now);
}

void Ship::acknowledge(const Entry &entry) {
    for (auto &offer : unsettled_->offers) {
        unconfirmed_.add(entry, offer.change, offer.client_gone ? std::nullopt : std::optional(offer.owner));
        if (!offer.client_gone) effects_.send(offer.owner.client, Ack{offer.owner.request, entry.number});
    }
    unsettled_.reset();
}

// A former life's record, or one that came first under our number: it counts, and nobody here will commit it.
void Ship::take_foreign(const Entry &entry) {
    std::deque<Offer> void_offers;
    if (unsettled_ && unsettled_->number == entry.number) {
        for (auto &offer : unsettled_->offers) {
            unassign(offer.change);
            if (!offer.client_gone) void_offers.push_back(std::move(offer));
        }
        unsettled_.reset();
    }
    for (const auto &change : entry.record.changes) {
        assign(change, entry.number);
        unconfirmed_.add(entry, change, std::nullopt);
    }
    waiting_.insert(waiting_.begin(), std::make_move_iterator(void_offers.begin()),
                    std::make_move_iterator(void_offers.end()));
    refuse_if_objectionable(waiting_);
}

void Ship::refuse_if_objectionable(std::deque<Offer> &offers) {
    std::erase_if(offers, [&](const Offer &offer) {
        auto no = objection(offer.change);
        if (no.reason == Reason::none) return false;
        refuse(offer, no);
        return true;
    });
}

void Ship::refuse(const Offer &offer, const Refusal &why) {
    if (!offer.client_gone) effects_.send(offer.owner.client, Refused{offer.owner.request, why.reason, why.text});
}

void Ship::go_on(Time now) {
    now_ = now;
    if (phase_ == Phase::closed) return;
    seal();
    // Until the log's end is known, a DELETE further on may make moot what would fail now: only memory forces it.
    if (phase_ == Phase::open || unconfirmed_.full()) unconfirmed_.roll(now);
    answer_clears();
}

void Ship::tick(Time now) {
    std::erase_if(waiting_, [&](const Offer &offer) {
        if (now < latest(offer.since)) return false;
        refuse(offer, {Reason::unavailable, "the log did not take it in time"});
        return true;
    });
    go_on(now);
}

std::optional<Time> Ship::deadline() const {
    if (phase_ == Phase::closed) return {};
    auto next = unconfirmed_.deadline();
    auto sooner = [&](Time at) { next = next ? std::min(*next, at) : at; };
    for (const auto &offer : waiting_)
        sooner(latest(offer.since));
    for (const auto &asked : clears_)
        sooner(latest(asked.since));
    for (const auto &[object, snapshot] : snapshots_) // others wait for something else than time
        if (!snapshot.running && snapshot.not_before > now_) sooner(snapshot.not_before);
    return next;
}

bool Ship::idle() const {
    bool snapshot_runs = std::ranges::any_of(snapshots_, [](const auto &entry) { return entry.second.running; });
    return waiting_.empty() && !unsettled_ && !snapshot_runs && unconfirmed_.idle();
}

std::string Ship::problem() const { return unconfirmed_.problem(); }

} // namespace replica
