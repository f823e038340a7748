// The control dir's files of the sweep, and the list of condemned blobs: what may never be referenced again.
#include <sys/mman.h>
#include <sys/stat.h>
#include <algorithm>
#include "plugin/cbox/cbox-sweep.hpp"

namespace replica {

namespace {

constexpr char candidates_name[] = "candidates", condemned_name[] = "condemned";

std::string path_of(struct mail_storage *storage, const char *name) { return cbox_control_dir(storage) + "/" + name; }

int critical(struct mail_storage *storage, const char *call, const std::string &path) {
    mail_storage_set_critical(storage, "%s(%s) failed: %m", call, path.c_str());
    return -1;
}

int unreadable(struct mail_storage *storage, const std::string &path, const Error &error) {
    mail_storage_set_critical(storage, "%s cannot be used: %s", path.c_str(), error.message.c_str());
    return -1;
}

int read_list(struct mail_storage *storage, const char *name, CboxBlobList *list_r) {
    std::string content;
    list_r->clear();
    int ret = cbox_control_read(storage, name, &content);
    if (ret <= 0) return ret;
    auto list = cbox_blob_list_decode(content);
    if (!list) return unreadable(storage, path_of(storage, name), list.error());
    *list_r = std::move(*list);
    return 0;
}

} // namespace

int cbox_control_read(struct mail_storage *storage, const char *name, std::string *content_r) {
    std::string path = path_of(storage, name);
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd == -1) return errno == ENOENT ? 0 : critical(storage, "open", path);
    struct stat st;
    if (fstat(fd, &st) < 0) st.st_size = -1;
    content_r->resize(st.st_size < 0 ? 0 : static_cast<size_t>(st.st_size));
    ssize_t ret = st.st_size < 0 ? -1 : pread_full(fd, content_r->data(), content_r->size(), 0);
    i_close_fd(&fd);
    return ret < 0 ? critical(storage, "read", path) : 1;
}

int cbox_control_write(struct mail_storage *storage, const char *name, const std::string &content,
                       const char *aside_as) {
    std::string dir = cbox_control_dir(storage), path = dir + "/" + name, aside = path + "." + aside_as;
    if (mkdir_parents(dir.c_str(), 0700) < 0 && errno != EEXIST) return critical(storage, "mkdir", dir);
    int fd = open(aside.c_str(), O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0600);
    if (fd == -1) return critical(storage, "open", aside);
    bool written = write_full(fd, content.data(), content.size()) == 0 && fsync(fd) == 0;
    if (!written) (void)critical(storage, "write", aside);
    i_close_fd(&fd);
    if (!written) return -1;
    if (rename(aside.c_str(), path.c_str()) < 0) return critical(storage, "rename", path);
    return fdatasync_path(dir.c_str()) < 0 ? critical(storage, "fdatasync_path", dir) : 0;
}

int cbox_candidates_read(struct mail_storage *storage, CboxBlobList *list_r) {
    return read_list(storage, candidates_name, list_r);
}

int cbox_candidates_write(struct mail_storage *storage, const CboxBlobList &list) {
    return cbox_control_write(storage, candidates_name, encode(list));
}

int cbox_condemned_read(struct mail_storage *storage, CboxBlobList *list_r) {
    return read_list(storage, condemned_name, list_r);
}

int cbox_condemned_change(struct mail_storage *storage, const std::vector<Guid> &condemn,
                          const std::vector<Guid> &release) {
    CboxBlobList list;
    if (cbox_condemned_read(storage, &list) < 0) return -1;
    std::erase_if(list, [&](const CboxListed &listed) { return std::ranges::binary_search(release, listed.blob); });
    CboxBlobList fresh;
    for (const Guid &blob : condemn)
        if (cbox_blob_list_find(list, blob) == nullptr) fresh.push_back({blob, static_cast<uint64_t>(ioloop_time)});
    list.insert(list.end(), fresh.begin(), fresh.end());
    std::ranges::sort(list);
    return cbox_control_write(storage, condemned_name, encode(list));
}

CboxCondemned::~CboxCondemned() {
    if (map_ != nullptr) (void)munmap(map_, size_);
}

int CboxCondemned::open(struct mail_storage *storage) {
    std::string path = path_of(storage, condemned_name);
    int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd == -1) return errno == ENOENT ? 0 : critical(storage, "open", path);
    struct stat st;
    int ret = fstat(fd, &st);
    size_ = static_cast<size_t>(st.st_size);
    void *map = ret < 0 || size_ == 0 ? MAP_FAILED : mmap(nullptr, size_, PROT_READ, MAP_SHARED, fd, 0);
    i_close_fd(&fd);
    if (map == MAP_FAILED) return critical(storage, "mmap", path);
    map_ = map;
    auto entries = cbox_blob_list_entries({static_cast<const char *>(map_), size_});
    if (!entries) return unreadable(storage, path, entries.error());
    entries_ = *entries;
    return 0;
}

} // namespace replica
