#include "plugin/fs_s3/s3-sign.hpp"
#include "lib/base/ids.hpp"
#include "plugin/fs_s3/s3-hash.hpp"
#include <algorithm>

namespace replica::s3 {

namespace {

constexpr std::string_view algorithm = "AWS4-HMAC-SHA256";
constexpr size_t day_size = 8; // YYYYMMDD

bool unreserved(unsigned char c) {
    return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-' || c == '.' ||
           c == '_' || c == '~';
}

int hex_value(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

Pairs sorted(Pairs pairs) {
    std::sort(pairs.begin(), pairs.end());
    return pairs;
}

// Without the blanks around it, and one where there are several.
std::string trimmed(std::string_view value) {
    std::string out;
    for (char c : value) {
        if (c == ' ' && (out.empty() || out.back() == ' ')) continue;
        out += c;
    }
    if (out.ends_with(' ')) out.pop_back();
    return out;
}

std::string signed_names(const Pairs &headers) {
    std::string names;
    for (const auto &[name, value] : headers)
        names += (names.empty() ? "" : ";") + name;
    return names;
}

std::string canonical(const Unsigned &request, const Pairs &headers) {
    std::string text =
        request.method + "\n" + encode_percent(request.path, true) + "\n" + encode_query(request.query) + "\n";
    for (const auto &[name, value] : headers)
        text += name + ":" + trimmed(value) + "\n";
    return text + "\n" + signed_names(headers) + "\n" + request.payload_sha256;
}

} // namespace

std::string encode_percent(std::string_view raw, bool keep_slash) {
    static constexpr char digits[] = "0123456789ABCDEF";
    std::string text;
    text.reserve(raw.size());
    for (unsigned char c : raw) {
        if (unreserved(c) || (keep_slash && c == '/')) {
            text += static_cast<char>(c);
        } else {
            text += '%';
            text += digits[c >> 4];
            text += digits[c & 15];
        }
    }
    return text;
}

std::string decode_percent(std::string_view text) {
    std::string raw;
    for (size_t i = 0; i < text.size(); i++) {
        int high = text[i] == '%' && i + 2 < text.size() ? hex_value(text[i + 1]) : -1;
        int low = high < 0 ? -1 : hex_value(text[i + 2]);
        raw += low < 0 ? text[i] : static_cast<char>(high << 4 | low);
        if (low >= 0) i += 2;
    }
    return raw;
}

std::string encode_query(Pairs query) {
    for (auto &[name, value] : query) {
        name = encode_percent(name, false);
        value = encode_percent(value, false);
    }
    std::string text;
    for (const auto &[name, value] : sorted(std::move(query)))
        text += (text.empty() ? "" : "&") + name + "=" + value;
    return text;
}

std::string amz_date(std::time_t now) {
    struct tm utc {};
    gmtime_r(&now, &utc);
    char text[sizeof("20130524T000000Z")];
    size_t size = strftime(text, sizeof(text), "%Y%m%dT%H%M%SZ", &utc);
    return {text, size};
}

std::string canonical_request(const Unsigned &request) { return canonical(request, sorted(request.headers)); }

std::string Signer::authorization(const Unsigned &request, const Credentials &credentials, const std::string &date) {
    std::string day = date.substr(0, day_size);
    if (day != key_day_ || credentials.secret_key != key_secret_) {
        key_ = hmac_sha256("AWS4" + credentials.secret_key, day);
        for (std::string_view step :
             {std::string_view(region_), std::string_view("s3"), std::string_view("aws4_request")})
            key_ = hmac_sha256(key_, step);
        key_day_ = day;
        key_secret_ = credentials.secret_key;
    }
    Pairs headers = sorted(request.headers);
    std::string scope = day + "/" + region_ + "/s3/aws4_request";
    std::string to_sign =
        std::string(algorithm) + "\n" + date + "\n" + scope + "\n" + to_hex(sha256(canonical(request, headers)));
    return std::string(algorithm) + " Credential=" + credentials.access_key + "/" + scope +
           ",SignedHeaders=" + signed_names(headers) + ",Signature=" + to_hex(hmac_sha256(key_, to_sign));
}

} // namespace replica::s3
