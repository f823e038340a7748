// lib-fs's driver "s3". What each function promises stands in Dovecot's fs-api.h; what S3 cannot do (append, rename,
// lock) is refused with ENOTSUP.
#pragma once
#include "plugin/fs_s3/s3-client.hpp"

namespace replica::s3 {

struct S3Fs {
    struct fs fs;
    std::unique_ptr<Client> client;
    bool no_conditions; // this server does not know If-None-Match
};

// What is known of an object without its body.
struct ObjectInfo {
    uint64_t size = 0;
    std::time_t modified = 0;
    Pairs metadata;
};

struct S3File {
    struct fs_file file;
    enum fs_open_mode mode;
    std::string key;

    std::unique_ptr<Call> reading; // under way; what it is for:
    bool reading_tail;
    Stream body; // what was read: the whole object, or its end from `body_from` on
    uint64_t body_from;
    std::optional<ObjectInfo> info;
    int read_error; // errno
    std::string read_sentence;

    struct istream *stream; // given out and alive
    fs_file_async_callback_t *callback;
    void *callback_context;
};

inline S3Fs &s3_fs(struct fs *fs) { return *reinterpret_cast<S3Fs *>(fs); }
inline S3File &s3_file(struct fs_file *file) { return *reinterpret_cast<S3File *>(file); }
inline Client &client_of(const S3File &file) { return *s3_fs(file.file.fs).client; }

// -1 for lib-fs, with errno and sentence set.
int set_error(struct event *event, const Outcome &outcome);

// reading: fs-s3-read.cpp
bool file_prefetch(struct fs_file *file, uoff_t length);
ssize_t file_read(struct fs_file *file, void *buffer, size_t size);
struct istream *file_read_stream(struct fs_file *file, size_t max_buffer_size);
void file_forget(S3File &file); // what was read or is under way
// 1: everything from `offset` on is in file.body; 0: not yet (only if !wait); -1: file.read_error
int file_fetch(S3File &file, uint64_t offset, bool wait);
// 1: file.info is known; 0: not yet; -1: file.read_error
int file_fetch_size(S3File &file, bool wait);
int file_head(S3File &file); // -1: lib-fs's error is set

// writing: fs-s3-write.cpp
void file_write_stream(struct fs_file *file);
int file_write_stream_finish(struct fs_file *file, bool success);
int file_copy(struct fs_file *source, struct fs_file *target);

// a body above the limit: fs-s3-multipart.cpp
Outcome upload_in_parts(S3File &file, struct istream *body, uint64_t size, Pairs headers);

// listing: fs-s3-iter.cpp
struct fs_iter *iter_alloc();
void iter_init(struct fs_iter *iter, const char *path, enum fs_iter_flags flags);
const char *iter_next(struct fs_iter *iter);
int iter_deinit(struct fs_iter *iter);

// Metadata as it stands in headers: any text becomes printable ASCII and back.
std::string metadata_name(std::string_view key);
std::string metadata_value(std::string_view text);
ObjectInfo info_of(const Outcome &outcome);

} // namespace replica::s3
