// cbox inside: what its own files share. Other modules see cbox.hpp only.
//
//   cbox-plugin.cpp     the module: init, deinit, the storage class
//   cbox-storage.cpp    storage: settings, account id, the file system of the bodies
//   cbox-mailbox.cpp    mailbox: open, create, update, header and record extensions
//   cbox-blob.cpp       blobs: name, write, delete
//   cbox-body.cpp       bodies: read, and judged by their trailers
//   cbox-cache.cpp      bodies that were read before
//   cbox-recover.cpp    a lost index from the bodies
//   cbox-mail.cpp       mail: dates, sizes, stream, GUID, POP3 UIDL
//   cbox-save.cpp       save and copy: body first, then the index record
//   cbox-attribute.cpp  METADATA: held back until the change counts
//   cbox-commit.cpp     the one commit sequence; cbox-settle.cpp: what still applies; cbox-describe.cpp: the wire's
//   change cbox-sync.cpp       sync, foreign expunge requests; cbox-rebuild.cpp: force-resync cbox-mark.cpp       marks
//   of mailbox and list            cbox-apply.cpp  the applier cbox-snapshot.cpp   the frozen view cbox-build.cpp  a
//   new index aside cbox-api.cpp        the table in storage->api
#pragma once
#include "plugin/cbox/cbox.hpp"

namespace replica {

// --- what an index holds of ours; formats in docs/formats/cbox.md; host byte order, as all of Dovecot's index ---

struct CboxRecord { // extension "cbox", of each message
    uint8_t guid[16];
    uint8_t blob[16];
    uint64_t physical_size, virtual_size;
    uint32_t received, saved; // seconds since 1970
    uint32_t flags;           // CboxRecordFlags
    uint32_t pop3_order;
};
static_assert(sizeof(CboxRecord) == 64);
enum CboxRecordFlags : uint32_t {
    cbox_record_pop3_uidl = 1, // the message has a POP3 UIDL of its own: it stands in the blob's trailer
};

struct CboxHeader { // header extension "cbox-hdr"
    uint8_t mailbox_guid[16];
    uint32_t flags;   // CboxHeaderFlags
    uint32_t lost_at; // when that was noticed, 0 = not known
};
static_assert(sizeof(CboxHeader) == 24);
enum CboxHeaderFlags : uint32_t {
    cbox_header_lost = 1, // an index was lost: mails may be missing here, and their bodies are kept
};

struct CboxMark { // header extension "cbox-mark"
    uint64_t epoch, sequence;
    uint32_t flags; // 1 = unlogged
    uint32_t reserved;
};
static_assert(sizeof(CboxMark) == 24);
inline constexpr uint32_t cbox_mark_unlogged = 1;

// --- objects ---

struct CboxMailbox {
    struct mailbox box;
    uint32_t record_ext_id, header_ext_id, mark_ext_id; // valid once opened
    uint8_t guid[16];                                   // once opened
    bool deleting;                                      // CboxApi::deleting_set: commits do not call out
    Number first_mark;                                  // CboxApi::first_mark_set
};

inline CboxMailbox *cbox_mailbox(struct mailbox *box) { return reinterpret_cast<CboxMailbox *>(box); }
inline CboxStorage *cbox_storage(struct mail_storage *storage) { return reinterpret_cast<CboxStorage *>(storage); }
bool cbox_is(const struct mail_storage *storage); // of our class
Guid cbox_mailbox_guid(struct mailbox *box);

// Registers our three extensions with any index, e.g. one aside. Order does not matter, ids are per index.
struct CboxExtIds {
    uint32_t record, header, mark;
};
CboxExtIds cbox_ext_register(struct mail_index *index);

// --- headers, marks and records, from a view or a transaction ---

bool cbox_header_read(struct mailbox *box, CboxHeader *header_r); // false: the index has none
// A mailbox that lost its index is not what any number says. -1: it did, the error is set.
int cbox_refuse_if_lost(struct mailbox *box);
Mark cbox_mark_read(struct mail_index_view *view, uint32_t mark_ext_id); // none if the index has none
void cbox_mark_write(struct mail_index_transaction *trans, uint32_t mark_ext_id, const Mark &mark);
bool cbox_record_read(struct mail_index_view *view, uint32_t record_ext_id, uint32_t seq, CboxRecord *record_r);
void cbox_record_write(struct mail_index_transaction *trans, uint32_t record_ext_id, uint32_t seq,
                       const CboxRecord &record);
CboxRecord cbox_record_of(const Append &append); // uidl: only the flag

// --- the lock of every commit: Dovecot's index sync, used as a lock ---

struct CboxLock {
    struct mail_index_sync_ctx *sync = nullptr;
    struct mail_index_view *view = nullptr; // fresh
};
// `expunging`: quota's lock comes first. It waits as long as the index's lock timeout says
// (mail_index_set_lock_method). -1: not had, error set on the storage. Not recursive: nothing under it may sync or
// commit this index through another lock.
int cbox_lock(struct mailbox *box, bool expunging, CboxLock *lock_r);
// Ends it: `commit` after a committed transaction (external, begun on any view of this index), which also runs the
// cache's expunge handlers and tells the mailbox's listeners of these UIDs; else as if it had never been.
int cbox_unlock(struct mailbox *box, CboxLock *lock, bool commit, const std::vector<uint32_t> &expunged_uids);

// --- snapshot's commit: a change with nothing but the mark, through the whole sequence (clear, lock, call-out, mark,
// commit) ---

// `frozen` runs under the same lock, after the commit, with a fresh view that shows exactly the state at `number`. The
// view is its own to keep (mail_index_view_ref, or mail_index_dup_private_header...): it is closed after return. -1
// from it is returned.
struct CboxFrozen {
    int (*at)(void *context, struct mailbox *box, struct mail_index_view *view, const Number &number);
    void *context;
};
int cbox_commit_snapshot(struct mailbox *box, const SnapshotId &id, const CboxFrozen &frozen, Number *number_r);

// --- METADATA, without an index transaction's hooks ---

// Writes into the dict and records each in `trans` (null: dict only). For the applier: before the index commit, since a
// replay heals.
int cbox_attributes_write(struct mailbox *box, struct mail_index_transaction *trans,
                          const std::vector<Attribute> &attributes);
int cbox_attributes_read(struct mailbox *box,
                         std::vector<Attribute> *attributes_r); // all of the mailbox's, for a snapshot

// The file <mail root>/.replica/unlogged. -1: error set.
int cbox_unlogged_file_create(struct mail_storage *storage);

// Number of an epoch's sequence that follows the count of log records with a MODSEQ; see cbox-describe.cpp.
uint64_t cbox_modseq_now(struct mail_index *index); // the mailbox's highest, valid under the lock

// A POP3 UIDL of the message's own, from cache or trailer; empty: none. -1: error set.
int cbox_pop3_uidl(struct mailbox *box, const CboxRecord &record, std::string *uidl_r);

// --- the table's functions, by file ---

// cbox-mark.cpp
int cbox_mark_get(struct mailbox *box, Mark *mark_r);
int cbox_mark_set(struct mailbox *box, const Number &number, bool durable);
void cbox_first_mark_set(struct mailbox *box, const Number &number);
int cbox_list_mark_get(struct mailbox_list *list, Mark *mark_r);
int cbox_list_mark_set(struct mailbox_list *list, const Number &number);
int cbox_list_unlogged_set(struct mailbox_list *list);
// cbox-apply.cpp
Verdict cbox_apply(struct mailbox *box, const Number &number, const Number &previous, const MailboxChange &change,
                   unsigned lock_ms, std::string *text_r);
Verdict cbox_apply_mark(struct mailbox *box, const Number &number, const Number &previous, unsigned lock_ms,
                        std::string *text_r);
// cbox-snapshot.cpp
CboxSnapshot *cbox_snapshot_begin(struct mailbox *box, const SnapshotId &id, Number *number_r);
int cbox_snapshot_next(CboxSnapshot *snapshot, unsigned mails_max, Bulk *bulk_r);
void cbox_snapshot_end(CboxSnapshot **snapshot);
// cbox-commit.cpp
const SnapshotId &cbox_snapshot_id(CboxPending &pending);
void cbox_deleting_set(struct mailbox *box, bool deleting);
// cbox-build.cpp
CboxBuild *cbox_build_begin(struct mailbox *box, const Bulk::Head &head);
int cbox_build_add(CboxBuild *build, const std::vector<Append> &mails);
Verdict cbox_build_commit(CboxBuild **build, const Number &number, const Bulk::Sum &sum, unsigned lock_ms,
                          std::string *text_r);
void cbox_build_abort(CboxBuild **build);
// cbox-blob.cpp
const char *cbox_blob_root(struct mail_storage *storage);
// fs_read of what fits into the buffer. Wrappers read through streams, and at the end of a short one want another call.
ssize_t cbox_fs_read(struct fs_file *file, void *buffer, size_t size);
int cbox_blob_probe(struct mail_storage *storage, const char *name, std::string *content, bool write);
// cbox-sweep.cpp
int cbox_sweep(struct mail_storage *storage, CboxSweep &sweep);
int cbox_claim(struct mail_storage *storage);

extern const CboxApi cbox_api;                 // cbox-api.cpp
extern struct mail_storage cbox_storage_class; // cbox-storage.cpp

} // namespace replica
