#include <algorithm>
#include <cstdio>
#include <cstring>
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "plugin/cbox/cbox-aside.hpp"

namespace replica {

namespace {

int failed(struct mailbox *box, const char *call, const std::string &path) {
    mailbox_set_critical(box, "cbox: %s(%s) failed: %m", call, path.c_str());
    return -1;
}

std::string index_file(struct mailbox *box, const std::string &dir, const char *suffix) {
    return dir + "/" + box->index->prefix + suffix;
}

int sync_path(struct mailbox *box, const std::string &path) {
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) return failed(box, "open", path);
    int ret = fsync(fd);
    if (ret < 0) (void)failed(box, "fsync", path);
    close(fd);
    return ret;
}

int write_new(struct mailbox *box, const std::string &path, const void *data, size_t size, mode_t mode) {
    int fd = open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode);
    if (fd < 0) return failed(box, "open", path);
    int ret = write(fd, data, size) == static_cast<ssize_t>(size) ? 0 : failed(box, "write", path);
    close(fd);
    return ret;
}

// Dovecot's STATUS cache compares size and time (in seconds) of the log.
int differ_in_time(struct mailbox *box, const std::string &live_log, const std::string &new_log) {
    struct stat live;
    if (stat(live_log.c_str(), &live) < 0) return failed(box, "stat", live_log);
    struct timespec times[2] = {{0, UTIME_NOW}, {std::max(live.st_mtim.tv_sec, time(nullptr)) + 1, 0}};
    return utimensat(AT_FDCWD, new_log.c_str(), times, 0) == 0 ? 0 : failed(box, "utimensat", new_log);
}

// Calls move(from, to) for everything in `from_dir` that is not of the index: ACLs, full text.
template <class Move>
int for_each_foreign(struct mailbox *box, const std::string &from_dir, const std::string &to_dir, Move move) {
    DIR *entries = opendir(from_dir.c_str());
    if (entries == nullptr) return errno == ENOENT ? 0 : failed(box, "opendir", from_dir);
    int ret = 0;
    const size_t prefix_bytes = strlen(box->index->prefix);
    while (const struct dirent *entry = readdir(entries)) {
        const std::string name = entry->d_name;
        if (name == "." || name == ".." || name.compare(0, prefix_bytes, box->index->prefix) == 0) continue;
        if (move(from_dir + "/" + name, to_dir + "/" + name) < 0) ret = -1;
    }
    closedir(entries);
    return ret;
}

// Files are in both directories before the exchange, so that no crash takes an ACL away.
int share_files(struct mailbox *box, const std::string &dir) {
    return for_each_foreign(box, box->index->dir, dir, [box](const std::string &from, const std::string &to) {
        struct stat st;
        if (lstat(from.c_str(), &st) < 0 || !S_ISREG(st.st_mode) || link(from.c_str(), to.c_str()) == 0) return 0;
        return errno == EEXIST ? 0 : failed(box, "link", from);
    });
}

// What else there is (directories) is moved after it, unless the live directory has it anew.
int rescue(struct mailbox *box, const std::string &dir) {
    return for_each_foreign(box, dir, box->index->dir, [box](const std::string &from, const std::string &to) {
        if (renameat2(AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), RENAME_NOREPLACE) == 0) return 0;
        return errno == EEXIST ? 0 : failed(box, "rename", from);
    });
}

// Who idles watches the live log's file, and is told nothing when its directory is renamed, but when its size is set.
void wake_watchers(struct mailbox *box, const std::string &dir) {
    const std::string log = index_file(box, dir, ".log");
    struct stat st;
    if (stat(log.c_str(), &st) == 0 && truncate(log.c_str(), st.st_size) < 0) (void)failed(box, "truncate", log);
}

} // namespace

std::string aside_path(struct mailbox *box) { return std::string(box->index->dir) + ".cbox-build"; }

int aside_create(struct mailbox *box, const std::string &dir) {
    if (aside_remove(box, dir) < 0) return -1;
    struct stat live;
    if (stat(box->index->dir, &live) < 0) return failed(box, "stat", box->index->dir);
    if (mkdir(dir.c_str(), 0700) < 0) return failed(box, "mkdir", dir);
    if (chown(dir.c_str(), static_cast<uid_t>(-1), live.st_gid) < 0 && errno != EPERM) return failed(box, "chown", dir);
    return chmod(dir.c_str(), live.st_mode & 07777) == 0 ? 0 : failed(box, "chmod", dir);
}

int aside_seed(struct mailbox *box, const std::string &dir, uint32_t log_seq) {
    struct mail_index_header header;
    memset(&header, 0, sizeof(header));
    header.major_version = MAIL_INDEX_MAJOR_VERSION;
    header.minor_version = MAIL_INDEX_MINOR_VERSION;
    header.base_header_size = header.header_size = sizeof(header);
    header.record_size = sizeof(struct mail_index_record);
    header.compat_flags = box->index->map->hdr.compat_flags;
    header.indexid = box->index->indexid;
    header.next_uid = header.first_recent_uid = 1;
    header.log_file_seq = log_seq;
    return write_new(box, index_file(box, dir, ""), &header, sizeof(header), box->index->set.mode);
}

int aside_sync(struct mailbox *box, const std::string &dir) {
    // The log that the index file supersedes: sessions would only read it in vain.
    const std::string old_log = index_file(box, dir, ".log.2");
    if (unlink(old_log.c_str()) < 0 && errno != ENOENT) return failed(box, "unlink", old_log);
    for (const char *suffix : {"", ".log", ".cache"})
        if (sync_path(box, index_file(box, dir, suffix)) < 0) return -1;
    return sync_path(box, dir);
}

int aside_exchange(struct mailbox *box, const std::string &dir) {
    const std::string live = box->index->dir;
    if (share_files(box, dir) < 0) return -1;
    if (differ_in_time(box, index_file(box, live, ".log"), index_file(box, dir, ".log")) < 0) return -1;
    if (renameat2(AT_FDCWD, dir.c_str(), AT_FDCWD, live.c_str(), RENAME_EXCHANGE) < 0)
        return failed(box, "renameat2", live);
    return sync_path(box, live.substr(0, live.rfind('/')));
}

int aside_remove(struct mailbox *box, const std::string &dir) {
    if (rescue(box, dir) < 0) return -1;
    wake_watchers(box, dir);
    const char *error;
    if (unlink_directory(dir.c_str(), UNLINK_DIRECTORY_FLAG_RMDIR, &error) < 0 && errno != ENOENT) {
        mailbox_set_critical(box, "cbox: %s", error);
        return -1;
    }
    return 0;
}

} // namespace replica
