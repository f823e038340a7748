#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

namespace {

constexpr size_t probe_bytes_max = 64 * 1024;

void crc_init(void *context) { *static_cast<uint32_t *>(context) = 0; }
void crc_loop(void *context, const void *data, size_t size) {
    auto *crc = static_cast<uint32_t *>(context);
    *crc = cbox_crc32(*crc, {static_cast<const char *>(data), size});
}
void crc_result(void *context, unsigned char *digest_r) { memcpy(digest_r, context, sizeof(uint32_t)); }

} // namespace

const struct hash_method cbox_crc32_method = {
    .name = "cbox-crc32",
    .block_size = 1,
    .context_size = sizeof(uint32_t),
    .digest_size = sizeof(uint32_t),
    .init = crc_init,
    .loop = crc_loop,
    .result = crc_result,
};

Guid cbox_blob_new() {
    Guid blob;
    random_fill(blob.bytes.data(), blob.bytes.size());
    return blob;
}

std::string cbox_blob_path(const Guid &account, const Guid &blob) {
    std::string hex = to_hex(blob);
    return to_hex(account) + "/" + hex.substr(0, 2) + "/" + hex;
}

void cbox_blob_delete(CboxStorage *storage, struct event *event, const Guid &blob) {
    std::string path = cbox_blob_path(storage->account_id, blob);
    struct fs_file *file = fs_file_init_with_event(storage->fs, event, path.c_str(), FS_OPEN_MODE_READONLY);
    if (fs_delete(file) < 0 && errno != ENOENT)
        e_error(event, "Blob of a save that was not to be stays behind: %s", fs_file_last_error(file));
    fs_file_deinit(&file);
}

// Makes the names in `dir` durable, and its own, which is up to `levels` above. Once that is done the directory is
// sticky: every other process sees that it need not be done again, and a power loss takes at worst the bit.
static int sync_names(CboxStorage *storage, const std::string &dir, unsigned levels) {
    int fd = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1 || fsync(fd) < 0) {
        mail_storage_set_critical(&storage->storage, "fsync(%s) failed: %m", dir.c_str());
        i_close_fd(&fd);
        return -1;
    }
    struct stat st;
    int ret = 0;
    if (levels > 0 && fstat(fd, &st) == 0 && (st.st_mode & S_ISVTX) == 0) {
        ret = sync_names(storage, dir.substr(0, dir.rfind('/')), levels - 1);
        if (ret == 0) (void)fchmod(fd, (st.st_mode & ALLPERMS) | S_ISVTX);
    }
    i_close_fd(&fd);
    return ret;
}

int cbox_blob_sync_directories(CboxStorage *storage, const char *path) {
    if (strcmp(fs_get_root_driver(storage->fs), "posix") != 0 || path == nullptr || *path != '/') return 0;
    // <root>/<account>/<2 hex>/<blob>: two directories may be new, and their names stand in the one above.
    return sync_names(storage, std::string(path, strrchr(path, '/')), 2);
}

// Without the options behind an S3 URL: stores may differ in them, and credentials are nobody's business.
const char *cbox_blob_root(struct mail_storage *storage) {
    const char *text = cbox_storage(storage)->fs_settings;
    const char *url = strstr(text, "s3:http"), *options = url == nullptr ? nullptr : strchr(url, '?');
    return options == nullptr ? text : t_strdup_until(text, options);
}

ssize_t cbox_fs_read(struct fs_file *file, void *buffer, size_t size) {
    ssize_t ret = fs_read(file, buffer, size);
    return ret < 0 && errno == EAGAIN ? fs_read(file, buffer, size) : ret;
}

static int probe_error(struct mail_storage *storage, struct fs_file **file) {
    mail_storage_set_critical(storage, "%s", fs_file_last_error(*file));
    fs_file_deinit(file);
    return -1;
}

int cbox_blob_probe(struct mail_storage *storage, const char *name, std::string *content, bool write) {
    auto *cbox = cbox_storage(storage);
    std::string path = to_hex(cbox->account_id) + "/" + name;
    struct fs_file *file = fs_file_init_with_event(cbox->fs, storage->event, path.c_str(),
                                                   write ? int(FS_OPEN_MODE_REPLACE) | int(FS_OPEN_FLAG_FSYNC)
                                                         : int(FS_OPEN_MODE_READONLY));
    if (write) {
        if (fs_write(file, content->data(), content->size()) < 0) return probe_error(storage, &file);
    } else {
        content->resize(probe_bytes_max);
        ssize_t ret = cbox_fs_read(file, content->data(), content->size());
        if (ret < 0) return probe_error(storage, &file);
        content->resize(static_cast<size_t>(ret));
    }
    fs_file_deinit(&file);
    return 0;
}

} // namespace replica
