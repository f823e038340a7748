// A flush: each file system that holds one of the paths, once. Fails: corrupt: what was written may be gone; anything
// else may work later.
#include "agentd/apply/file.hpp"
#include "agentd/apply/worker.hpp"
#include <set>

namespace replica {

namespace {

// The path, or what is left above it: the mails of an account that was removed cannot hold up the others.
Result<UniqueFd> open_nearest(std::string path) {
    while (true) {
        auto fd = UniqueFd::open(path.empty() ? "/" : path, O_RDONLY | O_DIRECTORY);
        if (fd || fd.error().code != Code::gone || path.empty()) return fd;
        path.resize(path.rfind('/'));
    }
}

} // namespace

Result<void> flush_file_systems(const std::vector<std::string> &paths) {
    std::set<dev_t> done;
    for (const std::string &path : paths) {
        if (!path.starts_with('/')) return Error{Code::invalid, "not an absolute path: " + path};
        auto fd = open_nearest(path);
        if (!fd) return fd.error();
        struct stat st;
        if (::fstat(fd->get(), &st) < 0) return system_error("fstat", path);
        if (!done.insert(st.st_dev).second) continue;
        if (::syncfs(fd->get()) < 0) { // said once, of whatever was written: the next call would know nothing of it
            Error error = system_error("syncfs", path);
            return Error{Code::corrupt, error.message};
        }
    }
    return {};
}

} // namespace replica
