#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <set>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

namespace {

constexpr size_t probe_bytes_max = 64 * 1024, known_directories_max = 16384;

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

static std::set<std::array<uint64_t, 4>> known_directories;

// Whether this process has made this very directory's own name durable before. Its birth tells it from a later one with
// the same inode number.
static bool name_is_durable(int dir_fd) {
    struct statx st;
    if (statx(dir_fd, "", AT_EMPTY_PATH, STATX_INO | STATX_BTIME, &st) < 0 || (st.stx_mask & STATX_BTIME) == 0)
        return false;
    if (known_directories.size() >= known_directories_max) known_directories.clear();
    uint64_t device = uint64_t(st.stx_dev_major) << 32 | st.stx_dev_minor;
    return !known_directories.insert({device, st.stx_ino, uint64_t(st.stx_btime.tv_sec), st.stx_btime.tv_nsec}).second;
}

// 1: and its name may not be durable yet, 0: it is.
static int sync_directory(CboxStorage *storage, const char *dir) {
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd == -1 || fsync(fd) < 0) {
        mail_storage_set_critical(&storage->storage, "fsync(%s) failed: %m", dir);
        i_close_fd(&fd);
        return -1;
    }
    int ret = name_is_durable(fd) ? 0 : 1;
    i_close_fd(&fd);
    return ret;
}

int cbox_blob_sync_directories(CboxStorage *storage, const char *path) {
    if (strcmp(fs_get_root_driver(storage->fs), "posix") != 0 || path == nullptr || *path != '/') return 0;
    // <root>/<account>/<2 hex>/<blob>: two directories may be new, and their names stand in the one above.
    std::string dir = path;
    int ret = 1;
    for (int level = 0; level < 3 && ret > 0; level++) {
        dir.resize(dir.rfind('/'));
        if (dir.empty()) break;
        ret = sync_directory(storage, dir.c_str());
    }
    if (ret >= 0) return 0;
    known_directories.clear(); // what stands below the one that failed is not durable after all
    return -1;
}

// Without the options behind an S3 URL: stores may differ in them, and credentials are nobody's business.
const char *cbox_blob_root(struct mail_storage *storage) {
    const char *text = cbox_storage(storage)->fs_settings;
    const char *url = strstr(text, "s3:http"), *options = url == nullptr ? nullptr : strchr(url, '?');
    return options == nullptr ? text : t_strdup_until(text, options);
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
        ssize_t ret = fs_read(file, content->data(), content->size());
        if (ret < 0) return probe_error(storage, &file);
        content->resize(static_cast<size_t>(ret));
    }
    fs_file_deinit(&file);
    return 0;
}

} // namespace replica
