// The change as the log carries it, from an index transaction that is final but not yet written; and the MODSEQ it will
// get.
#include <algorithm>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

uint64_t cbox_modseq_now(struct mail_index *index) { return index->log->head->sync_highest_modseq; }

// --- MODSEQ ---

static bool flags_count(const struct mail_index_transaction *trans) {
    if (!array_is_created(&trans->updates)) return false;
    const struct mail_index_flag_update *update;
    array_foreach(&trans->updates, update) {
        // Updates of internal flags alone raise no MODSEQ.
        if (((update->add_flags | update->remove_flags) & MAIL_FLAGS_NONRECENT) != 0) return true;
        if ((update->add_flags & MAIL_INDEX_MAIL_FLAG_UPDATE_MODSEQ) != 0) return true;
    }
    return false;
}

static unsigned keyword_records(const struct mail_index_transaction *trans) {
    unsigned n = 0;
    if (!array_is_created(&trans->keyword_updates)) return 0;
    const struct mail_index_transaction_keyword_update *update;
    array_foreach(&trans->keyword_updates, update) {
        if (array_is_created(&update->add_seq) && array_count(&update->add_seq) > 0) n++;
        if (array_is_created(&update->remove_seq) && array_count(&update->remove_seq) > 0) n++;
    }
    return n;
}

// Log records that raise it, as mail_index_transaction_export writes them: attributes, appends, flags, then keywords,
// one for each keyword that is added and one for each removed. An expunge comes after and gets one more.
CboxModseq cbox_modseq_predict(const CboxRun &run) {
    const auto *trans = run.trans;
    CboxModseq modseq{.base = cbox_modseq_now(run.box->index), .predicted = 0, .spread = false};
    unsigned records = trans->attribute_updates != nullptr;
    records += array_is_created(&trans->appends) && array_count(&trans->appends) > 0;
    records += flags_count(trans);
    records += keyword_records(trans);
    modseq.predicted = std::max(modseq.base + records, trans->min_highest_modseq);
    modseq.spread = records > 1;
    if (!array_is_created(&trans->modseq_updates)) return modseq;

    const struct mail_transaction_modseq_update *update;
    array_foreach(&trans->modseq_updates, update) {
        uint64_t value = uint64_t(update->modseq_high32) << 32 | update->modseq_low32;
        modseq.predicted = std::max(modseq.predicted, value);
        modseq.spread = true;
    }
    return modseq;
}

static void unite_range(struct mail_index_transaction *trans, const ARRAY_TYPE(seq_range) & seqs, uint64_t modseq) {
    if (!array_is_created(&seqs)) return;
    const struct seq_range *range;
    array_foreach(&seqs, range) {
        for (uint32_t seq = range->seq1; seq <= range->seq2; seq++)
            mail_index_update_modseq(trans, seq, modseq);
    }
}

void cbox_modseq_unite(const CboxRun &run, uint64_t modseq) {
    auto *trans = run.trans;
    std::vector<uint32_t> given;
    if (array_is_created(&trans->modseq_updates)) {
        const struct mail_transaction_modseq_update *update;
        array_foreach(&trans->modseq_updates, update) given.push_back(update->uid);
    }
    for (uint32_t seq : given)
        mail_index_update_modseq(trans, seq, modseq);
    if (array_is_created(&trans->appends) && array_count(&trans->appends) > 0) {
        for (uint32_t seq = trans->first_new_seq; seq <= trans->last_new_seq; seq++)
            mail_index_update_modseq(trans, seq, modseq);
    }
    if (array_is_created(&trans->updates)) {
        const struct mail_index_flag_update *update;
        array_foreach(&trans->updates, update) {
            for (uint32_t seq = update->uid1; seq <= update->uid2; seq++)
                mail_index_update_modseq(trans, seq, modseq);
        }
    }
    if (array_is_created(&trans->keyword_updates)) {
        const struct mail_index_transaction_keyword_update *update;
        array_foreach(&trans->keyword_updates, update) {
            unite_range(trans, update->add_seq, modseq);
            unite_range(trans, update->remove_seq, modseq);
        }
    }
}

// --- the change ---

namespace {

uint32_t uid_of(const CboxRun &run, uint32_t seq) {
    uint32_t uid;
    if (seq >= run.trans->first_new_seq) return mail_index_transaction_lookup(run.trans, seq)->uid;
    mail_index_lookup_uid(run.trans->view, seq, &uid);
    return uid;
}

void add_uid(std::vector<UidRange> &ranges, uint32_t uid) {
    if (!ranges.empty() && ranges.back().last + 1 == uid)
        ranges.back().last = uid;
    else
        ranges.push_back({uid, uid});
}

void describe_appends(CboxRun &run) {
    auto *trans = run.trans;
    if (!array_is_created(&trans->appends)) return;
    const auto *save = cbox_save(run.transaction->t.save_ctx);
    uint32_t seq = trans->first_new_seq;
    const struct mail_index_record *rec;
    array_foreach(&trans->appends, rec) {
        CboxRecord record{};
        (void)cbox_record_read(run.transaction->t.view, cbox_mailbox(run.box)->record_ext_id, seq, &record);
        Append append;
        append.uid = rec->uid;
        append.guid = Guid::from(record.guid);
        append.blob = Guid::from(record.blob);
        append.physical_size = record.physical_size;
        append.virtual_size = record.virtual_size;
        append.received = record.received;
        append.saved = record.saved;
        append.flags = rec->flags & MAIL_FLAGS_NONRECENT;
        append.pop3_order = record.pop3_order;
        auto saved = std::ranges::lower_bound(save->saved, seq, {}, &CboxSaved::seq);
        if (saved != save->saved.end() && saved->seq == seq) append.pop3_uidl = saved->pop3_uidl;
        run.change.appends.push_back(std::move(append));
        seq++;
    }
}

void describe_flags(CboxRun &run) {
    auto *trans = run.trans;
    std::vector<UidRange> ranges;
    if (array_is_created(&trans->updates)) {
        const struct mail_index_flag_update *update;
        array_foreach(&trans->updates, update) {
            uint8_t add = update->add_flags & MAIL_FLAGS_NONRECENT,
                    remove = update->remove_flags & MAIL_FLAGS_NONRECENT;
            // Flags that a reader keeps in an index of their own raise the MODSEQ here.
            if (add == 0 && remove == 0 && (update->add_flags & MAIL_INDEX_MAIL_FLAG_UPDATE_MODSEQ) == 0) continue;
            ranges.clear();
            for (uint32_t seq = update->uid1; seq <= update->uid2; seq++)
                add_uid(ranges, uid_of(run, seq));
            for (const auto &range : ranges)
                run.change.flags.push_back({range, add, remove});
        }
    }
    // A MODSEQ that was set by hand (dsync does) is a flag update that changes no flag.
    if (!array_is_created(&trans->modseq_updates)) return;
    const struct mail_transaction_modseq_update *update;
    array_foreach(&trans->modseq_updates, update) {
        if (update->uid == 0 || update->uid >= trans->first_new_seq) continue;
        uint32_t uid = uid_of(run, update->uid);
        run.change.flags.push_back({{uid, uid}, 0, 0});
    }
}

void describe_keyword(CboxRun &run, const char *name, bool add, const ARRAY_TYPE(seq_range) & seqs) {
    KeywordUpdate update{.keyword = name, .add = add, .uids = {}};
    if (!array_is_created(&seqs)) return;
    const struct seq_range *range;
    array_foreach(&seqs, range) {
        for (uint32_t seq = range->seq1; seq <= range->seq2; seq++) {
            if (seq < run.trans->first_new_seq)
                add_uid(update.uids, uid_of(run, seq));
            else if (add)
                run.change.appends[seq - run.trans->first_new_seq].keywords.push_back(name);
        }
    }
    if (!update.uids.empty()) run.change.keywords.push_back(std::move(update));
}

void describe_keywords(CboxRun &run) {
    if (!array_is_created(&run.trans->keyword_updates)) return;
    const auto *names = mail_index_get_keywords(run.box->index);
    unsigned index = 0;
    const struct mail_index_transaction_keyword_update *update;
    array_foreach(&run.trans->keyword_updates, update) {
        const char *name = *array_idx(names, index);
        describe_keyword(run, name, true, update->add_seq);
        describe_keyword(run, name, false, update->remove_seq);
        index++;
    }
}

void describe_expunges(CboxRun &run) {
    for (uint32_t uid : run.expunged_uids) {
        uint32_t seq;
        CboxRecord record{};
        if (mail_index_lookup_seq(run.view, uid, &seq))
            (void)cbox_record_read(run.view, cbox_mailbox(run.box)->record_ext_id, seq, &record);
        run.change.expunges.push_back({uid, Guid::from(record.guid)});
    }
}

void describe_header(CboxRun &run) {
    const struct mail_index_header *hdr = mail_index_get_header(run.view);
    auto &change = run.change;
    change.header = run.header;
    change.uid_validity = run.header.uid_validity != 0 ? run.header.uid_validity : hdr->uid_validity;
    change.next_uid = std::max(hdr->next_uid, run.header.min_next_uid);
    for (const auto &append : change.appends)
        change.next_uid = std::max(change.next_uid, append.uid + 1);
}

} // namespace

const MailboxChange &cbox_describe(CboxPending &pending) {
    auto &run = static_cast<CboxRun &>(pending);
    if (run.described) return run.change;
    run.described = true;
    auto modseq = cbox_modseq_predict(run);
    run.change.base_modseq = modseq.base;
    run.change.modseq = modseq.predicted;
    describe_appends(run);
    describe_flags(run);
    describe_keywords(run); // needs the appends by sequence
    describe_expunges(run);
    describe_header(run);
    if (run.transaction != nullptr && run.transaction->attributes != nullptr)
        run.change.attributes = *run.transaction->attributes;
    std::ranges::sort(run.change.appends, {}, &Append::uid);
    return run.change;
}

} // namespace replica
