// Open snapshots of an account, each a file <control dir>/snapshot-<mailbox GUID>: bulk, and the mailbox's later
// changes, until the mailbox is built from it. Format: docs/formats/collection.md. Promises: what was appended survives
// the death of the process; a torn tail is cut off; a file of an earlier boot is void, since it was never flushed.
// Appending the same again is a no-op. Thread: one. Owns: nothing open between calls. Fails: Result, with the file's
// name.
#pragma once
#include "lib/wire/change.hpp"
#include <map>
#include <optional>
#include <utility>

namespace replica {

struct Collection {
    SnapshotId id;
    Number number;       // of the SNAPSHOT
    uint64_t next_n = 0; // of bulk
    Number last;         // of the changes, SNAPSHOT included
    std::string path;
    uint64_t size = 0; // of what is whole
};

class Collections {
public:
    struct Entry {
        enum class Kind : uint8_t { bulk = 1, change = 2 } kind = Kind::bulk;
        Number number; // bulk: {n, 0}
        Number previous;
        std::string payload;
    };

    Collections() = default;
    explicit Collections(std::string dir) : dir_(std::move(dir)) {}

    Result<Collection *> find(const Guid &mailbox);                                             // null: none is open
    Result<Collection *> open(const Guid &mailbox, const SnapshotId &id, const Number &number); // drops an earlier one
    Result<void> append_bulk(Collection &collection, std::string_view encoded);                 // as next_n
    Result<void> append_change(Collection &collection, const Number &number, const Number &previous,
                               std::string_view payload);
    void drop(const Guid &mailbox);

    // Reads an open one from its beginning.
    class Reading {
    public:
        static Result<Reading> begin(const Collection &collection);
        Reading(Reading &&other) noexcept : fd_(std::exchange(other.fd_, -1)), at_(other.at_), size_(other.size_) {}
        ~Reading();
        Result<std::optional<Entry>> next(); // none: that was the last
        Result<void> rewind();

    private:
        Reading(int fd, uint64_t at, uint64_t size) : fd_(fd), at_(at), size_(size) {}
        int fd_;
        uint64_t at_, size_;
    };

private:
    std::string path_of(const std::string &hex) const;
    Result<void> look_around();
    Result<void> append(Collection &collection, std::string_view bytes);

    std::string dir_;
    bool looked_ = false;
    std::map<std::string, std::optional<Collection>> known_; // by GUID in hex; none: a file not looked into yet
};

} // namespace replica
