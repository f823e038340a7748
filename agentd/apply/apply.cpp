// Numbered changes, one by one: of a mailbox, a SNAPSHOT, of the list.
#include "agentd/apply/worker.hpp"

namespace replica {

namespace {

Outcome no_mailbox(Account &account, const NumberedChange &numbered, const Error &error) {
    if (error.code == Code::gone) return mailbox_is_missing(account, numbered.change.object, numbered.number);
    return Outcome::of(error);
}

Outcome apply_mailbox(Account &account, const NumberedChange &numbered) {
    const Change &change = numbered.change;
    auto decoded = decode<MailboxChange>(change.payload);
    if (!decoded) return {Verdict::failed, "a change cannot be decoded: " + decoded.error().message};
    auto where = account.covered(change.object.ns_prefix);
    if (!where) return {Verdict::failed, where.error().message};
    auto box = account.mailbox(change.object);
    if (!box) return no_mailbox(account, numbered, box.error());
    Outcome outcome;
    outcome.verdict = where->api->apply(*box, numbered.number, change.previous, *decoded, lock_ms, &outcome.text);
    if (outcome.verdict == Verdict::applied || outcome.verdict == Verdict::skipped) return outcome;
    account.close(change.object); // another process may have deleted it, or its index is broken
    if (outcome.verdict != Verdict::retry) return outcome;
    box = account.mailbox(change.object);
    return box ? outcome : no_mailbox(account, numbered, box.error());
}

// A SNAPSHOT of the source's own log only says where its index stands.
Outcome snapshot_at_source(const CboxApi &api, struct mailbox *box, const Mark &mark, const NumberedChange &numbered) {
    if (mark.number >= numbered.number) return {Verdict::skipped, {}};
    if (mark.number != numbered.change.previous)
        return {mark.number < numbered.change.previous ? Verdict::wanted : Verdict::diverged,
                "the mailbox is at " + to_string(mark.number)};
    if (api.mark_set(box, numbered.number, false) < 0) return Outcome::of(storage_error(box, "cannot mark"));
    return {};
}

Outcome snapshot_at_destination(Account &account, const CboxApi &api, struct mailbox *box, const Mark &mark,
                                const NumberedChange &numbered, const SnapshotChange &snapshot) {
    const Change &change = numbered.change;
    Chain chain = judge_chain(mark, change.previous, numbered.number);
    // A source that lost its index begins anew with what it has.
    if (chain == Chain::diverged && snapshot.unlogged && change.previous.none() && !mark.unlogged)
        chain = Chain::wanted;
    // What the source committed past the log is in the bulk alone.
    if (chain == Chain::apply && (mark.number.none() || snapshot.unlogged)) chain = Chain::wanted;
    if (chain == Chain::wanted && !mark.unlogged) {
        struct mailbox_status status;
        if (mailbox_get_status(box, STATUS_MESSAGES, &status) < 0)
            return Outcome::of(storage_error(box, "cannot open"));
        if (mark.number.none() && status.messages > 0)
            return {Verdict::diverged,
                    std::string("the mailbox ") + mailbox_get_vname(box) + " has mails that the log does not have"};
        auto opened = account.collections().open(change.object.mailbox, snapshot.id, numbered.number);
        if (!opened) return Outcome::of(opened.error());
        return {Verdict::wanted, {}};
    }
    if (chain == Chain::skip) return {Verdict::skipped, {}};
    Outcome outcome;
    outcome.verdict = api.apply_mark(box, numbered.number, change.previous, lock_ms, &outcome.text);
    if (outcome.verdict == Verdict::applied) account.collections().drop(change.object.mailbox);
    return outcome;
}

Outcome apply_snapshot(Account &account, Role role, const NumberedChange &numbered) {
    const Change &change = numbered.change;
    auto decoded = decode<SnapshotChange>(change.payload);
    if (!decoded) return {Verdict::failed, "a SNAPSHOT cannot be decoded: " + decoded.error().message};
    auto box = account.mailbox(change.object);
    if (!box) return no_mailbox(account, numbered, box.error());
    auto where = account.covered(change.object.ns_prefix);
    if (!where) return Outcome::of(where.error());
    Mark mark;
    if (where->api->mark_get(*box, &mark) < 0) {
        Error error = storage_error(*box, "cannot read the mark of");
        account.close(change.object);
        return Outcome::of(error);
    }
    if (role == Role::destination) return snapshot_at_destination(account, *where->api, *box, mark, numbered, *decoded);
    Outcome outcome = snapshot_at_source(*where->api, *box, mark, numbered);
    if (outcome.verdict == Verdict::applied) forget_unlogged(account);
    return outcome;
}

} // namespace

// It was deleted since, or this store's list does not have it yet.
Outcome mailbox_is_missing(Account &account, const Object &object, const Number &number) {
    auto where = account.covered(object.ns_prefix);
    if (!where) return Outcome::of(where.error());
    Mark mark;
    if (where->api->list_mark_get(where->list, &mark) < 0)
        return Outcome::of(list_error(where->list, "cannot read the list's mark"));
    if (mark.number >= number) return {Verdict::skipped, {}};
    return {Verdict::list_wanted, "the mailbox list lacks " + to_hex(object.mailbox)};
}

Outcome apply_change(Account &account, Role role, const NumberedChange &numbered) {
    const Change &change = numbered.change;
    if (!change.object.is_list() && change.kind != ChangeKind::snapshot) {
        auto open = account.collections().find(change.object.mailbox);
        if (!open) return Outcome::of(open.error());
        if (*open != nullptr) return collect_change(account, **open, numbered);
    }
    switch (change.kind) {
    case ChangeKind::mailbox:
        return apply_mailbox(account, numbered);
    case ChangeKind::snapshot:
        return apply_snapshot(account, role, numbered);
    case ChangeKind::list_create:
    case ChangeKind::list_delete:
    case ChangeKind::list_rename:
    case ChangeKind::list_subscription:
    case ChangeKind::list_snapshot: {
        Outcome outcome = apply_list(account, role, numbered.number, change);
        if (outcome.verdict == Verdict::applied && change.kind == ChangeKind::list_snapshot) forget_unlogged(account);
        return outcome;
    }
    }
    return {Verdict::failed, "a change of kind " + std::to_string(int(change.kind)) + " is not known to this version"};
}

} // namespace replica
