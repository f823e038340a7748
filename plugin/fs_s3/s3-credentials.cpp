#include "plugin/fs_s3/s3-credentials.hpp"
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace replica::s3 {

namespace {

constexpr size_t file_bytes_max = 64 * 1024;

std::string_view trimmed(std::string_view text) {
    constexpr std::string_view blanks = " \t\r";
    auto first = text.find_first_not_of(blanks);
    return first == text.npos ? std::string_view() : text.substr(first, text.find_last_not_of(blanks) - first + 1);
}

std::string environment(const char *name) {
    const char *value = getenv(name);
    return value == nullptr ? "" : value;
}

class Descriptor {
public:
    explicit Descriptor(const std::string &path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}
    ~Descriptor() {
        if (fd_ >= 0) close(fd_);
    }
    Descriptor(const Descriptor &) = delete;
    int operator*() const { return fd_; }

private:
    int fd_;
};

} // namespace

Result<Credentials> parse_credentials(std::string_view text, std::string_view profile) {
    Credentials credentials;
    bool ours = false, found = false;
    while (!text.empty()) {
        auto line = trimmed(text.substr(0, text.find('\n')));
        text.remove_prefix(std::min(text.find('\n'), text.size() - 1) + 1);
        if (line.starts_with('[')) {
            ours = trimmed(line.substr(1, line.find(']') - 1)) == profile;
            found |= ours;
        }
        auto sign = line.find('=');
        if (!ours || sign == line.npos || line.starts_with('#')) continue;
        auto name = trimmed(line.substr(0, sign));
        std::string value(trimmed(line.substr(sign + 1)));
        if (name == "aws_access_key_id") credentials.access_key = value;
        if (name == "aws_secret_access_key") credentials.secret_key = value;
        if (name == "aws_session_token") credentials.session_token = value;
    }
    std::string section = "[" + std::string(profile) + "]";
    if (!found) return Error{Code::invalid, "has no section " + section};
    if (credentials.access_key.empty() || credentials.secret_key.empty())
        return Error{Code::invalid, "has no aws_access_key_id and aws_secret_access_key in section " + section};
    return credentials;
}

CredentialSource::CredentialSource(const Location &location)
    : fixed_{location.access_key, location.secret_key, location.session_token}, file_(location.credentials_file),
      profile_(location.profile) {
    if (!file_.empty()) {
        place_ = "the file " + file_;
    } else if (!fixed_.access_key.empty()) {
        place_ = "the setting access_key";
    } else {
        place_ = "the environment";
        fixed_ = {environment("AWS_ACCESS_KEY_ID"), environment("AWS_SECRET_ACCESS_KEY"),
                  environment("AWS_SESSION_TOKEN")};
    }
}

Result<Credentials> CredentialSource::current() {
    if (!file_.empty()) return read_file();
    if (fixed_.access_key.empty() || fixed_.secret_key.empty())
        return Error{Code::invalid,
                     "there are no credentials: name a file with credentials=FILE, or let import_environment "
                     "have AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"};
    return fixed_;
}

Result<Credentials> CredentialSource::read_file() {
    const auto failed = [this](const std::string &why) {
        return Error{Code::invalid, "the credentials file " + file_ + " " + why};
    };
    struct stat now {};
    if (stat(file_.c_str(), &now) < 0) return failed(std::string("cannot be read: ") + strerror(errno));
    std::array<int64_t, 4> state{int64_t(now.st_dev), int64_t(now.st_ino), now.st_ctim.tv_sec, now.st_ctim.tv_nsec};
    if (state == read_state_) return fixed_;

    Descriptor fd(file_);
    std::string text(file_bytes_max, '\0');
    ssize_t size = *fd < 0 ? -1 : read(*fd, text.data(), text.size());
    if (size < 0)
        return failed(std::string("cannot be read by user id ") + std::to_string(geteuid()) + ": " + strerror(errno));
    auto credentials = parse_credentials(std::string_view(text).substr(0, static_cast<size_t>(size)), profile_);
    if (!credentials) return failed(credentials.error().message);
    fixed_ = *credentials;
    read_state_ = state;
    return fixed_;
}

} // namespace replica::s3
