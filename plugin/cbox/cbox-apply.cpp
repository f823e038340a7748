// The applier: a change that has its number already, into this store's index, in the order in which its source wrote
// it. The same function rolls a source forward. What it can judge it judges before it writes anything.
#include <algorithm>
#include "plugin/cbox/cbox-index.hpp"

namespace replica {

namespace {

int commit(struct mailbox *box, struct mail_index_transaction **trans) {
    if (mail_index_transaction_commit(trans) == 0) return 0;
    mailbox_set_index_error(box);
    return -1;
}

struct Applier {
    struct mailbox *box;
    const MailboxChange &change;
    struct mail_index_view *view;
    std::string &text;

    const CboxMailbox &cbox() const { return *cbox_mailbox(box); }
    const struct mail_index_header &header() const { return *mail_index_get_header(view); }

    Verdict judge();
    Verdict judge_append(const Append &append, uint32_t next_uid);
    Verdict judge_expunge(const Expunge &expunge);
    int raise_to_base();
    int write(const Number &number);

    // seqs of the mails that get the change's MODSEQ
    void append_all(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs);
    void update_flags(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs);
    void update_keywords(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs);
    void expunge_all(struct mail_index_transaction *trans);
    void update_counters(struct mail_index_transaction *trans, std::vector<uint32_t> &seqs);

    std::vector<Expunge> present; // of the change's expunges
    std::vector<uint32_t> present_seqs;

    Verdict say(Verdict verdict, std::string why) {
        text = std::move(why);
        return verdict;
    }
    bool holds_another(uint32_t seq, const Guid &guid) const {
        CboxRecord record;
        return !cbox_record_read(view, cbox().record_ext_id, seq, &record) ||
               memcmp(record.guid, guid.bytes.data(), sizeof(record.guid)) != 0;
    }
};

Verdict Applier::judge_append(const Append &append, uint32_t next_uid) {
    if (append.uid >= next_uid) return Verdict::applied;
    uint32_t seq;
    if (mail_index_lookup_seq(view, append.uid, &seq) && holds_another(seq, append.guid))
        return say(Verdict::diverged, "another mail has UID " + std::to_string(append.uid));
    return say(Verdict::wanted, "UID " + std::to_string(append.uid) + " was given already");
}

Verdict Applier::judge_expunge(const Expunge &expunge) {
    uint32_t seq;
    if (!mail_index_lookup_seq(view, expunge.uid, &seq)) {
        if (expunge.uid < header().next_uid) return Verdict::applied; // gone already
        return say(Verdict::wanted, "UID " + std::to_string(expunge.uid) + " never came here");
    }
    if (holds_another(seq, expunge.guid))
        return say(Verdict::diverged, "another mail has UID " + std::to_string(expunge.uid));
    present.push_back(expunge);
    present_seqs.push_back(seq);
    return Verdict::applied;
}

Verdict Applier::judge() {
    if (cbox_modseq_now(box->index) > change.base_modseq)
        return say(Verdict::wanted, "HIGHESTMODSEQ is past the source's");
    if (header().uid_validity != 0 && header().uid_validity != change.uid_validity && change.header.uid_validity == 0)
        return say(Verdict::wanted, "UIDVALIDITY is not the source's");
    uint32_t next_uid = header().next_uid;
    for (const Append &append : change.appends) {
        if (Verdict verdict = judge_append(append, next_uid); verdict != Verdict::applied) return verdict;
        next_uid = append.uid + 1;
    }
    for (const Expunge &expunge : change.expunges)
        if (Verdict verdict = judge_expunge(expunge); verdict != Verdict::applied) return verdict;
    return Verdict::applied;
}

// In a transaction of its own, so that the change's own records count on from the source's base.
int Applier::raise_to_base() {
    if (cbox_modseq_now(box->index) >= change.base_modseq) return 0;
    struct mail_index_transaction *trans = index_begin_applied(view);
    mail_index_update_highest_modseq(trans, change.base_modseq);
    return commit(box, &trans);
}

bool find_seqs(struct mail_index_view *view, const UidRange &uids, uint32_t *first_r, uint32_t *last_r) {
    return uids.first != 0 && uids.first <= uids.last &&
           mail_index_lookup_seq_range(view, uids.first, uids.last, first_r, last_r);
}

void Applier::append_all(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs) {
    for (const Append &append : change.appends) {
        uint32_t seq;
        mail_index_append(trans, append.uid, &seq);
        mail_index_update_flags(trans, seq, MODIFY_REPLACE,
                                static_cast<mail_flags>(append.flags & MAIL_FLAGS_NONRECENT));
        cbox_record_write(trans, cbox().record_ext_id, seq, cbox_record_of(append));
        index_add_keywords(trans, seq, append.keywords);
        if (!append.pop3_uidl.empty()) index_pop3_uidl_set_max_uid(box, trans, append.uid);
        seqs->push_back(seq);
    }
}

void Applier::update_flags(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs) {
    for (const FlagUpdate &update : change.flags) {
        uint32_t first, last;
        if (!find_seqs(view, update.uids, &first, &last)) continue;
        if (update.add != 0)
            mail_index_update_flags_range(trans, first, last, MODIFY_ADD,
                                          static_cast<mail_flags>(update.add & MAIL_FLAGS_NONRECENT));
        if (update.remove != 0)
            mail_index_update_flags_range(trans, first, last, MODIFY_REMOVE,
                                          static_cast<mail_flags>(update.remove & MAIL_FLAGS_NONRECENT));
        for (uint32_t seq = first; seq <= last; ++seq)
            seqs->push_back(seq);
    }
}

void Applier::update_keywords(struct mail_index_transaction *trans, std::vector<uint32_t> *seqs) {
    for (const KeywordUpdate &update : change.keywords) {
        const char *names[] = {update.keyword.c_str(), nullptr};
        struct mail_keywords *keywords = mail_index_keywords_create(box->index, names);
        for (const UidRange &uids : update.uids) {
            uint32_t first, last;
            if (!find_seqs(view, uids, &first, &last)) continue;
            for (uint32_t seq = first; seq <= last; ++seq) {
                mail_index_update_keywords(trans, seq, update.add ? MODIFY_ADD : MODIFY_REMOVE, keywords);
                seqs->push_back(seq);
            }
        }
        mail_index_keywords_unref(&keywords);
    }
}

void Applier::expunge_all(struct mail_index_transaction *trans) {
    for (size_t i = 0; i < present.size(); ++i)
        mail_index_expunge_guid(trans, present_seqs[i], present[i].guid.bytes.data());
}

void Applier::update_counters(struct mail_index_transaction *trans, std::vector<uint32_t> &seqs) {
    std::sort(seqs.begin(), seqs.end());
    seqs.erase(std::unique(seqs.begin(), seqs.end()), seqs.end());
    for (uint32_t seq : seqs)
        mail_index_update_modseq(trans, seq, change.modseq);
    // The removal's own record takes modseq + 1; where nothing is left to remove, the counter rises all the same.
    uint64_t highest = change.modseq + (!change.expunges.empty() && present.empty() ? 1 : 0);
    mail_index_update_highest_modseq(trans, std::max(highest, change.header.min_highest_modseq));
    if (header().uid_validity != change.uid_validity)
        mail_index_update_header(trans, offsetof(struct mail_index_header, uid_validity), &change.uid_validity,
                                 sizeof(change.uid_validity), TRUE);
    if (mail_index_transaction_get_next_uid(trans) < change.next_uid)
        mail_index_update_header(trans, offsetof(struct mail_index_header, next_uid), &change.next_uid,
                                 sizeof(change.next_uid), FALSE);
}

int Applier::write(const Number &number) {
    if (raise_to_base() < 0) return -1;
    struct mail_index_transaction *trans = index_begin_applied(view);
    std::vector<uint32_t> seqs;
    append_all(trans, &seqs);
    update_flags(trans, &seqs);
    update_keywords(trans, &seqs);
    expunge_all(trans);
    update_counters(trans, seqs);
    cbox_mark_write(trans, cbox().mark_ext_id, {number, false});
    if (cbox_attributes_write(box, trans, change.attributes) < 0) {
        mail_index_transaction_rollback(&trans);
        return -1;
    }
    return commit(box, &trans);
}

// R3 under the lock. An object without a mark counts as one with changes that no log has: it needs a snapshot first.
Verdict judge_mark(struct mailbox *box, const CboxLock &lock, const Number &previous, const Number &number,
                   std::string *text_r) {
    const Mark mark = cbox_mark_read(lock.view, cbox_mailbox(box)->mark_ext_id);
    switch (mark.number.none() ? Chain::wanted : judge_chain(mark, previous, number)) {
    case Chain::apply:
        return Verdict::applied;
    case Chain::skip:
        return Verdict::skipped;
    case Chain::wanted:
        *text_r = "changes before this one are missing";
        return Verdict::wanted;
    case Chain::diverged:
        *text_r = "this store has changes that the log has not";
        return Verdict::diverged;
    }
    i_unreached();
}

// Without it no MODSEQ can be set. Every mailbox that cbox makes has it.
bool count_modseqs(struct mail_index *index) {
    if (!mail_index_have_modseq_tracking(index)) mail_index_modseq_enable(index);
    return mail_index_have_modseq_tracking(index);
}

// Ends the lock after `ret` of what was written under it.
Verdict finish(struct mailbox *box, CboxLock *lock, int ret, const std::vector<uint32_t> &expunged,
               std::string *text_r) {
    if (cbox_unlock(box, lock, ret == 0, expunged) == 0 && ret == 0) return Verdict::applied;
    *text_r = mailbox_get_last_internal_error(box, nullptr);
    return Verdict::failed;
}

} // namespace

Verdict cbox_apply(struct mailbox *box, const Number &number, const Number &previous, const MailboxChange &change,
                   unsigned lock_ms, std::string *text_r) {
    IndexManners manners(box->index, false);
    if (!count_modseqs(box->index)) {
        *text_r = "MODSEQs cannot be counted";
        return Verdict::retry;
    }
    CboxLock lock;
    Verdict verdict = index_lock(box, !change.expunges.empty(), lock_ms, &lock, text_r);
    if (verdict != Verdict::applied) return verdict;

    Applier applier{box, change, lock.view, *text_r};
    verdict = judge_mark(box, lock, previous, number, text_r);
    if (verdict == Verdict::applied) verdict = applier.judge();
    if (verdict != Verdict::applied) {
        (void)cbox_unlock(box, &lock, false, {});
        return verdict;
    }
    int ret = applier.write(number);
    std::vector<uint32_t> expunged;
    for (const Expunge &expunge : applier.present)
        expunged.push_back(expunge.uid);
    return finish(box, &lock, ret, expunged, text_r);
}

Verdict cbox_apply_mark(struct mailbox *box, const Number &number, const Number &previous, unsigned lock_ms,
                        std::string *text_r) {
    IndexManners manners(box->index, false);
    CboxLock lock;
    Verdict verdict = index_lock(box, false, lock_ms, &lock, text_r);
    if (verdict != Verdict::applied) return verdict;

    verdict = judge_mark(box, lock, previous, number, text_r);
    if (verdict != Verdict::applied) {
        (void)cbox_unlock(box, &lock, false, {});
        return verdict;
    }
    struct mail_index_transaction *trans = index_begin_applied(lock.view);
    cbox_mark_write(trans, cbox_mailbox(box)->mark_ext_id, {number, false});
    return finish(box, &lock, commit(box, &trans), {}, text_r);
}

} // namespace replica
