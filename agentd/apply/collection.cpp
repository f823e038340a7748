#include "agentd/apply/collection.hpp"
#include "agentd/apply/file.hpp"
#include "lib/base/bytes.hpp"
#include "plugin/replica/replica-control-dir.hpp"
#include <dirent.h>

namespace replica {

namespace {

constexpr std::string_view magic = "cboxcoll";
constexpr uint8_t version = 1;
constexpr std::string_view name_prefix = "snapshot-";
constexpr size_t head_bytes_max = 256;
constexpr size_t entry_head_bytes = 1 + 16 + 16 + 4; // kind, number, previous, length of the payload

std::string encode_head(const SnapshotId &id, const Number &number) {
    std::string bytes;
    Writer out(bytes);
    out.raw(magic);
    out.u8(version);
    out.blob(current_boot());
    out.id(id);
    out.number(number);
    return bytes;
}

std::string encode_entry(Collections::Entry::Kind kind, const Number &number, const Number &previous,
                         std::string_view payload) {
    std::string bytes;
    Writer out(bytes);
    out.u8(static_cast<uint8_t>(kind));
    out.number(number);
    out.number(previous);
    out.blob(payload);
    return bytes;
}

struct EntryHead {
    Collections::Entry entry; // without the payload
    uint32_t payload_bytes = 0;
};

// none: not a whole entry.
Result<std::optional<EntryHead>> read_entry_head(int fd, uint64_t at, uint64_t size) {
    std::optional<EntryHead> none;
    if (at + entry_head_bytes > size) return none;
    std::string bytes(entry_head_bytes, '\0');
    auto read = read_at(fd, bytes, at);
    if (!read) return read.error();
    Reader in(bytes);
    EntryHead head;
    head.entry.kind = static_cast<Collections::Entry::Kind>(in.u8());
    head.entry.number = in.number();
    head.entry.previous = in.number();
    head.payload_bytes = in.u32();
    if (head.payload_bytes > size - at - entry_head_bytes) return none;
    return std::optional<EntryHead>(head);
}

// What a file holds, its torn tail not counted. none: void.
Result<std::optional<Collection>> scan(const std::string &path) {
    std::optional<Collection> none;
    auto fd = UniqueFd::open(path, O_RDONLY);
    if (!fd) return fd.error();
    auto size = file_size(*fd);
    if (!size) return size.error();
    std::string bytes(std::min<uint64_t>(*size, head_bytes_max), '\0');
    auto read = read_at(*fd, bytes, 0);
    if (!read) return read.error();

    Reader in(bytes);
    Collection found;
    bool ours = in.raw(magic.size()) == magic && in.u8() == version && in.blob() == current_boot();
    found.id = in.id<SnapshotId>();
    found.number = found.last = in.number();
    if (!ours || !in.ok()) return none;
    found.path = path;
    found.size = bytes.size() - in.rest().size();
    while (true) {
        auto head = read_entry_head(fd->get(), found.size, *size);
        if (!head) return head.error();
        if (!*head) return std::optional<Collection>(found);
        if ((*head)->entry.kind == Collections::Entry::Kind::bulk)
            ++found.next_n;
        else
            found.last = (*head)->entry.number;
        found.size += entry_head_bytes + (*head)->payload_bytes;
    }
}

} // namespace

std::string Collections::path_of(const std::string &hex) const { return dir_ + "/" + std::string(name_prefix) + hex; }

Result<void> Collections::look_around() {
    if (looked_) return {};
    DIR *dir = ::opendir(dir_.c_str());
    if (dir == nullptr && errno != ENOENT) return system_error("opendir", dir_);
    while (dir != nullptr) {
        const struct dirent *entry = ::readdir(dir);
        if (entry == nullptr) break;
        std::string_view name(entry->d_name);
        if (name.starts_with(name_prefix)) known_.emplace(name.substr(name_prefix.size()), std::nullopt);
    }
    if (dir != nullptr) ::closedir(dir);
    looked_ = true;
    return {};
}

Result<Collection *> Collections::find(const Guid &mailbox) {
    auto looked = look_around();
    if (!looked) return looked.error();
    auto it = known_.find(to_hex(mailbox));
    if (it == known_.end()) return nullptr;
    if (!it->second) {
        auto found = scan(path_of(it->first));
        if (!found) return found.error();
        if (!*found) {
            drop(mailbox);
            return nullptr;
        }
        it->second = std::move(**found);
    }
    return &*it->second;
}

Result<Collection *> Collections::open(const Guid &mailbox, const SnapshotId &id, const Number &number) {
    auto found = find(mailbox);
    if (!found) return found;
    if (*found != nullptr && (*found)->id == id && (*found)->number == number) return found;
    drop(mailbox);

    Collection fresh{id, number, 0, number, path_of(to_hex(mailbox)), 0};
    std::string head = encode_head(id, number);
    auto fd = UniqueFd::open(fresh.path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    if (!fd) return fd.error();
    if (auto written = write_all(*fd, head, fresh.path); !written) {
        drop(mailbox);
        return written.error();
    }
    fresh.size = head.size();
    return &*(known_[to_hex(mailbox)] = std::move(fresh));
}

Result<void> Collections::append(Collection &collection, std::string_view bytes) {
    auto fd = UniqueFd::open(collection.path, O_WRONLY | O_APPEND);
    if (!fd) return fd.error();
    // A torn tail, of this call or of a process that died in it, goes first.
    if (::ftruncate(fd->get(), static_cast<off_t>(collection.size)) < 0)
        return system_error("ftruncate", collection.path);
    auto written = write_all(*fd, bytes, collection.path);
    if (written) collection.size += bytes.size();
    return written;
}

Result<void> Collections::append_bulk(Collection &collection, std::string_view encoded) {
    auto done = append(collection, encode_entry(Entry::Kind::bulk, {collection.next_n, 0}, {}, encoded));
    if (done) ++collection.next_n;
    return done;
}

Result<void> Collections::append_change(Collection &collection, const Number &number, const Number &previous,
                                        std::string_view payload) {
    auto done = append(collection, encode_entry(Entry::Kind::change, number, previous, payload));
    if (done) collection.last = number;
    return done;
}

void Collections::drop(const Guid &mailbox) {
    std::string hex = to_hex(mailbox);
    ::unlink(path_of(hex).c_str());
    known_.erase(hex);
}

Result<Collections::Reading> Collections::Reading::begin(const Collection &collection) {
    auto fd = UniqueFd::open(collection.path, O_RDONLY);
    if (!fd) return fd.error();
    Reading reading(fd->release(), 0, collection.size);
    if (auto begun = reading.rewind(); !begun) return begun.error();
    return reading;
}

Collections::Reading::~Reading() {
    if (fd_ >= 0) ::close(fd_);
}

Result<void> Collections::Reading::rewind() {
    std::string fixed(magic.size() + 1 + 4, '\0');
    auto read = read_at(fd_, fixed, 0);
    if (!read) return read;
    Reader in(fixed);
    (void)in.raw(magic.size() + 1);
    at_ = fixed.size() + in.u32() + 16 + 16; // boot, snapshot id, number
    return {};
}

Result<std::optional<Collections::Entry>> Collections::Reading::next() {
    auto head = read_entry_head(fd_, at_, size_);
    if (!head) return head.error();
    if (!*head) return std::optional<Entry>();
    Entry entry = std::move((*head)->entry);
    entry.payload.resize((*head)->payload_bytes);
    if (auto read = read_at(fd_, entry.payload, at_ + entry_head_bytes); !read) return read.error();
    at_ += entry_head_bytes + entry.payload.size();
    return std::optional<Entry>(std::move(entry));
}

} // namespace replica
