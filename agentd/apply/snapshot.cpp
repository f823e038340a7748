// The source's side: the list as one change, a mailbox as SNAPSHOT and bulk. Both call out as any mail process does.
#include "agentd/apply/file.hpp"
#include "agentd/apply/worker.hpp"

namespace replica {

namespace {

constexpr unsigned bulk_mails_max = 1000; // in one bulk record: about 150 kB

Result<ListSnapshot> describe_list(const Covered &where) {
    auto mailboxes = list_mailboxes(where);
    if (!mailboxes) return mailboxes.error();
    auto subscriptions = list_subscriptions(where);
    if (!subscriptions) return subscriptions.error();
    ListSnapshot snapshot;
    for (Listed &mailbox : *mailboxes)
        snapshot.mailboxes.push_back({mailbox.guid, std::move(mailbox.name), mailbox.uid_validity});
    snapshot.subscriptions = std::move(*subscriptions);
    return snapshot;
}

Outcome commit_list(const Covered &where, Number *number_r) {
    auto snapshot = describe_list(where);
    if (!snapshot) return Outcome::of(snapshot.error());
    CboxStorage &storage = *where.storage;
    if (storage.callout == nullptr || storage.callout->list_commit == nullptr)
        return {Verdict::failed, "the mail plugin replica is not loaded: add it to mail_plugins"};
    switch (storage.callout->list_commit(storage.callout_context, where.list, ChangeKind::list_snapshot, Guid{},
                                         encode(*snapshot), number_r)) {
    case CalloutAnswer::numbered:
        break;
    case CalloutAnswer::refused:
    case CalloutAnswer::in_doubt:
        return {Verdict::retry, list_error(where.list, "the list's snapshot was refused").message};
    case CalloutAnswer::not_replicated:
        return {Verdict::failed, "the account has no replica here"};
    }
    bool ok = where.api->list_mark_set(where.list, *number_r) == 0;
    Outcome outcome =
        ok ? Outcome{} : Outcome{Verdict::retry, list_error(where.list, "cannot set the list's mark").message};
    storage.callout->list_done(storage.callout_context, where.list, ok);
    return outcome;
}

// What the log never had must not be lost in a power cut once a SNAPSHOT's number stands for it.
Result<void> make_durable(const Account &account, struct mailbox *box) {
    const char *path;
    if (mailbox_get_path_to(box, MAILBOX_LIST_PATH_TYPE_INDEX, &path) <= 0) return storage_error(box, "no index of");
    std::string dir = path;
    for (const char *suffix : {".log", ""}) {
        auto file = UniqueFd::open(dir + "/" + box->index_prefix + suffix, O_RDONLY);
        if (!file && file.error().code == Code::gone) continue;
        if (!file) return file.error();
        if (::fsync(file->get()) < 0) return system_error("fsync", dir);
    }
    for (; dir.size() >= account.mail_root().size(); dir.resize(dir.rfind('/')))
        if (auto synced = sync_directory(dir); !synced) return synced;
    return {};
}

} // namespace

Outcome snapshot_list(Account &account, const std::string &ns_prefix, Number *number_r) {
    auto where = account.covered(ns_prefix);
    if (!where) return {Verdict::failed, where.error().message};
    if (mailbox_list_lock(where->list) < 0)
        return {Verdict::retry, list_error(where->list, "cannot lock the mailbox list").message};
    Outcome outcome = commit_list(*where, number_r);
    mailbox_list_unlock(where->list);
    if (outcome.verdict == Verdict::applied) forget_unlogged(account);
    return outcome;
}

Outcome snapshot_mailbox(Account &account, const SnapshotMailbox &request, const Worker::Send &send, Number *number_r) {
    auto where = account.covered(request.object.ns_prefix);
    if (!where) return {Verdict::failed, where.error().message};
    auto box = account.mailbox(request.object);
    if (!box && box.error().code == Code::gone) return {Verdict::skipped, box.error().message};
    if (!box) return Outcome::of(box.error());
    Mark mark;
    if (where->api->mark_get(*box, &mark) < 0) {
        Error error = storage_error(*box, "cannot read the mark of");
        account.close(request.object); // its index may have been lost
        return Outcome::of(error);
    }
    if (mark.number.none() || mark.unlogged)
        if (auto durable = make_durable(account, *box); !durable) return Outcome::of(durable.error());
    CboxSnapshot *snapshot = where->api->snapshot_begin(*box, request.snapshot, number_r);
    if (snapshot == nullptr) {
        Error error = storage_error(*box, "no snapshot of");
        account.close(request.object);
        return Outcome::of(error);
    }
    Outcome outcome;
    for (int more = 1; more > 0 && outcome.verdict == Verdict::applied;) {
        Bulk bulk;
        more = where->api->snapshot_next(snapshot, bulk_mails_max, &bulk);
        if (more < 0)
            outcome = Outcome::of(storage_error(*box, "cannot read"));
        else if (!send(encode_frame(WorkerReply(BulkOut{request.id, encode(bulk)}))))
            outcome = {Verdict::retry, "the agent is gone"};
    }
    where->api->snapshot_end(&snapshot);
    if (outcome.verdict == Verdict::applied) forget_unlogged(account);
    return outcome;
}

} // namespace replica
