// A snapshot comes in: bulk, and the changes that the mailbox saw meanwhile.
#include "agentd/apply/worker.hpp"

namespace replica {

Outcome collect(Account &account, std::string_view encoded_bulk) {
    auto bulk = decode<Bulk>(encoded_bulk);
    if (!bulk) return {Verdict::failed, "a bulk record cannot be decoded: " + bulk.error().message};
    auto open = account.collections().find(bulk->object.mailbox);
    if (!open) return Outcome::of(open.error());
    if (*open == nullptr || (*open)->id != bulk->id) return {Verdict::wanted, "this snapshot is not open here"};
    if (bulk->n < (*open)->next_n) return {Verdict::skipped, {}};
    if (bulk->n > (*open)->next_n) return {Verdict::wanted, "a bulk record of the snapshot is missing"};
    auto done = account.collections().append_bulk(**open, encoded_bulk);
    return done ? Outcome{} : Outcome::of(done.error());
}

Outcome collect_change(Account &account, Collection &collection, const NumberedChange &numbered) {
    const Change &change = numbered.change;
    switch (judge_chain(Mark{collection.last, false}, change.previous, numbered.number)) {
    case Chain::skip:
        return {Verdict::skipped, {}};
    case Chain::apply: {
        auto done = account.collections().append_change(collection, numbered.number, change.previous, change.payload);
        return done ? Outcome{} : Outcome::of(done.error());
    }
    case Chain::wanted:
    case Chain::diverged: // the file cannot have what the source never had
        break;
    }
    account.collections().drop(change.object.mailbox);
    return {Verdict::wanted, "a change is missing behind the snapshot"};
}

} // namespace replica
