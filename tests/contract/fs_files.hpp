// Files of a lib-fs file system as a module uses them, for the contract suite: each call is one operation, with its
// errno.
// Thread: single-threaded, as lib-fs is.
#pragma once
#include <functional>
#include <string>
#include <vector>
#include "plugin/compat/dovecot.hpp"

namespace replica::test {

// What an operation came to: errno, 0 if it went well, and lib-fs's own words.
struct Outcome {
    int error = 0;
    std::string words;
    explicit operator bool() const { return error == 0; }
};

// An outcome's content as well.
struct Content : Outcome {
    std::string bytes;
};

class Files {
public:
    // `location` as in any lib-fs setting. Every path is below `folder`, which is nobody else's.
    Files(const std::string &location, std::string folder);
    ~Files();
    Files(const Files &) = delete;
    Files &operator=(const Files &) = delete;

    bool can(enum fs_properties property) const { return (fs_get_properties(fs_) & property) != 0; }
    struct fs *fs() const {
        return fs_;
    }
    std::string path(const std::string &name) const { return folder_ + "/" + name; }
    struct fs_file *open(const std::string &name, int mode) const {
        return fs_file_init(fs_, path(name).c_str(), mode);
    }

    Outcome write(const std::string &name, const std::string &bytes, int mode = FS_OPEN_MODE_REPLACE) const;
    // As a stream, in pieces of that size; `before_end` runs when all was written and nothing is finished.
    Outcome write_stream(const std::string &name, const std::string &bytes, size_t piece,
                         const std::function<void()> &before_end = {}) const;
    Outcome abort_stream(const std::string &name, const std::string &bytes) const;
    Outcome write_hashed(const std::string &name, const std::string &bytes, const struct hash_method *method,
                         const std::string &hashed) const;
    Content read(const std::string &name) const;
    // One seekable stream, read at each (offset, size) in turn; all that was read, joined.
    Content read_at(const std::string &name, const std::vector<std::pair<uoff_t, size_t>> &ranges) const;
    // By one fs_read.
    Content read_small(const std::string &name) const;
    // Small ones; all asked for before the first is read.
    std::vector<Content> prefetch(const std::vector<std::string> &names) const;
    // Its size, in decimal.
    Content stat(const std::string &name) const;
    // "yes" or "no"
    Content exists(const std::string &name) const;
    Outcome remove(const std::string &name) const;
    Outcome copy(const std::string &from, const std::string &to) const;
    // Sorted. `name` is a folder.
    std::vector<std::string> list(const std::string &name, int flags = 0, Outcome *outcome = nullptr) const;

private:
    struct fs *fs_ = nullptr;
    std::string folder_;
};

} // namespace replica::test
