// Reading a body: a small one comes in one read together with its trailer, a large one as a stream whose trailer was
// looked at first. What is handed out is whole and is the mail's own; everything else is named.
#include "plugin/cbox/cbox-cache.hpp"

namespace replica {

namespace {

constexpr size_t tail_bytes = 4096;
// Of a message of this size its blob is small, if nothing but the trailer was added to it.
constexpr uint64_t small_message_max = small_blob_max - tail_bytes;

const Error too_short{Code::corrupt, "it is shorter than its trailer"};

Error unreadable(int err, const char *text) {
    return {err == ENOENT || err == ESTALE ? Code::gone : Code::retry, text};
}

// From the last bytes of a blob. The trailer's whole size in size_r, also if more bytes are needed: `retry`.
Result<CboxTrailer> trailer_of(std::string_view tail, uint64_t blob_size, size_t *size_r) {
    if (tail.size() < cbox_trailer_end_size) return too_short;
    auto size = cbox_trailer_size(tail.substr(tail.size() - cbox_trailer_end_size));
    if (!size) return size.error();
    if (*size > blob_size) return too_short;
    *size_r = *size;
    if (*size > tail.size()) return Error{Code::retry, "the trailer is longer"};
    auto trailer = cbox_trailer_decode(tail.substr(tail.size() - *size));
    if (trailer && trailer->body_size + *size != blob_size)
        return Error{Code::corrupt, "it is not as long as its trailer says"};
    return trailer;
}

// The stream's size, by reading it if nothing else tells. -1 on a read error.
int stream_size(struct istream *input, uoff_t *size_r) {
    int ret = i_stream_get_size(input, true, size_r);
    if (ret != 0) return ret < 0 ? -1 : 0;
    const unsigned char *data;
    size_t size;
    while (i_stream_read_more(input, &data, &size) > 0)
        i_stream_skip(input, size);
    *size_r = input->v_offset;
    return input->stream_errno != 0 ? -1 : 0;
}

int read_tail(struct istream *input, uoff_t blob_size, size_t size, std::string_view *tail_r) {
    const unsigned char *data;
    size_t available;
    size = std::min<uoff_t>(size, blob_size);
    *tail_r = {};
    if (size == 0) return 0;
    i_stream_seek(input, blob_size - size);
    if (i_stream_read_bytes(input, &data, &available, size) < 0 && input->stream_errno != 0) return -1;
    *tail_r = {reinterpret_cast<const char *>(data), std::min(available, size)};
    return 0;
}

Result<CboxTrailer> read_trailer(struct istream *input) {
    const auto failed = [input] { return unreadable(input->stream_errno, i_stream_get_error(input)); };
    uoff_t blob_size;
    std::string_view tail;
    if (input->stream_errno != 0) return failed();
    if (stream_size(input, &blob_size) < 0 || read_tail(input, blob_size, tail_bytes, &tail) < 0) return failed();
    size_t size = 0;
    auto trailer = trailer_of(tail, blob_size, &size);
    if (trailer || trailer.error().code != Code::retry) return trailer;
    if (read_tail(input, blob_size, size, &tail) < 0) return failed();
    return trailer_of(tail, blob_size, &size);
}

Result<CboxBody> open_stream(struct istream *input) {
    (void)i_stream_read(input); // opens it
    auto trailer = read_trailer(input);
    if (!trailer) {
        i_stream_unref(&input);
        return trailer.error();
    }
    i_stream_seek(input, 0);
    CboxBody body{i_stream_create_limit(input, trailer->body_size), std::move(*trailer)};
    i_stream_unref(&input);
    return body;
}

// No body: the blob may be larger than that.
Result<CboxBody> open_small(struct fs_file *file) {
    static char blob[small_blob_max];
    ssize_t size = fs_read(file, blob, sizeof(blob));
    // Wrappers read through streams, and may say that they need another call at the end: the stream is simpler.
    if (size == sizeof(blob) || (size < 0 && errno == EAGAIN)) return CboxBody{};
    if (size < 0) return unreadable(errno, fs_file_last_error(file));
    std::string_view whole(blob, static_cast<size_t>(size));
    size_t trailer_size;
    auto trailer = trailer_of(whole, whole.size(), &trailer_size);
    if (!trailer) return trailer.error();
    struct istream *input = i_stream_create_copy_from_data(blob, trailer->body_size);
    i_stream_set_name(input, fs_file_path(file));
    return CboxBody{input, std::move(*trailer)};
}

Result<CboxBody> open_blob(struct fs_file **file, uint64_t message_size) {
    if (message_size <= small_message_max) {
        auto body = open_small(*file);
        if (!body || body->input != nullptr) {
            fs_file_deinit(file);
            return body;
        }
    }
    return open_stream(i_stream_create_fs_file(file, IO_BLOCK_SIZE));
}

// Whose it is.
Result<void> check(const CboxTrailer &trailer, const Guid &account, const CboxRecord &record) {
    if (trailer.account != account) return Error{Code::denied, "it is of account " + to_hex(trailer.account)};
    if (trailer.message != Guid::from(record.guid))
        return Error{Code::denied, "it is of message " + to_hex(trailer.message)};
    if (trailer.physical_size != record.physical_size || trailer.virtual_size != record.virtual_size)
        return Error{Code::denied, "it is of a message of another size"};
    return {};
}

} // namespace

struct fs_file *cbox_body_file(CboxStorage *storage, struct event *event, const Guid &blob, unsigned more_flags) {
    return fs_file_init_with_event(storage->fs, event, cbox_blob_path(storage->account_id, blob).c_str(),
                                   int(FS_OPEN_MODE_READONLY) | int(FS_OPEN_FLAG_SEEKABLE) | int(more_flags));
}

static Result<CboxBody> checked(Result<CboxBody> body, const Guid &account, const CboxRecord &record) {
    if (!body) return body;
    auto ok = check(body->trailer, account, record);
    if (ok) return body;
    i_stream_unref(&body->input);
    return ok.error();
}

Result<CboxBody> cbox_body_of(struct istream *input, const Guid &account, const CboxRecord &record) {
    return checked(open_stream(input), account, record);
}

Result<CboxBody> cbox_body_open(CboxStorage *storage, const CboxRecord &record, struct fs_file **file) {
    if (CboxBody cached = cbox_cache_open(storage, fs_file_event(*file), record); cached.input != nullptr) {
        fs_file_deinit(file);
        return cached;
    }
    auto body = checked(open_blob(file, record.physical_size), storage->account_id, record);
    if (body) cbox_cache_add(storage, Guid::from(record.blob), *body);
    return body;
}

// Its size first: a file system that can get the end alone need not get the rest.
Result<CboxTrailer> cbox_body_trailer(struct fs_file **file) {
    struct istream *input = fs_read_stream(*file, tail_bytes);
    auto trailer = read_trailer(input);
    i_stream_unref(&input);
    fs_file_deinit(file);
    return trailer;
}

const char *cbox_body_trouble(const Error &error) {
    switch (error.code) {
    case Code::gone:
        return "missing";
    case Code::corrupt:
    case Code::unsupported:
        return "damaged";
    case Code::denied:
        return "foreign";
    default:
        return "unreadable";
    }
}

} // namespace replica
