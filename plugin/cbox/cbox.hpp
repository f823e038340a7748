// cbox, the driver: what other modules may know of it. One index per mailbox, bodies behind lib-fs, one commit sequence
// with one call-out. The replica plugin answers the call-out; the replica-apply worker applies through `cbox_api`. Both
// find them in the storage struct (never by symbol): storage->name is "cbox", then cast. Thread: Dovecot's only one.
// Owns: cbox owns what it hands out until it says otherwise. Fails: int -1 with the error set on the storage
// (mail_storage_set_error), as everywhere in Dovecot.
#pragma once
#include "lib/wire/change.hpp"
#include "lib/wire/record.hpp"
#include "lib/wire/worker.hpp"
#include "plugin/compat/dovecot.hpp"

namespace replica {

inline constexpr char cbox_storage_name[] = "cbox";
// Raised with whatever a module that was built before would misread: a member of CboxApi, CboxCallout, CboxPending or
// CboxStorage that is added, removed, moved, or means something else.
inline constexpr uint32_t cbox_api_version = 2;

// Under the object's lock, everything final, nothing written yet.
struct CboxPending {
    struct mailbox *box;
    struct mail_index_view *view; // fresh, under the lock
    Mark mark;                    // of the mailbox, as the index has it
    ChangeKind kind;              // mailbox, or snapshot
    const MailboxChange &(*describe)(
        CboxPending &); // builds the change on the first call: costs nothing where nobody replicates
};

enum class CalloutAnswer : uint8_t {
    not_replicated, // commit without a number (cbox sets `unlogged` if the mailbox has a mark)
    numbered,       // commit with `number` as the mark
    refused,        // the error is set on the storage; nothing is written, and the log does not have it for certain
    in_doubt,       // as refused, but the log may have it (a timeout after it was sent): what it names must stay
};

struct CboxCallout {
    // Before any lock, also before quota's. -1: refused, the error is set. Called for each transaction that has
    // changes.
    int (*clear)(void *context, struct mailbox *box);
    // Under the lock. Called once for a transaction; not for one that became empty.
    CalloutAnswer (*commit)(void *context, CboxPending &pending, Number *number_r);
    // After the commit's lock is gone; only after `numbered`.
    void (*done)(void *context, struct mailbox *box, bool ok);
    // The same for a change of a mailbox list, under the list lock (mailbox_list_lock): the payload is one of the list
    // kinds, `subject` as in Change. Errors are set on the list. The worker that originates a list_snapshot calls these
    // too.
    CalloutAnswer (*list_commit)(void *context, struct mailbox_list *list, ChangeKind kind, const Guid &subject,
                                 std::string payload, Number *number_r);
    void (*list_done)(void *context, struct mailbox_list *list, bool ok);
    // Of the account, without asking the agent. 1: replicated, and this store is its source; 0: not replicated; -1: not
    // to be changed here, the error is set on the list.
    int (*standing)(void *context, struct mailbox_list *list, uint64_t *epoch_r);
};

// What `doveadm purge` does of an account, or would do.
struct CboxSweep {
    bool dry_run = false; // writes and deletes nothing
    // Each blob that no index names: since when it is known to be so, and what is done with it. May be null.
    void (*found)(void *context, const Guid &blob, uint64_t since, const char *step) = nullptr;
    void *context = nullptr;
    uint64_t mails = 0, blobs = 0, noted = 0, condemned = 0, deleted = 0, waiting = 0; // out
};

struct CboxSnapshot; // a frozen view, ours until snapshot_end
struct CboxBuild;    // a new index aside

struct CboxApi {
    uint32_t version;

    // Marks. The list's stands in the list index (LAYOUT=index), set durably in a transaction of its own.
    int (*mark_get)(struct mailbox *box, Mark *mark_r); // opened box; refreshes
    int (*mark_set)(struct mailbox *box, const Number &number, bool durable);
    // What this box is about to create has the mark from its first moment, durably; none: it gets no mark.
    void (*first_mark_set)(struct mailbox *box, const Number &number);
    int (*list_mark_get)(struct mailbox_list *list, Mark *mark_r);
    int (*list_mark_set)(struct mailbox_list *list, const Number &number);
    int (*list_unlogged_set)(struct mailbox_list *list); // only if the list has a mark

    // The applier: takes the index lock (waits up to lock_ms), judges the chain, applies the change and the mark in one
    // index transaction with the SYNC flag, no fsync. Never reads a body. text_r: why, if not applied.
    Verdict (*apply)(struct mailbox *box, const Number &number, const Number &previous, const MailboxChange &change,
                     unsigned lock_ms, std::string *text_r);
    // A SNAPSHOT change at a reader that does not want it: only the mark.
    Verdict (*apply_mark)(struct mailbox *box, const Number &number, const Number &previous, unsigned lock_ms,
                          std::string *text_r);

    // The source's side: SNAPSHOT {id} goes through the commit sequence (with the call-out, kind = snapshot, which
    // clears `unlogged`), the view is frozen at that number, the lock is gone on return.
    CboxSnapshot *(*snapshot_begin)(struct mailbox *box, const SnapshotId &id, Number *number_r);
    int (*snapshot_next)(CboxSnapshot *, unsigned mails_max, Bulk *bulk_r); // 1 = more, 0 = that was the last, -1
    void (*snapshot_end)(CboxSnapshot **);
    const SnapshotId &(*snapshot_id)(CboxPending &); // in a call-out of kind snapshot

    // The destination's side. build_commit takes the live index's lock and exchanges the directories by one rename; the
    // mailbox may stay open. It consumes the build, whatever it answers: skipped, if the mark is at or past the number;
    // diverged, if the live index has what the log has not; failed, if the mails are not what the sum says.
    CboxBuild *(*build_begin)(struct mailbox *box, const Bulk::Head &head);
    int (*build_add)(CboxBuild *, const std::vector<Append> &mails);
    Verdict (*build_commit)(CboxBuild **, const Number &number, const Bulk::Sum &sum, unsigned lock_ms,
                            std::string *text_r);
    void (*build_abort)(CboxBuild **);

    // DELETE as one list change: what Dovecot expunges inside a delete goes without a call-out while this is set.
    void (*deleting_set)(struct mailbox *box, bool deleting);
    // The bodies.
    const char *(*blob_root)(struct mail_storage *storage); // for people and for comparing; on the data stack
    int (*blob_probe)(struct mail_storage *storage, const char *name, std::string *content, bool write);

    // Bodies that no mail needs, of the whole account that the storage belongs to: noted, condemned, deleted. -1: not
    // swept, the error says why; what was done stands.
    int (*sweep)(struct mail_storage *storage, CboxSweep &sweep);
    // This store is to sweep the account from now on: only for indexes that are known to name all of its mail.
    int (*claim)(struct mail_storage *storage);
};

struct CboxStorage {
    struct mail_storage storage;
    const CboxApi *api;
    const CboxCallout *callout; // set by the replica plugin or the worker in the hook mail_storage_created; may be null
    void *callout_context;
    struct fs *fs;   // created at first use
    Guid account_id; // first 16 bytes of SHA-256 of the user's name
    const char *fs_settings;
};

} // namespace replica
