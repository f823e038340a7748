#include "plugin/replica/replica-control-dir.hpp"
#include <cerrno>
#include <charconv>
#include <cstring>
#include <fcntl.h>
#include <unistd.h>

namespace replica {

namespace {

constexpr size_t state_bytes_max = 256;

Result<std::string> read_small_file(const char *path) {
    int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        bool absent = errno == ENOENT || errno == ENOTDIR;
        return Error{absent ? Code::gone : Code::retry, std::string("open(") + path + ") failed: " + strerror(errno)};
    }
    std::string text(state_bytes_max, '\0');
    ssize_t got;
    do
        got = ::read(fd, text.data(), text.size());
    while (got < 0 && errno == EINTR);
    int error = errno;
    ::close(fd);
    if (got < 0) return Error{Code::retry, std::string("read(") + path + ") failed: " + strerror(error)};
    text.resize(static_cast<size_t>(got));
    return text;
}

std::string_view next_word(std::string_view &text) {
    size_t end = text.find(' ');
    std::string_view word = text.substr(0, end);
    text.remove_prefix(end == text.npos ? text.size() : end + 1);
    return word;
}

Role role_of(std::string_view word) {
    for (Role role : {Role::source, Role::destination, Role::removed})
        if (word == to_string(role)) return role;
    return Role::none;
}

} // namespace

Result<ControlState> parse_control_state(std::string_view text) {
    if (text.empty() || text.back() != '\n' || text.find('\n') != text.size() - 1)
        return Error{Code::corrupt, "it is not one line"};
    text.remove_suffix(1);
    if (next_word(text) != "1") return Error{Code::unsupported, "its version is not 1"};

    ControlState state;
    state.role = role_of(next_word(text));
    if (state.role == Role::none) return Error{Code::corrupt, "it names no role"};
    std::string_view epoch = next_word(text);
    auto [end, error] = std::from_chars(epoch.data(), epoch.data() + epoch.size(), state.epoch);
    if (error != std::errc() || end != epoch.data() + epoch.size())
        return Error{Code::corrupt, "its epoch is no number"};
    state.boot = text;
    if (state.boot.empty() || state.boot.find(' ') != state.boot.npos)
        return Error{Code::corrupt, "its boot id is no word"};
    return state;
}

Result<std::optional<ControlState>> read_control_state(const char *path) {
    auto text = read_small_file(path);
    if (!text) {
        if (text.error().code == Code::gone) return std::optional<ControlState>();
        return text.error();
    }
    auto state = parse_control_state(*text);
    if (!state) return Error{state.error().code, std::string(path) + ": " + state.error().message};
    return std::optional<ControlState>(std::move(*state));
}

const std::string &current_boot() {
    static const std::string boot = [] {
        auto text = read_small_file("/proc/sys/kernel/random/boot_id");
        std::string id = text ? *text : std::string();
        if (!id.empty() && id.back() == '\n') id.pop_back();
        return id;
    }();
    return boot;
}

} // namespace replica
