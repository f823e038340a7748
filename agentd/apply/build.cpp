// All bulk of a snapshot is there: a new index aside, the exchange, then the changes that came meanwhile.
#include "agentd/apply/worker.hpp"

namespace replica {

namespace {

using Kind = Collections::Entry::Kind;

// An index under construction, thrown away unless it was committed.
class NewIndex {
public:
    NewIndex(const CboxApi &api, struct mailbox *box) : api_(api), box_(box) {}
    NewIndex(const NewIndex &) = delete;
    ~NewIndex() {
        if (build_ != nullptr) api_.build_abort(&build_);
    }
    Outcome add(const Bulk &bulk) {
        if (bulk.head && (build_ = api_.build_begin(box_, *bulk.head)) == nullptr) return failed("cannot build");
        if (build_ == nullptr) return {Verdict::wanted, "the snapshot has no head"};
        if (!bulk.mails.empty() && api_.build_add(build_, bulk.mails) < 0) return failed("cannot build");
        sum_ = bulk.sum;
        return {};
    }
    Outcome commit(const Number &number) {
        if (build_ == nullptr || !sum_) return {Verdict::wanted, "the snapshot is not complete"};
        Outcome outcome;
        outcome.verdict = api_.build_commit(&build_, number, *sum_, lock_ms, &outcome.text);
        return outcome;
    }

private:
    Outcome failed(std::string_view what) { return Outcome::of(storage_error(box_, what)); }
    const CboxApi &api_;
    struct mailbox *box_;
    CboxBuild *build_ = nullptr;
    std::optional<Bulk::Sum> sum_;
};

Outcome build_index(const CboxApi &api, struct mailbox *box, Collections::Reading &reading, const Number &number) {
    NewIndex index(api, box);
    while (true) {
        auto entry = reading.next();
        if (!entry) return Outcome::of(entry.error());
        if (!*entry) return index.commit(number);
        if ((*entry)->kind != Kind::bulk) continue;
        auto bulk = decode<Bulk>((*entry)->payload);
        if (!bulk) return {Verdict::wanted, "a collected bulk record cannot be decoded: " + bulk.error().message};
        Outcome outcome = index.add(*bulk);
        if (outcome.verdict != Verdict::applied) return outcome;
    }
}

Outcome apply_collected(const CboxApi &api, struct mailbox *box, Collections::Reading &reading) {
    while (true) {
        auto entry = reading.next();
        if (!entry) return Outcome::of(entry.error());
        if (!*entry) return {};
        if ((*entry)->kind != Kind::change) continue;
        auto change = decode<MailboxChange>((*entry)->payload);
        if (!change) return {Verdict::failed, "a collected change cannot be decoded: " + change.error().message};
        Outcome outcome;
        outcome.verdict = api.apply(box, (*entry)->number, (*entry)->previous, *change, lock_ms, &outcome.text);
        if (outcome.verdict != Verdict::applied && outcome.verdict != Verdict::skipped) return outcome;
    }
}

// Repeated after a crash at any point: what is done already shows in the mark.
Outcome build_collected(Account &account, const Build &request, const Collection &collection) {
    auto where = account.covered(request.object.ns_prefix);
    if (!where) return Outcome::of(where.error());
    auto box = account.mailbox(request.object);
    if (!box) return Outcome::of(box.error());
    Mark mark;
    if (where->api->mark_get(*box, &mark) < 0) return Outcome::of(storage_error(*box, "cannot read the mark of"));
    auto reading = Collections::Reading::begin(collection);
    if (!reading) return Outcome::of(reading.error());
    if (mark.number < request.number) {
        Outcome outcome = build_index(*where->api, *box, *reading, request.number);
        account.close(request.object); // it has the index that was exchanged
        if (outcome.verdict != Verdict::applied) return outcome;
        box = account.mailbox(request.object);
        if (!box) return Outcome::of(box.error());
        if (auto begun = reading->rewind(); !begun) return Outcome::of(begun.error());
    }
    return apply_collected(*where->api, *box, *reading);
}

} // namespace

Outcome build(Account &account, const Build &request) {
    auto box = account.mailbox(request.object);
    if (!box && box.error().code == Code::gone) {
        account.collections().drop(request.object.mailbox);
        return mailbox_is_missing(account, request.object, request.number);
    }
    if (!box) return Outcome::of(box.error());
    auto open = account.collections().find(request.object.mailbox);
    if (!open) return Outcome::of(open.error());
    if (*open == nullptr || (*open)->id != request.snapshot || (*open)->number != request.number) {
        auto where = account.covered(request.object.ns_prefix);
        if (!where) return Outcome::of(where.error());
        Mark mark;
        if (where->api->mark_get(*box, &mark) < 0) return Outcome::of(storage_error(*box, "cannot read the mark of"));
        if (mark.number >= request.number) return {Verdict::skipped, {}};
        return {Verdict::wanted, "this snapshot is not open here"};
    }
    Outcome outcome = build_collected(account, request, **open);
    bool over = outcome.verdict == Verdict::applied || outcome.verdict == Verdict::wanted;
    if (over) account.collections().drop(request.object.mailbox);
    if (outcome.verdict != Verdict::applied) account.close(request.object);
    return outcome;
}

} // namespace replica
