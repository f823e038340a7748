#include "plugin/cbox/cbox-cache.hpp"

namespace replica {

// Dovecot's mail and what we keep of its body meanwhile. Allocated as zeros.
struct CboxMail {
    struct index_mail mail;     // first
    struct fs_file *prefetched; // its reading has begun
    const char *trouble;        // with its body, once that was tried
};

static CboxMail *cbox_mail(struct mail *mail) { return reinterpret_cast<CboxMail *>(mail); }
static struct index_mail *index_mail_of(struct mail *mail) { return &cbox_mail(mail)->mail; }

struct mail *cbox_mail_alloc(struct mailbox_transaction_context *t, enum mail_fetch_field wanted_fields,
                             struct mailbox_header_lookup_ctx *wanted_headers) {
    pool_t pool = pool_alloconly_create("cbox mail", 2048);
    auto *mail = p_new(pool, CboxMail, 1);
    index_mail_init(&mail->mail, t, wanted_fields, wanted_headers, pool, nullptr);
    return &mail->mail.mail.mail;
}

static void mail_closed(struct mail *mail) {
    index_mail_close(mail);
    fs_file_deinit(&cbox_mail(mail)->prefetched);
    cbox_mail(mail)->trouble = nullptr;
}

// The transaction's own view shows a mail that is being saved too.
static int record_of(struct mail *mail, CboxRecord *record_r) {
    auto *box = cbox_mailbox(mail->box);
    if (cbox_record_read(mail->transaction->view, box->record_ext_id, mail->seq, record_r)) return 0;
    if (mail_index_is_expunged(mail->transaction->view, mail->seq))
        mail_set_expunged(mail);
    else
        mail_set_critical(mail, "cbox: the index has no record of this mail");
    return -1;
}

static int get_received_date(struct mail *mail, time_t *date_r) {
    auto &data = index_mail_of(mail)->data;
    if (data.received_date == (time_t)-1) {
        CboxRecord record;
        if (record_of(mail, &record) < 0) return -1;
        data.received_date = record.received;
    }
    *date_r = data.received_date;
    return 0;
}

static int get_save_date(struct mail *mail, time_t *date_r) {
    auto &data = index_mail_of(mail)->data;
    if (data.save_date == (time_t)-1) {
        CboxRecord record;
        if (record_of(mail, &record) < 0) return -1;
        data.save_date = record.saved;
    }
    *date_r = data.save_date;
    return 1;
}

static int get_virtual_size(struct mail *mail, uoff_t *size_r) {
    auto &data = index_mail_of(mail)->data;
    if (data.virtual_size == UOFF_T_MAX) {
        CboxRecord record;
        if (record_of(mail, &record) < 0) return -1;
        data.virtual_size = record.virtual_size;
    }
    *size_r = data.virtual_size;
    return 0;
}

static int get_physical_size(struct mail *mail, uoff_t *size_r) {
    auto &data = index_mail_of(mail)->data;
    if (data.physical_size == UOFF_T_MAX) {
        CboxRecord record;
        if (record_of(mail, &record) < 0) return -1;
        data.physical_size = record.physical_size;
    }
    *size_r = data.physical_size;
    return 0;
}

// --- the body ---

static bool is_gone(struct mail *mail) {
    mail_index_refresh(mail->box->index);
    return mail_index_is_expunged(mail->transaction->view, mail->seq);
}

// Begins to read a body that is going to be asked for, where the file system can do that. True: nothing is under way.
static bool prefetch(struct mail *mail) {
    auto *ours = cbox_mail(mail);
    auto *storage = cbox_storage(mail->box->storage);
    CboxRecord record;
    if (ours->mail.data.access_part == 0 || ours->mail.data.stream != nullptr || ours->prefetched != nullptr ||
        (fs_get_properties(storage->fs) & FS_PROPERTY_ASYNC) == 0 ||
        !cbox_record_read(mail->transaction->view, cbox_mailbox(mail->box)->record_ext_id, mail->seq, &record) ||
        cbox_cache_has(storage, Guid::from(record.blob)))
        return true;
    ours->prefetched = cbox_body_file(storage, mail_event(mail), Guid::from(record.blob), FS_OPEN_FLAG_ASYNC);
    return fs_prefetch(ours->prefetched, 0);
}

// A store whose directory or bucket lags behind may have the body a moment later. All waits of a transaction together
// are bounded, and nothing is locked meanwhile.
static Result<CboxBody> open_patiently(struct mail *mail, const CboxRecord &record) {
    auto *storage = cbox_storage(mail->box->storage);
    auto *t = cbox_transaction(mail->transaction);
    const unsigned wait_ms = cbox_storage_inside(mail->box->storage)->body_wait_ms;
    struct fs_file *file = cbox_mail(mail)->prefetched;
    cbox_mail(mail)->prefetched = nullptr;
    if (file != nullptr) fs_file_set_flags(file, static_cast<enum fs_open_flags>(0), FS_OPEN_FLAG_ASYNC);
    for (unsigned pause_ms = 20;; pause_ms = std::min(pause_ms * 2, 500u)) {
        if (file == nullptr) file = cbox_body_file(storage, mail_event(mail), Guid::from(record.blob), 0);
        auto body = cbox_body_open(storage, record, &file);
        if (body || (body.error().code != Code::gone && body.error().code != Code::corrupt)) return body;
        if (t->waited_ms >= wait_ms || is_gone(mail)) return body;
        pause_ms = std::min(pause_ms, wait_ms - t->waited_ms);
        t->waited_ms += pause_ms;
        if (!i_sleep_intr_msecs(pause_ms)) return body;
    }
}

// A temporary error of this mail alone. Dovecot asks for the same stream more than once: it is logged and counted the
// first time.
static void set_body_error(struct mail *mail, const CboxRecord &record, const Error &error) {
    const auto *owner = mail->box->list->ns->owner;
    const std::string blob = to_hex(Guid::from(record.blob));
    const char *trouble = cbox_body_trouble(error);
    e_error(event_create_passthrough(mail_event(mail))
                ->set_name("cbox_body_unavailable")
                ->add_str("reason", trouble)
                ->add_str("blob", blob.c_str())
                ->event(),
            "cbox: body is %s: account %s, blob %s: %s", trouble,
            owner == nullptr ? cbox_storage_root(mail->box->storage) : owner->username, blob.c_str(),
            error.message.c_str());
    cbox_mail(mail)->trouble = trouble;
}

static int fail_body(struct mail *mail) {
    mail_storage_set_error(mail->box->storage, MAIL_ERROR_TEMP,
                           t_strdup_printf("The body of the mail with UID %u in %s is %s for now", mail->uid,
                                           mailbox_get_vname(mail->box), cbox_mail(mail)->trouble));
    return -1;
}

static int open_stream(struct mail *mail, struct istream **stream_r) {
    CboxRecord record;
    if (!mail_stream_access_start(mail) || record_of(mail, &record) < 0) return -1;
    if (cbox_mail(mail)->trouble != nullptr) return fail_body(mail);
    mail->transaction->stats.open_lookup_count++;
    auto body = open_patiently(mail, record);
    if (!body) {
        if (is_gone(mail)) {
            mail_set_expunged(mail);
            return -1;
        }
        set_body_error(mail, record, body.error());
        return fail_body(mail);
    }
    *stream_r = body->input;
    auto &v = reinterpret_cast<struct mail_private *>(mail)->v;
    if (v.istream_opened == nullptr || v.istream_opened(mail, stream_r) == 0) return 0;
    i_stream_unref(stream_r);
    return -1;
}

static int get_stream(struct mail *mail, bool, struct message_size *hdr_size, struct message_size *body_size,
                      struct istream **stream_r) {
    auto *imail = index_mail_of(mail);
    if (imail->data.stream == nullptr) {
        struct istream *input;
        if (open_stream(mail, &input) < 0) return -1;
        imail->data.stream = input;
        index_mail_set_read_buffer_size(mail, input);
    }
    return index_mail_init_stream(imail, hdr_size, body_size, stream_r);
}

// --- POP3 ---

int cbox_pop3_uidl(struct mailbox *box, const CboxRecord &record, std::string *uidl_r) {
    uidl_r->clear();
    if ((record.flags & cbox_record_pop3_uidl) == 0) return 0;
    auto *storage = cbox_storage(box->storage);
    struct fs_file *file = cbox_body_file(storage, box->event, Guid::from(record.blob), 0);
    auto body = cbox_body_open(storage, record, &file);
    if (!body) {
        mailbox_set_critical(box, "cbox: POP3 UIDL of blob %s cannot be read: %s",
                             to_hex(Guid::from(record.blob)).c_str(), body.error().message.c_str());
        return -1;
    }
    i_stream_unref(&body->input);
    *uidl_r = body->trailer.pop3_uidl;
    return 0;
}

// From the cache; if that lost it, from the blob's trailer.
static int get_pop3_uidl(struct mail *mail, const char **value_r) {
    auto *imail = index_mail_of(mail);
    CboxRecord record;
    if (record_of(mail, &record) < 0) return -1;
    *value_r = "";
    if ((record.flags & cbox_record_pop3_uidl) != 0) {
        string_t *str = str_new(imail->mail.data_pool, 64);
        unsigned idx = imail->ibox->cache_fields[MAIL_CACHE_POP3_UIDL].idx;
        if (mail_cache_lookup_field(mail->transaction->cache_view, str, mail->seq, idx) <= 0) {
            std::string uidl;
            if (cbox_pop3_uidl(mail->box, record, &uidl) < 0) return -1;
            str_truncate(str, 0);
            str_append_data(str, uidl.data(), uidl.size());
            index_mail_cache_add_idx(imail, idx, uidl.data(), uidl.size());
        }
        *value_r = str_c(str);
    }
    index_pop3_uidl_update_exists(mail, **value_r != '\0');
    return 0;
}

static int get_special(struct mail *mail, enum mail_fetch_field field, const char **value_r) {
    pool_t pool = index_mail_of(mail)->mail.data_pool;
    CboxRecord record;
    switch (field) {
    case MAIL_FETCH_GUID:
        if (record_of(mail, &record) < 0) return -1;
        *value_r = p_strdup(pool, guid_128_to_string(record.guid));
        return 0;
    case MAIL_FETCH_STORAGE_ID:
        if (record_of(mail, &record) < 0) return -1;
        *value_r = p_strdup(pool, to_hex(Guid::from(record.blob)).c_str());
        return 0;
    case MAIL_FETCH_UIDL_BACKEND:
        return get_pop3_uidl(mail, value_r);
    case MAIL_FETCH_POP3_ORDER:
        if (record_of(mail, &record) < 0) return -1;
        *value_r = record.pop3_order == 0 ? "" : p_strdup_printf(pool, "%u", record.pop3_order);
        return 0;
    default:
        return index_mail_get_special(mail, field, value_r);
    }
}

const struct mail_vfuncs cbox_mail_vfuncs = {
    .close = mail_closed,
    .free = index_mail_free,
    .set_seq = index_mail_set_seq,
    .set_uid = index_mail_set_uid,
    .set_uid_cache_updates = index_mail_set_uid_cache_updates,
    .prefetch = prefetch,
    .precache = index_mail_precache,
    .add_temp_wanted_fields = index_mail_add_temp_wanted_fields,
    .get_flags = index_mail_get_flags,
    .get_keywords = index_mail_get_keywords,
    .get_keyword_indexes = index_mail_get_keyword_indexes,
    .get_modseq = index_mail_get_modseq,
    .get_pvt_modseq = index_mail_get_pvt_modseq,
    .get_parts = index_mail_get_parts,
    .get_date = index_mail_get_date,
    .get_received_date = get_received_date,
    .get_save_date = get_save_date,
    .get_virtual_size = get_virtual_size,
    .get_physical_size = get_physical_size,
    .get_first_header = index_mail_get_first_header,
    .get_headers = index_mail_get_headers,
    .get_header_stream = index_mail_get_header_stream,
    .get_stream = get_stream,
    .get_binary_stream = index_mail_get_binary_stream,
    .get_special = get_special,
    .get_backend_mail = index_mail_get_backend_mail,
    .update_flags = index_mail_update_flags,
    .update_keywords = index_mail_update_keywords,
    .update_modseq = index_mail_update_modseq,
    .update_pvt_modseq = index_mail_update_pvt_modseq,
    .expunge = index_mail_expunge,
    .set_cache_corrupted = index_mail_set_cache_corrupted,
    .istream_opened = index_mail_opened,
};

} // namespace replica
