#include "plugin/fs_s3/s3-location.hpp"
#include "plugin/fs_s3/s3-sign.hpp"
#include <charconv>
#include <optional>

namespace replica::s3 {

namespace {

constexpr unsigned connections_max = 256;
constexpr uint64_t part_bytes_min = 5 * 1024 * 1024; // S3's own limit
constexpr unsigned seconds_max = 3600;
constexpr char example[] = "write s3:https://HOST/BUCKET?region=REGION&credentials=FILE";

Error invalid(const std::string &what) { return {Code::invalid, what}; }

std::optional<uint64_t> number(std::string_view text, uint64_t least, uint64_t most) {
    uint64_t value = 0;
    auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (failed != std::errc() || end != text.data() + text.size() || value < least || value > most) return {};
    return value;
}

struct NumberOption {
    std::string_view name;
    uint64_t least, most;
    void (*set)(Location &, uint64_t);
};
constexpr NumberOption number_options[] = {
    {"connections", 1, connections_max, [](Location &l, uint64_t n) { l.connections = unsigned(n); }},
    {"timeout", 1, seconds_max, [](Location &l, uint64_t n) { l.timeout = std::chrono::seconds(n); }},
    {"deadline", 1, seconds_max, [](Location &l, uint64_t n) { l.deadline = std::chrono::seconds(n); }},
    {"multipart", part_bytes_min, uint64_t(5) << 30, [](Location &l, uint64_t n) { l.multipart_bytes = n; }},
};

struct TextOption {
    std::string_view name;
    std::string Location::*place;
};
constexpr TextOption text_options[] = {
    {"region", &Location::region},
    {"credentials", &Location::credentials_file},
    {"profile", &Location::profile},
    {"access_key", &Location::access_key},
    {"secret_key", &Location::secret_key},
    {"session_token", &Location::session_token},
    {"ca", &Location::ca_file},
};

Result<void> set_option(Location &location, std::string_view name, const std::string &value) {
    for (const auto &option : text_options)
        if (option.name == name) {
            location.*option.place = value;
            return {};
        }
    for (const auto &option : number_options)
        if (option.name == name) {
            auto n = number(value, option.least, option.most);
            if (!n)
                return invalid("option " + std::string(name) + " takes a number from " + std::to_string(option.least) +
                               " to " + std::to_string(option.most));
            option.set(location, *n);
            return {};
        }
    if (name != "style") return invalid("option " + std::string(name) + " is not known: docs/operating/s3.md has all");
    if (value != "path" && value != "virtual") return invalid("option style is path or virtual");
    location.virtual_host = value == "virtual";
    return {};
}

Result<void> set_options(Location &location, std::string_view options) {
    while (!options.empty()) {
        auto option = options.substr(0, options.find('&'));
        options.remove_prefix(std::min(option.size() + 1, options.size()));
        auto sign = option.find('=');
        if (sign == option.npos) return invalid("an option has no value: they are written NAME=VALUE&NAME=VALUE");
        auto set = set_option(location, option.substr(0, sign), decode_percent(option.substr(sign + 1)));
        if (!set) return set;
    }
    return {};
}

// [::1]:9000 and host:9000
Result<void> set_host(Location &location, std::string_view authority) {
    if (authority.find('@') != authority.npos)
        return invalid("no user or password stands in the URL: name a file with credentials=FILE");
    auto colon = authority.rfind(':');
    if (colon != authority.npos && authority.find(']', colon) == authority.npos) {
        auto port = number(authority.substr(colon + 1), 1, UINT16_MAX);
        if (!port) return invalid("the port is no number from 1 to 65535");
        location.port = static_cast<uint16_t>(*port);
        authority = authority.substr(0, colon);
    }
    if (authority.empty()) return invalid(std::string("the host is missing: ") + example);
    location.host = authority;
    return {};
}

Result<void> checked(const Location &location) {
    if (location.bucket.empty()) return invalid(std::string("the bucket is missing: ") + example);
    if (location.region.empty())
        return invalid(
            "region is missing: add ?region=NAME, where the bucket is (servers of one's own usually take us-east-1)");
    if (location.access_key.empty() != location.secret_key.empty())
        return invalid("access_key and secret_key go together: give both, or a file with credentials=FILE");
    if (!location.access_key.empty() && !location.credentials_file.empty())
        return invalid("credentials and access_key exclude each other: the file is the safer one");
    if (location.timeout > location.deadline)
        return invalid("timeout is longer than deadline: it is that of one attempt");
    if (!location.tls && !location.ca_file.empty()) return invalid("ca is only for https: write https://");
    return {};
}

} // namespace

Result<Location> parse_location(std::string_view text) {
    Location location;
    auto options = text.find('?');
    auto url = text.substr(0, options);
    if (url.starts_with("http://"))
        location.tls = false;
    else if (!url.starts_with("https://"))
        return invalid(std::string("it does not begin with https:// or http://: ") + example);
    url.remove_prefix(location.tls ? 8 : 7);

    auto slash = std::min(url.find('/'), url.size());
    if (auto set = set_host(location, url.substr(0, slash)); !set) return set.error();
    url.remove_prefix(std::min(slash + 1, url.size()));
    location.bucket = url.substr(0, url.find('/'));
    url.remove_prefix(std::min(location.bucket.size() + 1, url.size()));
    while (url.ends_with('/'))
        url.remove_suffix(1);
    if (!url.empty()) location.prefix = decode_percent(url) + "/";

    if (options != text.npos)
        if (auto set = set_options(location, text.substr(options + 1)); !set) return set.error();
    if (auto good = checked(location); !good) return good.error();
    return location;
}

std::string Location::server() const { return virtual_host ? bucket + "." + host : host; }

std::string Location::host_header() const { return server() + (port == 0 ? "" : ":" + std::to_string(port)); }

std::string Location::path_of(std::string_view key) const {
    return virtual_host ? "/" + std::string(key) : "/" + bucket + (key.empty() ? "" : "/" + std::string(key));
}

std::string Location::key_of(std::string_view path) const {
    while (path.starts_with('/'))
        path.remove_prefix(1);
    return prefix + std::string(path);
}

std::string Location::folder_of(std::string_view path) const {
    std::string folder = key_of(path);
    while (folder.ends_with('/'))
        folder.pop_back();
    return folder.empty() ? folder : folder + "/";
}

std::string Location::name_of(std::string_view key) const {
    return (tls ? "https://" : "http://") + host + (port == 0 ? "" : ":" + std::to_string(port)) + "/" + bucket + "/" +
           std::string(key);
}

} // namespace replica::s3
