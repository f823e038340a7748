#include "plugin/cbox/cbox-cache.hpp"
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <algorithm>

namespace replica {

namespace {

constexpr unsigned folders = 256;
constexpr time_t used_again_after = 60; // seconds; a use within these is not noted
constexpr time_t abandoned_after = 3600;
constexpr char unfinished = '.'; // how the name of a file begins that is being written

CboxStorageInside *inside(CboxStorage *storage) { return cbox_storage_inside(&storage->storage); }

std::string folder_of(CboxStorage *storage, const Guid &blob) {
    return std::string(inside(storage)->cache_dir) + "/" + to_hex(blob).substr(0, 2);
}

std::string path_of(CboxStorage *storage, const Guid &blob) { return folder_of(storage, blob) + "/" + to_hex(blob); }

uint64_t folder_bytes(CboxStorage *storage) { return inside(storage)->cache_bytes / folders; }

// So often that a folder is looked at before it is more than an eighth beyond its share, on the average.
bool is_time_to_evict(uint64_t added, uint64_t bytes_max) {
    return added > i_rand_limit(static_cast<uint32_t>(std::min<uint64_t>(bytes_max / 8, UINT32_MAX)));
}

// From the stream's place on. False: it could not be read.
bool checksum(struct istream *input, uint32_t *crc_r, struct ostream *copy) {
    const unsigned char *data;
    size_t size;
    *crc_r = 0;
    while (i_stream_read_more(input, &data, &size) > 0) {
        *crc_r = cbox_crc32(*crc_r, {reinterpret_cast<const char *>(data), size});
        if (copy != nullptr) o_stream_nsend(copy, data, size);
        i_stream_skip(input, size);
    }
    bool ok = input->stream_errno == 0;
    i_stream_seek(input, 0);
    return ok;
}

// --- what is not used goes ---

struct Kept {
    std::string path;
    time_t used;
    uint64_t bytes;
};

std::vector<Kept> files_in(const std::string &folder) {
    std::vector<Kept> files;
    DIR *dir = opendir(folder.c_str());
    if (dir == nullptr) return files;
    while (const struct dirent *entry = readdir(dir)) {
        struct stat st;
        std::string path = folder + "/" + entry->d_name;
        if (stat(path.c_str(), &st) < 0 || !S_ISREG(st.st_mode)) continue;
        if (entry->d_name[0] != unfinished)
            files.push_back({std::move(path), st.st_mtime, static_cast<uint64_t>(st.st_size)});
        else if (st.st_mtime + abandoned_after < time(nullptr))
            (void)unlink(path.c_str()); // its writer was killed
    }
    (void)closedir(dir);
    return files;
}

void evict(const std::string &folder, uint64_t bytes_max) {
    auto files = files_in(folder);
    uint64_t bytes = 0;
    for (const Kept &file : files)
        bytes += file.bytes;
    if (bytes <= bytes_max) return;
    std::ranges::sort(files, {}, &Kept::used);
    // Somewhat below, so that not each addition has to remove something.
    for (size_t i = 0; i < files.size() && bytes > bytes_max - bytes_max / 8; i++) {
        (void)unlink(files[i].path.c_str());
        bytes -= files[i].bytes;
    }
}

// --- what is read comes ---

int create(const std::string &folder, const std::string &path) {
    int fd = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    if (fd == -1 && errno == ENOENT && (mkdir_parents(folder.c_str(), 0700) == 0 || errno == EEXIST))
        fd = open(path.c_str(), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600);
    return fd;
}

// Only what its own trailer says it is.
bool write_blob(int fd, const CboxBody &body) {
    struct ostream *output = o_stream_create_fd_file(fd, 0, false);
    const std::string trailer = encode(body.trailer);
    uint32_t crc;
    bool ok = checksum(body.input, &crc, output) && crc == body.trailer.body_crc;
    o_stream_nsend(output, trailer.data(), trailer.size());
    if (o_stream_finish(output) < 0) ok = false;
    o_stream_destroy(&output);
    return ok;
}

} // namespace

bool cbox_cache_has(CboxStorage *storage, const Guid &blob) {
    return inside(storage)->cache_dir != nullptr && access(path_of(storage, blob).c_str(), R_OK) == 0;
}

CboxBody cbox_cache_open(CboxStorage *storage, struct event *event, const CboxRecord &record) {
    if (inside(storage)->cache_dir == nullptr) return {};
    const std::string path = path_of(storage, Guid::from(record.blob));
    int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd == -1 || fstat(fd, &st) < 0) {
        i_close_fd(&fd);
        return {};
    }
    if (st.st_mtime + used_again_after < time(nullptr)) (void)futimens(fd, nullptr);
    struct istream *input = i_stream_create_fd_autoclose(&fd, small_blob_max);
    i_stream_set_init_buffer_size(input, std::min(static_cast<size_t>(st.st_size) + 1, small_blob_max));
    i_stream_set_name(input, path.c_str());
    auto body = cbox_body_of(input, storage->account_id, record);
    uint32_t crc;
    if (body && checksum(body->input, &crc, nullptr) && crc == body->trailer.body_crc) return *body;
    e_warning(event, "cbox: %s is not what it should be: it is removed, and read anew", path.c_str());
    if (body) i_stream_unref(&body->input);
    (void)unlink(path.c_str());
    return {};
}

void cbox_cache_add(CboxStorage *storage, const Guid &blob, const CboxBody &body) {
    static unsigned added;
    if (inside(storage)->cache_dir == nullptr || body.trailer.body_size > folder_bytes(storage)) return;
    const std::string folder = folder_of(storage, blob), path = path_of(storage, blob);
    const std::string fresh =
        folder + "/" + unfinished + to_hex(blob) + "." + std::to_string(getpid()) + "." + std::to_string(added);
    int fd = create(folder, fresh);
    if (fd == -1) return;
    bool ok = write_blob(fd, body);
    if (close(fd) < 0 || !ok || rename(fresh.c_str(), path.c_str()) < 0) (void)unlink(fresh.c_str());
    added++;
    if (is_time_to_evict(body.trailer.body_size, folder_bytes(storage))) evict(folder, folder_bytes(storage));
}

} // namespace replica
