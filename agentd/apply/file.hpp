// Files, as far as the worker writes its own: each failure is an Error with call and name.
#pragma once
#include "lib/base/result.hpp"
#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <string_view>
#include <sys/stat.h>
#include <unistd.h>

namespace replica {

inline Error system_error(std::string_view call, std::string_view name) {
    int error = errno;
    Code code = error == ENOSPC || error == EDQUOT ? Code::full : error == ENOENT ? Code::gone : Code::retry;
    return Error{code, std::string(call) + "(" + std::string(name) + ") failed: " + strerror(error)};
}

class UniqueFd {
public:
    static Result<UniqueFd> open(const std::string &path, int flags, mode_t mode = 0) {
        int fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
        if (fd < 0) return system_error("open", path);
        return UniqueFd(fd);
    }
    explicit UniqueFd(int fd) : fd_(fd) {}
    UniqueFd(UniqueFd &&other) noexcept : fd_(other.release()) {}
    UniqueFd &operator=(UniqueFd &&) = delete;
    ~UniqueFd() {
        if (fd_ >= 0) ::close(fd_);
    }
    int get() const { return fd_; }
    int release() { return std::exchange(fd_, -1); }

private:
    int fd_;
};

inline Result<uint64_t> file_size(const UniqueFd &fd) {
    struct stat st;
    if (::fstat(fd.get(), &st) < 0) return system_error("fstat", "file");
    return static_cast<uint64_t>(st.st_size);
}

inline Result<void> read_at(int fd, std::string &bytes, uint64_t at) { // all of them
    for (size_t got = 0; got < bytes.size();) {
        ssize_t n = ::pread(fd, bytes.data() + got, bytes.size() - got, static_cast<off_t>(at + got));
        if (n == 0) return Error{Code::corrupt, "a file ended early"};
        if (n < 0 && errno != EINTR) return system_error("pread", "file");
        if (n > 0) got += static_cast<size_t>(n);
    }
    return {};
}
inline Result<void> read_at(const UniqueFd &fd, std::string &bytes, uint64_t at) {
    return read_at(fd.get(), bytes, at);
}

inline Result<void> write_all(const UniqueFd &fd, std::string_view bytes, std::string_view name) {
    while (!bytes.empty()) {
        ssize_t n = ::write(fd.get(), bytes.data(), bytes.size());
        if (n < 0 && errno != EINTR) return system_error("write", name);
        if (n > 0) bytes.remove_prefix(static_cast<size_t>(n));
    }
    return {};
}

inline Result<void> sync_directory(const std::string &path) {
    auto fd = UniqueFd::open(path, O_RDONLY | O_DIRECTORY);
    if (!fd) return fd.error();
    if (::fsync(fd->get()) < 0) return system_error("fsync", path);
    return {};
}

} // namespace replica
