// The worker's answers to the agent's requests (lib/wire/worker.hpp), one at a time, in order.
// Promises: what goes wrong with one account is an answer about that account, and nothing else.
// Thread: the process's only one. Blocks: for a lock at most its second.
#pragma once
#include "agentd/apply/accounts.hpp"
#include "agentd/apply/lists.hpp"
#include <functional>

namespace replica {

inline constexpr unsigned lock_ms = 1000;

class Worker {
public:
    // Sends a frame, waiting for as long as the agent does not read. false: the agent is gone.
    using Send = std::function<bool(const std::string &frame)>;

    Worker(struct mail_storage_service_ctx *ctx, Send send) : ctx_(ctx), accounts_(ctx), send_(std::move(send)) {}
    bool handle(const WorkerRequest &request); // false: the agent is gone

private:
    Reply answer(const WorkerHello &request);
    Reply answer(const SetRole &request);
    Reply answer(const Inspect &request);
    Reply answer(const Probe &request);
    Reply answer(const Apply &request);
    Reply answer(const SnapshotList &request);
    Reply answer(const SnapshotMailbox &request);
    Reply answer(const Collect &request);
    Reply answer(const Build &request);
    Reply answer(const Flush &request);
    Reply answer(const Notify &request);
    Reply answer(const Kick &request);

    struct mail_storage_service_ctx *ctx_;
    Accounts accounts_;
    Send send_;
};

// The parts, by file. The account is entered.
Outcome apply_change(Account &account, Role role, const NumberedChange &change);         // apply.cpp
Outcome snapshot_list(Account &account, const std::string &ns_prefix, Number *number_r); // snapshot.cpp
Outcome snapshot_mailbox(Account &account, const SnapshotMailbox &request, const Worker::Send &send, Number *number_r);
Outcome collect(Account &account, std::string_view encoded_bulk); // collect.cpp
Outcome collect_change(Account &account, Collection &collection, const NumberedChange &change);
Outcome build(Account &account, const Build &request);                                    // build.cpp
Outcome mailbox_is_missing(Account &account, const Object &object, const Number &number); // apply.cpp
Result<AccountFacts> inspect(Account &account, bool with_objects);                        // inspect.cpp
Result<void> write_role(Account &account, Role role, uint64_t epoch);                     // role.cpp
// Nothing of the account is `unlogged` any more: its note goes. Otherwise, or if unsure, it stays.
void forget_unlogged(Account &account);                                           // role.cpp
Outcome remove_dead_locks(const Account &account);                                // dead_locks.cpp
Result<void> flush_file_systems(const std::vector<std::string> &paths);           // flush.cpp
Result<void> send_mail(struct mail_storage_service_ctx *ctx, const Notify &mail); // notify.cpp

} // namespace replica
