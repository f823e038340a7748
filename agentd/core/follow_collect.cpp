// Follow: the bulk of snapshots that this store wants. The worker keeps it in a file; here is only how far it got.
#include "agentd/core/follow.hpp"
#include "agentd/core/changes.hpp"
#include <algorithm>

namespace replica {

void Follow::open_collection(const Item &item) {
    const Change &change = std::get<Change>(item.what);
    auto snapshot = decode<SnapshotChange>(change.payload);
    if (!snapshot)
        return stop("the snapshot " + to_string(item.number) + " cannot be read: " + snapshot.error().message);
    open_[change.object] = {snapshot->id, item.number, applied_, item.place, item.offset, item.session, now_};
    changed_ = true;
}

// The bulk at the front: the first (id, n) counts, in order; of a snapshot that nobody waits for it is passed by.
void Follow::collect() {
    const Bulk &bytes = std::get<Bulk>(queue_.front().what);
    auto bulk = decode<replica::Bulk>(bytes);
    if (!bulk) return stop("a bulk record cannot be read: " + bulk.error().message);
    auto open = open_.find(bulk->object);
    if (open == open_.end() || open->second.id != bulk->id || bulk->n < open->second.next) return pop();
    if (bulk->n > open->second.next) {
        drop_collection(bulk->object, "a part of its snapshot is missing");
        return pop();
    }
    size_t mails = std::exchange(bulk->mails, {}).size();
    send(Collect{.account = account_, .bulk = bytes},
         [this, mails, part = std::move(*bulk)](const Reply &reply) { collected(part, mails, reply); });
}

void Follow::collected(const replica::Bulk &part, size_t mails, const Reply &reply) {
    if (reply.verdict == Verdict::retry) return try_again(reply.text);
    if (reply.verdict != Verdict::applied && reply.verdict != Verdict::skipped) {
        drop_collection(part.object, reply.text);
        return pop();
    }
    Collection &open = open_.at(part.object);
    open.next = part.n + 1;
    open.heard = now_;
    open.mails_done += mails;
    if (part.head) open.mails_total = part.head->mails;
    changed_ = true;
    if (part.sum)
        step_ = Step::build;
    else
        pop();
}

void Follow::build() {
    auto bulk = decode<replica::Bulk>(std::get<Bulk>(queue_.front().what));
    const Collection &open = open_.at(bulk->object);
    send(Build{.account = account_, .object = bulk->object, .snapshot = open.id, .number = open.number},
         [this, object = bulk->object](const Reply &reply) { built(object, reply); });
}

void Follow::built(const Object &object, const Reply &reply) {
    switch (reply.verdict) {
    case Verdict::applied:
    case Verdict::skipped:
        mails_done_ += open_.at(object).mails_done;
        unwant(object);
        break;
    case Verdict::retry:
        return try_again(reply.text);
    case Verdict::diverged:
        return stop(in_words(object) + " has diverged: " + reply.text);
    case Verdict::list_wanted:
        want({object.ns_prefix, {}});
        [[fallthrough]];
    default:
        drop_collection(object, reply.text);
    }
    pop();
}

void Follow::drop_collection(const Object &object, const std::string &why) {
    if (open_.erase(object) == 0) return;
    changed_ = true;
    reason_ = in_words(object) + " is wanted again: " + why;
    effects_.log(Effects::Level::warning, "collection_dropped account=" + account_ + " reason=" + reason_);
}

void Follow::drop_collections(const std::function<bool(const Collection &)> &which, const char *why) {
    std::vector<Object> dropped;
    for (const auto &[object, open] : open_)
        if (which(open)) dropped.push_back(object);
    for (const auto &object : dropped)
        drop_collection(object, why);
}

} // namespace replica
