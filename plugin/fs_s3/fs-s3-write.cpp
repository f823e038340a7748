#include "plugin/fs_s3/fs-s3.hpp"
#include "lib/base/ids.hpp"
#include "plugin/fs_s3/s3-answer.hpp"

namespace replica::s3 {

namespace {

constexpr std::string_view metadata_prefix = "x-amz-meta-";

// What the user set, and not what lib-fs keeps for itself.
Pairs metadata_headers(const struct fs_file *file) {
    Pairs headers;
    if (!array_is_created(&file->metadata)) return headers;
    unsigned count;
    auto *entry = static_cast<const struct fs_metadata *>(array_get_i(&file->metadata.arr, &count));
    for (unsigned i = 0; i < count; i++)
        if (std::string_view(entry[i].key).starts_with(FS_METADATA_INTERNAL_PREFIX) == false)
            headers.emplace_back(std::string(metadata_prefix) + metadata_name(entry[i].key),
                                 metadata_value(entry[i].value));
    return headers;
}

void rename_if_asked(S3File &file) {
    const char *name = array_is_created(&file.file.metadata)
                           ? fs_metadata_find(&file.file.metadata, FS_METADATA_WRITE_FNAME)
                           : nullptr;
    if (name == nullptr) return;
    i_free(file.file.path);
    file.file.path = i_strdup(name);
    file.key = client_of(file).location().key_of(name);
}

bool must_be_new(const S3File &file) {
    return file.mode == FS_OPEN_MODE_CREATE || file.mode == FS_OPEN_MODE_CREATE_UNIQUE_128;
}

bool hash_matches(const struct fs_file *file, const Payload &payload) {
    if (file->write_digest_method == nullptr || file->write_digest == nullptr) return true;
    std::string_view expected(static_cast<const char *>(file->write_digest), file->write_digest_method->digest_size);
    return expected == payload.md5 || expected == payload.sha256;
}

// The answer to an earlier attempt was lost: is what stands there ours?
bool stands_there(S3File &file, const std::string &checksum) {
    Outcome head = client_of(file).run({.method = "HEAD", .key = file.key, .wants_etag = true});
    return head.error == 0 && head.header(checksum_header) == checksum;
}

Outcome exists_already(S3File &file) {
    Outcome outcome;
    outcome.error = EEXIST;
    outcome.sentence = client_of(file).location().name_of(file.key) + ": there is such an object already";
    return outcome;
}

Outcome put(S3File &file, const Payload &payload, Pairs headers, unsigned *attempts_r) {
    return client_of(file).run(
        {.method = "PUT", .key = file.key, .headers = std::move(headers), .payload = &payload, .wants_etag = true},
        attempts_r);
}

Outcome upload_once(S3File &file, const Payload &payload, const Pairs &headers, unsigned *attempts_r) {
    if (payload.size <= client_of(file).location().multipart_bytes) return put(file, payload, headers, attempts_r);
    *attempts_r = 2; // each of its steps may have had several
    return upload_in_parts(file, payload.input, payload.size, headers);
}

Outcome upload(S3File &file, const Payload &payload) {
    const std::string checksum = to_hex(payload.sha256);
    Pairs headers = metadata_headers(&file.file);
    headers.emplace_back(checksum_header, checksum);
    bool &no_conditions = s3_fs(file.file.fs).no_conditions;
    unsigned attempts = 0;
    if (must_be_new(file) && !no_conditions) {
        Pairs conditional = headers;
        conditional.emplace_back("if-none-match", "*");
        Outcome outcome = upload_once(file, payload, conditional, &attempts);
        bool doubtful = outcome.error == EEXIST || outcome.code == "NoSuchUpload";
        if (doubtful && attempts > 1 && stands_there(file, checksum)) return {};
        if (outcome.error != ENOTSUP) return outcome;
        no_conditions = true;
    }
    if (must_be_new(file) && file_head(file) == 0) return exists_already(file);
    Outcome outcome = upload_once(file, payload, headers, &attempts);
    if (outcome.code == "NoSuchUpload" && stands_there(file, checksum)) return {};
    return outcome;
}

int finish_body(S3File &file, struct istream *body) {
    Payload payload{.input = body};
    uoff_t size;
    if (i_stream_get_size(body, true, &size) > 0) {
        payload.size = size;
        hash_payload(payload);
    }
    if (body->stream_errno != 0) {
        fs_set_error(file.file.event, body->stream_errno, "the temporary file of %s cannot be read: %s", file.file.path,
                     i_stream_get_error(body));
        return -1;
    }
    if (!hash_matches(&file.file, payload)) {
        fs_set_error(file.file.event, EINVAL, "%s: what was written does not match the checksum that was given",
                     file.file.path);
        return -1;
    }
    Outcome outcome = upload(file, payload);
    return outcome.error == 0 ? 1 : set_error(file.file.event, outcome);
}

} // namespace

std::string metadata_name(std::string_view key) {
    std::string name = encode_percent(key, false);
    return t_str_lcase(name.c_str());
}

std::string metadata_value(std::string_view text) {
    std::string value;
    for (char c : text) {
        bool plain = c > ' ' && c < 0x7f && c != '%';
        value += plain ? std::string(1, c) : encode_percent({&c, 1}, false);
    }
    return value;
}

void file_write_stream(struct fs_file *file) {
    if (s3_file(file).mode == FS_OPEN_MODE_APPEND) {
        file->output = o_stream_create_error_str(ENOTSUP, "S3 cannot append to an object");
    } else {
        file->output = iostream_temp_create_sized(file->fs->temp_path_prefix, static_cast<iostream_temp_flags>(0),
                                                  file->path, spool_memory_max);
    }
    o_stream_set_name(file->output, file->path);
}

int file_write_stream_finish(struct fs_file *fs_file, bool success) {
    S3File &file = s3_file(fs_file);
    if (!success) {
        o_stream_destroy(&fs_file->output);
        return -1;
    }
    file_forget(file);
    rename_if_asked(file);
    Stream body(iostream_temp_finish(&fs_file->output, IO_BLOCK_SIZE));
    return finish_body(file, body.get());
}

int file_copy(struct fs_file *source, struct fs_file *target) {
    // New metadata needs the checksum with it: written anew.
    if (target->metadata_changed || source == nullptr || target->copy_src != nullptr)
        return fs_default_copy(source, target);
    S3File &file = s3_file(target);
    Client &client = client_of(file);
    if (must_be_new(file) && file_head(file) == 0) return set_error(target->event, exists_already(file));
    file_forget(file);
    std::string from = "/" + client.location().bucket + "/" + encode_percent(s3_file(source).key, true);
    Outcome outcome = client.run({.method = "PUT", .key = file.key, .headers = {{"x-amz-copy-source", from}}});
    if (outcome.error == 0 && !is_answer(outcome.text, "CopyObjectResult")) {
        outcome.error = EIO;
        outcome.sentence = client.location().name_of(file.key) + ": the server's answer to the copy cannot be read";
    }
    return outcome.error == 0 ? 0 : set_error(target->event, outcome);
}

} // namespace replica::s3
