// The digests that S3 asks for, by libcrypto. A failure of libcrypto itself ends the process: nothing could go on.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

struct evp_md_ctx_st;

namespace replica::s3 {

// Feed it, then take the digest once.
class Digest {
public:
    enum class Kind : uint8_t { md5, sha256 };
    explicit Digest(Kind kind);
    void update(const void *data, size_t size);
    std::string finish(); // raw bytes

private:
    struct Free {
        void operator()(evp_md_ctx_st *) const;
    };
    std::unique_ptr<evp_md_ctx_st, Free> context_;
};

std::string sha256(std::string_view data); // raw
std::string md5(std::string_view data);    // raw
std::string hmac_sha256(std::string_view key, std::string_view data);
std::string base64(std::string_view raw);

} // namespace replica::s3
