#include "agentd/apply/worker.hpp"

namespace replica {

namespace {

Reply reply_of(uint32_t id, Outcome outcome) {
    Reply reply;
    reply.id = id;
    reply.verdict = outcome.verdict;
    reply.text = std::move(outcome.text);
    return reply;
}
Reply reply_of(uint32_t id, const Result<void> &result) {
    return reply_of(id, result ? Outcome{} : Outcome::of(result.error()));
}

bool stops(Verdict verdict) {
    return verdict == Verdict::retry || verdict == Verdict::failed || verdict == Verdict::diverged;
}

} // namespace

bool Worker::handle(const WorkerRequest &request) {
    Reply reply = std::visit([this](const auto &r) { return answer(r); }, request);
    accounts_.leave();
    return send_(encode_frame(WorkerReply(std::move(reply))));
}

Reply Worker::answer(const WorkerHello &request) {
    if (request.version != WorkerHello{}.version)
        return reply_of(request.id,
                        Outcome{Verdict::failed, "the agent is of another version than the worker: restart Dovecot"});
    accounts_.set_originate(request.originate);
    return reply_of(request.id, Outcome{});
}

Reply Worker::answer(const SetRole &request) {
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    Reply reply = reply_of(request.id, write_role(**account, request.role, request.epoch));
    if (reply.verdict != Verdict::applied) return reply;
    auto facts = inspect(**account, false);
    if (!facts) return reply_of(request.id, Outcome::of(facts.error()));
    reply.facts = std::move(*facts);
    // Without a role its mail is nobody's business here: it may be deleted, and come back.
    if (request.role == Role::none || request.role == Role::removed) accounts_.close(request.account);
    return reply;
}

Reply Worker::answer(const Inspect &request) {
    // What is true now: an account that was looked at before may have been deleted and made anew.
    accounts_.close(request.account);
    auto account = accounts_.enter(request.account);
    Reply reply = reply_of(request.id, Outcome{});
    if (!account && account.error().code == Code::gone) {
        reply.facts = AccountFacts{};
        return reply;
    }
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    auto facts = inspect(**account, true);
    if (!facts) return reply_of(request.id, Outcome::of(facts.error()));
    reply.facts = std::move(*facts);
    return reply;
}

Reply Worker::answer(const Probe &request) {
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    auto where = Account::covered((*account)->inbox_namespace());
    if (!where) return reply_of(request.id, Outcome{Verdict::failed, where.error().message});
    std::string content = request.content;
    struct mail_storage *storage = &where->storage->storage;
    if (where->api->blob_probe(storage, request.name.c_str(), &content, !request.content.empty()) < 0)
        return reply_of(request.id, Outcome{Verdict::failed, mail_storage_get_last_internal_error(storage, nullptr)});
    Reply reply = reply_of(request.id, Outcome{});
    if (request.content.empty()) reply.content = std::move(content);
    return reply;
}

Reply Worker::answer(const Apply &request) {
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    auto role = (*account)->role();
    if (!role) return reply_of(request.id, Outcome::of(role.error()));
    if (*role != Role::source && *role != Role::destination)
        return reply_of(request.id,
                        Outcome{Verdict::failed, "this store is neither source nor destination of the account"});

    if (auto free = remove_dead_locks(**account); free.verdict != Verdict::applied) return reply_of(request.id, free);
    Reply reply = reply_of(request.id, Outcome{});
    for (const NumberedChange &change : request.changes) {
        Outcome outcome = apply_change(**account, *role, change);
        reply.changes.push_back(outcome.verdict);
        if (!outcome.text.empty()) reply.text = std::move(outcome.text);
        if (!stops(outcome.verdict)) continue;
        reply.verdict = outcome.verdict;
        break;
    }
    return reply;
}

Reply Worker::answer(const SnapshotList &request) {
    if (!accounts_.originate())
        return reply_of(request.id, Outcome{Verdict::failed, "a snapshot is taken on a connection that originates"});
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    Number number;
    Reply reply = reply_of(request.id, snapshot_list(**account, request.ns_prefix, &number));
    reply.number = number;
    return reply;
}

Reply Worker::answer(const SnapshotMailbox &request) {
    if (!accounts_.originate())
        return reply_of(request.id, Outcome{Verdict::failed, "a snapshot is taken on a connection that originates"});
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    Number number;
    Reply reply = reply_of(request.id, snapshot_mailbox(**account, request, send_, &number));
    reply.number = number;
    return reply;
}

Reply Worker::answer(const Collect &request) {
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    return reply_of(request.id, collect(**account, request.bulk));
}

Reply Worker::answer(const Build &request) {
    auto account = accounts_.enter(request.account);
    if (!account) return reply_of(request.id, Outcome::of(account.error()));
    return reply_of(request.id, build(**account, request));
}

Reply Worker::answer(const Flush &request) { return reply_of(request.id, flush_file_systems(request.mail_roots)); }

Reply Worker::answer(const Notify &request) { return reply_of(request.id, send_mail(ctx_, request)); }

Reply Worker::answer(const Kick &request) {
    std::string error;
    int ended = compat::kick_sessions(request.account.c_str(), &error);
    return reply_of(request.id, ended < 0 ? Outcome{Verdict::failed, error} : Outcome{});
}

} // namespace replica
