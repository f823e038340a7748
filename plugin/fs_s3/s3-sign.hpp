// AWS Signature Version 4 for S3. Source: Amazon S3 API Reference, "Authenticating Requests: Using the Authorization
// Header". Every header that is given is signed.
#pragma once
#include <ctime>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace replica::s3 {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Credentials {
    std::string access_key, secret_key, session_token; // the token may be empty

    bool operator==(const Credentials &) const = default;
};

struct Unsigned {
    std::string method;
    std::string path;           // not encoded
    Pairs query;                // not encoded
    Pairs headers;              // names in lower case; host, x-amz-date and x-amz-content-sha256 among them
    std::string payload_sha256; // hex
};

// What is neither a letter, a digit nor one of -._~ becomes %XX; a slash stays where it parts a path.
std::string encode_percent(std::string_view raw, bool keep_slash);
std::string decode_percent(std::string_view text);
std::string encode_query(Pairs query); // in the order that is signed
std::string amz_date(std::time_t now); // 20130524T000000Z

std::string canonical_request(const Unsigned &request);

class Signer {
public:
    explicit Signer(std::string region) : region_(std::move(region)) {}
    // The value of the header Authorization. `date` is that of x-amz-date.
    std::string authorization(const Unsigned &request, const Credentials &credentials, const std::string &date);

private:
    std::string region_;
    // The key holds for a day and a secret: four HMACs that need not be done for each request.
    std::string key_, key_day_, key_secret_;
};

} // namespace replica::s3
