#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

static struct index_mail *index_mail_of(struct mail *mail) { return reinterpret_cast<struct index_mail *>(mail); }

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

static void set_open_error(struct mail *mail, const CboxRecord &record, int err, const std::string &error) {
    mail_index_refresh(mail->box->index);
    if (mail_index_is_expunged(mail->transaction->view, mail->seq)) {
        mail_set_expunged(mail);
        return;
    }
    errno = err;
    mail_set_critical(mail, "cbox: blob %s cannot be read: %s", to_hex(Guid::from(record.blob)).c_str(), error.c_str());
}

static int open_stream(struct mail *mail, struct istream **stream_r) {
    CboxRecord record;
    CboxTrailer trailer;
    std::string error;
    if (!mail_stream_access_start(mail) || record_of(mail, &record) < 0) return -1;
    mail->transaction->stats.open_lookup_count++;
    if (cbox_blob_open(cbox_storage(mail->box->storage), mail_event(mail), Guid::from(record.blob), stream_r, &trailer,
                       &error) < 0) {
        set_open_error(mail, record, errno, error);
        return -1;
    }
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

int cbox_pop3_uidl(struct mailbox *box, const CboxRecord &record, std::string *uidl_r) {
    uidl_r->clear();
    if ((record.flags & cbox_record_pop3_uidl) == 0) return 0;
    CboxTrailer trailer;
    std::string error;
    struct istream *input;
    if (cbox_blob_open(cbox_storage(box->storage), box->event, Guid::from(record.blob), &input, &trailer, &error) < 0) {
        mailbox_set_critical(box, "cbox: POP3 UIDL of blob %s cannot be read: %s",
                             to_hex(Guid::from(record.blob)).c_str(), error.c_str());
        return -1;
    }
    i_stream_unref(&input);
    *uidl_r = trailer.pop3_uidl;
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
    .close = index_mail_close,
    .free = index_mail_free,
    .set_seq = index_mail_set_seq,
    .set_uid = index_mail_set_uid,
    .set_uid_cache_updates = index_mail_set_uid_cache_updates,
    .prefetch = index_mail_prefetch,
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
