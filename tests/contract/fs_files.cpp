#include <algorithm>
#include <cstdlib>
#include "tests/contract/fs_files.hpp"

extern "C" {
#include "iostream-ssl.h"
}

namespace replica::test {

namespace {

constexpr size_t small_max = 128 * 1024;

Outcome outcome_of(struct fs_file *file, bool good) {
    if (good) return {};
    int error = errno;
    return {error == 0 ? EIO : error, fs_file_last_error(file)};
}

Outcome closed(struct fs_file *file, bool good) {
    Outcome outcome = outcome_of(file, good);
    fs_file_deinit(&file);
    return outcome;
}

// To the stream's end, waiting where it has nothing yet.
void read_rest(struct fs *fs, struct istream *input, Content *content) {
    const unsigned char *data;
    size_t size;
    ssize_t ret;
    while ((ret = i_stream_read_more(input, &data, &size)) >= 0) {
        if (ret == 0) fs_wait_async(fs);
        content->bytes.append(reinterpret_cast<const char *>(data), size);
        i_stream_skip(input, size);
    }
    if (input->stream_errno == 0) return;
    content->error = input->stream_errno;
    content->words = i_stream_get_error(input);
}

// And closes it.
Content read_once(struct fs_file *file) {
    Content content;
    content.bytes.resize(small_max);
    ssize_t ret = fs_read(file, content.bytes.data(), small_max);
    content.bytes.resize(static_cast<size_t>(std::max<ssize_t>(ret, 0)));
    static_cast<Outcome &>(content) = closed(file, ret >= 0);
    return content;
}

} // namespace

Files::Files(const std::string &location, std::string folder) : folder_(std::move(folder)) {
    struct fs_settings set = {};
    struct ssl_iostream_settings ssl = {};
    ssl.min_protocol = "TLSv1.2";
    ssl.ca_file = getenv("CONTRACT_CA");
    set.ssl_client_set = &ssl;
    set.temp_dir = "/tmp";
    const char *error;
    if (fs_init_from_string(location.c_str(), &set, &fs_, &error) < 0) i_fatal("%s", error);
}

Files::~Files() { fs_deinit(&fs_); }

Outcome Files::write(const std::string &name, const std::string &bytes, int mode) const {
    struct fs_file *file = open(name, mode);
    bool good = fs_write(file, bytes.data(), bytes.size()) == 0;
    return closed(file, good);
}

Outcome Files::write_stream(const std::string &name, const std::string &bytes, size_t piece,
                            const std::function<void()> &before_end) const {
    struct fs_file *file = open(name, FS_OPEN_MODE_REPLACE);
    struct ostream *output = fs_write_stream(file);
    for (size_t at = 0; at < bytes.size(); at += piece)
        o_stream_nsend(output, bytes.data() + at, std::min(piece, bytes.size() - at));
    if (before_end) before_end();
    bool good = fs_write_stream_finish(file, &output) > 0;
    return closed(file, good);
}

Outcome Files::abort_stream(const std::string &name, const std::string &bytes) const {
    struct fs_file *file = open(name, FS_OPEN_MODE_REPLACE);
    struct ostream *output = fs_write_stream(file);
    o_stream_nsend(output, bytes.data(), bytes.size());
    fs_write_stream_abort_error(file, &output, "on purpose");
    (void)fs_file_last_error(file); // known
    fs_file_deinit(&file);
    return {};
}

Outcome Files::write_hashed(const std::string &name, const std::string &bytes, const struct hash_method *method,
                            const std::string &hashed) const {
    std::string digest(method->digest_size, '\0'), context(method->context_size, '\0');
    method->init(context.data());
    method->loop(context.data(), hashed.data(), hashed.size());
    method->result(context.data(), reinterpret_cast<unsigned char *>(digest.data()));
    struct fs_file *file = open(name, FS_OPEN_MODE_REPLACE);
    fs_write_set_hash(file, method, digest.data());
    bool good = fs_write(file, bytes.data(), bytes.size()) == 0;
    return closed(file, good);
}

Content Files::read(const std::string &name) const {
    Content content;
    struct fs_file *file = open(name, FS_OPEN_MODE_READONLY);
    struct istream *input = fs_read_stream(file, IO_BLOCK_SIZE);
    read_rest(fs_, input, &content);
    i_stream_unref(&input);
    fs_file_deinit(&file);
    return content;
}

Content Files::read_at(const std::string &name, const std::vector<std::pair<uoff_t, size_t>> &ranges) const {
    Content content;
    struct fs_file *file = open(name, int(FS_OPEN_MODE_READONLY) | int(FS_OPEN_FLAG_SEEKABLE));
    struct istream *input = fs_read_stream(file, IO_BLOCK_SIZE);
    for (auto [offset, size] : ranges) {
        const unsigned char *data;
        size_t available;
        i_stream_seek(input, offset);
        while (size > 0 && i_stream_read_more(input, &data, &available) > 0) {
            available = std::min(size, available);
            content.bytes.append(reinterpret_cast<const char *>(data), available);
            i_stream_skip(input, available);
            size -= available;
        }
    }
    content.error = input->stream_errno;
    if (content.error != 0) content.words = i_stream_get_error(input);
    i_stream_unref(&input);
    fs_file_deinit(&file);
    return content;
}

Content Files::read_small(const std::string &name) const { return read_once(open(name, FS_OPEN_MODE_READONLY)); }

std::vector<Content> Files::prefetch(const std::vector<std::string> &names) const {
    std::vector<struct fs_file *> files;
    for (const auto &name : names) {
        files.push_back(open(name, int(FS_OPEN_MODE_READONLY) | int(FS_OPEN_FLAG_SEEKABLE) | int(FS_OPEN_FLAG_ASYNC)));
        (void)fs_prefetch(files.back(), 0);
    }
    std::vector<Content> contents;
    for (auto *file : files) {
        fs_file_set_flags(file, static_cast<fs_open_flags>(0), FS_OPEN_FLAG_ASYNC);
        contents.push_back(read_once(file));
    }
    return contents;
}

Content Files::stat(const std::string &name) const {
    struct stat st;
    struct fs_file *file = open(name, FS_OPEN_MODE_READONLY);
    int ret = fs_stat(file, &st);
    return {closed(file, ret == 0), ret == 0 ? std::to_string(st.st_size) : ""};
}

Content Files::exists(const std::string &name) const {
    struct fs_file *file = open(name, FS_OPEN_MODE_READONLY);
    int ret = fs_exists(file);
    return {closed(file, ret >= 0), ret > 0 ? "yes" : "no"};
}

Outcome Files::remove(const std::string &name) const {
    struct fs_file *file = open(name, FS_OPEN_MODE_READONLY);
    int ret = fs_delete(file);
    return closed(file, ret == 0);
}

Outcome Files::copy(const std::string &from, const std::string &to) const {
    struct fs_file *source = open(from, FS_OPEN_MODE_READONLY), *target = open(to, FS_OPEN_MODE_REPLACE);
    int ret = fs_copy(source, target);
    Outcome outcome = closed(target, ret == 0);
    fs_file_deinit(&source);
    return outcome;
}

std::vector<std::string> Files::list(const std::string &name, int flags, Outcome *outcome) const {
    std::vector<std::string> names;
    struct fs_iter *iter = fs_iter_init(fs_, path(name).c_str(), static_cast<fs_iter_flags>(flags));
    while (const char *found = fs_iter_next(iter))
        names.emplace_back(found);
    const char *error;
    int ret = fs_iter_deinit(&iter, &error);
    if (outcome != nullptr) *outcome = ret == 0 ? Outcome{} : Outcome{errno, error};
    std::sort(names.begin(), names.end());
    return names;
}

} // namespace replica::test
