#include "agentd/core/follow.hpp"
#include "agentd/core/changes.hpp"
#include <algorithm>

namespace replica {

Follow::Follow(std::string account, AccountKey, const Start &start, Effects &effects)
    : account_(std::move(account)), effects_(effects), begun_(start.position), applied_(start.position),
      wants_everything_(start.wants_everything), initial_(start.wants_everything),
      wanted_(start.wanted.begin(), start.wanted.end()) {}

size_t Follow::bytes_of(const Item &item) {
    if (auto *change = std::get_if<Change>(&item.what)) return change->payload.size();
    if (auto *bulk = std::get_if<Bulk>(&item.what)) return bulk->size();
    return 0;
}

void Follow::push(Time now, Item item) {
    now_ = now;
    if (stopped_) return;
    queue_bytes_ += bytes_of(item);
    queue_.push_back(std::move(item));
}

void Follow::counted(Time now, const Entry &entry) {
    const auto &changes = entry.record.changes;
    for (size_t i = 0; i < changes.size(); ++i)
        push(now, {entry.number, entry.place, entry.offset, entry.session, i + 1 == changes.size(), changes[i]});
    if (changes.empty()) push(now, {entry.number, entry.place, entry.offset, entry.session, true, Position{}});
    go_on();
}

void Follow::bulk(Time now, const Entry &entry) {
    push(now, {entry.number, entry.place, entry.offset, entry.session, false, entry.record.bulk});
    go_on();
}

void Follow::fenced(Time now) {
    push(now, {{}, {}, 0, {}, false, Fence{}});
    go_on();
}

// The front was answered, wholly.
void Follow::pop() {
    const Item &front = queue_.front();
    if (front.last) {
        applied_ = front.number;
        changed_ = true;
    }
    queue_bytes_ -= bytes_of(front);
    queue_.pop_front();
    step_ = Step::front;
    if (failing_since_) reason_.clear();
    failing_since_.reset();
}

void Follow::go_on() {
    while (!busy_ && !stopped_ && !queue_.empty() && (!retry_at_ || *retry_at_ <= now_)) {
        retry_at_.reset();
        if (step_ == Step::inspect) return inspect();
        if (step_ == Step::build) return build();
        const Item &front = queue_.front();
        bool fence = std::holds_alternative<Fence>(front.what);
        drop_collections([&](const Collection &open) { return fence || open.session != front.session; },
                         "its source sends no more of it");
        if (std::holds_alternative<Change>(front.what))
            send_batch();
        else if (std::holds_alternative<Bulk>(front.what))
            collect();
        else
            pop();
    }
}

void Follow::send(WorkerRequest request, std::function<void(const Reply &)> answered) {
    busy_ = true;
    effects_.worker(account_, std::move(request), false,
                    [this, life = worker_life_, answered = std::move(answered)](const Reply &reply) {
                        if (life != worker_life_ || stopped_) return;
                        busy_ = false;
                        answered(reply);
                        go_on();
                    });
}

// Changes from the front on; a list snapshot is the last one, since what it made is looked at before anything else is
// done.
void Follow::send_batch() {
    Apply request{.account = account_};
    size_t bytes = 0;
    for (const auto &item : queue_) {
        auto *change = std::get_if<Change>(&item.what);
        if (!change || item.session != queue_.front().session || request.changes.size() == window) break;
        bytes += change->payload.size();
        if (bytes > apply_bytes_max && !request.changes.empty()) break;
        request.changes.push_back({item.number, *change});
        if (change->kind == ChangeKind::list_snapshot) break;
    }
    size_t sent = request.changes.size();
    send(std::move(request), [this, sent](const Reply &reply) { batch_answered(sent, reply); });
}

void Follow::batch_answered(size_t sent, const Reply &reply) {
    size_t answered = std::min(sent, reply.changes.size());
    for (size_t i = 0; i < answered; ++i)
        if (!conclude(reply.changes[i], reply.text)) return;
    if (answered == sent) return;
    bool final = reply.verdict == Verdict::failed || reply.verdict == Verdict::diverged;
    conclude(final ? reply.verdict : Verdict::retry, reply.text);
}

// What the worker said of the change at the front; true if that is done with.
bool Follow::conclude(Verdict verdict, const std::string &text) {
    const Item &front = queue_.front();
    const Change &change = std::get<Change>(front.what);
    switch (verdict) {
    case Verdict::applied:
    case Verdict::skipped:
        contained(change);
        if (change.kind == ChangeKind::list_snapshot) {
            step_ = Step::inspect;
            return false;
        }
        break;
    case Verdict::list_wanted:
        want({change.object.ns_prefix, {}});
        [[fallthrough]];
    case Verdict::wanted:
        want(change.object);
        open_.erase(change.object);
        if (change.kind == ChangeKind::snapshot && verdict == Verdict::wanted) open_collection(front);
        break;
    case Verdict::retry:
        try_again(text);
        return false;
    case Verdict::diverged:
        stop(in_words(change.object) + " has diverged at " + to_string(front.number) + ": " + text);
        return false;
    case Verdict::failed:
        stop(in_words(change.object) + " cannot take " + to_string(front.number) + ": " + text);
        return false;
    }
    if (!stopped_) pop();
    return !stopped_;
}

// The index has the change: of a snapshot that says that the object is whole up to it.
void Follow::contained(const Change &change) {
    if (change.kind == ChangeKind::snapshot || change.kind == ChangeKind::list_snapshot) unwant(change.object);
    if (auto deleted = deleted_by(change)) unwant(*deleted);
}

void Follow::try_again(const std::string &why) {
    retry_at_ = now_ + retry_after;
    if (!failing_since_) failing_since_ = now_;
    if (now_ - *failing_since_ < named_after) return;
    reason_ = "tried again for " +
              std::to_string(std::chrono::duration_cast<std::chrono::seconds>(now_ - *failing_since_).count()) +
              " s: " + (why.empty() ? "no worker answers" : why);
    changed_ = true;
}

// A list snapshot may have made mailboxes that have no mark and never see a change: ask what there is.
void Follow::inspect() {
    send(Inspect{.account = account_}, [this](const Reply &reply) { inspected(reply); });
}

void Follow::inspected(const Reply &reply) {
    if (reply.verdict == Verdict::failed) return stop("the account cannot be inspected: " + reply.text);
    if (reply.verdict != Verdict::applied || !reply.facts) return try_again(reply.text);
    std::set<Object> there;
    for (const auto &state : reply.facts->objects) {
        there.insert(state.object);
        // A new destination may have been one before: nobody knows what came after such a mark, and that no change may
        // ever tell. A SNAPSHOT that follows the mark proves it.
        bool unproven = wants_everything_ && !state.object.is_list() && state.mark.number <= begun_;
        if (state.mark.number.none() || unproven) want(state.object);
    }
    for (const auto &object : std::set(wanted_))
        if (!there.contains(object)) unwant(object);
    wants_everything_ = false;
    if (wanted_.empty()) initial_ = false;
    changed_ = true;
    pop();
}

void Follow::want(const Object &object) { changed_ |= wanted_.insert(object).second; }

void Follow::unwant(const Object &object) {
    open_.erase(object);
    changed_ |= wanted_.erase(object) > 0;
    if (!wanted_.empty() || wants_everything_) return;
    initial_ = false;
    reason_.clear();
}

void Follow::stop(const std::string &reason) {
    if (stopped_) return;
    stopped_ = changed_ = true;
    reason_ = reason;
    effects_.log(Effects::Level::error,
                 "destination_stopped account=" + account_ + " position=" + to_string(applied_) + " reason=" + reason);
    queue_.clear();
    queue_bytes_ = 0;
    open_.clear(); // they are wanted again
}

void Follow::worker_lost(Time now) {
    now_ = now;
    ++worker_life_;
    busy_ = false;
    step_ = Step::front;
    retry_at_.reset();
    drop_collections([](const Collection &) { return true; }, "the worker was lost");
    go_on();
}

void Follow::tick(Time now) {
    now_ = now;
    if (queue_.empty())
        drop_collections([&](const Collection &open) { return now >= open.heard + collection_idle; },
                         "its source has sent nothing for a minute");
    go_on();
}

std::optional<Time> Follow::deadline() const {
    if (stopped_ || busy_) return {};
    if (!queue_.empty()) return retry_at_;
    std::optional<Time> next;
    for (const auto &[object, open] : open_)
        if (!next || open.heard + collection_idle < *next) next = open.heard + collection_idle;
    return next;
}

DestinationPhase Follow::phase() const {
    if (stopped_) return DestinationPhase::stopped;
    if (wants_everything_) return DestinationPhase::initial;
    if (wanted_.empty()) return DestinationPhase::complete;
    return initial_ ? DestinationPhase::initial : DestinationPhase::following;
}

Number Follow::storable() const {
    Number number = applied_;
    for (const auto &[object, open] : open_)
        number = std::min(number, open.before);
    return number;
}

// An open collection began before anything that is queued.
std::optional<std::pair<Place, int64_t>> Follow::oldest_needed() const {
    const Collection *oldest = nullptr;
    for (const auto &[object, open] : open_)
        if (!oldest || open.number < oldest->number) oldest = &open;
    if (oldest) return std::pair{oldest->place, oldest->offset};
    for (const auto &item : queue_)
        if (!std::holds_alternative<Fence>(item.what)) return std::pair{item.place, item.offset};
    return {};
}

void Follow::describe(DestinationState &state) const {
    state.account = account_;
    state.position = applied_;
    state.phase = phase();
    state.wants_everything = wants_everything_;
    state.wanted.clear();
    for (const auto &object : wanted_)
        if (!open_.contains(object)) state.wanted.push_back(object);
    state.reason = reason_;
    state.mails_done = state.mails_total = mails_done_;
    for (const auto &[object, open] : open_) {
        state.mails_done += open.mails_done;
        state.mails_total += open.mails_total;
    }
}

} // namespace replica
