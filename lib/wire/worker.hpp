// Frames of the worker's socket `replica-apply`, between agentd (client) and a replica-apply process. Format:
// docs/formats/worker-socket.md. Framing as in frame.hpp. The worker answers requests in order, one Reply each;
// SnapshotMailbox is answered by any number of BulkOut first. A worker that fails for one account answers `failed` for
// it and goes on.
#pragma once
#include "lib/wire/frame.hpp"

namespace replica {

enum class Role : uint8_t { none = 0, source = 1, destination = 2, removed = 3 };
std::string_view to_string(Role); // as in the control dir's state file

// --- requests; `id` comes back in the Reply ---
struct WorkerHello { // first on each connection
    uint32_t id = 0;
    uint32_t version = 1;
    bool originate = false; // this connection's changes call out to the agent like any mail process
};
struct SetRole { // writes <mail root>/.replica/state (write, fsync, rename), with this boot's id; none removes it
    uint32_t id = 0;
    std::string account;
    Role role = Role::none;
    uint64_t epoch = 0;
};
struct Inspect { // facts of an account: user, storage, mailboxes and marks. Writes nothing.
    uint32_t id = 0;
    std::string account;
};
struct Probe { // writes (content set) or reads (content empty) a blob of this name in the account's blob root
    uint32_t id = 0;
    std::string account;
    std::string name;
    std::string content;
};
struct NumberedChange {
    Number number;
    Change change;
};
struct Apply { // in order; stops at the first change that answers retry or failed
    uint32_t id = 0;
    std::string account;
    std::vector<NumberedChange> changes;
};
struct SnapshotList { // originate: the list of one namespace as a list_snapshot change
    uint32_t id = 0;
    std::string account;
    std::string ns_prefix;
};
struct SnapshotMailbox { // originate: SNAPSHOT under the lock, then the frozen view as BulkOut frames
    uint32_t id = 0;
    std::string account;
    Object object;
    SnapshotId snapshot;
};
struct Collect { // a destination: one bulk record of an open snapshot; n = 0 opens it
    uint32_t id = 0;
    std::string account;
    std::string bulk; // an encoded Bulk
};
struct Build { // all bulk is there: check the sum, build the index aside, exchange, with the SNAPSHOT's number as mark
    uint32_t id = 0;
    std::string account;
    Object object;
    SnapshotId snapshot;
    Number number;
};
struct Flush { // syncfs of each file system that holds one of these mail roots
    uint32_t id = 0;
    std::vector<std::string> mail_roots;
};
struct Notify { // one mail to the administrator, through submission_host or sendmail_path
    uint32_t id = 0;
    std::string to, subject, text;
};
struct Kick { // ends the account's sessions on this store
    uint32_t id = 0;
    std::string account;
};
using WorkerRequest = std::variant<WorkerHello, SetRole, Inspect, Probe, Apply, SnapshotList, SnapshotMailbox, Collect,
                                   Build, Flush, Notify, Kick>;

// --- answers ---
enum class Verdict : uint8_t {
    applied = 0,
    skipped = 1,     // contained already, or of a mailbox that was deleted since
    wanted = 2,      // the object needs a snapshot
    diverged = 3,    // kept, not overwritten: the account stops
    retry = 4,       // a lock was not had within its second, or a temporary failure
    failed = 5,      // the account stops, the text says why
    list_wanted = 6, // the mailbox is not in the list, though the list's mark is older: the list needs a snapshot
};
struct ObjectState {
    Object object;
    MailboxName name;
    Mark mark;
    uint64_t mails = 0;
    uint32_t uid_validity = 0;
};
struct AccountFacts {
    bool exists = false;
    std::string user; // as userdb returned it
    std::string uid, gid, home, mail_root, blob_root;
    uint64_t device = 0;  // st_dev of mail_root: what a flush has to cover
    std::string settings; // what must be equal on both stores: driver, layout, mail_crypt, compress, blob fs; one
                          // `name=value` a line
    std::string
        unfit; // why the account cannot have a replica (INBOX not in a cbox namespace, LAYOUT, INDEX=MEMORY), or empty
    std::vector<std::string> not_covered; // namespaces that a replica does not cover, by prefix
    std::vector<ObjectState> objects;     // lists first
};
struct Reply {
    uint32_t id = 0;
    Verdict verdict =
        Verdict::applied;              // of the request as a whole; SetRole, Probe, Flush, ...: applied or failed/retry
    std::string text;                  // why, if not applied
    std::vector<Verdict> changes;      // Apply: one for each change up to where it stopped; wanted ones are by position
    std::optional<AccountFacts> facts; // Inspect; SetRole too (objects left out)
    std::string content;               // Probe, reading
    Number number;                     // SnapshotList, SnapshotMailbox: what the log gave it
};
struct BulkOut { // of a SnapshotMailbox under way
    uint32_t id = 0;
    std::string bulk; // an encoded Bulk
};
using WorkerReply = std::variant<Reply, BulkOut>;

std::string encode_frame(const WorkerRequest &);
std::string encode_frame(const WorkerReply &);
Result<WorkerRequest> decode_worker_request(std::string_view type_and_body);
Result<WorkerReply> decode_worker_reply(std::string_view type_and_body);

} // namespace replica
