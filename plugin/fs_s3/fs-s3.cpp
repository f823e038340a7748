#include "plugin/fs_s3/fs-s3.hpp"

extern "C" const struct fs fs_class_s3;

namespace replica::s3 {

namespace {

constexpr unsigned idle_ms = 30'000;

struct fs *fs_alloc() {
    auto *s3 = new S3Fs{};
    s3->fs = fs_class_s3;
    return &s3->fs;
}

int open_fs(struct fs *fs, const char *args, compat::FsInput *input, const char **error_r) {
    std::string url;
    if (compat::fs_url(fs, args, &url, error_r) < 0) return -1;
    auto location = parse_location(url);
    if (!location) {
        *error_r = t_strdup(location.error().message.c_str());
        return -1;
    }
    const compat::HttpOptions options = {
        .connections = location->connections,
        .attempt_ms = static_cast<unsigned>(location->timeout.count()),
        .idle_ms = idle_ms,
        .ca_file = location->ca_file.empty() ? nullptr : location->ca_file.c_str(),
    };
    struct http_client *http = compat::http_client_once(fs, input, options, error_r);
    if (http == nullptr) return -1;
    s3_fs(fs).client = std::make_unique<Client>(std::move(*location), fs, http);
    return 0;
}

void fs_deinit(struct fs *fs) { s3_fs(fs).client.reset(); }
void fs_free(struct fs *fs) { delete &s3_fs(fs); }

enum fs_properties fs_properties(struct fs *) {
    return static_cast<enum fs_properties>(
        FS_PROPERTY_METADATA | FS_PROPERTY_FASTCOPY | FS_PROPERTY_STAT | FS_PROPERTY_ITER | FS_PROPERTY_RELIABLEITER |
        FS_PROPERTY_WRITE_HASH_MD5 | FS_PROPERTY_WRITE_HASH_SHA256 | FS_PROPERTY_COPY_METADATA | FS_PROPERTY_ASYNC);
}

struct fs_file *file_alloc() {
    return &(new S3File{})->file;
}

void file_init(struct fs_file *fs_file, const char *path, enum fs_open_mode mode, enum fs_open_flags) {
    S3File &file = s3_file(fs_file);
    file.mode = mode;
    guid_128_t name;
    if (mode == FS_OPEN_MODE_CREATE_UNIQUE_128) {
        guid_128_generate(name);
        fs_file->path = i_strdup_printf("%s/%s", path, guid_128_to_string(name));
    } else {
        fs_file->path = i_strdup(path);
    }
    file.key = s3_fs(fs_file->fs).client->location().key_of(fs_file->path);
}

void file_close(struct fs_file *file) { file_forget(s3_file(file)); }

void file_deinit(struct fs_file *fs_file) {
    file_forget(s3_file(fs_file));
    fs_file_free(fs_file);
    i_free(fs_file->path);
    delete &s3_file(fs_file);
}

void set_async_callback(struct fs_file *fs_file, fs_file_async_callback_t *callback, void *context) {
    S3File &file = s3_file(fs_file);
    file.callback = callback;
    file.callback_context = context;
    if (file.reading == nullptr || file.reading->finished()) callback(context);
}

void wait_async(struct fs *fs) { s3_fs(fs).client->wait_any(); }
bool switch_ioloop(struct fs *fs) { return s3_fs(fs).client->move_to_current_ioloop(); }

int get_metadata(struct fs_file *file, enum fs_get_metadata_flags flags, const ARRAY_TYPE(fs_metadata) * *metadata_r) {
    S3File &s3 = s3_file(file);
    fs_metadata_init(file);
    if ((flags & FS_GET_METADATA_FLAG_LOADED_ONLY) == 0 && (s3.info || file_head(s3) == 0)) {
        fs_metadata_init_or_clear(file);
        for (const auto &[name, value] : s3.info->metadata)
            fs_default_set_metadata(file, name.c_str(), value.c_str());
    }
    *metadata_r = &file->metadata;
    return (flags & FS_GET_METADATA_FLAG_LOADED_ONLY) != 0 || s3.info ? 0 : -1;
}

int file_stat(struct fs_file *fs_file, struct stat *st_r) {
    S3File &file = s3_file(fs_file);
    *st_r = {};
    if (!file.info && file_head(file) < 0) return -1;
    st_r->st_mode = S_IFREG | S_IRUSR | S_IWUSR;
    st_r->st_size = static_cast<off_t>(file.info->size);
    st_r->st_mtime = st_r->st_ctime = st_r->st_atime = file.info->modified;
    st_r->st_nlink = 1;
    return 0;
}

int file_exists(struct fs_file *fs_file) {
    if (file_head(s3_file(fs_file)) == 0) return 1;
    return errno == ENOENT ? 0 : -1;
}

// S3 does not tell whether there was something to delete.
int file_delete(struct fs_file *fs_file) {
    S3File &file = s3_file(fs_file);
    file_forget(file);
    Outcome outcome = client_of(file).run({.method = "DELETE", .key = file.key});
    return outcome.error == 0 ? 0 : set_error(fs_file->event, outcome);
}

int not_supported(struct fs_file *file, const char *what) {
    fs_set_error(file->event, ENOTSUP, "S3 cannot %s an object", what);
    return -1;
}
int file_lock(struct fs_file *file, unsigned, struct fs_lock **) { return not_supported(file, "lock"); }
void file_unlock(struct fs_lock *) {}
int file_rename(struct fs_file *, struct fs_file *target) { return not_supported(target, "rename"); }

} // namespace

int set_error(struct event *event, const Outcome &outcome) {
    fs_set_error(event, outcome.error, "%s", outcome.sentence.c_str());
    return -1;
}

const struct fs_vfuncs functions = {
    .alloc = fs_alloc,
    .init = compat::fs_init<open_fs>,
    .deinit = fs_deinit,
    .free = fs_free,
    .get_properties = fs_properties,
    .file_alloc = file_alloc,
    .file_init = file_init,
    .file_deinit = file_deinit,
    .file_close = file_close,
    .set_async_callback = set_async_callback,
    .wait_async = wait_async,
    .set_metadata = fs_default_set_metadata,
    .get_metadata = get_metadata,
    .prefetch = file_prefetch,
    .read = file_read,
    .read_stream = file_read_stream,
    .write_stream = file_write_stream,
    .write_stream_finish = file_write_stream_finish,
    .lock = file_lock,
    .unlock = file_unlock,
    .exists = file_exists,
    .stat = file_stat,
    .copy = file_copy,
    .rename = file_rename,
    .delete_file = file_delete,
    .iter_alloc = iter_alloc,
    .iter_init = iter_init,
    .iter_next = iter_next,
    .iter_deinit = iter_deinit,
    .switch_ioloop = switch_ioloop,
};

} // namespace replica::s3

extern "C" {
extern const char *fs_s3_version;
const char *fs_s3_version = DOVECOT_ABI_VERSION;
extern const struct fs fs_class_s3;
const struct fs fs_class_s3 = {.name = "s3", .v = replica::s3::functions};
void fs_s3_init(struct module *);
void fs_s3_init(struct module *) {}
void fs_s3_deinit();
void fs_s3_deinit() {}
}
