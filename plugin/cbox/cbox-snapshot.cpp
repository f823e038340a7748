// A snapshot: the state of a mailbox at one number, read at leisure while the mailbox lives on. What is frozen is a
// private copy of the index's map, taken under the lock: a view would show a mail's later flags. It costs about 100
// bytes for each mail, whatever the size of the bulk.
#include "plugin/cbox/cbox-bulk.hpp"
#include "plugin/cbox/cbox-private.hpp"

namespace replica {

struct CboxSnapshot {
    struct mailbox *box;
    struct mail_index_map *map = nullptr;
    Bulk::Head head;
    Object object;
    SnapshotId id;
    uint64_t n = 0;        // of the next bulk record
    uint32_t next_seq = 1; // of the next mail
    BulkDigest digest{};
};

namespace {

// Under the lock, right after the SNAPSHOT's commit.
int freeze(void *context, struct mailbox *box, struct mail_index_view *view, const Number &) {
    auto *snapshot = static_cast<CboxSnapshot *>(context);
    snapshot->map = mail_index_map_clone(view->map);
    mail_index_record_map_move_to_private(snapshot->map);
    snapshot->head.uid_validity = snapshot->map->hdr.uid_validity;
    snapshot->head.next_uid = snapshot->map->hdr.next_uid;
    snapshot->head.highest_modseq = cbox_modseq_now(box->index);
    snapshot->head.mails = snapshot->map->hdr.messages_count;
    return cbox_attributes_read(box, &snapshot->head.attributes);
}

const void *frozen_ext(const struct mail_index_record *record, struct mail_index_map *map, uint32_t ext_id) {
    uint32_t index;
    if (!mail_index_map_get_ext_idx(map, ext_id, &index)) return nullptr;
    const auto *ext = static_cast<const struct mail_index_ext *>(array_idx(&map->extensions, index));
    return reinterpret_cast<const unsigned char *>(record) + ext->record_offset;
}

std::vector<std::string> frozen_keywords(struct mail_index_map *map, uint32_t seq) {
    std::vector<std::string> names;
    ARRAY_TYPE(keyword_indexes) indexes;
    t_array_init(&indexes, 16);
    mail_index_map_lookup_keywords(map, seq, &indexes);
    for (unsigned i = 0; i < array_count(&indexes); ++i)
        names.emplace_back(*array_idx(&map->index->keywords, *array_idx(&indexes, i)));
    return names;
}

int frozen_mail(const CboxSnapshot &snapshot, uint32_t seq, Append *mail_r) {
    struct mail_index_map *map = snapshot.map;
    struct mailbox *box = snapshot.box;
    const auto *record = static_cast<const struct mail_index_record *>(MAIL_INDEX_REC_AT_SEQ(map, seq));
    const auto *modseq = static_cast<const uint64_t *>(frozen_ext(record, map, box->index->modseq_ext_id));
    const void *ours = frozen_ext(record, map, cbox_mailbox(box)->record_ext_id);
    if (ours == nullptr) {
        mailbox_set_critical(box, "cbox: the index has no record of UID %u", record->uid);
        return -1;
    }
    CboxRecord cbox;
    memcpy(&cbox, ours, sizeof(cbox));
    mail_r->uid = record->uid;
    mail_r->guid = Guid::from(cbox.guid);
    mail_r->blob = Guid::from(cbox.blob);
    mail_r->physical_size = cbox.physical_size;
    mail_r->virtual_size = cbox.virtual_size;
    mail_r->received = cbox.received;
    mail_r->saved = cbox.saved;
    mail_r->flags = record->flags & MAIL_FLAGS_NONRECENT;
    mail_r->keywords = frozen_keywords(map, seq);
    mail_r->pop3_order = cbox.pop3_order;
    // 0: nothing has touched the mail since MODSEQs are counted; then it has the highest, as Dovecot says too
    mail_r->modseq = modseq != nullptr && *modseq != 0 ? *modseq : snapshot.head.highest_modseq;
    if ((cbox.flags & cbox_record_pop3_uidl) == 0) return 0;
    return cbox_pop3_uidl(box, cbox, &mail_r->pop3_uidl);
}

} // namespace

CboxSnapshot *cbox_snapshot_begin(struct mailbox *box, const SnapshotId &id, Number *number_r) {
    auto *snapshot = new CboxSnapshot{box};
    snapshot->id = id;
    snapshot->object = {mailbox_get_namespace(box)->prefix, cbox_mailbox_guid(box)};
    if (cbox_commit_snapshot(box, id, {freeze, snapshot}, number_r) < 0) cbox_snapshot_end(&snapshot);
    return snapshot;
}

int cbox_snapshot_next(CboxSnapshot *snapshot, unsigned mails_max, Bulk *bulk_r) {
    *bulk_r = {};
    bulk_r->object = snapshot->object;
    bulk_r->id = snapshot->id;
    bulk_r->n = snapshot->n++;
    if (bulk_r->n == 0) bulk_r->head = snapshot->head;
    for (; bulk_r->mails.size() < mails_max && snapshot->next_seq <= snapshot->head.mails; ++snapshot->next_seq) {
        Append mail;
        int ret;
        T_BEGIN { ret = frozen_mail(*snapshot, snapshot->next_seq, &mail); }
        T_END;
        if (ret < 0) return -1;
        snapshot->digest.add(mail);
        bulk_r->mails.push_back(std::move(mail));
    }
    if (snapshot->next_seq <= snapshot->head.mails) return 1;
    bulk_r->sum = snapshot->digest.sum();
    return 0;
}

void cbox_snapshot_end(CboxSnapshot **_snapshot) {
    CboxSnapshot *snapshot = *_snapshot;
    *_snapshot = nullptr;
    if (snapshot->map != nullptr) mail_index_unmap(&snapshot->map);
    delete snapshot;
}

} // namespace replica
