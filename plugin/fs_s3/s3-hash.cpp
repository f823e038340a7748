#include "plugin/fs_s3/s3-hash.hpp"
#include <cstdlib>
#include <openssl/evp.h>
#include <openssl/hmac.h>

namespace replica::s3 {

namespace {

void require(bool ok) {
    if (!ok) abort();
}

std::string digest(Digest::Kind kind, std::string_view data) {
    Digest digest(kind);
    digest.update(data.data(), data.size());
    return digest.finish();
}

// Looking an algorithm up costs more than hashing a small body.
const EVP_MD *algorithm(Digest::Kind kind) {
    static EVP_MD *const md5 = EVP_MD_fetch(nullptr, "MD5", nullptr);
    static EVP_MD *const sha256 = EVP_MD_fetch(nullptr, "SHA256", nullptr);
    return kind == Digest::Kind::md5 ? md5 : sha256;
}

} // namespace

void Digest::Free::operator()(evp_md_ctx_st *context) const { EVP_MD_CTX_free(context); }

Digest::Digest(Kind kind) : context_(EVP_MD_CTX_new()) {
    require(context_ != nullptr && algorithm(kind) != nullptr);
    require(EVP_DigestInit_ex2(context_.get(), algorithm(kind), nullptr) == 1);
}

void Digest::update(const void *data, size_t size) { require(EVP_DigestUpdate(context_.get(), data, size) == 1); }

std::string Digest::finish() {
    std::string raw(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    require(EVP_DigestFinal_ex(context_.get(), reinterpret_cast<unsigned char *>(raw.data()), &size) == 1);
    raw.resize(size);
    return raw;
}

std::string sha256(std::string_view data) { return digest(Digest::Kind::sha256, data); }
std::string md5(std::string_view data) { return digest(Digest::Kind::md5, data); }

std::string hmac_sha256(std::string_view key, std::string_view data) {
    std::string raw(EVP_MAX_MD_SIZE, '\0');
    unsigned size = 0;
    require(HMAC(algorithm(Digest::Kind::sha256), key.data(), static_cast<int>(key.size()),
                 reinterpret_cast<const unsigned char *>(data.data()), data.size(),
                 reinterpret_cast<unsigned char *>(raw.data()), &size) != nullptr);
    raw.resize(size);
    return raw;
}

std::string base64(std::string_view raw) {
    std::string text((raw.size() + 2) / 3 * 4 + 1, '\0');
    int size = EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()),
                               reinterpret_cast<const unsigned char *>(raw.data()), static_cast<int>(raw.size()));
    text.resize(static_cast<size_t>(size));
    return text;
}

} // namespace replica::s3
