#include "plugin/fs_s3/fs-s3.hpp"
#include <charconv>

namespace replica::s3 {

namespace {

constexpr uint64_t tail_bytes = 16 * 1024; // holds what a reader of trailers wants, and most small bodies whole

struct BodyStream {
    struct istream_private stream;
    S3File *file;
};
S3File &file_of(struct istream_private *stream) { return *reinterpret_cast<BodyStream *>(stream)->file; }

void call_done(S3File *file) {
    if (file->stream != nullptr) i_stream_set_input_pending(file->stream, true);
    if (file->callback != nullptr) file->callback(file->callback_context);
}

void start(S3File &file, bool tail) {
    file.read_error = 0;
    file.reading_tail = tail;
    Operation operation{.method = "GET", .key = file.key, .brings_object = true, .wants_etag = true};
    if (tail) operation.headers.emplace_back("range", "bytes=-" + std::to_string(tail_bytes));
    file.reading = std::make_unique<Call>(client_of(file), std::move(operation), [&file] { call_done(&file); });
}

// "bytes 100-199/200": where it begins, and how much there is in all.
bool parse_range(std::string_view text, uint64_t *from_r, uint64_t *total_r) {
    auto slash = text.find('/');
    if (!text.starts_with("bytes ") || slash == text.npos) return false;
    const char *from = text.data() + 6, *total = text.data() + slash + 1, *end = text.data() + text.size();
    auto [from_end, from_failed] = std::from_chars(from, end, *from_r);
    auto [total_end, total_failed] = std::from_chars(total, end, *total_r);
    return from_failed == std::errc() && *from_end == '-' && total_failed == std::errc() && total_end == end;
}

// The call has ended: what it brought becomes the file's.
void harvest(S3File &file) {
    auto call = std::move(file.reading);
    Outcome &outcome = call->outcome();
    if (outcome.error != 0) {
        file.read_error = outcome.error;
        file.read_sentence = outcome.sentence;
        return;
    }
    file.info = info_of(outcome);
    file.body_from = 0;
    if (auto range = outcome.header("content-range");
        !range.empty() && !parse_range(range, &file.body_from, &file.info->size)) {
        file.read_error = EIO;
        file.read_sentence =
            client_of(file).location().name_of(file.key) + ": the server's Content-Range cannot be read";
        return;
    }
    file.body = std::move(outcome.object);
    // An answer with an empty body has no stream.
    if (file.body == nullptr) file.body.reset(i_stream_create_from_data("", 0));
}

// 1: nothing is under way any more.
int settle(S3File &file, bool wait) {
    if (file.reading == nullptr) return 1;
    if (wait) client_of(file).wait(*file.reading);
    if (!file.reading->finished()) return 0;
    harvest(file);
    return 1;
}

ssize_t stream_failed(struct istream_private *stream, S3File &file) {
    stream->istream.stream_errno = file.read_error;
    io_stream_set_error(&stream->iostream, "%s", file.read_sentence.c_str());
    file.read_error = 0; // it is the stream's now; another one tries again
    return -1;
}

ssize_t stream_read(struct istream_private *stream) {
    S3File &file = file_of(stream);
    uint64_t offset = stream->istream.v_offset + (stream->pos - stream->skip);
    int ret = file_fetch(file, offset, stream->istream.blocking);
    if (ret <= 0) return ret < 0 ? stream_failed(stream, file) : 0;

    const unsigned char *data;
    size_t size, room;
    i_stream_seek(file.body.get(), offset - file.body_from);
    if (i_stream_read_more(file.body.get(), &data, &size) <= 0) {
        stream->istream.stream_errno = file.body->stream_errno;
        stream->istream.eof = true;
        return -1;
    }
    if (!i_stream_try_alloc(stream, size, &room)) return -2;
    size = std::min(size, room);
    memcpy(stream->w_buffer + stream->pos, data, size);
    stream->pos += size;
    return static_cast<ssize_t>(size);
}

int stream_get_size(struct istream_private *stream, bool, uoff_t *size_r) {
    S3File &file = file_of(stream);
    int ret = file_fetch_size(file, stream->istream.blocking);
    if (ret < 0) return static_cast<int>(stream_failed(stream, file));
    if (ret > 0) *size_r = file.info->size;
    return ret;
}

int stream_stat(struct istream_private *stream, bool exact) {
    uoff_t size = 0;
    int ret = exact ? stream_get_size(stream, exact, &size) : 0;
    stream->statbuf.st_size = ret > 0 ? static_cast<off_t>(size) : -1;
    return ret < 0 ? -1 : 0;
}

void stream_gone(S3File *file) { file->stream = nullptr; }

} // namespace

int file_fetch(S3File &file, uint64_t offset, bool wait) {
    for (;;) {
        if (settle(file, wait) == 0) return 0;
        if (file.read_error != 0) return -1;
        if (file.body != nullptr && offset >= file.body_from) return 1;
        start(file, false);
    }
}

int file_fetch_size(S3File &file, bool wait) {
    if (file.info) return 1;
    if (file.reading == nullptr && file.read_error == 0) start(file, wait);
    if (settle(file, wait) == 0) return 0;
    // An empty object has no last bytes.
    if (file.read_error == EIO && file.reading_tail && !file.info) {
        start(file, false);
        if (settle(file, wait) == 0) return 0;
    }
    return file.read_error != 0 ? -1 : 1;
}

bool file_prefetch(struct fs_file *fs_file, uoff_t) {
    S3File &file = s3_file(fs_file);
    if (file.reading == nullptr && file.body == nullptr && file.read_error == 0) start(file, false);
    return settle(file, false) == 1;
}

// From the beginning, as fs-posix does.
ssize_t file_read(struct fs_file *fs_file, void *buffer, size_t size) {
    S3File &file = s3_file(fs_file);
    int ret = file_fetch(file, 0, (fs_file->flags & FS_OPEN_FLAG_ASYNC) == 0);
    if (ret == 0) fs_file_set_error_async(fs_file);
    if (ret < 0) {
        fs_set_error(fs_file->event, file.read_error, "%s", file.read_sentence.c_str());
        file.read_error = 0; // the next one tries again
    }
    if (ret <= 0) return -1;

    const unsigned char *data;
    size_t available, done = 0;
    i_stream_seek(file.body.get(), 0);
    while (done < size && i_stream_read_more(file.body.get(), &data, &available) > 0) {
        available = std::min(available, size - done);
        memcpy(static_cast<char *>(buffer) + done, data, available);
        i_stream_skip(file.body.get(), available);
        done += available;
    }
    if (file.body->stream_errno == 0) return static_cast<ssize_t>(done);
    fs_set_error(fs_file->event, file.body->stream_errno, "the temporary file of %s cannot be read: %s", fs_file->path,
                 i_stream_get_error(file.body.get()));
    return -1;
}

struct istream *file_read_stream(struct fs_file *fs_file, size_t max_buffer_size) {
    S3File &file = s3_file(fs_file);
    auto *body = i_new(BodyStream, 1);
    body->file = &file;
    body->stream.max_buffer_size = max_buffer_size;
    body->stream.read = stream_read;
    body->stream.get_size = stream_get_size;
    body->stream.stat = stream_stat;
    body->stream.istream.seekable = true;
    body->stream.istream.blocking = (fs_file->flags & FS_OPEN_FLAG_ASYNC) == 0;
    if (!body->stream.istream.blocking) (void)file_fetch(file, 0, false);

    file.stream = i_stream_create(&body->stream, nullptr, -1, static_cast<istream_create_flag>(0));
    i_stream_set_name(file.stream, client_of(file).location().name_of(file.key).c_str());
    (i_stream_add_destroy_callback)(file.stream, reinterpret_cast<istream_callback_t *>(stream_gone), &file);
    return file.stream;
}

void file_forget(S3File &file) {
    file.reading.reset();
    file.body.reset();
    file.info.reset();
    file.read_error = 0;
}

int file_head(S3File &file) {
    Outcome outcome = client_of(file).run({.method = "HEAD", .key = file.key, .wants_etag = true});
    if (outcome.error != 0) return set_error(file.file.event, outcome);
    file.info = info_of(outcome);
    return 0;
}

ObjectInfo info_of(const Outcome &outcome) {
    static constexpr std::string_view prefix = "x-amz-meta-";
    ObjectInfo info;
    for (const auto &[name, value] : outcome.headers) {
        if (name == "content-length") std::from_chars(value.data(), value.data() + value.size(), info.size);
        if (name == "last-modified")
            (void)http_date_parse(reinterpret_cast<const unsigned char *>(value.data()), value.size(), &info.modified);
        if (name.starts_with(prefix) && name != checksum_header)
            info.metadata.emplace_back(name.substr(prefix.size()), decode_percent(value));
    }
    return info;
}

} // namespace replica::s3
