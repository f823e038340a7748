// The sweep: how bodies are deleted, and what keeps it from a body that a mail needs. docs/formats/cbox.md has the
// argument.
//   cbox-owner.cpp      who may sweep: the object `owner` beside the account's bodies, and the control dir's word
//   cbox-condemned.cpp  what may not be referenced any more: asked by each copy, and by each commit under its lock
//   cbox-references.cpp which blobs the account's indexes name
//   cbox-sweep.cpp      the steps: note, condemn, delete
#pragma once
#include "plugin/cbox/cbox-blob-list.hpp"
#include "plugin/cbox/cbox-driver.hpp"
#include "plugin/cbox/cbox-walk.hpp"

namespace replica {

// --- files of the control dir, <mail root>/.replica. -1: the error is set on the storage ---

std::string cbox_control_dir(struct mail_storage *storage);
int cbox_control_read(struct mail_storage *storage, const char *name, std::string *content_r); // 0: not there, 1
// Durably, whole. `aside_as`: the ending of the file that becomes it; where several may write at once, one of its own.
int cbox_control_write(struct mail_storage *storage, const char *name, const std::string &content,
                       const char *aside_as = "new");

int cbox_candidates_read(struct mail_storage *storage, CboxBlobList *list_r);
int cbox_candidates_write(struct mail_storage *storage, const CboxBlobList &list);
int cbox_condemned_read(struct mail_storage *storage, CboxBlobList *list_r);
// Under the list lock of the account's INBOX. Both sorted. Doing it again changes nothing.
int cbox_condemned_change(struct mail_storage *storage, const std::vector<Guid> &condemn,
                          const std::vector<Guid> &release);

// The condemned blobs as they are now. Cheap where there are none: one open().
class CboxCondemned {
public:
    CboxCondemned() = default;
    CboxCondemned(const CboxCondemned &) = delete;
    ~CboxCondemned();
    int open(struct mail_storage *storage);
    bool has(const Guid &blob) const { return cbox_blob_list_has(entries_, blob); }

private:
    void *map_ = nullptr;
    size_t size_ = 0;
    std::string_view entries_;
};

// --- the owner ---

struct CboxOwner {
    std::string store;
    uint64_t epoch = 0; // 0: the account has no replica
    bool operator==(const CboxOwner &) const = default;
};
// Before a storage's first save: whoever saves first owns. Never a reason to refuse the save; logs.
void cbox_owner_note(struct mailbox *box);
// 1: this store may sweep, 0: there is no owner yet, -1: it may not, the error says why.
int cbox_owner_check(struct mail_storage *storage, uint64_t epoch);
// What an administrator says who knows that this store's indexes are whole.
int cbox_owner_claim(struct mail_storage *storage, uint64_t epoch);

// --- the account ---

// A namespace whose mailboxes' bodies are the account's: private, of cbox.
bool cbox_holds_bodies(const struct mail_namespace *ns);
// 1: replicated, and this store is its source, 0: not replicated, -1: not to be swept here, the error is set.
int cbox_standing(struct mail_storage *storage, uint64_t *epoch_r);

// What the account's indexes name. Each mailbox is passed through its lock: what was committed before is seen.
class CboxReferences {
public:
    int read(struct mail_storage *storage, bool replicated);
    bool has(const Guid &blob) const { return blobs_.has(blob); }
    uint64_t mails() const { return blobs_.size(); }

private:
    int read_list(struct mailbox_list *list);
    int read_mailbox(struct mailbox *box);
    int check(struct mailbox *box, struct mail_index_view *view);
    int look_for_unlisted(struct mailbox_list *list) const;

    struct mail_storage *storage_ = nullptr;
    bool replicated_ = false;
    CboxBlobNames blobs_; // two that begin alike keep each other
    std::vector<Guid> mailboxes_;
};

} // namespace replica
