#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

struct mail_save_context *cbox_save_alloc(struct mailbox_transaction_context *t) {
    if (t->save_ctx == nullptr) {
        auto *save = new CboxSave{};
        save->ctx.transaction = t;
        t->save_ctx = &save->ctx;
    }
    auto *save = cbox_save(t->save_ctx);
    save->failed = save->finished = false;
    return t->save_ctx;
}

static void append_to_index(CboxSave *save) {
    auto &data = save->ctx.data;
    auto *trans = save->ctx.transaction->itrans;
    mail_index_append(trans, data.uid, &save->seq);
    mail_index_update_flags(trans, save->seq, MODIFY_REPLACE, static_cast<enum mail_flags>(data.flags & ~MAIL_RECENT));
    if (data.keywords != nullptr) mail_index_update_keywords(trans, save->seq, MODIFY_REPLACE, data.keywords);
    if (data.min_modseq != 0) mail_index_update_modseq(trans, save->seq, data.min_modseq);
    if (data.received_date == (time_t)-1) data.received_date = ioloop_time;
    mail_set_seq_saving(save->ctx.dest_mail, save->seq);
}

int cbox_save_begin(struct mail_save_context *ctx, struct istream *input) {
    auto *save = cbox_save(ctx);
    struct mailbox *box = ctx->transaction->box;
    auto *storage = cbox_storage(box->storage);

    cbox_owner_note(box);
    append_to_index(save);
    // Stored with CRLF: so physical and virtual size are one.
    struct istream *crlf = i_stream_create_crlf(input);
    save->input = index_mail_cache_parse_init(ctx->dest_mail, crlf);
    i_stream_unref(&crlf);

    save->blob = cbox_blob_new();
    save->crc = 0;
    bool fsync = box->storage->set->parsed_fsync_mode != FSYNC_MODE_NEVER;
    save->file =
        fs_file_init_with_event(storage->fs, box->event, cbox_blob_path(storage->account_id, save->blob).c_str(),
                                int(FS_OPEN_MODE_CREATE) | (fsync ? int(FS_OPEN_FLAG_FSYNC) : 0));
    save->blob_output = fs_write_stream(save->file);
    save->crc_output = o_stream_create_hash(save->blob_output, &cbox_crc32_method, &save->crc);
    // Plugins put streams of theirs before it and finish those; the trailer comes after.
    o_stream_set_finish_via_child(save->crc_output, false);
    ctx->data.output = save->crc_output;
    return 0;
}

// Over quota is the user's matter. All else is ours to mend, a full disk too, so no mail is turned away for good.
static void set_blob_error(CboxSave *save, int err, const char *error) {
    struct mail_storage *storage = save->ctx.transaction->box->storage;
    save->failed = true;
    errno = err;
    if (err == EDQUOT && mail_storage_set_error_from_errno(storage)) return;
    mail_set_critical(save->ctx.dest_mail, "cbox: save failed: %s", error);
}

int cbox_save_continue(struct mail_save_context *ctx) {
    auto *save = cbox_save(ctx);
    if (save->failed) return -1;
    if (index_storage_save_continue(ctx, save->input, ctx->dest_mail) == 0) return 0;
    int err = save->crc_output->stream_errno;
    save->failed = true;
    if (err != 0) set_blob_error(save, err, o_stream_get_error(save->crc_output));
    return -1;
}

static void finish_body(CboxSave *save) {
    auto &data = save->ctx.data;
    int ret = data.output != save->crc_output ? o_stream_finish(data.output) : o_stream_flush(data.output);
    if (ret < 0 && !save->failed) set_blob_error(save, data.output->stream_errno, o_stream_get_error(data.output));
    if (data.output != save->crc_output) {
        o_stream_ref(save->crc_output);
        o_stream_destroy(&data.output);
    }
    if (o_stream_flush(save->crc_output) < 0 && !save->failed)
        set_blob_error(save, save->crc_output->stream_errno, o_stream_get_error(save->crc_output));
    o_stream_unref(&save->crc_output);
    data.output = nullptr;
}

static CboxRecord record_of_save(const CboxSave *save) {
    const auto &data = save->ctx.data;
    CboxRecord record{};
    if (data.guid != nullptr)
        mail_generate_guid_128_hash(data.guid, record.guid);
    else
        guid_128_generate(record.guid);
    memcpy(record.blob, save->blob.bytes.data(), sizeof(record.blob));
    record.received = static_cast<uint32_t>(data.received_date);
    record.saved = static_cast<uint32_t>(data.save_date != (time_t)-1 ? data.save_date : ioloop_time);
    record.flags = data.pop3_uidl != nullptr && *data.pop3_uidl != '\0' ? uint32_t(cbox_record_pop3_uidl) : 0;
    record.pop3_order = data.pop3_order;
    return record;
}

static std::string trailer_of(const CboxSave *save, const CboxRecord &record) {
    struct mailbox *box = save->ctx.transaction->box;
    const auto &data = save->ctx.data;
    return encode(CboxTrailer{
        .body_size = save->blob_output->offset,
        .physical_size = record.physical_size,
        .virtual_size = record.virtual_size,
        .account = cbox_storage(box->storage)->account_id,
        .mailbox = cbox_mailbox_guid(box),
        .message = Guid::from(record.guid),
        .uid = data.uid,
        .received = record.received,
        .saved = record.saved,
        .pop3_order = record.pop3_order,
        .pop3_uidl = data.pop3_uidl == nullptr ? "" : data.pop3_uidl,
        .body_crc = save->crc,
    });
}

// Body and trailer become visible and durable as one.
static void write_blob(CboxSave *save, const CboxRecord &record) {
    auto *storage = cbox_storage(save->ctx.transaction->box->storage);
    std::string trailer = trailer_of(save, record);
    std::string path = o_stream_get_name(save->blob_output);
    o_stream_nsend(save->blob_output, trailer.data(), trailer.size());
    if (fs_write_stream_finish(save->file, &save->blob_output) < 0)
        set_blob_error(save, errno, fs_file_last_error(save->file));
    else if (storage->storage.set->parsed_fsync_mode != FSYNC_MODE_NEVER &&
             cbox_blob_sync_directories(storage, path.c_str()) < 0)
        save->failed = true;
}

static int save_finish(CboxSave *save) {
    auto &ctx = save->ctx;
    save->finished = true;
    if (ctx.data.output == nullptr) return -1; // save_begin did not get that far
    finish_body(save);
    index_mail_cache_parse_deinit(ctx.dest_mail, ctx.data.received_date, !save->failed);

    CboxRecord record = record_of_save(save);
    record.physical_size = record.virtual_size = save->input->v_offset;
    if (!save->failed) {
        index_mail_cache_pop3_data(ctx.dest_mail, ctx.data.pop3_uidl, ctx.data.pop3_order);
        write_blob(save, record);
    } else {
        fs_write_stream_abort_error(save->file, &save->blob_output, "save failed");
    }
    fs_file_deinit(&save->file);
    i_stream_unref(&save->input);

    if (save->failed) {
        index_storage_save_abort_last(&ctx, save->seq);
        return -1;
    }
    cbox_record_write(ctx.transaction->itrans, cbox_mailbox(ctx.transaction->box)->record_ext_id, save->seq, record);
    save->saved.push_back({save->seq, save->blob, true, ctx.data.pop3_uidl == nullptr ? "" : ctx.data.pop3_uidl});
    return 0;
}

int cbox_save_finish(struct mail_save_context *ctx) {
    int ret = save_finish(cbox_save(ctx));
    index_save_context_free(ctx);
    return ret;
}

void cbox_save_cancel(struct mail_save_context *ctx) {
    cbox_save(ctx)->failed = true;
    (void)cbox_save_finish(ctx);
}

static bool gives_other_guid(const struct mail_save_data &data, const CboxRecord &record) {
    guid_128_t guid;
    if (data.guid == nullptr) return false;
    mail_generate_guid_128_hash(data.guid, guid);
    return memcmp(guid, record.guid, sizeof(guid)) != 0;
}

// Before the lock; the commit looks again, under it. -1: the error is set.
static int is_condemned(CboxSave *save, const Guid &blob) {
    if (save->condemned == nullptr) {
        save->condemned = new CboxCondemned;
        if (save->condemned->open(save->ctx.transaction->box->storage) < 0) return -1;
    }
    return save->condemned->has(blob) ? 1 : 0;
}

// A copy inside an account, over the same bodies, is one more record of the same blob. 0: not possible so.
static int copy_by_reference(CboxSave *save, struct mail *mail) {
    auto &ctx = save->ctx;
    struct mailbox *box = ctx.transaction->box;
    if (!cbox_is(mail->box->storage) || !mail_storage_copy_can_use_hardlink(mail->box, box)) return 0;
    const auto *from = cbox_storage(mail->box->storage), *to = cbox_storage(box->storage);
    if (from->account_id != to->account_id || strcmp(from->fs_settings, to->fs_settings) != 0) return 0;
    CboxRecord record;
    const char *uidl = "";
    if (!cbox_record_read(mail->transaction->view, cbox_mailbox(mail->box)->record_ext_id, mail->seq, &record)) {
        mail_set_expunged(mail);
        return -1;
    }
    // POP3 UIDL and GUID stand in the blob: with another one it takes a blob of its own.
    if ((record.flags & cbox_record_pop3_uidl) != 0 &&
        cbox_mail_vfuncs.get_special(mail, MAIL_FETCH_UIDL_BACKEND, &uidl) < 0)
        return -1;
    if (ctx.data.pop3_uidl != nullptr && strcmp(uidl, ctx.data.pop3_uidl) != 0) return 0;
    if (gives_other_guid(ctx.data, record)) return 0;
    // What is about to be deleted is stored again instead.
    if (int ret = is_condemned(save, Guid::from(record.blob)); ret != 0) return ret < 0 ? -1 : 0;
    if (mail_save_copy_default_metadata(&ctx, mail) < 0) return -1;

    append_to_index(save);
    record.received = static_cast<uint32_t>(ctx.data.received_date);
    record.saved = static_cast<uint32_t>(ctx.data.save_date != (time_t)-1 ? ctx.data.save_date : ioloop_time);
    if (ctx.data.pop3_order != 0) record.pop3_order = ctx.data.pop3_order;
    index_copy_cache_fields(&ctx, mail, save->seq);
    cbox_record_write(ctx.transaction->itrans, cbox_mailbox(box)->record_ext_id, save->seq, record);
    save->saved.push_back({save->seq, Guid::from(record.blob), false, uidl});
    return 1;
}

int cbox_copy(struct mail_save_context *ctx, struct mail *mail) {
    auto *save = cbox_save(ctx);
    save->finished = true;
    int ret = copy_by_reference(save, mail);
    if (ret == 0) return mail_storage_copy(ctx, mail);
    index_save_context_free(ctx);
    return ret > 0 ? 0 : -1;
}

void cbox_save_free(CboxSave *save, bool delete_blobs) {
    struct mailbox *box = save->ctx.transaction->box;
    if (delete_blobs) {
        for (const auto &saved : save->saved)
            if (saved.own_blob) cbox_blob_delete(cbox_storage(box->storage), box->event, saved.blob);
    }
    delete save->condemned;
    delete save;
}

} // namespace replica
