// Dovecot's index log is the only map of a mailbox here, and of the mailbox list. A process that is killed, or a
// machine that loses power, in the middle of a write leaves a log that ends inside a record. Dovecot then gives the
// whole log up and begins an empty one; other drivers have their mail files to rebuild from. What is incomplete was
// never acknowledged, so it is cut off.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include "plugin/cbox/cbox-driver.hpp"

namespace replica {

static std::string read_whole(int fd) {
    struct stat st;
    std::string text;
    if (fstat(fd, &st) < 0) return text;
    text.resize(static_cast<size_t>(st.st_size));
    ssize_t ret = pread(fd, text.data(), text.size(), 0);
    text.resize(ret < 0 ? 0 : static_cast<size_t>(ret));
    return text;
}

// Where the last whole transaction ends. 0: not a log that can be judged, leave it to Dovecot.
static size_t whole_size(const std::string &log) {
    struct mail_transaction_log_header header;
    if (log.size() < sizeof(header)) return 0;
    memcpy(&header, log.data(), sizeof(header));
    if (header.indexid == 0 || header.hdr_size < sizeof(header) || header.hdr_size > log.size()) return 0;
    size_t pos = header.hdr_size, end_of_transaction = 0;
    struct mail_transaction_header record;
    while (log.size() - pos >= sizeof(record)) {
        memcpy(&record, log.data() + pos, sizeof(record));
        size_t size = mail_index_offset_to_uint32(record.size);
        if (size < sizeof(record) || size > log.size() - pos) break;
        // A boundary says how far the transaction goes that begins with it: all of it, or nothing.
        if ((record.type & MAIL_TRANSACTION_TYPE_MASK) == MAIL_TRANSACTION_BOUNDARY && pos >= end_of_transaction) {
            struct mail_transaction_boundary boundary;
            if (size < sizeof(record) + sizeof(boundary)) break;
            memcpy(&boundary, log.data() + pos + sizeof(record), sizeof(boundary));
            if (boundary.size > log.size() - pos) break;
            end_of_transaction = pos + boundary.size;
        }
        pos += size;
    }
    return pos;
}

static int cut(int fd, const char *path, enum file_lock_method method, struct event *event) {
    struct file_lock_settings settings = {};
    settings.lock_method = method;
    struct file_lock *lock;
    const char *error;
    if (file_wait_lock(fd, path, F_WRLCK, &settings, 60, &lock, &error) <= 0) {
        e_error(event, "%s", error);
        return -1;
    }
    // A writer may have been at it.
    std::string log = read_whole(fd);
    size_t size = whole_size(log);
    int ret = 0;
    if (size != 0 && size != log.size()) {
        e_warning(event, "%s: ends inside a record, %zu bytes are cut off", path, log.size() - size);
        if (ftruncate(fd, static_cast<off_t>(size)) < 0 || fdatasync(fd) < 0) {
            e_error(event, "ftruncate(%s) failed: %m", path);
            ret = -1;
        }
    }
    file_unlock(&lock);
    return ret;
}

int cbox_log_mend(const char *path, enum file_lock_method method, struct event *event) {
    // Dotlocks leave nothing to lock here: whoever uses them gets Dovecot's own answer.
    if (method == FILE_LOCK_METHOD_DOTLOCK) return 0;
    int fd = open(path, O_RDWR | O_CLOEXEC);
    if (fd == -1) return 0; // not there, or Dovecot will say why
    std::string log = read_whole(fd);
    size_t size = whole_size(log);
    int ret = size == 0 || size == log.size() ? 0 : cut(fd, path, method, event);
    i_close_fd(&fd);
    return ret;
}

} // namespace replica
