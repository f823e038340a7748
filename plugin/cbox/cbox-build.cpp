// A new index aside, filled from a snapshot's bulk, put in the live one's place by one rename. In the end it is what
// Dovecot itself leaves after rotating its log: an index file with everything in it and an empty log that counts on
// from HIGHESTMODSEQ. So a session that has the mailbox open finds the changes as after two rotations it slept through,
// and QRESYNC knows that it has no history to offer.
#include <algorithm>
#include <ctime>
#include "plugin/cbox/cbox-aside.hpp"
#include "plugin/cbox/cbox-bulk.hpp"
#include "plugin/cbox/cbox-index.hpp"

namespace replica {

struct CboxBuild {
    struct mailbox *box;
    Bulk::Head head;
    std::string dir;
    uint32_t live_id;      // of the live index when the build began
    uint32_t seed_log_seq; // ours, past the live log's
    uint32_t cache_seq;    // the same of the cache file
    struct mail_index *index = nullptr;
    CboxExtIds ext{};
    struct mail_index_view *view = nullptr;
    struct mail_index_transaction *trans = nullptr; // all mails
    uint32_t next_uid = 1;
    std::vector<uint64_t> modseqs;
    BulkDigest digest{};
};

namespace {

// Numbers that a session knows from the live index must not come back in the new one: the log's, and the cache file's,
// which may both rise while we build. So far ahead ours begin.
constexpr uint32_t ahead = 1000;

uint32_t cache_ext(struct mail_index *index) {
    return mail_index_ext_register(index, "cache", 0, sizeof(uint32_t), sizeof(uint32_t));
}

uint32_t cache_seq_of(struct mail_index *index, struct mail_index_view *view) {
    uint32_t seq = 0;
    (void)mail_index_ext_get_reset_id(view, view->map, cache_ext(index), &seq);
    return seq;
}

int index_failed(const CboxBuild &build, const char *what) {
    mailbox_set_critical(build.box, "cbox: %s in %s failed", what, build.dir.c_str());
    return -1;
}

struct mail_index_transaction *begin(CboxBuild &build) {
    (void)mail_index_refresh(build.index);
    build.view = mail_index_view_open(build.index);
    return index_begin_applied(build.view);
}

int commit(CboxBuild &build, struct mail_index_transaction **trans, const char *what) {
    int ret = mail_index_transaction_commit(trans);
    mail_index_view_close(&build.view);
    return ret == 0 ? 0 : index_failed(build, what);
}

int open_aside(CboxBuild &build) {
    if (aside_create(build.box, build.dir) < 0 || aside_seed(build.box, build.dir, build.seed_log_seq) < 0) return -1;
    const struct mail_index *live = build.box->index;
    build.index = mail_index_alloc(live->event, build.dir.c_str(), live->prefix);
    mail_index_set_permissions(build.index, live->set.mode, live->set.gid, live->set.gid_origin);
    mail_index_set_lock_method(build.index, live->set.lock_method, live->set.max_lock_timeout_secs);
    mail_index_set_fsync_mode(build.index, FSYNC_MODE_OPTIMIZED, static_cast<mail_index_fsync_mask>(0));
    build.ext = cbox_ext_register(build.index);
    unsigned flags = MAIL_INDEX_OPEN_FLAG_NEVER_IN_MEMORY |
                     (live->flags & (MAIL_INDEX_OPEN_FLAG_MMAP_DISABLE | MAIL_INDEX_OPEN_FLAG_NFS_FLUSH));
    if (mail_index_open_or_create(build.index, static_cast<mail_index_open_flags>(flags)) < 0)
        return index_failed(build, "creating the index");
    return 0;
}

// MODSEQs can only be counted from a transaction of their own on; the mails come after that.
int write_headers(CboxBuild &build) {
    CboxHeader header;
    bool has_header = cbox_header_read(build.box, &header);
    header.flags &= ~cbox_header_lost; // it is whole again
    struct mail_index_transaction *trans = begin(build);
    mail_index_update_header(trans, offsetof(struct mail_index_header, uid_validity), &build.head.uid_validity,
                             sizeof(build.head.uid_validity), TRUE);
    if (has_header) mail_index_update_header_ext(trans, build.ext.header, 0, &header, sizeof(header));
    mail_index_ext_reset(trans, cache_ext(build.index), build.cache_seq, TRUE);
    if (commit(build, &trans, "writing the headers") < 0) return -1;
    mail_index_modseq_enable(build.index);
    return 0;
}

int add(CboxBuild &build, const Append &mail) {
    if (mail.uid < build.next_uid || mail.uid >= build.head.next_uid) {
        mail_storage_set_error(build.box->storage, MAIL_ERROR_PARAMS, "the snapshot's UIDs are out of order");
        return -1;
    }
    uint32_t seq;
    mail_index_append(build.trans, mail.uid, &seq);
    mail_index_update_flags(build.trans, seq, MODIFY_REPLACE,
                            static_cast<mail_flags>(mail.flags & MAIL_FLAGS_NONRECENT));
    cbox_record_write(build.trans, build.ext.record, seq, cbox_record_of(mail));
    index_add_keywords(build.trans, seq, mail.keywords);
    build.next_uid = mail.uid + 1;
    build.modseqs.push_back(mail.modseq);
    build.digest.add(mail);
    return 0;
}

int write_mails(CboxBuild &build) {
    mail_index_update_header(build.trans, offsetof(struct mail_index_header, next_uid), &build.head.next_uid,
                             sizeof(build.head.next_uid), FALSE);
    // No session that is open may find a mail \Recent that it has seen.
    mail_index_update_header(build.trans, offsetof(struct mail_index_header, first_recent_uid), &build.head.next_uid,
                             sizeof(build.head.next_uid), FALSE);
    return commit(build, &build.trans, "writing the mails");
}

// Written as they are into their extension: an ordinary MODSEQ update could only raise what the appends have set.
int write_modseqs(CboxBuild &build, const Number &number) {
    struct mail_index_transaction *trans = begin(build);
    for (uint32_t seq = 1; seq <= build.modseqs.size(); ++seq)
        mail_index_update_ext(trans, seq, build.index->modseq_ext_id, &build.modseqs[seq - 1], nullptr);
    mail_index_update_highest_modseq(trans, build.head.highest_modseq);
    cbox_mark_write(trans, build.ext.mark, {number, false});
    return commit(build, &trans, "writing the MODSEQs");
}

// An empty one. Without it a session would go on with the old one, which has no name any more.
int write_cache(CboxBuild &build) {
    compat_cache_fields_copy(build.box->index->cache, build.index->cache);
    if (mail_cache_purge(build.index->cache, static_cast<uint32_t>(-1), "new index") < 0)
        return index_failed(build, "writing the cache");
    return 0;
}

// Dovecot's own sync writes the index file and turns the log over: any size is too large for this one.
int settle(CboxBuild &build) {
    struct mail_index_optimization_settings rotate;
    memset(&rotate, 0, sizeof(rotate));
    rotate.log.max_size = 1;
    mail_index_set_optimization_settings(build.index, &rotate);
    struct mail_index_sync_ctx *sync;
    struct mail_index_view *view;
    struct mail_index_transaction *trans;
    struct mail_index_sync_rec record;
    if (mail_index_sync_begin(build.index, &sync, &view, &trans, MAIL_INDEX_SYNC_FLAG_UPDATE_TAIL_OFFSET) < 0)
        return index_failed(build, "locking the index");
    while (mail_index_sync_next(sync, &record))
        ;
    if (mail_index_sync_commit(&sync) < 0) return index_failed(build, "syncing the index");
    const struct mail_transaction_log_header &log = build.index->log->head->hdr;
    if (log.file_seq != build.seed_log_seq + 2 ||
        log.initial_modseq != std::max<uint64_t>(build.head.highest_modseq, 1)) {
        mailbox_set_critical(build.box, "cbox: the new index counts MODSEQs from %llu, not from the snapshot's %llu",
                             static_cast<unsigned long long>(log.initial_modseq),
                             static_cast<unsigned long long>(build.head.highest_modseq));
        return -1;
    }
    return 0;
}

void close_aside(CboxBuild &build) {
    if (build.trans != nullptr) mail_index_transaction_rollback(&build.trans);
    if (build.view != nullptr) mail_index_view_close(&build.view);
    if (build.index == nullptr) return;
    if (build.index->open_count > 0) mail_index_close(build.index);
    mail_index_free(&build.index);
}

// METADATA becomes exactly the snapshot's.
int replace_attributes(struct mailbox *box, const std::vector<Attribute> &wanted) {
    std::vector<Attribute> changes = wanted, present;
    if (cbox_attributes_read(box, &present) < 0) return -1;
    for (const Attribute &old : present) {
        auto same = [&](const Attribute &attribute) {
            return attribute.shared == old.shared && attribute.key == old.key;
        };
        if (std::none_of(wanted.begin(), wanted.end(), same)) changes.push_back({old.shared, old.key, std::nullopt});
    }
    return changes.empty() ? 0 : cbox_attributes_write(box, nullptr, changes);
}

// Under the live index's lock: may this index be replaced?
Verdict judge_live(const CboxBuild &build, struct mail_index_view *view, const Number &number, std::string *text_r) {
    const Mark mark = cbox_mark_read(view, cbox_mailbox(build.box)->mark_ext_id);
    if (mark.number >= number) return Verdict::skipped;
    if (mark.unlogged || (mark.number.none() && mail_index_view_get_messages_count(view) != 0)) {
        *text_r = "this store has changes that the log has not";
        return Verdict::diverged;
    }
    const struct mail_index *live = build.box->index;
    if (live->log->head->hdr.file_seq >= build.seed_log_seq || live->indexid != build.live_id ||
        cache_seq_of(build.box->index, view) >= build.cache_seq) {
        *text_r = "the live index was made anew meanwhile";
        return Verdict::retry;
    }
    return Verdict::applied;
}

// Under the live index's lock.
Verdict exchange(const CboxBuild &build, struct mail_index_view *view, const Number &number, std::string *text_r) {
    Verdict verdict = judge_live(build, view, number, text_r);
    if (verdict != Verdict::applied) return verdict;
    if (replace_attributes(build.box, build.head.attributes) == 0 && aside_exchange(build.box, build.dir) == 0)
        return Verdict::applied;
    *text_r = mailbox_get_last_internal_error(build.box, nullptr);
    return Verdict::failed;
}

Verdict build_commit(CboxBuild &build, const Number &number, const Bulk::Sum &sum, unsigned lock_ms,
                     std::string *text_r) {
    if (build.digest.sum() != sum || build.modseqs.size() != build.head.mails) {
        *text_r = "the snapshot's content is not what its sum says";
        return Verdict::failed;
    }
    int ret = write_mails(build);
    if (ret == 0) ret = write_modseqs(build, number);
    if (ret == 0) ret = write_cache(build);
    if (ret == 0) ret = settle(build);
    close_aside(build);
    if (ret == 0) ret = aside_sync(build.box, build.dir);
    if (ret < 0) {
        *text_r = mailbox_get_last_internal_error(build.box, nullptr);
        return Verdict::failed;
    }
    IndexManners manners(build.box->index, true);
    CboxLock lock;
    Verdict verdict = index_lock(build.box, false, lock_ms, &lock, text_r);
    if (verdict != Verdict::applied) return verdict;
    verdict = exchange(build, lock.view, number, text_r);
    (void)cbox_unlock(build.box, &lock, false, {});
    return verdict;
}

} // namespace

CboxBuild *cbox_build_begin(struct mailbox *box, const Bulk::Head &head) {
    if (mail_index_refresh(box->index) < 0) {
        mailbox_set_index_error(box);
        return nullptr;
    }
    struct mail_index_view *live = mail_index_view_open(box->index);
    // A cache file that is new takes the time as its number.
    const uint32_t cache_seq = std::max(cache_seq_of(box->index, live), static_cast<uint32_t>(time(nullptr)));
    mail_index_view_close(&live);
    auto *build = new CboxBuild{box,
                                head,
                                aside_path(box),
                                box->index->indexid,
                                box->index->log->head->hdr.file_seq + ahead,
                                cache_seq + ahead};
    if (open_aside(*build) < 0 || write_headers(*build) < 0)
        cbox_build_abort(&build);
    else
        build->trans = begin(*build);
    return build;
}

int cbox_build_add(CboxBuild *build, const std::vector<Append> &mails) {
    for (const Append &mail : mails)
        if (add(*build, mail) < 0) return -1;
    return 0;
}

Verdict cbox_build_commit(CboxBuild **build, const Number &number, const Bulk::Sum &sum, unsigned lock_ms,
                          std::string *text_r) {
    Verdict verdict = build_commit(**build, number, sum, lock_ms, text_r);
    cbox_build_abort(build); // what is aside now, be it the old index or a new one that was not taken
    return verdict;
}

void cbox_build_abort(CboxBuild **_build) {
    CboxBuild *build = *_build;
    *_build = nullptr;
    close_aside(*build);
    (void)aside_remove(build->box, build->dir);
    delete build;
}

} // namespace replica
