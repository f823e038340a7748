// The driver's own inside: what storage, mail, save and commit share, and the applier need not know.
#pragma once
#include "plugin/cbox/cbox-trailer.hpp"
#include "plugin/cbox/cbox-private.hpp"

namespace replica {

// --- storage ---

struct CboxStorageInside {
    CboxStorage outside;                 // first: what others see
    const char *mail_root, *control_dir; // of its own namespace
    unsigned body_wait_ms;               // for bodies that are not there, in one transaction
    const char *cache_dir;               // of bodies, null: none
    uint64_t cache_bytes;
    bool own;         // of a private namespace: the control dir stands beside the INBOX
    bool owner_noted; // cbox_owner_note has looked
};
inline CboxStorageInside *cbox_storage_inside(struct mail_storage *storage) {
    return reinterpret_cast<CboxStorageInside *>(storage);
}
inline const char *cbox_storage_root(struct mail_storage *storage) { return cbox_storage_inside(storage)->mail_root; }

// --- blobs ---

Guid cbox_blob_new();
std::string cbox_blob_path(const Guid &account, const Guid &blob);
// Best effort; logs.
void cbox_blob_delete(CboxStorage *storage, struct event *event, const Guid &blob);
// On a posix file system: makes the name durable too. `path` is the file's full path, or null if not known.
int cbox_blob_sync_directories(CboxStorage *storage, const char *path);
extern const struct hash_method cbox_crc32_method;

// --- bodies, cbox-body.cpp ---

struct CboxBody {
    struct istream *input = nullptr; // without the trailer
    CboxTrailer trailer;
};
inline constexpr size_t small_blob_max = 128 * 1024; // is read at once
struct fs_file *cbox_body_file(CboxStorage *storage, struct event *event, const Guid &blob, unsigned more_flags);
// Consumes the file, which may have been prefetched. `gone`: missing; `corrupt`: damaged, or not all there yet;
// `denied`: another account's or message's; `retry`: it could not be read.
Result<CboxBody> cbox_body_open(CboxStorage *storage, const CboxRecord &record, struct fs_file **file);
const char *cbox_body_trouble(const Error &error); // missing, damaged, foreign, unreadable
// The same of a stream of a whole blob, which it consumes.
Result<CboxBody> cbox_body_of(struct istream *input, const Guid &account, const CboxRecord &record);
// Of a body the end alone, where the file system can read that. Consumes the file.
Result<CboxTrailer> cbox_body_trailer(struct fs_file **file);

// --- mails being saved ---

struct CboxSaved {
    uint32_t seq; // in the transaction
    Guid blob;
    bool own_blob; // written by this transaction
    std::string pop3_uidl;
};

class CboxCondemned;
struct CboxSave {
    struct mail_save_context ctx; // first
    Guid blob;
    struct fs_file *file;
    struct ostream *blob_output, *crc_output;
    struct istream *input;
    uint32_t crc;
    uint32_t seq;
    bool failed, finished;
    std::vector<CboxSaved> saved; // in sequence order
    CboxCondemned *condemned;     // as they were at the first copy; null before it
};
inline CboxSave *cbox_save(struct mail_save_context *ctx) { return reinterpret_cast<CboxSave *>(ctx); }

struct mail_save_context *cbox_save_alloc(struct mailbox_transaction_context *t);
int cbox_save_begin(struct mail_save_context *ctx, struct istream *input);
int cbox_save_continue(struct mail_save_context *ctx);
int cbox_save_finish(struct mail_save_context *ctx);
void cbox_save_cancel(struct mail_save_context *ctx);
int cbox_copy(struct mail_save_context *ctx, struct mail *mail);
// The blobs of a transaction that is not to be: deleted unless `keep`, since the log may name them.
void cbox_save_free(CboxSave *save, bool delete_blobs);

// --- transactions and the commit sequence ---

struct CboxRun;
struct CboxTransaction {
    struct mailbox_transaction_context t; // first; freed by Dovecot
    std::vector<Attribute> *attributes;   // set in this transaction, null if none
    CboxRun *run;                         // while the sequence is under way
    unsigned waited_ms;                   // for bodies
};
inline CboxTransaction *cbox_transaction(struct mailbox_transaction_context *t) {
    return reinterpret_cast<CboxTransaction *>(t);
}

// One run of the commit sequence.
struct CboxRun : CboxPending {
    struct mail_index_transaction *trans = nullptr;
    CboxTransaction *transaction = nullptr; // null: a header update or a snapshot
    HeaderUpdate header;
    SnapshotId snapshot;
    CboxLock lock;
    std::vector<uint32_t> expunged_uids;
    ARRAY_TYPE(seq_range) saved_uids;
    MailboxChange change;
    bool described = false;
    bool numbered = false; // the log has the change
    bool in_doubt = false; // the log may have it, though it was refused
};

int cbox_attribute_set(struct mailbox_transaction_context *t, enum mail_attribute_type type_flags, const char *key,
                       const struct mail_attribute_value *value);
int cbox_attributes_commit(struct mailbox_transaction_context *t);

struct mailbox_transaction_context *cbox_transaction_begin(struct mailbox *box, enum mailbox_transaction_flags flags,
                                                           const char *reason);
int cbox_transaction_commit(struct mailbox_transaction_context *t, struct mail_transaction_commit_changes *changes_r);
void cbox_transaction_rollback(struct mailbox_transaction_context *t);
int cbox_save_commit_pre(struct mail_save_context *ctx);
void cbox_save_commit_post(struct mail_save_context *ctx, struct mail_index_transaction_commit_result *result);
void cbox_save_rollback(struct mail_save_context *ctx);
// mailbox_update's header fields, as one change.
int cbox_commit_header(struct mailbox *box, const struct mailbox_update *update);

// cbox-settle.cpp: takes out of the transaction what no longer applies; `view` is fresh, under the lock.
void cbox_settle(CboxRun &run);
bool cbox_has_changes(const struct mail_index_transaction *trans);

// cbox-describe.cpp
struct CboxModseq {
    uint64_t base = 0, predicted = 0;
    bool spread = false; // more than one value would result: `predicted` must be set on every mail that is touched
};
CboxModseq cbox_modseq_predict(const CboxRun &run);
void cbox_modseq_unite(const CboxRun &run, uint64_t modseq);
const MailboxChange &cbox_describe(CboxPending &pending);

// --- sweep, see cbox-sweep.hpp ---

int cbox_purge(struct mail_storage *storage);

// --- sync and rebuild ---

struct mailbox_sync_context *cbox_sync_init(struct mailbox *box, enum mailbox_sync_flags flags);
int cbox_rebuild(struct mailbox *box);
// Of a mailbox whose header says that it is lost: its mails again, from their bodies. -1: not all, and it stays lost.
int cbox_recover(struct mailbox *box);
// Where something outside the sequence changed a mailbox that has a mark.
int cbox_set_unlogged(struct mailbox *box, struct mail_index_view *view, struct mail_index_transaction *trans);

// --- index logs ---

// Before an index is opened: cuts off what stands behind the last whole transaction. Not while this process has it
// open.
int cbox_log_mend(const char *path, enum file_lock_method method, struct event *event);

// --- mailbox ---

// Header fields of a new or changed mailbox into a transaction.
void cbox_header_write(struct mailbox *box, struct mail_index_view *view, struct mail_index_transaction *trans,
                       const struct mailbox_update *update);
unsigned cbox_uidvalidity_next(struct mailbox_list *list);

struct mailbox *cbox_mailbox_alloc(struct mail_storage *storage, struct mailbox_list *list, const char *vname,
                                   enum mailbox_flags flags);
struct mail *cbox_mail_alloc(struct mailbox_transaction_context *t, enum mail_fetch_field wanted_fields,
                             struct mailbox_header_lookup_ctx *wanted_headers);
extern const struct mail_vfuncs cbox_mail_vfuncs;

} // namespace replica
