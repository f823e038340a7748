// Where bodies are kept, as the administrator wrote it:
// https://HOST[:PORT]/BUCKET[/PREFIX]?region=R&credentials=FILE&... Fails: with a sentence that names the option and
// the remedy; never with a secret in it.
#pragma once
#include "lib/base/result.hpp"
#include <chrono>
#include <string>
#include <string_view>

namespace replica::s3 {

struct Location {
    bool tls = true;
    std::string host;
    uint16_t port = 0; // 0: the scheme's own
    std::string bucket, prefix, region;
    bool virtual_host = false;
    std::string credentials_file, profile = "default"; // or:
    std::string access_key, secret_key, session_token; // or, all empty, the environment
    std::string ca_file;
    unsigned connections = 16;
    uint64_t multipart_bytes = 16 * 1024 * 1024;
    std::chrono::milliseconds timeout{10'000};  // one attempt
    std::chrono::milliseconds deadline{30'000}; // all attempts of one operation

    std::string server() const; // what requests are sent to: virtual hosts have the bucket in the name
    std::string host_header() const;
    std::string path_of(std::string_view key) const;    // not encoded
    std::string folder_of(std::string_view path) const; // of a lib-fs folder: its keys begin so
    std::string key_of(std::string_view path) const;
    std::string name_of(std::string_view key) const; // for people: the URL without its options
};

Result<Location> parse_location(std::string_view text);

} // namespace replica::s3
